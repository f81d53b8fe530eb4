"""What proofs allow: against the best attack on randomised response, and against rows that prove nothing of a record."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.accounting.ledger import LedgerRow
from qflsec.accounting.predictions import Prediction, exchanged, predicted


def row(epsilon: float | None, **change: Any) -> LedgerRow:
    values: dict[str, Any] = {
        "observer": "server",
        "layer": "dp",
        "guarantee": "differential privacy",
        "statement": "s",
        "assumption": "information-theoretic",
        "bound": "upper bound",
        "epsilon": epsilon,
        "delta": 1e-5,
        "unit": "example",
        "adjacency": "replace-one",
    }
    return LedgerRow(**{**values, **change})


def only(*rows: LedgerRow) -> Prediction:
    found = predicted(rows)
    assert found is not None
    return found


@given(st.floats(0.01, 8), st.floats(0, 0.2), st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_the_rates_are_those_of_the_best_test(epsilon: float, delta: float, fpr: float) -> None:
    """Randomised response that gives its secret away with probability delta attains (epsilon, delta), and its ROC curve
    is the ceiling: four outcomes, sorted by likelihood ratio, with a coin between them.
    """
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    inside = np.asarray([delta, (1 - delta) * truth, (1 - delta) * (1 - truth), 0.0])
    others = inside[::-1]
    rates = np.interp(
        fpr, np.concatenate([[0.0], np.cumsum(others)]), np.concatenate([[0.0], np.cumsum(inside)])
    )
    if fpr == 0:
        rates = delta
    proof = only(row(epsilon, delta=delta))
    assert proof.tpr(fpr) == pytest.approx(float(rates), abs=1e-9)
    grid = np.linspace(0, 1, 401)
    curve = [proof.tpr(at) for at in grid]
    assert max(np.asarray(curve) - grid) == pytest.approx(proof.advantage, abs=5e-3)


def test_the_area_of_two_records_that_are_exchanged() -> None:
    """Who of two was trained on, told truly with probability exp(e) / (1 + exp(e)): the area is that, and no larger."""
    truth = math.exp(1.5) / (1 + math.exp(1.5))
    assert only(row(1.5, delta=0.0)).advantage == pytest.approx(2 * truth - 1)


def test_two_records_are_exchanged_in_one_step_or_two() -> None:
    assert exchanged(1.0, 1e-3, "replace-one") == (1.0, 1e-3)
    assert exchanged(1.0, 1e-3, "zero-out") == (2.0, pytest.approx((1 + math.e) * 1e-3))
    assert exchanged(1.0, 0.0, "add/remove") == (2.0, 0.0)
    assert exchanged(1.0, 1e-3, "trace distance 0.1: the features") is None
    assert exchanged(math.inf, 0.0, "replace-one") is None
    assert only(row(1.0, adjacency="zero-out", delta=0.0)).advantage == pytest.approx(math.tanh(1.0))
    assert only(row(2000.0, adjacency="zero-out")).tpr(0.01) == 1.0


def test_the_strictest_proof_counts_and_nothing_else_does() -> None:
    client = row(0.3, layer="dp-fedavg", unit="client")
    assert only(row(2.0), client, row(1.0)).layer == "dp-fedavg", "it holds for each of the client's records"
    nothing = [
        row(0.1, bound="approximation"),
        row(0.1, bound="audited lower bound"),
        row(0.1, unit="features of an example"),
        row(0.1, adjacency="trace distance 0.1"),
        row(math.inf),
        row(None, guarantee="secrecy", bound="statement"),
    ]
    assert predicted(nothing) is None
    assert only(*nothing, row(5.0)).stated == 5.0


def test_it_is_stored_and_read_again() -> None:
    proof = only(row(1.0))
    stored = proof.to_dict()
    assert stored["advantage"] == proof.advantage
    assert Prediction.from_dict(stored) == proof
