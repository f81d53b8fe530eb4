"""What many releases over the same records spend together: every run of a session looked at them.

A ledger row bounds one run. Seeds, cells of a matrix and every setting that was tried trained on records of the same
data set, so that whoever sees several of these runs has the composition of their guarantees. Composition holds for
adaptive sequences, so a search that picks its next setting from earlier results is covered; publishing the best
setting alone costs no less by it, since the choice depends on all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from qflsec.base import ConfigError

__all__ = ["Composed", "SessionAccount", "composed"]


@dataclass(frozen=True, kw_only=True)
class Composed:
    """The composition of several guarantees.

    Attributes:
        epsilon: Of all together.
        delta: Of all together; at 1 or more nothing is guaranteed.
        by: The theorem that gave it.
    """

    epsilon: float
    delta: float
    by: str


def composed(guarantees: Sequence[tuple[float, float]]) -> Composed:
    """What (epsilon, delta) guarantees over the same records come to: the smaller of basic and advanced composition.

    Advanced composition pays one more delta, the largest of those given, for ``sum_i eps_i (e^eps_i - 1) / (e^eps_i + 1)
    + sqrt(2 ln(1 / delta) sum_i eps_i^2)``.

    Args:
        guarantees: Epsilon and delta of each release.

    Raises:
        ConfigError: An epsilon is negative or not a number, or a delta is no probability.

    Source:
        Dwork, Roth: The algorithmic foundations of differential privacy, 2014, theorem 3.16 (basic); Kairouz, Oh,
        Viswanath: The composition theorem for differential privacy, ICML 2015, theorem 3.5 (advanced).
    """
    for epsilon, delta in guarantees:
        if not epsilon >= 0 or not 0 <= delta <= 1:
            raise ConfigError("no guarantee of differential privacy", got=f"epsilon {epsilon}, delta {delta}")
    spent = sum(delta for _, delta in guarantees)
    basic = Composed(epsilon=sum(epsilon for epsilon, _ in guarantees), delta=spent, by="basic composition")
    more = max((delta for _, delta in guarantees), default=0.0)
    if more == 0 or math.isinf(basic.epsilon):
        return basic
    mean = sum(epsilon * math.tanh(epsilon / 2) for epsilon, _ in guarantees)
    spread = math.sqrt(2 * math.log(1 / more) * sum(epsilon**2 for epsilon, _ in guarantees))
    if mean + spread >= basic.epsilon:
        return basic
    return Composed(epsilon=mean + spread, delta=spent + more, by="advanced composition")


@dataclass(frozen=True, kw_only=True)
class SessionAccount:
    """What all runs over one data set told one observer of a unit of it.

    Attributes:
        data: The data set.
        observer: Who looks.
        unit: The protected unit.
        adjacency: What neighbouring data sets differ in.
        runs: All runs over the data set that were made.
        bounded: How many of them have a finite epsilon for this unit and adjacency.
        together: The composition of these.
        unbounded: Of what the other runs were: stacks, and stacks under attack, of which no ledger is kept.
    """

    data: str
    observer: str
    unit: str
    adjacency: str
    runs: int
    bounded: int
    together: Composed
    unbounded: tuple[str, ...] = ()

    @property
    def epsilon(self) -> float:
        """Of all runs together: infinite where one of them has no bound."""
        return self.together.epsilon if self.bounded == self.runs and self.together.delta < 1 else math.inf

    @property
    def sentence(self) -> str:
        """The account in one sentence."""
        spent = f"{self.together.epsilon:.4g} at delta {self.together.delta:.3g} by {self.together.by}"
        if self.together.delta >= 1:
            spent = f"no epsilon together, since their deltas add up to {self.together.delta:.3g}"
        told = (
            f"the {self.bounded} runs with an epsilon for each {self.unit} ({self.adjacency}) come to {spent}, as far as "
            "everybody keeps to the protocol whom their rows trust"
        )
        if self.bounded == self.runs:
            return f"{told}: all {self.runs} runs together"
        return f"{told}; all {self.runs} runs together have no epsilon, since those of {', '.join(self.unbounded)} have none"

    def to_dict(self) -> dict[str, object]:
        """Every field, ``epsilon`` and ``sentence``, JSON-able; infinity as ``"infinity"``."""
        epsilon = "infinity" if math.isinf(self.epsilon) else self.epsilon
        return {**asdict(self), "epsilon": epsilon, "sentence": self.sentence}
