"""Bundled data sets are scikit-learn's own, read without importing it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qflsec.base import DataError
from qflsec.data import bundled
from qflsec.data.sources import read_source
from qflsec.data.spec import DataSpec


@pytest.mark.parametrize(
    ("name", "loader"),
    [
        ("breast-cancer", "load_breast_cancer"),
        ("wine", "load_wine"),
        ("iris", "load_iris"),
        ("digits", "load_digits"),
    ],
)
def test_they_equal_what_scikit_learn_loads(name: str, loader: str) -> None:
    from sklearn import datasets

    raw, expected = read_source(DataSpec(name=name)), getattr(datasets, loader)()
    assert raw.features.tobytes() == np.asarray(expected.data, dtype=np.float64).tobytes()
    assert raw.labels.tolist() == expected.target.tolist()
    assert raw.class_names == tuple(str(part) for part in expected.target_names)
    if name != "digits":  # pixels are named by row and column here
        assert raw.feature_names == tuple(expected.feature_names)


def test_scikit_learn_stays_unimported() -> None:
    code = (
        "import sys; from qflsec.data.sources import read_source; from qflsec.data.spec import DataSpec\n"
        "assert len(read_source(DataSpec(name='wine')).labels) == 178; assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Elsewhere:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(bundled, "find_spec", lambda _name: Elsewhere)
    with pytest.raises(DataError, match=r"wine_data\.csv"):
        bundled.read_labelled("wine_data.csv", (), ())
