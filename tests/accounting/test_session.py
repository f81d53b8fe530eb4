"""Composition of whole runs: by hand, and against the exact composition of randomised response."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from qflsec.accounting.session import Composed, SessionAccount, composed
from qflsec.base import ConfigError


def exact_delta(epsilon: float, runs: int, together: float) -> float:
    """Of that many randomised responses, the worst mechanism of its epsilon: a sum over the number of truthful ones."""
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    found = 0.0
    for count in range(runs + 1):
        p, q = stats.binom.pmf(count, runs, truth), stats.binom.pmf(count, runs, 1 - truth)
        found += max(0.0, p - math.exp(together) * q)
    return found


@pytest.mark.parametrize(("epsilon", "runs"), [(0.05, 500), (0.1, 100), (0.3, 60), (1.0, 10), (3.0, 4)])
def test_the_exact_composition_of_randomised_response_keeps_it(epsilon: float, runs: int) -> None:
    together = composed([(epsilon, 1e-6)] * runs)
    assert together.epsilon <= epsilon * runs
    # the releases' own deltas are spent besides; randomised response has none of its own
    assert exact_delta(epsilon, runs, together.epsilon) <= together.delta - runs * 1e-6 + 1e-12
    assert together.by == ("advanced composition" if epsilon < 0.5 else "basic composition")


def test_basic_composition_by_hand() -> None:
    assert composed([(1.0, 1e-5), (2.0, 0.0), (0.5, 2e-5)]) == Composed(
        epsilon=3.5, delta=pytest.approx(3e-5), by="basic composition"
    )
    assert composed([]) == Composed(epsilon=0.0, delta=0, by="basic composition")
    assert composed([(math.inf, 1e-5), (1.0, 1e-5)]).epsilon == math.inf
    for wrong in ((-1.0, 0.0), (math.nan, 0.0), (1.0, 1.5)):
        with pytest.raises(ConfigError, match="no guarantee"):
            composed([wrong])


def account(**changes: object) -> SessionAccount:
    values = {
        "data": "d",
        "observer": "server",
        "unit": "example",
        "adjacency": "add/remove",
        "runs": 3,
        "bounded": 3,
        "together": composed([(1.0, 1e-5)] * 3),
    }
    return SessionAccount(**{**values, **changes})  # type: ignore[arg-type]


def test_one_run_without_a_bound_leaves_none() -> None:
    assert account().epsilon == 3.0
    assert "all 3 runs together" in account().sentence
    one = account(runs=4, unbounded=("none",))
    assert one.epsilon == math.inf
    assert "have no epsilon, since those of none have none" in one.sentence
    assert one.to_dict()["epsilon"] == "infinity"
    nothing = account(together=Composed(epsilon=1.0, delta=1.25, by="x"))
    assert nothing.epsilon == math.inf
    assert "come to no epsilon together, since their deltas add up to 1.25" in nothing.sentence


def test_a_composition_rests_on_whom_its_rows_trust() -> None:
    """It takes the least epsilon of each run, which may count the noise of other clients or rest on seals."""
    assert "as far as everybody keeps to the protocol whom their rows trust" in account().sentence
