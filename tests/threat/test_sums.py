"""Anonymity over a run, against brute force over combinations of its sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.threat import run_anonymity
from qflsec.threat.sums import eliminate


def test_two_rounds_that_differ_in_one_client_single_it_out() -> None:
    found = run_anonymity([frozenset({0, 1, 2}), frozenset({0, 1, 2, 3})])
    assert (found.singled_out, found.smallest_k, found.rank) == ((3,), 1, 2)


def test_everybody_in_every_round_hides_everybody() -> None:
    found = run_anonymity([frozenset(range(8))] * 20)
    assert (found.sums, found.rank, found.singled_out, found.smallest_k) == (20, 1, (), 8)


def test_redrawn_groups_of_full_rank_single_out_everybody() -> None:
    """The kind of run that 'validated groups' redrawn in each round makes."""
    generator = np.random.default_rng(0)
    sums = [
        frozenset(group.tolist()) for _ in range(6) for group in np.array_split(generator.permutation(9), 3)
    ]
    assert len(run_anonymity(sums).singled_out) == 9
    fixed = [frozenset(range(start, start + 3)) for start in (0, 3, 6)] * 6
    assert (run_anonymity(fixed).singled_out, run_anonymity(fixed).smallest_k) == ((), 3)


def test_nothing_seen_is_no_sum() -> None:
    assert run_anonymity([]).smallest_k is None
    assert run_anonymity([frozenset()]).rank == 0


def test_a_search_that_is_too_long_says_how_far_it_went() -> None:
    """25 of 60 clients in every sum: subsets of 4 are already too many to try."""
    generator = np.random.default_rng(1)
    sums = [frozenset(generator.permutation(60)[:25].tolist()) for _ in range(8)]
    found = run_anonymity(sums)
    assert found.smallest_k is None
    assert found.checked == 2


@settings(deadline=None, max_examples=80, derandomize=True)
@given(
    sums=st.lists(st.sets(st.integers(0, 5), min_size=1).map(frozenset), min_size=1, max_size=4),
)
def test_smallest_k_is_the_smallest_support_of_any_combination(sums: list[frozenset[int]]) -> None:
    """Supports of a real row space are found by cancelling coordinates, so small integer combinations reach them."""
    found = run_anonymity(sums)
    everybody = sorted({c for s in sums for c in s})
    rows = np.array([[float(c in s) for c in everybody] for s in sums])
    best = min(
        int(np.count_nonzero(np.abs(np.array(weights) @ rows) > 1e-9))
        for weights in itertools.product(range(-3, 4), repeat=len(sums))
        if np.abs(np.array(weights) @ rows).max() > 1e-9
    )
    assert found.smallest_k is not None
    assert found.smallest_k <= best
    assert found.rank == np.linalg.matrix_rank(rows)
    projector = np.linalg.pinv(rows) @ rows
    assert found.singled_out == tuple(
        c for place, c in enumerate(everybody) if projector[place, place] > 1 - 1e-9
    )


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_elimination_says_how_its_rows_are_made(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(2).integers(0, 2, shape).astype(float)
    rows[0] = 1.0
    rows = rows[rows.any(axis=1)]
    reduced, makes = eliminate(rows)
    assert np.allclose(makes @ rows, reduced)
    assert len(reduced) == np.linalg.matrix_rank(rows)
