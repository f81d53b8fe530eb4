"""From columns to features: reduction and scaling, and what they were fitted on.

A reduction or scaler that was fitted on private records is a release about those records. So each
pipeline says what it was fitted on, and the ledger repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError
from qflsec.data.blocks import column_blocks
from qflsec.data.raw import RawData
from qflsec.data.spec import DataSpec
from qflsec.data.tables import check_width, pixel_names

__all__ = ["Features", "Preprocessed", "preprocess", "reduce_columns"]

Features = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Preprocessed:
    """Features, and how they came about.

    Attributes:
        values: float64 ``[N, F]`` inside the feature range.
        names: One name for each feature.
        clipped: Values that lay outside the range that the scaler knew.
        filled: Missing values that were filled in with a median.
        fitted_on: What the scaler and the reduction were fitted on, as a sentence for the ledger.
        fill: float64 ``[F]``: the mean feature of those records, or the middle of a published range.
    """

    values: Features
    names: tuple[str, ...]
    clipped: int
    filled: int
    fitted_on: str
    fill: Features


def reduce_columns(raw: RawData, spec: DataSpec) -> RawData:
    """Apply a reduction that needs no fitting (pool, first, none); pca leaves the columns as they are.

    Raises:
        DataError: The columns do not allow it.
    """
    columns = raw.features.shape[1]
    check_width(columns, spec, raw.image_shape, f"data set {spec.name!r}")
    if spec.reduction == "pool":
        return _pool(raw, spec)
    if raw.ranges is not None and len(raw.ranges) != columns:
        raise DataError(
            f"data set {spec.name!r} needs one range for each column", got=len(raw.ranges), expected=columns
        )
    places = column_blocks(spec, columns)
    if spec.reduction != "first":
        return raw
    share = spec.n_features // len(places)
    if (least := min(place.stop - place.start for place in places)) < share:
        raise DataError(
            f"a block of data set {spec.name!r} has too few columns for its share of n_features",
            got=least,
            expected=f"at least {share}",
        )
    kept = np.concatenate([np.arange(place.start, place.start + share) for place in places])
    return replace(
        raw,
        features=raw.features[:, kept],
        feature_names=tuple(raw.feature_names[column] for column in kept),
        ranges=None if raw.ranges is None else tuple(raw.ranges[column] for column in kept),
        image_shape=raw.image_shape if len(kept) == columns else None,
    )


def _pool(raw: RawData, spec: DataSpec) -> RawData:
    assert raw.image_shape is not None
    channels, height, width = raw.image_shape
    blocks = {
        channels * (height // side) * (width // side): side
        for side in range(1, min(height, width) + 1)
        if height % side == width % side == 0
    }
    side = blocks.get(spec.n_features)
    if side is None:
        raise DataError(
            f"{height}x{width} images cannot be pooled to n_features",
            got=spec.n_features,
            expected=f"one of {', '.join(map(str, sorted(blocks)))}",
        )
    shape = (channels, height // side, width // side)
    pooled = raw.features.reshape(-1, channels, shape[1], side, shape[2], side).mean(axis=(3, 5))
    return replace(
        raw,
        features=pooled.reshape(-1, spec.n_features),
        feature_names=tuple(name.replace("pixel", "block") for name in pixel_names(shape)),
        ranges=_pooled_ranges(raw, spec.n_features),
        image_shape=shape,
    )


def _pooled_ranges(raw: RawData, blocks: int) -> tuple[tuple[float, float], ...] | None:
    """The range that all blocks share: means of pixels stay between the pixels' ends."""
    if raw.ranges is None:
        return None
    low, high = zip(*raw.ranges, strict=True)
    return ((min(low), max(high)),) * blocks


def preprocess(
    raw: RawData, spec: DataSpec, member: NDArray[np.int64], auxiliary: NDArray[np.int64]
) -> Preprocessed:
    """Fill in, reduce (pca) and scale the records of ``raw``, on which :func:`reduce_columns` has already run.

    Medians, components and scaler are all fitted on the same records, and on no others.

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
        centre = (low + high) / 2
        values, names, filled = raw.features, raw.feature_names, 0
        fitted_on = "no record: scaled by the ranges published with the data set"
        if spec.ranges is not None:
            fitted_on = "no record: scaled by the ranges declared public in the specification"
    else:
        rows = auxiliary if spec.preprocessing == "auxiliary" else member
        raw, filled = _filled(raw, rows, spec)
        values, names = _reduce_fitted(raw, spec, rows)
        low, high = values[rows].min(axis=0), values[rows].max(axis=0)
        centre = values[rows].mean(axis=0)
        medians = ", medians of missing values too" * bool(filled)
        fitted_on = (
            f"the {len(rows)} auxiliary records (the adversary's own split){medians}; no training record"
            if spec.preprocessing == "auxiliary"
            else f"the {len(rows)} training records of all clients together{medians}: not covered by any epsilon"
        )
    scaled, clipped = _scale(values, low, high, spec.feature_range)
    return Preprocessed(
        values=scaled,
        names=names,
        clipped=clipped,
        filled=filled,
        fitted_on=fitted_on,
        fill=_scale(centre, low, high, spec.feature_range)[0],
    )


def _filled(raw: RawData, rows: NDArray[np.int64], spec: DataSpec) -> tuple[RawData, int]:
    """The records with the column's median over ``rows`` where a value is missing, and how many are."""
    missing = np.isnan(raw.features)
    if not missing.any():
        return raw, 0
    unknown = np.flatnonzero(missing[rows].all(axis=0))
    if len(unknown):
        raise DataError(
            f"column {raw.feature_names[unknown[0]]!r} of data set {spec.name!r} has no median",
            got=f"no value in the {len(rows)} records that preprocessing {spec.preprocessing!r} may be fitted on",
            fix="drop the column, or raise the size of that split",
        )
    features = np.where(missing, np.nanmedian(raw.features[rows], axis=0), raw.features)
    return replace(raw, features=features), int(missing.sum())


def _published(raw: RawData, spec: DataSpec) -> tuple[Features, Features]:
    if raw.ranges is None:
        raise DataError(
            f"data set {spec.name!r} publishes no value ranges for preprocessing 'fixed-range'",
            fix="declare public ones in ranges, or use preprocessing 'auxiliary'",
        )
    bounds = np.asarray(raw.ranges, dtype=np.float64)
    return bounds[:, 0], bounds[:, 1]


def _reduce_fitted(raw: RawData, spec: DataSpec, rows: NDArray[np.int64]) -> tuple[Features, tuple[str, ...]]:
    """Principal components of each block, fitted on ``rows``."""
    if spec.reduction != "pca":
        return raw.features, raw.feature_names
    places = column_blocks(spec, raw.features.shape[1])
    share = spec.n_features // len(places)
    values = [
        _components(raw.features[:, place], rows, share, standardise=raw.image_shape is None)
        for place in places
    ]
    prefixes = [f"block {index + 1} " * (spec.blocks is not None) for index in range(len(places))]
    names = tuple(f"{prefix}component {index + 1}" for prefix in prefixes for index in range(share))
    return values[0] if len(values) == 1 else np.concatenate(values, axis=1), names


def _components(columns: Features, rows: NDArray[np.int64], count: int, *, standardise: bool) -> Features:
    """The first principal components; columns of a table are standardised first, pixels are not."""
    if count > min(len(rows) - 1, columns.shape[1]):
        raise DataError(
            "too few records to fit the principal components on",
            got=f"{len(rows)} records and {columns.shape[1]} columns",
            expected=f"more than {count} records and at least as many columns",
            fix="raise the size of that split or lower n_features",
        )
    fit = columns[rows]
    spread = fit.std(axis=0) if standardise else np.ones(fit.shape[1])
    spread[spread == 0] = 1.0
    centre = fit.mean(axis=0)
    _, _, axes = np.linalg.svd((fit - centre) / spread, full_matrices=False)
    axes = axes[:count]
    # The sign of a component is arbitrary: its largest loading is made positive.
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
    components: Features = (columns - centre) / spread @ axes.T
    return components


def _scale(
    values: Features, low: Features, high: Features, span: tuple[float, float]
) -> tuple[Features, int]:
    """Map [low, high] of each column to ``span``; a constant column goes to the middle."""
    width = high - low
    flat = width == 0
    unit = np.where(flat, 0.5, (values - low) / np.where(flat, 1.0, width))
    outside = (values < low) | (values > high)
    return span[0] + np.clip(unit, 0.0, 1.0) * (span[1] - span[0]), int(outside.sum())
