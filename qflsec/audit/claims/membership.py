"""The claim that outputs tell nobody who was in the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from qflsec.audit.check import Bench, NotApplicable
from qflsec.audit.checks.training import membership
from qflsec.audit.claim import Claim, Ruling
from qflsec.audit.parts import Part, Training
from qflsec.base import ConfigError, register

__all__ = ["Membership"]


@register("claim", "membership")
@dataclass(frozen=True, kw_only=True)
class Membership(Claim):
    """The loss threshold's advantage in telling members is at most so much.

    Attributes:
        at_most: The advantage, 2 AUC - 1, 0 to 1.
    """

    kind: ClassVar[str] = "membership"
    at_most: float

    def __post_init__(self) -> None:
        if not 0 <= self.at_most <= 1:
            raise ConfigError("'at_most' of a claim of membership", got=self.at_most, expected="0 to 1")

    @property
    def sentence(self) -> str:
        """The claim."""
        return f"the model's outputs tell members with an advantage of at most {self.at_most:g}"

    def test(self, parts: Sequence[Part], bench: Bench) -> Ruling:
        """Run the loss threshold on one training."""
        training = self.about(parts, Training)
        if isinstance(training, Ruling):
            return training
        try:
            value, low, high = membership(training, bench.seed)
        except NotApplicable as reason:
            return Ruling(judgement="not tested", why=str(reason))
        said = f"the loss threshold reaches {value:.3f} [{low:.3f}, {high:.3f}]"
        return Ruling(
            judgement="refuted" if low > self.at_most else "not refuted",
            why=f"{said} in one training",
            ceiling=f"it tests one attack; an advantage up to {high:.3f} is compatible with what was seen of this one",
            evidence={"advantage": value, "low": low, "high": high},
        )
