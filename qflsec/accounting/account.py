"""One page for one observer: what it sees, what is proved to bound that, and what nothing bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qflsec.accounting.ledger import LedgerContext, LedgerRow, dp_statement

__all__ = ["ObserverAccount", "observer_account", "unbounded"]


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
            f"  - {row.layer} [{row.guarantee}; {row.assumption}]: {_stated(row)}" for row in self.bounds
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


def _stated(row: LedgerRow) -> str:
    sentence = dp_statement(row)
    note = f" ({row.note})" if row.note and sentence == row.statement else ""
    return f"{sentence}{note}"


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


def unbounded(context: LedgerContext, rows: Sequence[LedgerRow]) -> tuple[LedgerRow, ...]:
    """Rows for what the observer reads and no finite epsilon of these rows bounds, by protected unit.

    Args:
        context: The observer and the run.
        rows: The rows against it.
    """
    if not context.honest or not (context.sees_updates or context.sees_aggregates or context.sees_model):
        return ()
    finite = {
        row.unit
        for row in rows
        if row.guarantee == "differential privacy" and row.epsilon is not None and math.isfinite(row.epsilon)
    }
    if context.sees_updates:
        what = "single updates"
    elif context.sees_aggregates:
        what = f"sums over {context.smallest_k} or more honest clients"
    else:
        what = "the final model"
    found = []
    if not finite & {"example", "client"}:
        found.append(f"no epsilon bounds what {what} tell of a single record")
    if "client" not in finite:
        found.append(f"no epsilon bounds what {what} tell of a client as a whole")
    return tuple(
        LedgerRow(
            observer=context.observer,
            layer="view",
            guarantee="not covered",
            statement=statement.replace("model tell", "model tells"),
            assumption="none",
        )
        for statement in found
    )
