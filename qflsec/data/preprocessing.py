"""From columns to features: reduction and scaling, and what they were fitted on.

A reduction or scaler that was fitted on private records is a release about those records. So each
pipeline says what it was fitted on, and the ledger repeats it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError
from qflsec.data.sources import RawData
from qflsec.data.spec import DataSpec

__all__ = ["Features", "Preprocessed", "preprocess", "reduce_columns"]

Features = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Preprocessed:
    """Features, and how they came about.

    Attributes:
        values: float64 ``[N, F]`` inside the feature range.
        names: One name for each feature.
        clipped: Values that lay outside the range that the scaler knew.
        fitted_on: What the scaler and the reduction were fitted on, as a sentence for the ledger.
    """

    values: Features
    names: tuple[str, ...]
    clipped: int
    fitted_on: str


def reduce_columns(raw: RawData, spec: DataSpec) -> RawData:
    """Apply a reduction that needs no fitting (pool, first, none); pca leaves the columns as they are.

    Raises:
        DataError: The columns do not allow it.
    """
    columns = raw.features.shape[1]
    if spec.reduction == "pool":
        return _pool(raw, spec)
    if spec.reduction == "none" and columns != spec.n_features:
        raise DataError(
            f"data set {spec.name!r} has another number of columns than n_features",
            got=spec.n_features,
            expected=columns,
            fix="set n_features to it, or use reduction 'pca' or 'first'",
        )
    if columns < spec.n_features:
        raise DataError(
            f"data set {spec.name!r} has too few columns",
            got=f"n_features={spec.n_features}",
            expected=f"at most {columns}",
        )
    if raw.ranges is not None and len(raw.ranges) != columns:
        raise DataError(
            f"data set {spec.name!r} needs one range for each column", got=len(raw.ranges), expected=columns
        )
    keep = columns if spec.reduction == "pca" else spec.n_features
    return replace(
        raw,
        features=raw.features[:, :keep],
        feature_names=raw.feature_names[:keep],
        ranges=None if raw.ranges is None else raw.ranges[:keep],
        image_side=raw.image_side if keep == columns else None,
    )


def _pool(raw: RawData, spec: DataSpec) -> RawData:
    side = raw.image_side
    if side is None:
        raise DataError(
            f"data set {spec.name!r} holds no images to pool", fix="use reduction 'pca', 'first' or 'none'"
        )
    target = math.isqrt(spec.n_features)
    if target * target != spec.n_features or side % target:
        fits = [count * count for count in range(1, side + 1) if side % count == 0]
        raise DataError(
            f"{side}x{side} images cannot be pooled to n_features",
            got=spec.n_features,
            expected=f"one of {', '.join(map(str, fits))}",
        )
    block = side // target
    pooled = raw.features.reshape(-1, target, block, target, block).mean(axis=(2, 4))
    return replace(
        raw,
        features=pooled.reshape(-1, target * target),
        feature_names=tuple(f"block {row},{column}" for row in range(target) for column in range(target)),
        ranges=None if raw.ranges is None else raw.ranges[: target * target],
        image_side=target,
    )


def preprocess(
    raw: RawData, spec: DataSpec, member: NDArray[np.int64], auxiliary: NDArray[np.int64]
) -> Preprocessed:
    """Reduce (pca) and scale the records of ``raw``, on which :func:`reduce_columns` has already run.

    Args:
        raw: The records.
        spec: What to do.
        member: Rows of the training records; looked at only by ``preprocessing="training"``.
        auxiliary: Rows of the adversary's records; looked at only by ``preprocessing="auxiliary"``.

    Raises:
        DataError: The data set publishes no ranges, or too few records are there to fit on.
    """
    if spec.preprocessing == "fixed-range":
        low, high = _published(raw, spec)
        values, names = raw.features, raw.feature_names
        fitted_on = "no record: scaled by the ranges published with the data set"
        if spec.ranges is not None:
            fitted_on = "no record: scaled by the ranges declared public in the specification"
    else:
        rows = auxiliary if spec.preprocessing == "auxiliary" else member
        values, names = _reduce_fitted(raw, spec, rows)
        low, high = values[rows].min(axis=0), values[rows].max(axis=0)
        fitted_on = (
            f"the {len(rows)} auxiliary records (the adversary's own split); no training record"
            if spec.preprocessing == "auxiliary"
            else f"the {len(rows)} training records of all clients together: not covered by any epsilon"
        )
    scaled, clipped = _scale(values, low, high, spec.feature_range)
    return Preprocessed(values=scaled, names=names, clipped=clipped, fitted_on=fitted_on)


def _published(raw: RawData, spec: DataSpec) -> tuple[Features, Features]:
    if raw.ranges is None:
        raise DataError(
            f"data set {spec.name!r} publishes no value ranges for preprocessing 'fixed-range'",
            fix="declare public ones in ranges, or use preprocessing 'auxiliary'",
        )
    bounds = np.asarray(raw.ranges, dtype=np.float64)
    return bounds[:, 0], bounds[:, 1]


def _reduce_fitted(raw: RawData, spec: DataSpec, rows: NDArray[np.int64]) -> tuple[Features, tuple[str, ...]]:
    """Principal components fitted on ``rows``; columns of a table are standardised first, pixels are not."""
    if spec.reduction != "pca":
        return raw.features, raw.feature_names
    if spec.n_features > min(len(rows) - 1, raw.features.shape[1]):
        raise DataError(
            "too few records to fit the principal components on",
            got=f"{len(rows)} records and {raw.features.shape[1]} columns",
            expected=f"more than {spec.n_features} records and at least as many columns",
            fix="raise the size of that split or lower n_features",
        )
    fit = raw.features[rows]
    spread = np.ones(fit.shape[1]) if raw.image_side else fit.std(axis=0)
    spread[spread == 0] = 1.0
    centre = fit.mean(axis=0)
    _, _, axes = np.linalg.svd((fit - centre) / spread, full_matrices=False)
    axes = axes[: spec.n_features]
    # The sign of a component is arbitrary: its largest loading is made positive.
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
    values = (raw.features - centre) / spread @ axes.T
    return values, tuple(f"component {index + 1}" for index in range(spec.n_features))


def _scale(
    values: Features, low: Features, high: Features, span: tuple[float, float]
) -> tuple[Features, int]:
    """Map [low, high] of each column to ``span``; a constant column goes to the middle."""
    width = high - low
    flat = width == 0
    unit = np.where(flat, 0.5, (values - low) / np.where(flat, 1.0, width))
    outside = (values < low) | (values > high)
    return span[0] + np.clip(unit, 0.0, 1.0) * (span[1] - span[0]), int(outside.sum())
