"""People behind records: which kinds count, and the rows that the conversion makes of any mechanism's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from qflsec.accounting import LedgerContext, LedgerRow, People
from qflsec.accounting.account import ledger
from qflsec.accounting.person_rows import rows_by_conversion

PEOPLE = People(
    told_by="the column 'patient'", named=True, kinds=((2, 0, 0), (1, 1, 0), (3, 0, 1), (0, 2, 4))
)


def row(**changes: Any) -> LedgerRow:
    return LedgerRow(
        **{
            "observer": "o",
            "layer": "l",
            "guarantee": "differential privacy",
            "statement": "",
            "assumption": "computational",
            "epsilon": 0.5,
            "delta": 1e-6,
            "unit": "example",
            "adjacency": "zero-out",
            "accountant": "PRV",
            **changes,
        }
    )


def test_only_the_largest_kinds_count() -> None:
    assert PEOPLE.at([0, 1, 2]) == ((4, 2),)
    assert PEOPLE.at([0, 1]) == ((3,), (1, 1))
    assert PEOPLE.at([2]) == ((4,),)
    assert People(kinds=((1, 1),)).at([1]) == ()
    # incomparable kinds beyond what is worth computing: one that covers them all
    many = People(kinds=tuple((part, 100 - part) for part in range(51, 100)))
    assert many.at([0, 1]) == ((99, 49),)


def test_rows_of_any_mechanism_are_converted() -> None:
    (found,) = rows_by_conversion([row(epsilon_unsampled=2.0)], PEOPLE, [0, 1])
    assert (found.unit, found.layer, found.assumption) == ("person", "l", "computational")
    assert found.epsilon == pytest.approx(1.5)
    assert found.delta == pytest.approx(1e-6 * (1 + math.exp(0.5) + math.exp(1.0)))
    assert found.epsilon_unsampled == math.inf, "its delta grows more than this row's"
    assert "3 records (told by the column 'patient')" in found.statement
    (at_two,) = rows_by_conversion([row(unit="client")], PEOPLE, [0, 1, 2])
    assert at_two.epsilon == pytest.approx(1.0), "a client's row covers all records there"
    assert rows_by_conversion([row(unit="client")], PEOPLE, [2]) == ()


def test_a_delta_of_one_is_no_guarantee() -> None:
    (found,) = rows_by_conversion([row(epsilon=20.0)], PEOPLE, [2])
    assert found.epsilon == math.inf
    assert "no epsilon for each person" in found.statement


@pytest.mark.parametrize(
    "other",
    [
        {"guarantee": "secrecy"},
        {"epsilon": None},
        {"unit": "features of an example"},
        {"unit": "person"},
    ],
)
def test_other_rows_are_not(other: dict[str, Any]) -> None:
    assert rows_by_conversion([row(**other)], PEOPLE, [0]) == ()


def test_a_layer_that_states_its_own_is_not_converted() -> None:
    assert rows_by_conversion([row(), row(unit="person")], PEOPLE, [0]) == ()
    assert len(rows_by_conversion([row(), row(unit="person", layer="other")], PEOPLE, [0])) == 1


def test_the_ledger_says_whether_anybody_is_named(ledger_context: Callable[..., LedgerContext]) -> None:
    def told(people: People, *rows: LedgerRow) -> list[str]:
        context = ledger_context(counts=(8, 8, 8), people=people)
        return [found.statement for found in ledger(context, rows)]

    unnamed = People(told_by="equal records")
    assert any("no column of the data names people" in text for text in told(unnamed, row()))
    assert not any("names people" in text for text in told(unnamed, row(unit="client")))
    assert not any("names people" in text for text in told(PEOPLE, row()))
    assert any(
        "for each person, who has up to 6 records at 2 clients" in text for text in told(PEOPLE, row())
    )
