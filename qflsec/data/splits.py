"""Which record plays which part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError, numpy_stream
from qflsec.data.spec import DataSpec

__all__ = ["Splits", "first_of_equals", "proportional", "split"]

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
    # NaN equals nothing, also not itself, and would keep both of two equal incomplete records
    _, first = np.unique(np.where(np.isnan(features), np.inf, features), axis=0, return_index=True)
    return np.sort(first).astype(np.int64)


def split(labels: Rows, spec: DataSpec, seed: int, clients: Rows | None = None) -> Splits:
    """Draw the four splits without replacement.

    The order of the draw is members, non-members, auxiliary, test, from one permutation (of each class, if
    balanced; of each client's records, where the data say who holds them): a larger test split does not change who the
    members are.

    Clients differ, so whose records are drawn more often would tell members from non-members before any model does.
    Each client's records are therefore cut in the same proportions, and chance rounds what does not divide: given whose
    a record is, whether it is a member is a fair draw.

    Args:
        labels: The class of each record.
        spec: The four sizes.
        seed: The run's seed.
        clients: Who holds each record; None where the data do not say.

    Raises:
        DataError: There are too few records.
    """
    sizes = (spec.members, spec.nonmembers, spec.auxiliary, spec.test)
    generator = numpy_stream(seed, "data", "split")
    if not spec.balanced and spec.class_shares is None:
        _check_enough(sum(sizes), len(labels), spec, _fitting(spec, len(labels) / max(1, sum(sizes))))
        if clients is None:
            return _cut(generator.permutation(len(labels)), sizes)
        shares = proportional(sizes, np.bincount(clients), generator)
        held = [np.flatnonzero(clients == client) for client in range(len(shares))]
    else:
        if clients is not None:
            raise DataError(
                "balanced splits are of no use where the data say who holds a record",
                got="class_shares" if spec.class_shares else "balanced=True",
                fix="leave it out: each client's records are cut in the same proportions",
            )
        held = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        shares = _by_class(spec, sizes, len(held))
        scarcest = min(len(rows) / max(1, sum(share)) for rows, share in zip(held, shares, strict=True))
        fitting = _fitting(spec, scarcest, step=len(held))
        for label, rows, share in zip(np.unique(labels), held, shares, strict=True):
            where = (
                f" in class {label}, as {'class_shares' if spec.class_shares else 'balanced=True'} needs them"
            )
            _check_enough(sum(share), len(rows), spec, fitting, where)
    parts = [_cut(generator.permutation(rows), share) for rows, share in zip(held, shares, strict=True)]
    return Splits(
        member=generator.permutation(np.concatenate([part.member for part in parts])),
        nonmember=generator.permutation(np.concatenate([part.nonmember for part in parts])),
        auxiliary=generator.permutation(np.concatenate([part.auxiliary for part in parts])),
        test=generator.permutation(np.concatenate([part.test for part in parts])),
    )


def _by_class(spec: DataSpec, sizes: Sequence[int], n_classes: int) -> list[list[int]]:
    """How many records of each class each split gets: equally many, or the stated shares, to within a record.

    Raises:
        DataError: There are not as many shares as classes.
    """
    if spec.class_shares is None:
        return [
            [size // n_classes + (position < size % n_classes) for size in sizes]
            for position in range(n_classes)
        ]
    if len(spec.class_shares) != n_classes:
        raise DataError(
            "there is not one of class_shares for each class",
            got=len(spec.class_shares),
            expected=f"{n_classes}",
        )
    counts = [np.diff(np.rint(np.cumsum(spec.class_shares) * size).astype(int), prepend=0) for size in sizes]
    return [[int(split[label]) for split in counts] for label in range(n_classes)]


def proportional(sizes: Sequence[int], counts: Rows, generator: np.random.Generator) -> list[list[int]]:
    """How many records of each client each split gets: in proportion, on average exactly, never more than there are.

    What does not divide is drawn by systematic sampling: the clients' quotas stand end to end in a random order, and one
    random phase for all tells which whole numbers fall into each. A quota is so rounded up or down, up with the
    probability of its fraction. A fixed rule, such as the largest remainder, would make members of the same clients'
    records in every run, and whose a record is would tell members from non-members.

    Args:
        sizes: The sizes of the splits; together at most the sum of ``counts``.
        counts: How many records each client holds.
        generator: Where the order and the phase come from.

    Returns:
        For each client its share of each split.
    """
    left = counts.astype(np.int64)
    shares = []
    for size in sizes:
        order, total = generator.permutation(len(left)), max(1, int(left.sum()))
        # of what is left, so that a share is at most that, and the mean stays that of the whole; in whole numbers
        ends = (np.cumsum(size * left[order]) + generator.integers(total)) // total
        share = np.empty_like(left)
        share[order] = np.diff(ends, prepend=0)
        left = left - share
        shares.append(share.tolist())
    return [list(client) for client in zip(*shares, strict=True)]


def _check_enough(wanted: int, there: int, spec: DataSpec, fitting: str, where: str = "") -> None:
    if wanted > there:
        raise DataError(
            f"data set {spec.name!r} has too few different records{where}",
            got=f"{wanted} wanted (members + nonmembers + auxiliary + test)",
            expected=f"at most {there}",
            fix=f"lower the four sizes, for example to {fitting}",
        )


def _fitting(spec: DataSpec, share: float, *, step: int = 1) -> str:
    """The four sizes times a share, in whole steps, as they are written down."""
    sizes = {name: getattr(spec, name) for name in ("members", "nonmembers", "auxiliary", "test")}
    return ", ".join(f"{name} = {int(size * share / step) * step}" for name, size in sizes.items())


def _cut(rows: Rows, sizes: Sequence[int]) -> Splits:
    ends = np.cumsum(sizes)
    member, nonmember, auxiliary, test, _ = np.split(rows.astype(np.int64), ends)
    return Splits(member=member, nonmember=nonmember, auxiliary=auxiliary, test=test)
