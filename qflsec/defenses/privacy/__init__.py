"""Defenses against inference: clipping, noise, differential privacy."""

from __future__ import annotations

from qflsec.defenses.privacy.client_clip import ClientClip
from qflsec.defenses.privacy.dp_sgd import DpSgd, noisy_clipped_sum
from qflsec.defenses.privacy.example_ledger import ExampleNoise, example_rows, summed_multiplier

__all__ = ["ClientClip", "DpSgd", "ExampleNoise", "example_rows", "noisy_clipped_sum", "summed_multiplier"]
