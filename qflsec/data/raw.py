"""Records as a source gives them, and what every source must keep to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError
from qflsec.data.spec import DataSpec

__all__ = ["RawData", "checked", "numbered", "refuse_missing"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RawData:
    """Records as the source gives them.

    Attributes:
        features: float64 ``[N, D]``; NaN where a value is missing.
        labels: int64 ``[N]``, numbering ``class_names``.
        feature_names: One name for each column.
        class_names: One name for each class.
        ranges: Public (lowest, highest) value of each column; None where none was published.
        image_shape: Channels, height and width of the images whose pixels the columns are, channel after channel and
            row by row; None for tables.
        persons: int64 ``[N]``, a number for the person of each record; None where the source names nobody.
        clients: int64 ``[N]``, numbering ``client_names``: who holds each record; None where the source does not say.
        client_names: One name for each client that the source tells apart.
        incomplete: How many records the source left out, as they lacked a value.

    Shapes:
        N records, D columns.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...] | None = None
    image_shape: tuple[int, int, int] | None = None
    persons: NDArray[np.int64] | None = None
    clients: NDArray[np.int64] | None = None
    client_names: tuple[str, ...] = ()
    incomplete: int = 0

    def take(self, rows: NDArray[np.int64]) -> RawData:
        """Some of the records."""
        return replace(
            self,
            features=self.features[rows],
            labels=self.labels[rows],
            persons=None if self.persons is None else self.persons[rows],
            clients=None if self.clients is None else self.clients[rows],
        )


def numbered(texts: list[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The different texts in the order of their values, as numbers where all of them are, and the number of each."""
    different = _ordered(set(texts))
    number = {text: index for index, text in enumerate(different)}
    return tuple(different), np.array([number[text] for text in texts], dtype=np.int64)


def _ordered(texts: set[str]) -> list[str]:
    try:
        return sorted(texts, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(texts)


def checked(raw: RawData, spec: DataSpec) -> RawData:
    """The records of any source, held to what a source promises; incomplete ones as ``spec.missing`` says.

    Raises:
        DataError: They do not keep to it.
    """
    what = f"data set {spec.name!r}"
    features = np.asarray(raw.features)
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        got = f"{features.dtype} of shape {list(features.shape)}"
        raise DataError(
            f"the features of {what} are no table of numbers", got=got, expected="[records, columns]"
        )
    if len(raw.labels) != len(features) or len(raw.feature_names) != features.shape[1]:
        raise DataError(
            f"the parts of {what} do not fit together",
            got=f"{len(features)} records of {features.shape[1]} columns, {len(raw.labels)} labels, "
            f"{len(raw.feature_names)} names of columns",
            expected="a label for each record and a name for each column",
        )
    if len(features) and not 0 <= raw.labels.min() <= raw.labels.max() < len(raw.class_names):
        raise DataError(
            f"a label of {what} numbers no class",
            got=f"labels {raw.labels.min()} to {raw.labels.max()}",
            expected=f"0 to {len(raw.class_names) - 1}, for the classes {', '.join(raw.class_names)}",
        )
    for kind, owners in (("person", raw.persons), ("client", raw.clients)):
        if owners is not None and len(owners) != len(features):
            raise DataError(
                f"{what} does not name a {kind} for each record", got=len(owners), expected=len(features)
            )
    if raw.clients is not None and set(raw.clients.tolist()) != set(range(len(raw.client_names))):
        raise DataError(f"a client of {what} has no record, or no name", got=", ".join(raw.client_names))
    ranges = raw.ranges if spec.ranges is None else spec.ranges
    if raw.image_shape is not None and ranges is not None and len(ranges) == 1:
        ranges *= features.shape[1]
    return _complete(replace(raw, features=features.astype(np.float64, copy=False), ranges=ranges), spec)


def _complete(raw: RawData, spec: DataSpec) -> RawData:
    missing = np.isnan(raw.features)
    lacking = np.flatnonzero(missing.any(axis=1))
    if np.isinf(raw.features).any():
        row, column = np.argwhere(np.isinf(raw.features))[0]
        raise DataError(
            f"data set {spec.name!r} has a value that is not finite at record {row + 1}, "
            f"column {raw.feature_names[column]!r}",
            got=raw.features[row, column],
        )
    if spec.missing == "median" or not missing.any():
        return raw
    if spec.missing == "error":
        row, column = np.argwhere(missing)[0]
        refuse_missing(f"data set {spec.name!r}", f"record {row + 1}", raw.feature_names[column])
    kept = raw.take(np.delete(np.arange(len(raw.labels)), lacking))
    return replace(kept, incomplete=raw.incomplete + len(lacking))


def refuse_missing(what: object, place: str, column: str, got: str = "no value") -> None:
    """Say where a value is missing.

    Raises:
        DataError: Always.
    """
    raise DataError(
        f"{what} lacks a value at {place}, column {column!r}",
        got=got,
        fix='fill it in, or set missing = "drop" (leave such records out) or missing = "median"',
    )
