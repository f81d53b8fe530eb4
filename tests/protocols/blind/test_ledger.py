"""The ledger's rows against the quantum server."""

from __future__ import annotations

import pytest

from qflsec.protocols.blind import RoundCounts, RoundsResult, harmless_rounds, soundness_error
from qflsec.protocols.blind.ledger import blind_rows, composed_soundness

COUNTS = RoundCounts(shots=60, tests=100, threshold=1, colours=2)
ONE = RoundsResult(counts=COUNTS, failures=0)


def test_soundness_adds_up_over_delegations_and_stops_at_one() -> None:
    single = soundness_error(COUNTS, harmless=harmless_rounds(60, 0.1))
    assert composed_soundness([ONE] * 3, corrupted_fraction=0.1) == pytest.approx(3 * single)
    assert composed_soundness([ONE] * 10**3, corrupted_fraction=0.01) == 1.0


def test_the_rows_say_what_is_hidden_and_what_is_not() -> None:
    secrecy, integrity = blind_rows([ONE], embedding="ansatz", corrupted_fraction=0.5, seeded=False)
    assert (secrecy.guarantee, secrecy.assumption) == ("secrecy", "information-theoretic")
    assert "the graph and its order" in secrecy.released
    assert "poisoning" in secrecy.note
    assert integrity.bound == "approximation"
    assert "engineering" in integrity.note
    (brickwork,) = blind_rows([], embedding="brickwork", corrupted_fraction=0.5, seeded=False)
    assert "stages" in brickwork.released


def test_seeded_pads_earn_nothing() -> None:
    secrecy, integrity = blind_rows([ONE], embedding="ansatz", corrupted_fraction=0.5, seeded=True)
    assert secrecy.guarantee == "not covered"
    assert secrecy.assumption == integrity.assumption == "none"
    assert "seeded" in integrity.note


def test_untested_rounds_earn_no_soundness() -> None:
    untested = RoundsResult(counts=RoundCounts(shots=60, tests=0, threshold=0, colours=2), failures=0)
    assert len(blind_rows([untested], embedding="ansatz", corrupted_fraction=0.5, seeded=False)) == 1
    assert composed_soundness([untested], corrupted_fraction=0.5) == 1.0


def test_too_few_tests_are_said_to_bound_nothing() -> None:
    few = RoundsResult(counts=RoundCounts(shots=30, tests=5, threshold=0, colours=2, rows=100), failures=0)
    row = blind_rows([few] * 30, embedding="ansatz", corrupted_fraction=0.2, seeded=False)[1]
    assert row.guarantee == "not covered"
    assert "bound nothing" in row.statement
