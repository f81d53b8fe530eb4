"""What is odd about somebody's data: mistakes that a table does not forbid, a sentence each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qflsec.data.preprocessing import Preprocessed
from qflsec.data.raw import RawData
from qflsec.data.spec import DataSpec
from qflsec.data.splits import Splits

__all__ = ["source_remarks", "split_remarks"]

_FEWEST_RECORDS = 5
_MOST_CLIPPED = 0.01
_ENOUGH = 20
"""In fewer records than this, order and agreement are chance."""
_SHOWN = 6

Column = NDArray[np.float64]
Labels = NDArray[np.int64]


def source_remarks(
    whole: RawData, reduced: RawData, kept: NDArray[np.int64], spec: DataSpec
) -> tuple[str, ...]:
    """What can be said of the records before they are split.

    Args:
        whole: The records of the chosen classes, with all columns.
        reduced: The same after a reduction that needs no fitting.
        kept: Those of ``reduced`` that equal no earlier one.
        spec: What was asked for.
    """
    found = [] if whole.image_shape else _column_remarks(whole, spec)
    counts = np.bincount(reduced.labels[kept], minlength=len(whole.class_names))
    rare = [
        f"{name!r} ({count})"
        for name, count in zip(whole.class_names, counts.tolist(), strict=True)
        if count < _FEWEST_RECORDS
    ]
    if rare:
        found.append(
            f"classes with fewer than {_FEWEST_RECORDS} records: {_listed(rare)}; leave them out with classes, or join them"
        )
    left_out = len(reduced.labels) - len(kept)
    if left_out:
        contradicting = _contradicting(reduced)
        other = f"; {contradicting} records equal one of another class" if contradicting else ""
        found.append(f"{left_out} records equal an earlier one in every column and are left out{other}")
    if whole.incomplete:
        found.append(f"{whole.incomplete} records lack a value and are left out, as missing = 'drop' says")
    return tuple(found)


def split_remarks(
    spec: DataSpec, prepared: Preprocessed, collisions: int, splits: Splits, persons: Labels | None
) -> tuple[str, ...]:
    """What can be said of the records as one seed splits them.

    Args:
        spec: What was asked for.
        prepared: The features.
        collisions: Records whose features equal those of a record of another split.
        splits: Who plays which part.
        persons: A number for the person of each record; None where nobody is named.
    """
    found = []
    share = prepared.clipped / prepared.values.size
    if share > _MOST_CLIPPED:
        fix = (
            "widen ranges"
            if spec.preprocessing == "fixed-range"
            else f"raise {'auxiliary' if spec.preprocessing == 'auxiliary' else 'members'}, or declare public ranges"
        )
        found.append(
            f"{100 * share:.1f} % of all values lie outside the range that the scaler knows and are clipped to its ends "
            f"(fitted on {prepared.fitted_on.partition(':')[0].partition(' (')[0]}): {fix}"
        )
    if prepared.filled:
        found.append(f"{prepared.filled} missing values are filled in with the median of their column")
    if collisions:
        found.append(
            f"{collisions} records equal one of another split once they are features: none of them is clearly a member "
            "or a non-member"
        )
    if persons is not None:
        torn = _in_several(persons, splits)
        if torn:
            found.append(
                f"{torn} people have records in several splits: membership is told for records, not for people"
            )
    return tuple(found)


def _column_remarks(raw: RawData, spec: DataSpec) -> list[str]:
    columns = [(name, raw.features[:, index]) for index, name in enumerate(raw.feature_names)]
    constant = [name for name, values in columns if _is_constant(values)]
    numbering, telling = [], []
    if len(raw.labels) >= _ENOUGH:
        numbering = [name for name, values in columns if _counts(values, raw.clients)]
        telling = [
            name
            for name, values in columns
            if name not in {*constant, *numbering} and _tells(values, raw.labels)
        ]
    drop = spec.name in {"csv", "parquet", "numpy"}

    def mend(names: list[str]) -> str:
        return "drop = [" + ", ".join(f'"{name}"' for name in names) + "]" if drop else "leave them out"

    found = []
    if numbering:
        found.append(
            f"a running number is no feature, and tells who a record is: {_listed(numbering)}; {mend(numbering)}"
        )
    if constant:
        found.append(f"the same value in every record tells nothing: {_listed(constant)}; {mend(constant)}")
    if telling:
        found.append(
            f"each of these columns alone determines the class of every record: {_listed(telling)}; if the class was "
            f"made from them, {mend(telling)}"
        )
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _is_constant(values: Column) -> bool:
    known = values[~np.isnan(values)]
    return bool(len(known) == 0 or (known == known[0]).all())


def _counts(values: Column, clients: Labels | None) -> bool:
    """Whether whole numbers count the records, in any order, or rise from each to the next; in each client's file."""
    if np.isnan(values).any() or (values != np.round(values)).any():
        return False
    parts = [values] if clients is None else [values[clients == one] for one in np.unique(clients)]
    return all(
        len(np.unique(part)) == len(part)
        and (part.max() - part.min() == len(part) - 1 or (np.diff(part) > 0).all())
        for part in parts
    )


def _tells(values: Column, labels: Labels) -> bool:
    """Whether the class follows from the value, by a table whose values recur or by thresholds.

    Values that are nearly all different give a table of any class whatever; they count only where each class is one
    interval.
    """
    known = ~np.isnan(values)
    if not known.all():
        return False
    order = np.argsort(values, kind="stable")
    ordered, classes = values[order], labels[order]
    starts = np.flatnonzero(np.append(True, np.diff(ordered) > 0))
    if (np.maximum.reduceat(classes, starts) != np.minimum.reduceat(classes, starts)).any():
        return False
    changes = int((np.diff(classes) != 0).sum())
    return 2 * len(starts) <= len(values) or changes == len(np.unique(classes)) - 1


def _contradicting(raw: RawData) -> int:
    """Records that equal another in every column and have another class."""
    values = np.where(np.isnan(raw.features), np.inf, raw.features)
    _, group = np.unique(values, axis=0, return_inverse=True)
    pairs = np.unique(np.stack([group.reshape(-1), raw.labels]), axis=1)[0]
    torn = np.bincount(pairs) > 1
    return int(torn[group.reshape(-1)].sum())


def _in_several(persons: Labels, splits: Splits) -> int:
    """How many people have records in more than one split."""
    parts = (splits.member, splits.nonmember, splits.auxiliary, splits.test)
    held = np.concatenate([np.unique(persons[part]) for part in parts])
    return int((np.unique(held, return_counts=True)[1] > 1).sum())
