"""Heuristics: they may stop an attack, and none of them has a proof that bounds what is left.

Noise on an update that nobody clipped has no sensitivity to be measured against, and shots have no floor under the probabilities
that they sample: neither earns a row in the ledger. A failed attack shows that this attack failed. Compression is as little of a
guarantee (:mod:`qflsec.defenses.compression`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.federation import ExecutionLayer, ShapeLayer, Streams
from qflsec.models import Execution

__all__ = ["FewShots", "GradientNoise"]

_DLG = "Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, arXiv:1906.08935"


@register("layer", "gradient-noise")
@dataclass(frozen=True, kw_only=True)
class GradientNoise(ShapeLayer):
    """Each client adds Gaussian noise of a fixed size to an update that nobody clipped.

    Attributes:
        noise_std: Standard deviation of the noise on each entry.

    Raises:
        ConfigError: ``noise_std`` is negative or not finite.
    """

    card = DefenseCard(
        name="gradient-noise",
        idea="Each client adds a little Gaussian noise to its update, without clipping it.",
        source=Source(paper=_DLG, year=2019, where="section 5.1, noisy gradients"),
        claim="None: without a bound on an update there is no sensitivity and so no epsilon.",
        assumption="heuristic",
        hides="nothing that is proved",
        does_not=(
            "It gives no epsilon, even where it stops an attack; dp-sgd and local-dp clip first and do.",
        ),
        cost="noise in every update",
    )

    noise_std: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.noise_std < math.inf:
            raise ConfigError("'noise_std' is out of range", got=self.noise_std, expected="0 or more, finite")

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The updates with noise."""
        return update + self.noise_std * streams.normal("gradient-noise", update.shape[1:]).to(update)


@register("layer", "few-shots")
@dataclass(frozen=True, kw_only=True)
class FewShots(ExecutionLayer):
    """Each client measures every circuit a few times only, and takes gradients from that as a device would.

    Attributes:
        shots: Measurements of every circuit and group of observables; a client that has fewer keeps them.

    Raises:
        ConfigError: ``shots`` is no whole number from 1.
    """

    card = DefenseCard(
        name="few-shots",
        idea="Each client measures every circuit of its gradients a few times only.",
        source=Source(
            paper="Li, Zhao et al.: Differential privacy preserving quantum computing via projection operator "
            "measurements, arXiv:2312.08210 (which proposes it for privacy)",
            year=2023,
            where="shot noise of measurements",
        ),
        claim="None: an outcome that one record never shows gives it away, with however few shots.",
        assumption="heuristic",
        hides="nothing that is proved",
        does_not=(
            "It gives no epsilon by itself.",
            "It only leaves finitely many copies for noise to protect.",
        ),
        cost="shot noise in every gradient",
    )
    sets = frozenset({"shots", "gradient"})

    shots: int = 16

    def __post_init__(self) -> None:
        if isinstance(self.shots, bool) or not isinstance(self.shots, int) or self.shots < 1:
            raise ConfigError("'shots' is out of range", got=self.shots, expected="a whole number from 1")

    def execution(self, execution: Execution) -> Execution:
        """With at most so many shots, and gradients by the parameter-shift rule."""
        shots = self.shots if execution.shots is None else min(self.shots, execution.shots)
        return replace(execution, shots=shots, gradient="parameter-shift")
