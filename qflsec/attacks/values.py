"""Checks of an attack's parameters that many attacks share."""

from __future__ import annotations

import math
from collections.abc import Iterable

from qflsec.base import ConfigError

__all__ = ["check_choice", "check_fraction", "check_positive"]


def check_fraction(name: str, value: float) -> None:
    """Refuse what is no fraction above 0.

    Raises:
        ConfigError: It is none.
    """
    if not 0 < value <= 1:
        raise ConfigError(f"{name!r} is a fraction", got=value, expected="in (0, 1]")


def check_positive(name: str, value: float | None) -> None:
    """Refuse a number that is not positive and finite; None stands for a default.

    Raises:
        ConfigError: It is not.
    """
    if value is not None and not 0 < value < math.inf:
        raise ConfigError(f"{name!r} is out of range", got=value, expected="positive and finite")


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a word that is none of several.

    Raises:
        ConfigError: It is none.
    """
    known = tuple(choices)
    if value not in known:
        raise ConfigError(f"unknown {name!r}", got=value, expected=" or ".join(map(repr, known)))
