"""What proofs allow a membership attack at most: said before anything is scored.

Members and other records are exchangeable: which of two records was trained on was drawn by chance, and the number of
members is public. To exchange one member for another record is therefore one step of replace-one adjacency, and two
steps of the others, at which (e, d) becomes (2 e, (1 + exp(e)) d). Let P be the law of a score where its record was
trained on, and Q where another was in its place. Then, for a threshold with true-positive rate P(S) = t and
false-positive rate Q(S) = f, t <= exp(e) f + d, and from the complements t <= 1 - exp(-e) (1 - f - d). That a member's
score is above another record's is one event, which the exchange turns into its contrary: so the area under the curve is
at most (exp(e) + d) / (exp(e) + 1).

A guarantee for a client or a person holds for each of their records. One for features alone says nothing of a record
that comes and goes with its label, and one for states within a trace distance nothing of other records.

Secrecy is another matter. Let what an attack reads be within a statistical distance D of something that does not depend
on records. Then it is so whichever of two records was trained on, and the two laws are within 2 D: the exchange is one of
(0, 2 D), and 2 AUC - 1 is at most 2 D. Ciphertexts on the wire are of this kind, of models as of updates. Masked updates are
so once models and sums are given, so that an attack on them has noise in their place; where its claim is a guess then, the
same holds. Computational secrecy has D = 0 as far as nobody computes more than is assumed. Of what a sum tells, secrecy
says nothing: there the proof leaves the number of honest clients in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from qflsec.accounting.ledger import LedgerRow, Sealed
from qflsec.accounting.limits import membership_ceiling

__all__ = ["Prediction", "exchanged", "mixed", "predicted"]

_STEPS = {"replace-one": 1, "add/remove": 2, "zero-out": 2}
_UNITS = frozenset({"example", "client", "person"})
_CLOSED: dict[Sealed, frozenset[str]] = {
    "messages": frozenset({"single update", "update", "aggregate", "step", "path", "model"}),
    "single updates": frozenset({"single update"}),
}
"""What an attack cannot read where a row keeps this closed, in the words of an attack's ``reads``."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The proof that allows a membership attack least.

    Attributes:
        epsilon: Its epsilon for the exchange of two records.
        delta: Its delta for that.
        layer: The layer whose row it is.
        unit: What the row protects: ``"messages"`` or ``"single updates"`` where it keeps them closed.
        adjacency: The row's adjacency; ``"sealed"`` for secrecy.
        stated: The epsilon of the row as it stands; for secrecy, the distance.
    """

    epsilon: float
    delta: float
    layer: str
    unit: str
    adjacency: str
    stated: float

    @property
    def advantage(self) -> float:
        """The largest 2 AUC - 1."""
        return membership_ceiling(self.epsilon, self.delta)

    def tpr(self, fpr: float) -> float:
        """The largest true-positive rate of any threshold with this false-positive rate."""
        if self.epsilon > 700:
            return 1.0
        grown = math.exp(self.epsilon)
        return max(0.0, min(1.0, grown * fpr + self.delta, 1 - (1 - fpr - self.delta) / grown))

    def to_dict(self) -> dict[str, Any]:
        """Every field and the ``advantage``, JSON-able."""
        return {**asdict(self), "advantage": self.advantage}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """The prediction that :meth:`to_dict` wrote."""
        return cls(**{name: stored[name] for name in cls.__dataclass_fields__})


def exchanged(epsilon: float, delta: float, adjacency: str) -> tuple[float, float] | None:
    """Epsilon and delta for the exchange of two records; None where the adjacency does not reach it."""
    steps = _STEPS.get(adjacency)
    if steps is None or math.isinf(epsilon):
        return None
    if steps == 1:
        return epsilon, min(1.0, delta)
    grown = math.exp(epsilon) if epsilon < 700 else math.inf
    return 2 * epsilon, min(1.0, (1 + grown) * delta) if delta else 0.0


def predicted(rows: Iterable[LedgerRow], reads: frozenset[str] = frozenset()) -> Prediction | None:
    """What the proved rows of one observer's ledger allow at most; None where none says anything of a record.

    Every proved upper bound holds, and so does the strictest of them. Approximations and heuristics predict nothing, and
    secrecy does for attacks alone that read nothing but what it keeps closed.

    Args:
        rows: The rows.
        reads: What the attack reads of a view, if that is known (:attr:`qflsec.attacks.Inference.reads`).
    """
    found = [one for row in rows if (one := _of_row(row, reads)) is not None]
    return min(found, key=lambda one: one.advantage, default=None)


def _of_row(row: LedgerRow, reads: frozenset[str]) -> Prediction | None:
    if row.sealed:
        if not reads or not reads <= _CLOSED[row.sealed]:
            return None
        pair: tuple[float, float] | None = (0.0, min(1.0, 2 * row.distance))
        unit, adjacency, stated = str(row.sealed), "sealed", row.distance
    elif row.bound == "upper bound" and row.epsilon is not None and row.unit in _UNITS:
        pair = exchanged(row.epsilon, row.delta or 0.0, row.adjacency)
        unit, adjacency, stated = row.unit, row.adjacency, row.epsilon
    else:
        return None
    if pair is None:
        return None
    return Prediction(
        epsilon=pair[0], delta=pair[1], layer=row.layer, unit=unit, adjacency=adjacency, stated=stated
    )


def mixed(rows: Iterable[LedgerRow]) -> dict[str, Any]:
    """Which layer leaves this observer sums alone, and of how many honest clients at least; empty where none does.

    Args:
        rows: The rows of one observer's ledger.
    """
    found = [row for row in rows if row.mixed is not None]
    if not found:
        return {}
    best = max(found, key=lambda row: row.mixed or 0)
    return {"layer": best.layer, "clients": best.mixed}
