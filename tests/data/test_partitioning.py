from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, DataError, UnknownName
from qflsec.data import Dataset, DataSpec, PartitionSpec, load, partition
from qflsec.data.partitioners import dirichlet

KINDS = ("iid", "label-skew", "dirichlet", "quantity-skew")


@lru_cache
def digits() -> Dataset:
    return load(DataSpec(name="digits", members=900, nonmembers=100, auxiliary=100, test=100), 1)


@lru_cache
def cancer() -> Dataset:
    return load(DataSpec(name="breast-cancer"), 1)


@settings(deadline=None, max_examples=120)
@given(
    kind=st.sampled_from(KINDS),
    n_clients=st.integers(1, 40),
    alpha=st.sampled_from([0.01, 0.1, 0.5, 1.0, 100.0]),
    k=st.integers(1, 3),
    least=st.integers(0, 8),
    seed=st.integers(0, 2**31),
)
def test_every_member_belongs_to_exactly_one_client(
    kind: str, n_clients: int, alpha: float, k: int, least: int, seed: int
) -> None:
    data = cancer()
    spec = PartitionSpec(kind=kind, alpha=alpha, classes_per_client=k, min_records=least)
    if n_clients * least > 160 or (kind == "label-skew" and (k > 2 or n_clients * k < 2)):
        with pytest.raises(DataError):
            partition(data, spec, n_clients, seed)
        return
    if kind == "label-skew":
        # With whole classes per client sizes are only about even: half the mean is kept on this data.
        least = min(least, 160 // n_clients // 2)
        spec = PartitionSpec(kind=kind, classes_per_client=k, min_records=least)
    parts = partition(data, spec, n_clients, seed)
    assert len(parts) == n_clients
    assert sorted(torch.cat(parts).tolist()) == sorted(data.member_idx.tolist())
    assert min(len(part) for part in parts) >= least
    if kind == "label-skew":
        assert max(len(set(data.labels[part].tolist())) for part in parts) <= k


@pytest.mark.parametrize("kind", KINDS)
def test_partitions_are_seeded(kind: str) -> None:
    spec = PartitionSpec(kind=kind)
    first, again, other = (partition(cancer(), spec, 5, seed) for seed in (3, 3, 4))
    assert [part.tolist() for part in first] == [part.tolist() for part in again]
    assert [part.tolist() for part in first] != [part.tolist() for part in other]


def test_iid_sizes_differ_by_one_at_most() -> None:
    sizes = [len(part) for part in partition(cancer(), PartitionSpec(), 7, 1)]
    assert sorted(sizes) == [22] + [23] * 6


@pytest.mark.parametrize(("n_clients", "k"), [(10, 1), (5, 2), (10, 2), (7, 3), (3, 10), (30, 1)])
def test_label_skew_covers_the_classes_and_is_about_even(n_clients: int, k: int) -> None:
    data = digits()
    parts = partition(data, PartitionSpec(kind="label-skew", classes_per_client=k), n_clients, 2)
    held = [set(data.labels[part].tolist()) for part in parts]
    assert all(len(classes) == k for classes in held)
    assert set().union(*held) == set(range(10))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= 2.5 * min(sizes)


def test_label_skew_differs_from_seed_to_seed() -> None:
    data = digits()
    spec = PartitionSpec(kind="label-skew", classes_per_client=2)
    pairs = {
        tuple(sorted(set(data.labels[part].tolist())))
        for seed in range(10)
        for part in partition(data, spec, 10, seed)
    }
    assert len(pairs) > 20


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_dirichlet_shares_have_the_variance_of_the_distribution(alpha: float) -> None:
    """A client's share of a class has mean 1/n and variance (1/n)(1 - 1/n)/(n alpha + 1).

    4000 draws of 2000 records for n = 5; the sample variance must lie within 12 %, which is above five of
    its standard errors (about 2 % for each alpha, from the fourth moment): false alarms below 1e-6.
    """
    n, labels = 5, np.zeros(2000, dtype=np.int64)
    spec = PartitionSpec(kind="dirichlet", alpha=alpha, min_records=0)
    generator = np.random.default_rng(11)
    shares = np.array([[len(p) / 2000 for p in dirichlet(labels, spec, n, generator)] for _ in range(4000)])
    assert shares.mean(axis=0) == pytest.approx(np.full(n, 1 / n), abs=0.03)
    assert shares[:, 0].var() == pytest.approx((1 / n) * (1 - 1 / n) / (n * alpha + 1), rel=0.12)


def test_dirichlet_skew_falls_with_alpha() -> None:
    """Mean total-variation distance between a client's labels and everybody's, over 20 seeds."""
    data = digits()
    everybody = torch.bincount(data.labels[data.member_idx], minlength=10) / 900

    def skew(kind: str, alpha: float) -> float:
        spec = PartitionSpec(kind=kind, alpha=alpha)
        parts = [part for seed in range(20) for part in partition(data, spec, 5, seed)]
        shares = torch.stack([torch.bincount(data.labels[part], minlength=10) / len(part) for part in parts])
        return float((shares - everybody).abs().sum(dim=1).mean() / 2)

    levels = [skew("dirichlet", alpha) for alpha in (0.05, 0.5, 5.0, 500.0)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > 0.6
    # Even shares of every class are closer to everybody's than a shuffle is.
    assert levels[-1] < skew("iid", 1.0) < levels[1]


def test_quantity_skew_keeps_the_classes_mixed() -> None:
    """Sizes spread by alpha; the label counts stay hypergeometric.

    The standardised counts of class 1 over clients and seeds must have mean square near 1: with 300 of them
    the standard error is 0.08, so 0.6 to 1.4 is five of them (false alarms below 1e-6).
    """
    data = cancer()
    labels = data.labels[data.member_idx]
    share, total = float(labels.float().mean()), len(labels)
    scores, spreads = [], {}
    for alpha in (0.3, 50.0):
        sizes = []
        for seed in range(60):
            parts = partition(data, PartitionSpec(kind="quantity-skew", alpha=alpha), 5, seed)
            sizes.append([len(part) for part in parts])
            for part in parts:
                n = len(part)
                spread = n * share * (1 - share) * (total - n) / (total - 1)
                scores.append((float(data.labels[part].sum()) - n * share) / max(spread, 1e-9) ** 0.5)
        spreads[alpha] = float(np.std(sizes))
    assert spreads[0.3] > 4 * spreads[50.0]
    assert 0.6 < float(np.mean(np.square(scores))) < 1.4


@pytest.mark.parametrize(
    ("spec", "n_clients", "sentence"),
    [
        (PartitionSpec(min_records=41), 4, "expected at least 4 clients x 41; raise members"),
        (PartitionSpec(), 0, "there must be a client"),
        (PartitionSpec(), 161, "too few members"),
        (PartitionSpec(kind="label-skew", classes_per_client=3), 5, "expected at most 2"),
        (PartitionSpec(kind="label-skew", classes_per_client=1), 1, "some classes would have no client"),
        (PartitionSpec(kind="label-skew", min_records=31), 5, "fewer than min_records.*lower min_records"),
    ],
)
def test_impossible_partitions(spec: PartitionSpec, n_clients: int, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        partition(cancer(), spec, n_clients, 1)


def test_a_plugin_that_loses_a_record_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(labels: np.ndarray, *_: object) -> list[np.ndarray]:
        return [np.arange(len(labels) - 1), np.array([0])]

    monkeypatch.setattr("qflsec.data.partitioning.find", lambda _kind, _name: careless)
    with pytest.raises(DataError, match="exactly one client"):
        partition(cancer(), PartitionSpec(kind="careless"), 2, 1)


def test_unknown_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qflsec.base.registry.load_plugins", lambda *_: None)
    with pytest.raises(UnknownName, match="did you mean 'dirichlet'"):
        partition(cancer(), PartitionSpec(kind="dirichlett"), 2, 1)


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"alpha": float("inf")}, {"classes_per_client": 0}, {"min_records": -1}]
)
def test_wrong_specifications(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        PartitionSpec(**wrong)
