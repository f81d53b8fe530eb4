"""scikit-learn's copies of public data sets, read from its files.

Importing scikit-learn takes longer than many a run, and nothing else of it is needed.
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from qflsec.base import DataError
from qflsec.data.raw import RawData

__all__ = ["BREAST_CANCER_FEATURES", "IRIS_FEATURES", "WINE_FEATURES", "read_digits", "read_labelled"]

_MEASURED = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)
BREAST_CANCER_FEATURES = (
    *(f"mean {name}" for name in _MEASURED),
    *(f"{name} error" for name in _MEASURED),
    *(f"worst {name}" for name in _MEASURED),
)
IRIS_FEATURES = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
WINE_FEATURES = (
    "alcohol",
    "malic_acid",
    "ash",
    "alcalinity_of_ash",
    "magnesium",
    "total_phenols",
    "flavanoids",
    "nonflavanoid_phenols",
    "proanthocyanins",
    "color_intensity",
    "hue",
    "od280/od315_of_diluted_wines",
    "proline",
)


def read_labelled(
    file: str, feature_names: tuple[str, ...], ranges: tuple[tuple[float, float], ...]
) -> RawData:
    """A table whose header names the classes, and whose last column numbers them.

    Args:
        file: Its name among scikit-learn's data files.
        feature_names: A name for each of the other columns.
        ranges: The published range of each.

    Raises:
        DataError: The installed scikit-learn has no such file.
    """
    with _place(file).open(encoding="utf-8") as text:
        class_names = tuple(next(text).strip().split(",")[2:])
        table = np.loadtxt(text, delimiter=",", dtype=np.float64)
    return RawData(
        features=np.ascontiguousarray(table[:, :-1]),
        labels=table[:, -1].astype(np.int64),
        feature_names=feature_names,
        class_names=class_names,
        ranges=ranges,
    )


def read_digits(
    feature_names: tuple[str, ...], pixel_range: tuple[float, float], shape: tuple[int, int, int]
) -> RawData:
    """Images of digits: a row of pixels each, and the digit.

    Args:
        feature_names: A name for each pixel.
        pixel_range: The range of a pixel.
        shape: Channels, height and width.

    Raises:
        DataError: The installed scikit-learn has no such file.
    """
    with gzip.open(_place("digits.csv.gz"), "rt", encoding="utf-8") as text:
        table = np.loadtxt(text, delimiter=",", dtype=np.float64)
    return RawData(
        features=np.ascontiguousarray(table[:, :-1]),
        labels=table[:, -1].astype(np.int64),
        feature_names=feature_names,
        class_names=tuple(str(digit) for digit in range(10)),
        ranges=(pixel_range,) * len(feature_names),
        image_shape=shape,
    )


def _place(file: str) -> Path:
    spec = find_spec("sklearn")
    roots = spec.submodule_search_locations if spec is not None else None
    path = Path((roots or ["scikit-learn"])[0], "datasets", "data", file)
    if not path.is_file():
        raise DataError(
            "a bundled data set is not where scikit-learn keeps it",
            got=f"no file {path}",
            fix="reinstall scikit-learn, in the version that 'constraints.txt' names",
        )
    return path
