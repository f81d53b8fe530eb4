"""The claim of differential privacy of a recorded app whose clients train under Opacus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from qflsec.audit.accountants import above
from qflsec.audit.check import Bench, NotApplicable
from qflsec.audit.checks.recording_private import (
    RecordedBatches,
    RecordedClip,
    RecordedNoise,
    accounted,
    private_steps,
)
from qflsec.audit.claim import Claim, Ruling
from qflsec.audit.flower.recording import Recording
from qflsec.audit.parts import Part
from qflsec.base import ConfigError, register

__all__ = ["RecordedPrivacy"]


@register("claim", "recorded-dp")
@dataclass(frozen=True, kw_only=True)
class RecordedPrivacy(Claim):
    """All rounds of a recorded app together are (epsilon, delta)-DP for one record of a client, added or removed.

    Attributes:
        epsilon: The claimed epsilon.
        delta: The claimed delta.
        rounds: Rounds of the whole training; those of the app's configuration where 0.
    """

    kind: ClassVar[str] = "recorded-dp"
    epsilon: float
    delta: float
    rounds: int = 0

    def __post_init__(self) -> None:
        if not (self.epsilon > 0 and 0 < self.delta < 1 and self.rounds >= 0):
            raise ConfigError(
                "a claim of kind 'recorded-dp'",
                got=f"epsilon = {self.epsilon}, delta = {self.delta}, rounds = {self.rounds}",
                expected="epsilon above 0, delta between 0 and 1, no negative number of rounds",
            )

    @property
    def sentence(self) -> str:
        """The claim."""
        rounds = f"{self.rounds} rounds" if self.rounds else "all rounds"
        return f"{rounds} are ({self.epsilon:g}, {self.delta:g})-DP for a record of a client that is added or removed"

    def test(self, parts: Sequence[Part], bench: Bench) -> Ruling:
        """Look at the steps that were made, and account for as many rounds of them as the whole training has."""
        part = self.about(parts, Recording)
        if isinstance(part, Ruling):
            return part
        rounds = self.rounds or part.planned
        if not rounds:
            why = "the app's configuration does not say how many rounds there are: set 'rounds'"
            return Ruling(judgement="not tested", why=why)
        try:
            for check in (RecordedClip(), RecordedNoise(), RecordedBatches()):
                for finding in check.run(part, bench):
                    return Ruling(
                        judgement="refuted",
                        why=f"{finding.what}: no epsilon follows",
                        evidence=finding.evidence,
                    )
            return self._accounted(part, rounds)
        except NotApplicable as reason:
            return Ruling(judgement="not tested", why=str(reason))

    def _accounted(self, part: Recording, rounds: int) -> Ruling:
        worst: tuple[float, int, dict[str, float]] = (0.0, 0, {})
        for node, steps in private_steps(part).items():
            seen = sum(bool(one.private) for _, one in part.steps(node))
            found = accounted(steps, self.delta, rounds / seen)
            worst = max(worst, (min(found.values()), node, found), key=lambda one: one[0])
        best, node, found = worst
        steps = private_steps(part)[node]
        done = f"{rounds} rounds of client {node}, noise multiplier {steps[0].multiplier:.4g}, sampling rate {steps[0].rate:.4g}"
        evidence = {**found, "rounds": rounds, "client": node, "noise_multiplier": steps[0].multiplier}
        said = above(best, self.epsilon, done, evidence)
        if said is not None:
            return said
        return Ruling(
            judgement="not refuted",
            why=f"clip, noise and sampling of {len(steps)} real steps are as accounted, and accountants give {best:.4g} for {done}",
            ceiling="rounds that were not run are taken to be like those that were; what else leaves the clients is not covered",
            evidence=evidence,
        )
