"""What the engine returns: a number, its kind, and a pair of states with which a user can check it by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qflsec.protocols.qdp.channel import Channel, Complex

__all__ = ["Adjacency", "Delta", "PureEpsilon", "Status", "Witness", "trace_distance"]

Adjacency = Literal["all", "pure"]
Status = Literal["exact", "lower bound"]


def trace_distance(rho: Complex, sigma: Complex) -> float:
    """Half the trace norm of the difference, from 0 to 1."""
    return float(np.abs(np.linalg.eigvalsh(rho - sigma)).sum() / 2)


@dataclass(frozen=True, eq=False)
class Witness:
    """Two adjacent states and a yes-no outcome that tell them apart.

    Attributes:
        rho: A density matrix before the channel.
        sigma: An adjacent one.
        effect: The outcome's effect after the channel.
    """

    rho: Complex
    sigma: Complex
    effect: Complex

    def chances(self, channel: Channel) -> tuple[float, float]:
        """The outcome's probability under either state."""
        before = channel.adjoint(self.effect)
        first, second = (max(float(np.trace(before @ state).real), 0.0) for state in (self.rho, self.sigma))
        return first, second

    @property
    def distance(self) -> float:
        """The trace distance of the two states before the channel."""
        return trace_distance(self.rho, self.sigma)


@dataclass(frozen=True, eq=False)
class PureEpsilon:
    """A pure epsilon of one copy of a state.

    Attributes:
        epsilon: What the witness attains: a lower bound on the true value, which it is where ``status`` is exact.
        upper: What holds for all adjacent states and all allowed measurements: the guarantee; infinite if none.
        kappa: The ratio behind ``epsilon``.
        tau: The trace distance of adjacent states.
        adjacency: ``"all"``: mixed states too; ``"pure"``: pure states, as an encoder makes them.
        measurement: ``"any"`` or ``"fixed"``.
        status: ``"exact"`` where ``epsilon`` and ``upper`` agree to a millionth; else ``"lower bound"``.
        reason: What the upper bound rests on.
        witness: A pair that attains ``epsilon``.
        channel: The channel.

    Units:
        Epsilon in nats.
    """

    epsilon: float
    upper: float
    kappa: float
    tau: float
    adjacency: Adjacency
    measurement: Literal["any", "fixed"]
    status: Status
    reason: str
    witness: Witness
    channel: Channel

    def check(self) -> float:
        """Epsilon from the witness alone: the logarithm of the ratio of the outcome's probabilities."""
        first, second = self.witness.chances(self.channel)
        if second <= 1e-15 * first:
            return math.inf
        return math.log(first / second)


@dataclass(frozen=True, eq=False)
class Delta:
    """The delta of one copy of a state at an epsilon.

    Attributes:
        delta: What the witness attains.
        upper: What holds for all adjacent states and measurements; 1 if nothing better is known.
        epsilon: The epsilon.
        tau: The trace distance of adjacent states, mixed states too.
        measurement: ``"any"`` or ``"fixed"``.
        status: ``"exact"`` where the two agree to a millionth; else ``"lower bound"``.
        reason: What the upper bound rests on.
        witness: A pair that attains ``delta``.
        channel: The channel.
    """

    delta: float
    upper: float
    epsilon: float
    tau: float
    measurement: Literal["any", "fixed"]
    status: Status
    reason: str
    witness: Witness
    channel: Channel

    def check(self) -> float:
        """Delta from the witness alone."""
        first, second = self.witness.chances(self.channel)
        return max(0.0, first - math.exp(self.epsilon) * second)
