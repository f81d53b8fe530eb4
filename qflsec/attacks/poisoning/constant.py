"""Constant and silent clients: the plainest ways to spoil a sum or to end a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Manipulation
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.federation import Hands, Sending

__all__ = ["Constant", "Withhold"]

_SOURCE = Source(
    paper="Blanchard, El Mhamdi, Guerraoui, Stainer: Machine learning with adversaries, NeurIPS 2017, "
    "arXiv:1703.02757",
    year=2017,
    where="section 2, Byzantine workers, which send arbitrary vectors or none",
)
_NOT_FINITE = ("nan", "inf", "-inf")


@register("attack", "constant")
@dataclass(frozen=True, kw_only=True)
class Constant(Manipulation):
    """Send the same number in every coordinate.

    Args:
        value: The number; ``"nan"``, ``"inf"`` and ``"-inf"`` are written as strings.

    Raises:
        ConfigError: The value is none of these.
    """

    card = AttackCard(
        name="constant",
        idea="Corrupted clients send one number in every coordinate, however large, NaN and infinity included.",
        source=_SOURCE,
        family="poisoning",
        goal="availability",
        needs=("corrupted clients",),
    )
    value: float | str = 500.0

    def __post_init__(self) -> None:
        """Refuse words that are no number; a number is finite, as every option is."""
        if isinstance(self.value, str) and self.value not in _NOT_FINITE:
            raise ConfigError(
                "'value' of a constant is no number that a file can hold",
                got=self.value,
                expected='a finite number, "nan", "inf" or "-inf"',
            )

    def run(self, hands: Hands) -> torch.Tensor:
        """The constant."""
        return torch.full_like(hands.honest, float(self.value))


@register("attack", "withhold")
@dataclass(frozen=True, kw_only=True)
class Withhold(Manipulation):
    """Take part in every round, and send no update."""

    card = AttackCard(
        name="withhold",
        idea="Corrupted clients send no update at all.",
        source=_SOURCE,
        family="poisoning",
        goal="availability",
        needs=("corrupted clients",),
    )

    def run(self, hands: Hands) -> Sending:
        """Nothing for anybody."""
        return [[None] * len(hands.clients) for _ in hands.honest]
