"""One page for one observer: what it sees, what is proved to bound that, and what nothing bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qflsec.accounting.context import LedgerContext
from qflsec.accounting.ledger import LedgerRow
from qflsec.accounting.person_rows import rows_by_conversion
from qflsec.accounting.rows import RowWriter

__all__ = ["ObserverAccount", "ledger", "observer_account"]


@dataclass(frozen=True, kw_only=True)
class ObserverAccount:
    """What one observer learns, by which proof, under which assumption.

    Attributes:
        observer: Who looks.
        sees: What its view of the run holds.
        bounds: The guarantees against it, side by side; kinds and layers are never added up.
        unbounded: What it sees or could infer that no guarantee here bounds.
    """

    observer: str
    sees: tuple[str, ...]
    bounds: tuple[LedgerRow, ...]
    unbounded: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"What does '{self.observer}' learn?", "It sees:"]
        lines += [f"  - {sentence}" for sentence in self.sees or ("nothing of this run",)]
        lines.append("Bounded by:")
        lines += [
            f"  - {row.layer} [{row.guarantee}; {row.assumption}]: {row.stated}" for row in self.bounds
        ] or ["  - nothing"]
        lines.append("Not bounded:")
        lines += [f"  - {sentence}" for sentence in self.unbounded or ("nothing that was found",)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The account with stable keys, JSON-able."""
        return {
            "observer": self.observer,
            "sees": list(self.sees),
            "bounds": [row.to_dict() for row in self.bounds],
            "unbounded": list(self.unbounded),
        }


def observer_account(observer: str, rows: Sequence[LedgerRow | Mapping[str, Any]]) -> ObserverAccount:
    """The account of one observer.

    Args:
        observer: Who looks.
        rows: Rows against it, of a run or as :meth:`LedgerRow.to_dict` wrote them; those against others are left out.
    """
    known = [row if isinstance(row, LedgerRow) else LedgerRow.from_dict(row) for row in rows]
    mine = [row for row in known if row.observer == observer]
    return ObserverAccount(
        observer=observer,
        sees=tuple(row.statement for row in mine if row.guarantee == "seen"),
        bounds=tuple(row for row in mine if row.guarantee not in {"seen", "not covered"}),
        unbounded=tuple(f"{row.layer}: {row.statement}" for row in mine if row.guarantee == "not covered"),
    )


def ledger(
    context: LedgerContext, rows: Sequence[LedgerRow], *, sees: Sequence[str] = ()
) -> tuple[LedgerRow, ...]:
    """The whole ledger against one observer: what it sees, every guarantee, and what none of them covers.

    Args:
        context: The observer and the training.
        rows: The rows of all layers against it.
        sees: What its view holds, a sentence each.
    """
    name = context.observer.name
    seen = [
        LedgerRow(observer=name, layer="view", guarantee="seen", statement=sentence, assumption="none")
        for sentence in sees
    ]
    pipeline, view = RowWriter(observer=name, layer="pipeline"), RowWriter(observer=name, layer="view")
    people = rows_by_conversion(rows, context.training.people, context.honest)
    return (
        *seen,
        *rows,
        *people,
        *map(pipeline.not_covered, _outside(context)),
        *map(view.not_covered, _unbounded(context, rows)),
        *map(pipeline.not_covered, _unnamed(context, rows)),
    )


def _outside(context: LedgerContext) -> list[str]:
    """What happened outside the rounds, which no proof of a layer covers."""
    found = []
    if context.observer.reads_model and context.preparation.on_training:
        records = context.preparation.fitted_on.partition(":")[0]
        found.append(f"the preprocessing was fitted on {records}: no epsilon covers what it leaks")
    if context.observer.reads_model or context.observer.reads_updates:
        found.append(
            "the choice of features, model and hyperparameters was made outside this run and is not accounted for"
        )
    return found


def _unbounded(context: LedgerContext, rows: Sequence[LedgerRow]) -> list[str]:
    """What the observer reads and no epsilon of these rows bounds that forbids anything, by protected unit."""
    observer = context.observer
    if not context.honest or not observer.reads_anything:
        return []
    stated = {row.unit for row in rows if row.guarantee == "differential privacy"}
    bounded = {row.unit for row in rows if row.guarantee == "differential privacy" and not row.vacuous}
    what = "the final model tells"
    if observer.reads_updates:
        what = "single updates tell"
    elif observer.reads_sums:
        what = f"sums over {observer.smallest_k} or more honest clients tell"
    found = []
    for unit, covering in (
        ("of a single record", {"example", "client"}),
        ("of a client as a whole", {"client"}),
    ):
        if not bounded & covering:
            only = "that forbids anything " * bool(stated & covering)
            found.append(f"no epsilon {only}bounds what {what} {unit}")
    return found


def _unnamed(context: LedgerContext, rows: Sequence[LedgerRow]) -> list[str]:
    """That a record's epsilon is no person's, where nothing names people."""
    units = {row.unit for row in rows if row.guarantee == "differential privacy"}
    if context.training.people.named or "example" not in units:
        return []
    found = "no column of the data names people: whoever has several records that are not equal, or is at several "
    return [f"{found}clients, has a larger epsilon than a record"]
