"""Claims about what protects updates on their way, and about the rule that receives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qflsec.audit.check import Bench, NotApplicable
from qflsec.audit.checks.cipher import KeystreamReuse, PlaintextSent, UnnoticedChange
from qflsec.audit.claim import Claim, Ruling
from qflsec.audit.parts import Aggregation, Cipher, Part
from qflsec.base import ConfigError, register

__all__ = ["Authentic", "Bounded", "Confidential"]

_CLIENTS, _LENGTH = 20, 16
_LIES = (10.0, 1e3, 1e6)


@register("claim", "confidential")
@dataclass(frozen=True, kw_only=True)
class Confidential(Claim):
    """A message shows nothing of its update to somebody without the key."""

    kind: ClassVar[str] = "confidential"

    @property
    def sentence(self) -> str:
        """The claim."""
        return "a message shows nothing of its update without the key"

    def test(self, parts: Sequence[Part], bench: Bench) -> Ruling:
        """Look for the update in messages, and for a cover that repeats."""
        cipher = self.about(parts, Cipher)
        if isinstance(cipher, Ruling):
            return cipher
        for check in (PlaintextSent(), KeystreamReuse()):
            for finding in check.run(cipher, bench):
                return Ruling(judgement="refuted", why=finding.what, evidence=finding.evidence)
        return Ruling(
            judgement="not refuted",
            why="no update was read off a message, and messages do not repeat",
            ceiling="no test of messages proves a cipher; what it is made of must be read",
        )


@register("claim", "authentic")
@dataclass(frozen=True, kw_only=True)
class Authentic(Claim):
    """A changed message is refused."""

    kind: ClassVar[str] = "authentic"

    @property
    def sentence(self) -> str:
        """The claim."""
        return "a message that was changed on its way is refused"

    def test(self, parts: Sequence[Part], bench: Bench) -> Ruling:
        """Flip bits."""
        cipher = self.about(parts, Cipher)
        if isinstance(cipher, Ruling):
            return cipher
        try:
            for finding in UnnoticedChange().run(cipher, bench):
                return Ruling(judgement="refuted", why=finding.what, evidence=finding.evidence)
        except NotApplicable as reason:
            return Ruling(judgement="not tested", why=str(reason))
        return Ruling(
            judgement="not refuted",
            why="single flipped bits at four places were refused",
            ceiling="messages that are sent again, or in the place of others, were not tried",
        )


@register("claim", "bounded")
@dataclass(frozen=True, kw_only=True)
class Bounded(Claim):
    """Some liars move the aggregate by at most so many spreads of the honest updates.

    Attributes:
        liars: How many of twenty clients lie.
        at_most: The distance in honest spreads, the norm of one honest update's deviation.
    """

    kind: ClassVar[str] = "bounded"
    at_most: float
    liars: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.at_most < float("inf") or not 1 <= self.liars < _CLIENTS:
            raise ConfigError(
                "a claim of kind 'bounded'",
                got=f"at_most = {self.at_most}, liars = {self.liars}",
                expected=f"at_most above 0 and 1 to {_CLIENTS - 1} liars",
            )

    @property
    def sentence(self) -> str:
        """The claim."""
        return f"{self.liars} of {_CLIENTS} clients move the aggregate by at most {self.at_most:g} honest spreads"

    def test(self, parts: Sequence[Part], bench: Bench) -> Ruling:
        """Try lies of several lengths, all liars the same way, and values that are no numbers."""
        rule = self.about(parts, Aggregation)
        if isinstance(rule, Ruling):
            return rule
        honest = bench.rng("honest").normal(size=(_CLIENTS, _LENGTH))
        spread = float(np.sqrt(_LENGTH))
        counts = [1] * _CLIENTS
        start = np.asarray(rule.aggregate(honest, counts), dtype=float)
        worst, how = 0.0, "nothing"
        for lie in (*_LIES, float("nan")):
            updates = honest.copy()
            updates[: self.liars] = honest.mean(axis=0) + lie
            try:
                result = np.asarray(rule.aggregate(updates, counts), dtype=float)
            except (ValueError, ArithmeticError):
                continue
            moved = (
                float(np.linalg.norm(result - start)) / spread if np.isfinite(result).all() else float("inf")
            )
            if moved > worst:
                worst, how = moved, f"updates shifted by {lie:g}"
        return Ruling(
            judgement="refuted" if worst > self.at_most else "not refuted",
            why=f"{how} move it by {worst:.3g} spreads",
            ceiling="four simple lies were tried; lies made for the rule may move it further",
            evidence={"moved": worst if np.isfinite(worst) else "inf"},
        )
