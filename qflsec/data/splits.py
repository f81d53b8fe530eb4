"""Which record plays which part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError, numpy_stream
from qflsec.data.spec import DataSpec

__all__ = ["Splits", "first_of_equals", "split"]

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """Four disjoint sets of rows."""

    member: Rows
    nonmember: Rows
    auxiliary: Rows
    test: Rows


def first_of_equals(features: NDArray[np.float64]) -> Rows:
    """The rows that remain when of equal records only the first is kept, in order.

    A record that is listed twice could otherwise be trained on and play the non-member at once.

    Shapes:
        features: ``[N, D]``; result: ``[M]`` with M <= N.
    """
    _, first = np.unique(features, axis=0, return_index=True)
    return np.sort(first).astype(np.int64)


def split(labels: NDArray[np.int64], spec: DataSpec, seed: int) -> Splits:
    """Draw the four splits without replacement.

    The order of the draw is members, non-members, auxiliary, test, from one permutation (of each class, if
    balanced): a larger test split does not change who the members are.

    Raises:
        DataError: There are too few records.
    """
    sizes = (spec.members, spec.nonmembers, spec.auxiliary, spec.test)
    generator = numpy_stream(seed, "data", "split")
    if not spec.balanced:
        _check_enough(sum(sizes), len(labels), spec)
        return _cut(generator.permutation(len(labels)), sizes)
    classes = np.unique(labels)
    parts: list[Splits] = []
    for position, label in enumerate(classes):
        rows = np.flatnonzero(labels == label)
        shares = [size // len(classes) + (position < size % len(classes)) for size in sizes]
        _check_enough(sum(shares), len(rows), spec, f" in class {label}, as balanced=True needs them")
        parts.append(_cut(generator.permutation(rows), shares))
    return Splits(
        member=generator.permutation(np.concatenate([part.member for part in parts])),
        nonmember=generator.permutation(np.concatenate([part.nonmember for part in parts])),
        auxiliary=generator.permutation(np.concatenate([part.auxiliary for part in parts])),
        test=generator.permutation(np.concatenate([part.test for part in parts])),
    )


def _check_enough(wanted: int, there: int, spec: DataSpec, where: str = "") -> None:
    if wanted > there:
        raise DataError(
            f"data set {spec.name!r} has too few different records{where}",
            got=f"{wanted} wanted (members + nonmembers + auxiliary + test)",
            expected=f"at most {there}",
            fix="lower one of the four sizes",
        )


def _cut(rows: Rows, sizes: tuple[int, ...] | list[int]) -> Splits:
    ends = np.cumsum(sizes)
    member, nonmember, auxiliary, test, _ = np.split(rows.astype(np.int64), ends)
    return Splits(member=member, nonmember=nonmember, auxiliary=auxiliary, test=test)
