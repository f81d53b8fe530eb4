"""Defenses against inference: clipping, noise, differential privacy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.defenses.privacy.bounds import GaussianNoise
    from qflsec.defenses.privacy.client_clip import ClientClip
    from qflsec.defenses.privacy.client_ledger import central_rows, local_rows
    from qflsec.defenses.privacy.dp_fedavg import DpFedAvg, sum_multiplier
    from qflsec.defenses.privacy.dp_sgd import DpSgd, noisy_clipped_sum
    from qflsec.defenses.privacy.example_ledger import ExampleNoise, example_rows, summed_multiplier
    from qflsec.defenses.privacy.heuristics import FewShots, GradientNoise
    from qflsec.defenses.privacy.local_dp import LocalDp
    from qflsec.defenses.privacy.torch_training import PrivateTraining, make_private

__all__ = [
    "ClientClip",
    "DpFedAvg",
    "DpSgd",
    "ExampleNoise",
    "FewShots",
    "GaussianNoise",
    "GradientNoise",
    "LocalDp",
    "PrivateTraining",
    "central_rows",
    "example_rows",
    "local_rows",
    "make_private",
    "noisy_clipped_sum",
    "sum_multiplier",
    "summed_multiplier",
]
__getattr__, __dir__ = lazily(__name__)
