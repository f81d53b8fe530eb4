from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from qflsec.base import DataError
from qflsec.data import DataSpec, RawData, load
from qflsec.data.preprocessing import preprocess, reduce_columns
from qflsec.data.sources import read_source

SPEC = DataSpec(name="breast-cancer")
MEMBER, AUXILIARY = np.arange(0, 150), np.arange(150, 260)


def _features(raw: RawData, spec: DataSpec) -> np.ndarray:
    return preprocess(reduce_columns(raw, spec), spec, MEMBER, AUXILIARY).values


def _shifted(raw: RawData, rows: np.ndarray) -> RawData:
    """The same records with those of ``rows`` replaced by others."""
    features = raw.features.copy()
    features[rows] = features[rows][::-1] * 3.0 + 1.0
    return replace(raw, features=features)


@pytest.mark.parametrize("reduction", ["pca", "first"])
@pytest.mark.parametrize(
    ("preprocessing", "fitted", "untouched"),
    [("auxiliary", AUXILIARY, MEMBER), ("training", MEMBER, AUXILIARY)],
)
def test_fitting_looks_at_the_stated_records_only(
    preprocessing: str, fitted: np.ndarray, untouched: np.ndarray, reduction: str
) -> None:
    """Changing any other record changes no other feature; changing a fitted one does (the control)."""
    raw = read_source(SPEC)
    spec = DataSpec(name="breast-cancer", preprocessing=preprocessing, reduction=reduction)
    rest = np.arange(300, 569)
    honest = _features(raw, spec)
    np.testing.assert_array_equal(honest[rest], _features(_shifted(raw, untouched), spec)[rest])
    assert not np.allclose(honest[rest], _features(_shifted(raw, fitted), spec)[rest])


def test_fixed_range_looks_at_no_record() -> None:
    spec = DataSpec(name="breast-cancer", preprocessing="fixed-range", reduction="first")
    raw = read_source(spec)
    rest = np.arange(300, 569)
    everyone_else = _shifted(raw, np.arange(0, 300))
    np.testing.assert_array_equal(_features(raw, spec)[rest], _features(everyone_else, spec)[rest])


@pytest.mark.parametrize(
    ("preprocessing", "reduction", "sentence"),
    [
        ("fixed-range", "first", "no record: scaled by the ranges published with the data set"),
        ("auxiliary", "pca", "the 120 auxiliary records (the adversary's own split); no training record"),
        (
            "training",
            "pca",
            "the 160 training records of all clients together: not covered by any epsilon",
        ),
    ],
)
def test_the_ledger_is_told(preprocessing: str, reduction: str, sentence: str) -> None:
    spec = replace(SPEC, preprocessing=preprocessing, reduction=reduction)
    assert load(spec, 1).fitted_on == sentence


def test_principal_components_equal_those_of_scikit_learn() -> None:
    """Standardise, project, scale to the range: scikit-learn's own pipeline, signs apart."""
    raw = read_source(SPEC)
    scaler = StandardScaler().fit(raw.features[AUXILIARY])
    pca = PCA(4, svd_solver="full").fit(scaler.transform(raw.features[AUXILIARY]))
    largest = np.abs(pca.components_).argmax(axis=1)
    signs = np.sign(pca.components_[np.arange(4), largest])
    projected = pca.transform(scaler.transform(raw.features)) * signs
    scaled = MinMaxScaler((0, np.pi), clip=True).fit(projected[AUXILIARY]).transform(projected)
    np.testing.assert_allclose(_features(raw, SPEC), scaled, atol=1e-9)


def test_the_sign_of_a_component_does_not_depend_on_the_order_of_records() -> None:
    raw = read_source(SPEC)
    forward = preprocess(raw, SPEC, MEMBER, AUXILIARY).values
    backward = preprocess(raw, SPEC, MEMBER, AUXILIARY[::-1].copy()).values
    np.testing.assert_allclose(forward, backward, atol=1e-9)


def test_pooling_is_the_mean_of_blocks() -> None:
    spec = DataSpec(
        name="digits", reduction="pool", n_features=16, preprocessing="fixed-range", feature_range=(0.0, 1.0)
    )
    data, raw = load(spec, 1), read_source(spec)
    image = raw.features[int(data.source_rows[7])].reshape(8, 8)
    by_hand = [image[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean() / 16 for r in range(4) for c in range(4)]
    np.testing.assert_allclose(data.features[7].numpy(), by_hand, atol=1e-6)
    assert data.feature_names[5] == "block 1,1"


def test_clipped_values_are_counted() -> None:
    raw = read_source(SPEC)
    spec = DataSpec(name="breast-cancer", reduction="first")
    low, high = raw.features[AUXILIARY, :4].min(axis=0), raw.features[AUXILIARY, :4].max(axis=0)
    outside = (raw.features[:, :4] < low) | (raw.features[:, :4] > high)
    prepared = preprocess(reduce_columns(raw, spec), spec, MEMBER, AUXILIARY)
    assert prepared.clipped == outside.sum() > 0
    assert set(prepared.values[outside].tolist()) == {0.0, np.pi}


def test_a_constant_column_goes_to_the_middle() -> None:
    raw = RawData(
        features=np.stack([np.full(20, 7.0), np.arange(20.0)], axis=1),
        labels=np.arange(20) % 2,
        feature_names=("flat", "steep"),
        class_names=("0", "1"),
    )
    for reduction in ("none", "pca"):
        spec = DataSpec(name="flat", n_features=2, reduction=reduction, feature_range=(-1.0, 1.0))
        values = preprocess(raw, spec, np.arange(10), np.arange(20)).values
        assert np.isfinite(values).all()
        assert (values[:, 0 if reduction == "none" else 1] == 0).all()


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (replace(SPEC, reduction="pool"), "holds no images to pool"),
        (DataSpec(name="digits", reduction="pool", n_features=9), "expected one of 1, 4, 16, 64"),
        (replace(SPEC, reduction="none"), "got 4; expected 30"),
        (
            DataSpec(name="iris", n_features=5, members=40, nonmembers=40, auxiliary=40, test=10),
            "too few columns",
        ),
        (replace(SPEC, auxiliary=4), "too few records to fit"),
    ],
)
def test_impossible_reductions(spec: DataSpec, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        load(spec, 1)


def test_principal_components_carry_the_class() -> None:
    """A sanity check that labels and features stay aligned: nearest class mean, far above chance."""
    data = load(SPEC, 1)
    x, y = data.take(data.member_idx)
    means = torch.stack([x[y == label].mean(dim=0) for label in range(2)])
    features, labels = data.take(data.test_idx)
    assert (torch.cdist(features, means).argmin(dim=1) == labels).float().mean() > 0.85
