"""What a session matrix says: what does the server learn, and is a wrong result accepted?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from qflsec.accounting.statistics import clopper_pearson
from qflsec.base import Score
from qflsec.lab.worlds.delegation.scores import by_chance
from qflsec.lab.worlds.pairs.cells import PairCell, PairResult, mean

if TYPE_CHECKING:
    from qflsec.lab.worlds.delegation.session import SessionOutcome

__all__ = ["LEARNED", "SessionCell", "SessionMatrixResult", "SessionRow"]

LEARNED = ("angles", "outcomes", "rounds")
"""What a server can learn."""
_FALSE_ALARM = 1e-5


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """What a matrix keeps of a session.

    Attributes:
        tests: Test rounds.
        tests_failed: Tests that failed.
        accepted: Whether the client accepts.
        error: How far the estimates are off at most.
        noticeable: Whether that is more than shot noise.
        wrong: Whether a result was accepted that is off by more than noise and than the tests' bound allow.
        bias_bound: How far a server that passes can have moved an average.
        detection: The rate at which tests should fail under this attack, without noise; None if not known.
        qubits_exposed_fraction: The share of the qubits that the server got more than once; None without a
            claim.
        scores: What the server learned: ``angles``, ``outcomes`` and ``rounds``, where it says anything.
    """

    tests: int
    tests_failed: int
    accepted: bool
    error: float
    noticeable: bool
    wrong: bool
    bias_bound: float
    detection: float | None
    qubits_exposed_fraction: float | None
    scores: Mapping[str, Score]

    @classmethod
    def of(cls, outcome: SessionOutcome) -> SessionRow:
        """The row of a session."""
        return cls(
            tests=outcome.counts.tests,
            tests_failed=outcome.failures,
            accepted=outcome.accepted,
            error=outcome.error,
            noticeable=outcome.noticeable,
            wrong=outcome.wrong,
            bias_bound=outcome.bound.bias,
            detection=outcome.detection,
            qubits_exposed_fraction=outcome.exposed,
            scores=outcome.scores,
        )


@dataclass(frozen=True, kw_only=True)
class SessionCell(PairCell[SessionRow]):
    """One attack against one client, over all seeds."""

    @property
    def aborted(self) -> int:
        """Sessions whose tests failed too often: no result was released."""
        return sum(not outcome.accepted for outcome in self.outcomes)

    @property
    def wrong(self) -> int:
        """Sessions whose result was accepted and is off by more than noise and bound allow."""
        return sum(outcome.wrong for outcome in self.outcomes)

    @property
    def leaking(self) -> tuple[str, ...]:
        """What the server learned, in any session, with at most one false alarm in 100,000 for each.

        A session of a dozen rounds or fewer cannot show that much.
        """
        return tuple(
            sorted(
                {
                    name
                    for outcome in self.outcomes
                    for name, score in outcome.scores.items()
                    if by_chance(score, outcome.tests) <= _FALSE_ALARM
                }
            )
        )

    @property
    def verdict(self) -> str:
        """The worst: ``wrong result``, ``leaks``, ``aborted``, ``within bound`` or ``holds``."""
        if self.wrong:
            return "wrong result"
        if self.leaking:
            return "leaks"
        if self.aborted:
            return "aborted"
        return "within bound" if any(outcome.noticeable for outcome in self.outcomes) else "holds"

    def advantage(self, name: str) -> Score | None:
        """What the server learned of ``angles``, ``outcomes`` or ``rounds``: the mean over the seeds."""
        values = [outcome.scores[name].value for outcome in self.outcomes if name in outcome.scores]
        return mean(values, name=f"{name}_advantage", ideal=1.0, within=(-1.0, 1.0))

    @property
    def failure_rate(self) -> Score | None:
        """The share of failed tests: the mean over the seeds; None without tests."""
        tested = [one for one in self.outcomes if one.tests]
        rates = [clopper_pearson(one.tests_failed, one.tests) for one in tested]
        return mean(
            [rate.value for rate in rates],
            name="failure_rate",
            ideal=1.0,
            within=(0.0, 1.0),
            records=[(rate.low, rate.high) for rate in rates],
        )

    @property
    def detection(self) -> float | None:
        """The rate at which tests should fail under this attack, without noise; None if not known."""
        return self.outcomes[0].detection if self.outcomes else None

    @property
    def finding(self) -> str:
        """What the sessions found, in words."""
        n = len(self.outcomes)
        tested = self.outcomes[0].tests > 0
        parts = [f"the client aborts in {self.aborted} of {n} sessions" if tested else "nothing is tested"]
        if (rate := self.failure_rate) is not None:
            said = "" if self.detection is None else f" (theory {self.detection:.3f})"
            parts.append(f"{rate.value:.3f} of the tests fail{said}")
        if self.wrong:
            parts.append(f"a wrong result is accepted in {self.wrong} of {n}")
        learned = [
            f"{score.value:.2f} of the {name}"
            for name in LEARNED
            if (score := self.advantage(name)) is not None and name in self.leaking
        ]
        if learned:
            parts.append(f"the server learns {' and '.join(learned)}")
        return "; ".join(parts)

    blamed: ClassVar[str] = "quantum server or wire"
    """The client trusts itself: its tests do not tell a server from the line to it, nor either from its noise."""

    @staticmethod
    def stopped(outcome: SessionRow) -> bool:
        """Whether the client released no result."""
        return not outcome.accepted

    @staticmethod
    def figures(outcome: SessionRow) -> dict[str, float]:
        """The numbers of a session."""
        found = {
            "tests_failed": float(outcome.tests_failed),
            "error": outcome.error,
            "bias_bound": outcome.bias_bound,
            **{f"{name}_advantage": score.value for name, score in outcome.scores.items()},
        }
        if outcome.qubits_exposed_fraction is not None:
            found["qubits_exposed_fraction"] = outcome.qubits_exposed_fraction
        return found


@dataclass(frozen=True, kw_only=True)
class SessionMatrixResult(PairResult[SessionCell]):
    """What a session matrix found; its columns are clients."""

    kind: ClassVar[str] = "delegation"
