"""Each rule against plain reference code, on random rows and on rows that are hard: ties, duplicates, lines, far ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from qflsec.base import ConfigError
from qflsec.defenses import robust
from qflsec.defenses.robust.distances import squared_distances
from qflsec.defenses.robust.flame import flame_admitted
from qflsec.defenses.robust.foolsgold import foolsgold_weights
from tests.defenses.robust import reference
from tests.defenses.robust.cases import KINDS, most, rows

Matrix = np.ndarray[Any, Any]
SEEDS = range(6)


def inputs(name: str, seeds: range = SEEDS, largest: int = 9) -> Iterator[tuple[Matrix, int]]:
    """Rows of every kind with every f that the rule is defined for, the largest among them."""
    for kind, seed in itertools.product(KINDS, seeds):
        n = 2 + (3 * seed + len(kind)) % (largest - 1)
        for f in {0, most(name, n) // 2, most(name, n)}:
            yield rows(kind, n, 1 + seed % 4, f, seed), f


def close(found: Matrix, expected: Matrix) -> None:
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("trimmed-mean", reference.trimmed_mean),
        ("mean-around-median", lambda u, f: reference.mean_around_median(u, len(u) - f)),
        ("bulyan", reference.bulyan),
        ("arc", reference.arc),
        ("median", lambda u, _: reference.median(u)),
        ("mean", lambda u, _: u.mean(axis=0)),
        ("nnm", reference.nnm),
    ],
)
def test_as_the_papers_write_it(name: str, plain: Any) -> None:
    ours = {
        "trimmed-mean": robust.trimmed_mean,
        "mean-around-median": robust.mean_around_median,
        "bulyan": robust.bulyan,
        "arc": robust.adaptive_clipping,
        "median": robust.coordinate_median,
        "mean": robust.mean,
        "nnm": robust.nearest_neighbour_mixing,
    }[name]
    for updates, f in inputs(name):
        close(ours(updates, f=f), plain(updates, f))


def test_krum_has_the_smallest_score() -> None:
    """Whichever row it takes among equals; with other numbers of neighbours too, such as ByzFL's n - f - 1."""
    for updates, f in inputs("krum"):
        n = len(updates)
        for neighbours in {None, min(n - 1, n - f - 1)}:
            scores = reference.krum_scores(updates, f, neighbours)
            found = robust.krum(updates, f=f, neighbours=neighbours)
            taken = min(scores[i] for i in range(n) if np.array_equal(updates[i], found))
            assert taken <= min(scores) * (1 + 1e-9) + 1e-12


def test_multi_krum_averages_the_smallest_scores() -> None:
    for updates, f in inputs("multi-krum"):
        scores = np.array(reference.krum_scores(updates, f))
        for selected in {1, len(updates) - f, len(updates)}:
            ordered = np.sort(scores)
            if selected < len(updates) and ordered[selected] - ordered[selected - 1] < 1e-9 * (
                1 + ordered[selected]
            ):
                continue  # a tie at the cut: several answers are right
            expected = updates[np.argsort(scores, kind="stable")[:selected]].mean(axis=0)
            close(robust.multi_krum(updates, f=f, selected=selected), expected)


def test_distances_that_are_not_squared() -> None:
    """A row that is near to many and far from one: squares punish that, lengths do not (FLPoison's convention)."""
    updates = np.array([[0.0], [0.1], [4.0], [2.3], [2.0]])
    scores = [sum(abs(x - y) for y in updates[:, 0]) for x in updates[:, 0]]
    assert robust.krum(updates, f=0, neighbours=4, squared=False) == updates[int(np.argmin(scores))]


def test_minimum_diameter_searches_every_subset() -> None:
    for updates, f in inputs("minimum-diameter"):
        diameter, _, expected = reference.minimum_diameter(updates, f)
        others = [
            set_mean
            for kept in itertools.combinations(range(len(updates)), len(updates) - f)
            if max(
                (reference.distance(updates[i], updates[j]) for i, j in itertools.combinations(kept, 2)),
                default=0.0,
            )
            <= diameter * (1 + 1e-12)
            for set_mean in (updates[list(kept)].mean(axis=0),)
        ]
        found = robust.minimum_diameter(updates, f=f)
        assert any(np.allclose(found, other, rtol=1e-9, atol=1e-9) for other in others)
        pairs = [reference.distance(a, b) for a, b in itertools.combinations(updates, 2)]
        if len(set(pairs)) == len(pairs):  # without equal distances the tie-break is exact as well
            close(found, expected)


def test_the_smallest_eigenvalue_of_every_subset() -> None:
    for updates, f in inputs("smea", range(4)):
        found = robust.smallest_eigenvalue(updates, f=f)
        expected = reference.smallest_eigenvalue(updates, f)
        scale = 1e-6 * max(1.0, float(np.abs(updates).max()))
        assert any(np.allclose(found, other, atol=scale) for other in expected)
    with pytest.raises(ConfigError, match="sets"):
        robust.smallest_eigenvalue(np.zeros((30, 2)), f=10)


def test_minimum_diameter_at_its_largest_size() -> None:
    """Two groups of 16 and 14 rows, and f = 14: a cover of 14 rows out of 30 choose 14."""
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(16, 4)), rng.normal(size=(14, 4)) + 20
    close(robust.minimum_diameter(np.concatenate([far, near]), f=14), near.mean(axis=0))


def test_the_geometric_median_is_one() -> None:
    """The condition of a minimum: unit vectors to the other rows outweigh nothing but the rows at the point itself."""
    for updates, _ in inputs("geometric-median", range(12), largest=12):
        found = robust.geometric_median(updates)
        apart = updates - found
        lengths = np.linalg.norm(apart, axis=1)
        spread = np.sort(lengths)[len(lengths) // 2] + 1e-300
        here = lengths <= 1e-6 * spread
        if not here.all():
            pull = np.linalg.norm((apart[~here] / lengths[~here, None]).sum(axis=0))
            assert pull <= here.sum() + 3e-6 * len(updates)
        best = min(reference.sum_of_distances(updates, row) for row in (*updates, updates.mean(axis=0)))
        assert reference.sum_of_distances(updates, found) <= best * (1 + 1e-9) + 1e-9


def test_the_geometric_median_of_a_triangle() -> None:
    """Fermat's point: at 120 degrees to all corners, or the corner of an angle above 120 degrees."""
    equal = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    close(robust.geometric_median(equal, tolerance=1e-12), np.array([0.5, np.sqrt(3) / 6]))
    flat = np.array([[-10.0, 1.0], [0.0, 0.0], [10.0, 1.0]])
    assert np.array_equal(robust.geometric_median(flat), flat[1])


def test_a_step_of_the_geometric_median_that_ends_early_is_off() -> None:
    """The control of the stopping rule: one step from the mean is not the median."""
    updates = np.random.default_rng(0).normal(size=(9, 3)) ** 3
    early = robust.geometric_median(updates, max_iterations=1)
    assert reference.sum_of_distances(updates, early) > 1.0001 * reference.sum_of_distances(
        updates, robust.geometric_median(updates)
    )


def test_centred_clipping() -> None:
    for seed, (updates, _) in enumerate(inputs("centred-clipping")):
        centre = np.full(updates.shape[1], 0.3)
        for radius in (None, 0.7):
            expected = reference.centred_clipping(updates, centre, radius, 1 + seed % 3)
            close(
                robust.centred_clipping(updates, centre=centre, radius=radius, iterations=1 + seed % 3),
                expected,
            )


def test_divide_and_conquer() -> None:
    for updates, f in inputs("dnc"):
        values = np.linalg.svd(updates - updates.mean(axis=0))[1]
        top = np.sort((updates - updates.mean(axis=0)) @ np.linalg.svd(updates - updates.mean(axis=0))[2][0])
        squares = np.sort(top**2)
        n = len(updates)
        single = len(values) == 1 or values[0] > values[1] * (1 + 1e-6)
        clear = f == 0 or squares[n - f] > squares[n - f - 1] * (1 + 1e-6) + 1e-12
        if single and clear:  # else several answers are right
            close(robust.divide_and_conquer(updates, f=f), reference.dnc(updates, f))


def test_divide_and_conquer_when_every_row_is_dropped_once() -> None:
    """Ten iterations on single coordinates, each of which drops another row: those dropped least often are left."""
    updates = np.diag([5.0, 4.0, 3.0])
    found = robust.divide_and_conquer(
        updates, f=1, coordinates=1, iterations=40, generator=np.random.default_rng(0)
    )
    assert np.isfinite(found).all()
    assert found.any(), "zeros, as elsewhere, would be no step of any client"


def test_fltrust() -> None:
    rng = np.random.default_rng(3)
    for updates, _ in inputs("fltrust"):
        trusted = rng.normal(size=updates.shape[1])
        close(robust.fltrust(updates, trusted=trusted), reference.fltrust(updates, trusted))


def test_foolsgold() -> None:
    for updates, _ in inputs("foolsgold"):
        expected = reference.foolsgold_weights(updates)
        np.testing.assert_allclose(foolsgold_weights(updates), expected, atol=1e-5)
        close(robust.foolsgold(updates, divide="nothing"), foolsgold_weights(updates) @ updates)


def test_flame_admits_the_first_majority_to_join() -> None:
    """scikit-learn's HDBSCAN against single linkage by hand."""
    for updates, _ in inputs("flame"):
        if len(updates) > 2 and np.linalg.norm(updates, axis=1).all():
            apart = 1.0 - np.array([[reference.cosine(x, y) for y in updates] for x in updates])
            pairs = np.sort(apart[np.triu_indices(len(updates), 1)])
            if np.diff(pairs).min(initial=1.0) > 1e-9:  # equal distances may join in any order
                assert set(np.flatnonzero(flame_admitted(updates))) == reference.flame_admitted(updates)


def test_flame_leaves_out_a_minority_of_another_direction() -> None:
    rng = np.random.default_rng(1)
    updates = np.array([3.0, 1.0, 0.0]) + 0.1 * rng.normal(size=(10, 3))
    updates[:4] *= -5
    limit = np.median(np.linalg.norm(updates, axis=1))
    lengths = np.linalg.norm(updates[4:], axis=1, keepdims=True)
    close(robust.flame(updates, noise=0), (updates[4:] * np.minimum(1, limit / lengths)).mean(axis=0))


@pytest.mark.parametrize("d", [2, 700])
def test_distances_keep_their_digits(d: int) -> None:
    """Rows with a large common part, and colluders that are far and close together: the Gram form alone loses both."""
    rng = np.random.default_rng(d)
    for shift, far in ((1e6, 0.0), (0.0, 1e8), (1e6, 1e8)):
        updates = rng.normal(size=(12, d)) + shift
        updates[:5] += far
        updates[1] = updates[0]
        apart = updates[:, None] - updates[None]
        np.testing.assert_allclose(squared_distances(updates), (apart**2).sum(axis=2), rtol=1e-8)
        assert squared_distances(updates)[0, 1] == 0.0
        gram = (updates**2).sum(axis=1)[:, None] + (updates**2).sum(axis=1) - 2 * updates @ updates.T
        assert not np.allclose(gram, (apart**2).sum(axis=2), rtol=1e-8), "the control"


@pytest.mark.parametrize("far", [1e3, 1e12, 1e200, 1.7e308])
def test_rows_beyond_every_scale(far: float) -> None:
    """What one row of eleven says does not reach the result, however large it is, nor does a square overflow."""
    updates = np.random.default_rng(0).normal(size=(11, 4))
    updates[3] = far * np.array([1.0, -1.0, 1.0, 0.5])
    honest = np.delete(updates, 3, axis=0)
    for found in (
        robust.coordinate_median(updates),
        robust.trimmed_mean(updates, f=1),
        robust.mean_around_median(updates, f=1),
        robust.geometric_median(updates),
        robust.krum(updates, f=1),
        robust.multi_krum(updates, f=1),
        robust.minimum_diameter(updates, f=1),
        robust.bulyan(updates, f=1),
        robust.divide_and_conquer(updates, f=1),
        robust.centred_clipping(updates),
        robust.coordinate_median(robust.nearest_neighbour_mixing(updates, f=1)),
        robust.trimmed_mean(robust.adaptive_clipping(updates, f=1), f=1),
    ):
        assert np.abs(found).max() <= np.abs(honest).max() * 1.001
