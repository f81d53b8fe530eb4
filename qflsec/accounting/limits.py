"""What an epsilon forbids at most, and from which delta on it promises nothing.

Let P(S) <= exp(e) Q(S) + delta for every set S, and the same with P and Q exchanged. Adding P(S) <= exp(e) Q(S) + delta
and, for the complement S', Q(S') <= exp(e) P(S') + delta gives, for the advantage a = P(S) - Q(S),
1 + a <= exp(e) (1 - a) + 2 delta, and so a <= (exp(e) - 1 + 2 delta) / (exp(e) + 1).

A mechanism that publishes each unit whole with probability delta has (0, delta)-differential privacy: with n units and
delta of 1/n it publishes one of them in expectation.
"""

from __future__ import annotations

import math
from typing import ClassVar, Protocol

from qflsec.base import ConfigError, DefenseCard, IncompatibleStack, QflsecError

__all__ = ["StatesDelta", "check_delta", "is_vacuous", "membership_ceiling", "refuse_delta"]

_VACUOUS = 0.9999
"""An advantage that no attack has to fear: an epsilon of 9.9, near the ten from which on guides speak of no guarantee."""


def membership_ceiling(epsilon: float, delta: float = 0.0) -> float:
    """The advantage, true less false positive rate, that (epsilon, delta) allows an attack on one unit at most.

    At delta 0 it is tanh(epsilon / 2).

    Args:
        epsilon: 0 or more; infinite allows everything.
        delta: From 0 to 1.

    Source:
        Humphries et al., Investigating membership inference attacks under data dependencies, CSF 2023, theorem 3.1;
        derived above.

    Raises:
        ConfigError: An argument is out of range.
    """
    if not epsilon >= 0 or not 0 <= delta <= 1:
        raise ConfigError("bad epsilon or delta", got=f"{epsilon}, {delta}", expected="at least 0; 0 to 1")
    if epsilon > 700:
        return 1.0
    return min(1.0, (math.expm1(epsilon) + 2 * delta) / (math.exp(epsilon) + 1))


def is_vacuous(epsilon: float, delta: float = 0.0) -> bool:
    """Whether it forbids nothing that an attack could hope for: at delta 0 from epsilon 9.9 on.

    Source:
        Ponomareva et al., How to DP-fy ML, JAIR 77, 2023, section 5.2, whose third tier (weak or no formal
        guarantee) begins at an epsilon of 10.

    Args:
        epsilon: 0 or more.
        delta: From 0 to 1.
    """
    return membership_ceiling(epsilon, delta) >= _VACUOUS


class StatesDelta(Protocol):
    """A layer with a delta of its own."""

    card: ClassVar[DefenseCard]

    @property
    def delta(self) -> float:
        """The delta at which it states epsilon."""

    @property
    def large_delta(self) -> bool:
        """Whether the user asked for one that gives a unit away."""


def check_delta(layer: StatesDelta, *, units: int, unit: str) -> None:
    """Refuse a layer's delta at which one unit could be given away whole.

    Args:
        layer: The layer.
        units: How many units there are.
        unit: What they are.

    Raises:
        IncompatibleStack: It is one over the number of units, or more.
    """
    refuse_delta(layer.card.name, layer.delta, units=units, unit=unit, asked=layer.large_delta)


def refuse_delta(
    layer: str,
    delta: float,
    *,
    units: int,
    unit: str,
    asked: bool,
    error: type[QflsecError] = IncompatibleStack,
) -> None:
    """The same for any delta.

    Args:
        layer: Whose delta it is.
        delta: The delta.
        units: How many units there are.
        unit: What they are.
        asked: Whether the user asked for it all the same.
        error: What to raise.

    Raises:
        IncompatibleStack: It is one over the number of units, or more.
    """
    if asked or delta * units < 1:
        return
    raise error(
        f"'delta' of {layer!r} is so large that one {unit} could be given away whole",
        got=f"{delta:g}",
        expected=f"below 1/{units}, one over the number of {unit}s",
        fix="lower 'delta', or set large_delta = true",
    )
