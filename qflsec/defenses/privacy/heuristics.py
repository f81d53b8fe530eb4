"""Heuristics: they may stop an attack, and none of them has a proof that bounds what is left.

Each changes a client's update before it is sent, or how many shots made it. None earns a row in the ledger: pruning and quantisation are
deterministic or bound nothing that one record can do, and noise on an update that nobody clipped has no
sensitivity to be measured against, and shots have no floor under the probabilities that they sample. A failed attack shows that this attack failed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.federation import ExecutionLayer, ShapeLayer, Streams
from qflsec.models import Execution

__all__ = ["FewShots", "GradientNoise", "GradientPruning", "UpdateQuantization"]

_DLG = "Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, arXiv:1906.08935"


@register("layer", "gradient-pruning")
@dataclass(frozen=True, kw_only=True)
class GradientPruning(ShapeLayer):
    """Each client sends the largest entries of its update and zero for all others.

    Attributes:
        keep: The fraction of entries that is kept; at least one entry is.

    Raises:
        ConfigError: ``keep`` is no fraction above 0.
    """

    card = DefenseCard(
        name="gradient-pruning",
        idea="Each client sends only the entries of its update that are largest in size, and zeros.",
        source=Source(paper=_DLG, year=2019, where="section 5.2, gradient compression"),
        claim="None: fewer numbers are sent, and no theorem bounds what they tell.",
        assumption="heuristic",
        hides="nothing that is proved",
        does_not=("It gives no epsilon, whatever attack it stops.",),
        cost="bias of every update",
    )

    keep: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ConfigError("'keep' is out of range", got=self.keep, expected="above 0, at most 1")

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The updates with all but their largest entries set to zero; of equal ones the first is kept."""
        kept = max(1, math.ceil(self.keep * update.shape[-1]))
        order = torch.argsort(update.abs(), dim=-1, descending=True, stable=True)
        mask = torch.zeros_like(update).scatter(-1, order[..., :kept], 1.0)
        return torch.where(mask > 0, update, 0.0)


@register("layer", "update-quantization")
@dataclass(frozen=True, kw_only=True)
class UpdateQuantization(ShapeLayer):
    """Each client rounds its update to a few levels, at random so that the mean is kept.

    Attributes:
        bits: Bits of an entry, the sign included: ``2**(bits - 1) - 1`` levels on either side of zero.

    Raises:
        ConfigError: ``bits`` is out of range.
    """

    card = DefenseCard(
        name="update-quantization",
        idea="Each client rounds its update at random to a few levels of its largest entry.",
        source=Source(
            paper="Alistarh et al.: QSGD, NeurIPS 2017, arXiv:1610.02132 (there scaled by the L2 norm)",
            year=2017,
            where="section 3.1, stochastic quantisation",
        ),
        claim="None: coarser numbers are sent, and no theorem here bounds what they tell.",
        assumption="heuristic",
        hides="nothing that is proved",
        does_not=("It gives no epsilon: the scale and an entry on a level are sent as they are.",),
        cost="rounding noise in every update",
    )

    bits: int = 2

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 2 <= self.bits <= 16:
            raise ConfigError("'bits' is out of range", got=self.bits, expected="a whole number from 2 to 16")

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The updates on their grids; the expectation over the rounding is the update."""
        levels = 2 ** (self.bits - 1) - 1
        largest = update.abs().amax(dim=-1, keepdim=True)
        step = torch.where(largest > 0, largest, 1.0) / levels
        drawn = streams.uniform("update-quantization", update.shape[1:]).to(update)
        rounded: torch.Tensor = torch.floor(update / step + drawn).clamp(-levels, levels) * step
        return rounded


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
