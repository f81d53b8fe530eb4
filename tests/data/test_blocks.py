"""Blocks of columns: what each feature is made from, what a client holds, and that one block is no block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, DataError
from qflsec.data import DataSpec, PartitionSpec, load, partition
from qflsec.data.blocks import draw_holdings

CANCER = DataSpec(name="breast-cancer", n_features=6)
GROUPS = replace(CANCER, blocks=(10, 10, 10))
TWO = replace(GROUPS, held_blocks=2)


def test_one_block_of_all_columns_and_all_blocks_held_change_no_bit() -> None:
    whole, one = load(CANCER, 3), load(replace(CANCER, blocks=(30,), held_blocks=1), 3)
    assert torch.equal(whole.features, one.features)
    groups, all_three = load(GROUPS, 3), load(replace(GROUPS, held_blocks=3), 3)
    assert torch.equal(groups.features, all_three.features)
    for kind in ("iid", "dirichlet"):
        spec = PartitionSpec(kind=kind)
        parts = [partition(data, spec, 6, 3) for data in (groups, all_three)]
        assert all(torch.equal(a, b) for a, b in zip(*parts, strict=True))


def test_unset_blocks_are_no_part_of_a_configuration() -> None:
    assert not {"blocks", "held_blocks"} & set(CANCER.to_config())
    assert DataSpec.from_config(TWO.to_config()) == TWO


def test_a_component_is_made_from_its_own_block_alone() -> None:
    """Each pair of features against scikit-learn's components of that block."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    data = load(GROUPS, 0)
    table = load_breast_cancer().data[data.source_rows.numpy()]
    fit = data.auxiliary_idx.numpy()
    for block in range(3):
        columns = table[:, 10 * block : 10 * block + 10]
        scaler = StandardScaler().fit(columns[fit])
        pca = PCA(2).fit(scaler.transform(columns[fit]))
        values = pca.transform(scaler.transform(columns))
        values *= np.sign(pca.components_[np.arange(2), np.abs(pca.components_).argmax(axis=1)])
        expected = np.clip(MinMaxScaler((0, np.pi)).fit(values[fit]).transform(values), 0, np.pi)
        np.testing.assert_allclose(data.features[:, 2 * block : 2 * block + 2], expected, atol=1e-5)


@settings(deadline=None, max_examples=12)
@given(
    held=st.integers(1, 2),
    seed=st.integers(0, 50),
    kind=st.sampled_from(["iid", "dirichlet", "quantity-skew"]),
)
def test_what_a_client_does_not_hold_is_one_public_value(held: int, seed: int, kind: str) -> None:
    """Of every client's records the missing features are constant, and no others; the fill is the auxiliary mean."""
    spec = replace(GROUPS, held_blocks=held)
    whole, data = load(GROUPS, seed), load(spec, seed)
    own = data.auxiliary_idx
    assert torch.equal(data.features[own], whole.features[own])
    fill = whole.features[own].double().mean(dim=0).float()
    parts = partition(data, PartitionSpec(kind=kind, min_records=2), 7, seed)
    assert sorted(torch.cat(parts).tolist()) == sorted(data.member_idx.tolist())
    owned = set()
    for rows in parts:
        same = (data.features[rows] == whole.features[rows]).all(dim=0)
        blocks = same.reshape(3, 2).all(dim=1)
        assert int(blocks.sum()) == held
        lacking = ~blocks.repeat_interleave(2)
        torch.testing.assert_close(data.features[rows][:, lacking], fill[lacking].expand(len(rows), -1))
        owned |= {int(block) for block in torch.nonzero(blocks)}
    assert owned == {0, 1, 2}


def test_what_a_record_lacks_does_not_say_whether_it_is_trained_on() -> None:
    """In each split kinds are equally frequent to within one record, and over seeds none is favoured."""
    splits, total = (np.arange(160), np.arange(160, 261)), np.zeros((2, 3))
    for seed in range(200):
        kinds = draw_holdings(TWO, 300, splits, seed)
        assert kinds is not None
        counts = np.array([np.bincount(kinds[rows], minlength=3) for rows in splits])
        assert (np.ptp(counts, axis=1) == 1).all()
        total += counts - counts.min(axis=1, keepdims=True)
    # 160 leave one over, 101 leave two: each kind has one in a third and in two thirds of the seeds
    np.testing.assert_allclose(total / 200, [[1 / 3] * 3, [2 / 3] * 3], atol=0.11)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"n_features": 4}, "evenly"),
        ({"held_blocks": 4}, "held_blocks exceeds"),
        ({"blocks": (10, 0, 20)}, "a block of columns"),
        ({"blocks": None}, "held_blocks exceeds"),
    ],
)
def test_blocks_that_cannot_be_are_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        replace(TWO, **change)  # type: ignore[arg-type]


def test_blocks_that_do_not_fit_the_data_are_refused() -> None:
    with pytest.raises(DataError, match="are not its columns"):
        load(replace(TWO, blocks=(10, 10, 9)), 0)
    with pytest.raises(DataError, match="kind of hospital"):
        partition(load(TWO, 0), PartitionSpec(), 2, 0)
    with pytest.raises(DataError, match="too few members hold"):
        partition(load(replace(TWO, members=15), 0), PartitionSpec(min_records=2), 7, 1)
