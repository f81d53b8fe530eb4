"""The claim that outputs tell nobody who was in the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from qflsec.audit.check import Bench
from qflsec.audit.checks.training import membership
from qflsec.audit.claim import Claim, Ruling
from qflsec.audit.parts import Part, Training
from qflsec.base import ConfigError, register

__all__ = ["Membership"]


@register("claim", "membership")
@dataclass(frozen=True, kw_only=True)
class Membership(Claim):
    """The advantage in telling members is at most so much, by the loss threshold or by LiRA with shadow models.

    Attributes:
        at_most: The advantage, 2 AUC - 1, 0 to 1.
        shadows: The most shadow models that LiRA trains, as many as the budget allows below that; 0 for the loss threshold.
    """

    kind: ClassVar[str] = "membership"
    at_most: float
    shadows: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.at_most <= 1:
            raise ConfigError("'at_most' of a claim of membership", got=self.at_most, expected="0 to 1")
        if self.shadows < 0:
            raise ConfigError("'shadows' of a claim of membership", got=self.shadows, expected="0 or more")

    @property
    def sentence(self) -> str:
        """The claim."""
        return f"the model's outputs tell members with an advantage of at most {self.at_most:g}"

    def test(self, parts: Sequence[Part], bench: Bench) -> Ruling:
        """Attack one training."""
        training = self.about(parts, Training)
        if isinstance(training, Ruling):
            return training
        if self.shadows:
            value, low, high, said = self._shadowed(training, bench)
        else:
            value, low, high = membership(training, bench.seed)
            said = "the loss threshold"
        return Ruling(
            judgement="refuted" if low > self.at_most else "not refuted",
            why=f"{said} reaches {value:.3f} [{low:.3f}, {high:.3f}] in one training",
            ceiling=f"it tests one attack; an advantage up to {high:.3f} is compatible with what was seen of this one",
            evidence={"advantage": value, "low": low, "high": high},
        )

    def _shadowed(self, training: Training, bench: Bench) -> tuple[float, float, float, str]:
        from qflsec.audit.checks.shadowed_training import shadowed_membership

        score, count = shadowed_membership(training, bench, self.shadows)
        found = score.metrics["advantage"]
        return found.value, found.low, found.high, f"LiRA with {count} shadow models"
