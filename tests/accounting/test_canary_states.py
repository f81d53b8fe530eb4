"""Canary states: channels whose epsilon is known exactly, near and far pairs, and the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.accounting.audit_ceilings import audit_ceiling
from qflsec.accounting.canary_states import MIXED_ONLY, audit_canary_states
from qflsec.base import ConfigError, DataError
from qflsec.protocols.qdp import noise_by_name, single_copy

TRIALS, TOO_MANY = 400, 36


def depolarising(tau: float, p: float = 0.2) -> tuple[float, float, float]:
    """Its exact epsilon at tau, and the probabilities of outcome 0 for |0> and |1>."""
    named = noise_by_name(f"global-depolarizing:p={p}", 1)
    exact = single_copy(
        named.channel,
        tau,
        known_kappa=named.known_kappa,
        known_variation=tau * (named.known_contraction or 1.0),
    )
    zero = float(named.channel(np.diag([1.0, 0.0]))[0, 0].real)
    one = float(named.channel(np.diag([0.0, 1.0]))[0, 0].real)
    return exact.pure.epsilon, zero, one


@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_the_truth_is_rarely_below_the_bound_and_near(tau: float) -> None:
    """Canaries |0> and |1> of a depolarising channel attain its epsilon, at their own distance and below it."""
    truth, zero, one = depolarising(tau)
    rng, shots = np.random.default_rng(0), 4000
    found = [
        audit_canary_states((int(a), int(b)), (shots, shots), distance=1.0, tau=tau).lower
        for a, b in zip(rng.binomial(shots, zero, TRIALS), rng.binomial(shots, one, TRIALS), strict=True)
    ]
    assert sum(bound > truth for bound in found) < TOO_MANY
    assert np.median(found) > 0.85 * truth


@settings(deadline=None, max_examples=40)
@given(
    p=st.floats(0.01, 0.99), q=st.floats(0.01, 0.99), s=st.floats(0.05, 1.0), delta=st.floats(0, 0.2),
    complement=st.booleans(),
)  # fmt: skip
def test_far_canaries_bound_what_their_mixture_shows(
    p: float, q: float, s: float, delta: float, complement: bool
) -> None:
    """With very many shots the bound is that of the state between, sent and measured itself."""
    shots = 10**11
    counts = (round(p * shots), round(q * shots))
    found = audit_canary_states(counts, (shots, shots), distance=1.0, tau=s, delta=delta).lower
    mixed = ((1 - s) * q + s * p, (1 - s) * (1 - p) + s * (1 - q))
    own = (q, 1 - p)
    exact = max(0.0, *(math.log(max(m - delta, 1e-9) / o) for m, o in zip(mixed, own, strict=True)))
    assert found == pytest.approx(exact, abs=1e-3)
    swapped = (shots - counts[1], shots - counts[0])
    if complement:
        assert audit_canary_states(
            swapped, (shots, shots), distance=1.0, tau=s, delta=delta
        ).lower == pytest.approx(found, abs=1e-6)


def test_what_the_result_says() -> None:
    near = audit_canary_states((90, 10), (100, 100), distance=0.2)
    assert near.conditional == ""
    assert near.ceiling == pytest.approx(audit_ceiling("canary-states", 100, delta=0.0))
    wide = audit_canary_states((90, 10), (100, 100), distance=0.2, tau=0.5)
    assert (wide.lower, wide.conditional) == (near.lower, "")
    far = audit_canary_states((90, 10), (100, 100), distance=1.0, tau=0.2, effects=4)
    assert far.conditional == MIXED_ONLY
    assert far.lower < near.lower
    alone = audit_canary_states((90, 10), (100, 100), distance=1.0, tau=0.2, confidence=1 - 0.05 / 4)
    assert far.lower == pytest.approx(alone.lower)
    assert far.ceiling == pytest.approx(alone.ceiling)
    assert far.choice == "the best of 4 effects (Bonferroni)"
    assert far.evidence == "90 of 100 and 10 of 100 shots at trace distance 1, for a claim at 0.2"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"clicks": (5, 1), "shots": (4, 4)}, DataError, "impossible counts"),
        ({"distance": 0.0}, ConfigError, "no trace distance"),
        ({"tau": 1.5}, ConfigError, "no trace distance"),
        ({"effects": 0}, ConfigError, "effects is out of range"),
        ({"delta": 1.0}, ConfigError, "delta is out of range"),
    ],
)
def test_bad_input(change: dict[str, object], error: type[Exception], words: str) -> None:
    given: dict[str, object] = {"clicks": (5, 1), "shots": (10, 10), "distance": 1.0, **change}
    with pytest.raises(error, match=words):
        audit_canary_states(**given)  # type: ignore[arg-type]
