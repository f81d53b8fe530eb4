"""The ledger of guarantees: what an observer learns, by which proof, under which assumption.

A row belongs to one observer, because the same mechanism protects differently against whoever sees single
updates and whoever sees sums. Rows of different kinds stand side by side; nothing adds them up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from qflsec.accounting.limits import is_vacuous, membership_ceiling
from qflsec.base import Assumption, ConfigError

__all__ = ["Adjacency", "Guarantee", "LedgerRow", "Sealed", "dp_statement", "render_ledger"]

Guarantee = Literal["differential privacy", "secrecy", "anonymity", "integrity", "not covered", "seen"]
Adjacency = Literal["add/remove", "replace-one", "zero-out"]
"""What neighbouring runs differ in: whether a unit is there; what it is; or what it sent, its place staying.

Where numbers of records and of clients are public, as everywhere in a federation here, a unit that is not there
shows in them: then only the other two can hold. Zero-out costs what add/remove would cost without these numbers.
"""
Sealed = Literal["", "messages", "single updates"]
"""What a row of secrecy keeps closed; empty where it does not say, or where another part of the view may tell it."""

BoundKind = Literal["upper bound", "approximation", "audited lower bound", "statement"]

_ADJACENCY: dict[str, str] = {
    "add/remove": "add-or-remove-one adjacency",
    "replace-one": "replace-one adjacency",
    "zero-out": "zero-out adjacency (what the unit sent is taken away, its place in the protocol stays)",
}
_UNIT = {
    "example": "Example-level",
    "client": "Client-level",
    "person": "Person-level",
    "features of an example": "Feature-level (an example's features, not its label)",
}


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """One guarantee for one observer.

    Attributes:
        observer: Against whom.
        layer: Which layer gives it.
        guarantee: Its kind; kinds are never summed. ``"seen"`` guarantees nothing: it says what the observer holds.
        statement: The guarantee in one sentence.
        assumption: What it rests on.
        trusted: Who is trusted, in words.
        released: What the observer gets to see.
        bound: The kind of bound.
        epsilon: For differential privacy.
        delta: For differential privacy.
        epsilon_unsampled: The epsilon against whoever knows which units were sampled; None where nothing was.
        unit: The protected unit, such as ``"example"`` or ``"client"``.
        adjacency: What neighbouring runs differ in: an :data:`Adjacency`, or a trace distance of states, in words.
            No epsilon stands without it.
        mechanism: The mechanism and its sensitivity.
        sampling: How the protected records are sampled.
        steps: The number of compositions.
        accountant: The accountant and its version.
        note: What a reader must not overlook.
        sealed: For secrecy, what the observer's view does not depend on.
        distance: How far its view may be from one that does not depend on it: a statistical distance over the whole run,
            0 where only computation could tell them apart.
        mixed: For anonymity, how many honest clients every sum mixes at least.
    """

    observer: str
    layer: str
    guarantee: Guarantee
    statement: str
    assumption: Assumption
    trusted: str = "nobody"
    released: str = ""
    bound: BoundKind = "statement"
    epsilon: float | None = None
    delta: float | None = None
    epsilon_unsampled: float | None = None
    unit: str = ""
    adjacency: str = ""
    mechanism: str = ""
    sampling: str = ""
    steps: int | None = None
    accountant: str = ""
    note: str = ""
    sealed: Sealed = ""
    distance: float = 0.0
    mixed: int | None = None

    def __post_init__(self) -> None:
        if self.epsilon is not None and not self.adjacency:
            raise ConfigError(
                "an epsilon means nothing without its adjacency",
                got=f"epsilon {self.epsilon:g} of {self.layer!r}",
                fix=f"name what neighbouring runs differ in: {', '.join(_ADJACENCY)} or a trace distance",
            )

    @property
    def vacuous(self) -> bool:
        """Whether it states an epsilon that forbids nothing."""
        return (
            self.guarantee == "differential privacy"
            and self.epsilon is not None
            and is_vacuous(self.epsilon, self.delta or 0.0)
        )

    @property
    def stated(self) -> str:
        """The row for people: :func:`dp_statement` of it, and its note where that is not in it."""
        sentence = dp_statement(self)
        return f"{sentence} ({self.note})" if self.note and sentence == self.statement else sentence

    def to_dict(self) -> dict[str, object]:
        """Every field, its ``sentence`` and whether it is ``vacuous``, JSON-able; infinity as ``"infinity"``."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        row: dict[str, object] = {**fields, "sentence": dp_statement(self), "vacuous": self.vacuous}
        for name in ("epsilon", "epsilon_unsampled"):
            if row[name] == math.inf:
                row[name] = "infinity"
        return row

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """The row that :meth:`to_dict` wrote; other keys are left out."""
        values = {name: stored[name] for name in cls.__dataclass_fields__ if name in stored}
        for name in ("epsilon", "epsilon_unsampled"):
            if values.get(name) == "infinity":
                values[name] = math.inf
        return cls(**values)


def dp_statement(row: LedgerRow) -> str:
    """The row's guarantee with all its conditions; a row of another kind is stated as it is.

    Args:
        row: A row.

    Source:
        The form follows ``compute_dp_sgd_privacy_statement`` of TensorFlow Privacy, which prints epsilon with and
        without the assumption of Poisson sampling.
    """
    if row.guarantee != "differential privacy" or row.epsilon is None:
        return row.statement
    level = _UNIT.get(row.unit, f"Differential privacy of the unit '{row.unit}'")
    at = "" if row.delta is None else f" at delta = {row.delta:g}"
    adjacency = _ADJACENCY.get(row.adjacency, f"adjacency '{row.adjacency}'")
    kind = {"upper bound": "proved upper bound"}.get(row.bound, row.bound)
    by = f", {row.accountant}" if row.accountant else ""
    lead = f"{level} DP with {adjacency}{at}: epsilon = {_number(row.epsilon)} ({kind}{by}"
    parts = [f"{lead}, {row.steps} compositions)." if row.steps is not None else f"{lead})."]
    if row.vacuous and math.isfinite(row.epsilon):
        allowed = membership_ceiling(row.epsilon, row.delta or 0.0)
        parts.append(f"Vacuous: it allows an attack an advantage of {allowed:.6g}, and so forbids nothing.")
    if row.epsilon_unsampled is not None:
        parts.append(
            "This assumes Poisson sampling that the observer cannot see; without that assumption epsilon = "
            f"{_number(row.epsilon_unsampled)}."
        )
    elif row.sampling:
        parts.append(f"Sampling: {row.sampling}.")
    parts += [
        f"{label}: {text}."
        for label, text in (
            ("Mechanism", row.mechanism),
            ("Released", row.released),
            ("Trusted", row.trusted),
            ("Note", row.note),
        )
        if text
    ]
    return " ".join(parts)


def _number(epsilon: float) -> str:
    return "infinite, which guarantees nothing" if math.isinf(epsilon) else f"{epsilon:.4g}"


def render_ledger(rows: Sequence[LedgerRow]) -> str:
    """The rows as text, grouped by observer: a paragraph for each epsilon, a sentence for every other row."""
    lines: list[str] = []
    for observer in dict.fromkeys(row.observer for row in rows):
        lines.append(f"Against {observer}:")
        lines += [
            f"  [{row.guarantee}; {row.assumption}] {row.layer}: {row.stated}"
            for row in rows
            if row.observer == observer
        ]
    return "\n".join(lines)
