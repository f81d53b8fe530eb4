"""Rows for people by the conversion of group privacy, for layers that state none by their mechanism."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from qflsec.accounting.group_privacy import converted
from qflsec.accounting.ledger import LedgerRow
from qflsec.accounting.people import People
from qflsec.accounting.rows import joined

__all__ = ["rows_by_conversion"]


def rows_by_conversion(
    rows: Sequence[LedgerRow], people: People, clients: Collection[int]
) -> tuple[LedgerRow, ...]:
    """Rows for people, from those for records and clients of layers that state none for people themselves.

    Args:
        rows: The rows of all layers against one observer.
        people: Who stands behind the records.
        clients: The honest clients.
    """
    kinds = people.at(clients)
    stated = {row.layer for row in rows if row.unit == "person"}
    if not kinds:
        return ()
    found = []
    for row in rows:
        if row.guarantee != "differential privacy" or row.epsilon is None or row.delta is None:
            continue
        if row.unit not in ("example", "client") or row.layer in stated:
            continue
        sizes = {sum(kind) if row.unit == "example" else len(kind): kind for kind in kinds}
        k = max(sizes)
        if k > 1:
            found.append(_converted(row, k, people.words(sizes[k])))
    return tuple(found)


def _converted(row: LedgerRow, k: int, words: str) -> LedgerRow:
    assert row.epsilon is not None
    assert row.delta is not None
    epsilon, delta = converted(row.epsilon, row.delta, k)
    unsampled = None
    if row.epsilon_unsampled is not None:
        unsampled, grown = converted(row.epsilon_unsampled, row.delta, k)
        unsampled = unsampled if grown <= delta else math.inf
    if delta >= 1:
        epsilon, delta = math.inf, row.delta
    what = f"a group of {k} {row.unit}s"
    statement = f"epsilon {epsilon:.4g} at delta {delta:g} for each person, who has up to {words}"
    if math.isinf(epsilon):
        statement = f"no epsilon for each person, who has up to {words}: the delta of {what} is 1 or more"
    return replace(
        row,
        statement=statement,
        epsilon=epsilon,
        delta=delta,
        epsilon_unsampled=unsampled,
        unit="person",
        accountant=f"group privacy of {k}, from {row.accountant or 'the row above'}",
        note=joined(row.note, f"by the conversion for {what}, which holds for any mechanism and is loose"),
    )
