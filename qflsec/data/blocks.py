"""Blocks of columns, such as the modalities that hospitals measure, and records that lack some of them.

A hospital that never measured a block has no value of it to fit anything on. What stands in its place is the mean of
the records that the scaler was fitted on anyway: public ones, or published ranges. So a fill says nothing of anybody's
own records, and every client uses the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError, numpy_stream
from qflsec.data.spec import DataSpec

__all__ = ["column_blocks", "draw_holdings", "feature_blocks", "hidden", "owners"]

Rows = NDArray[np.int64]


def column_blocks(spec: DataSpec, columns: int) -> list[slice]:
    """Where each block of columns lies; one block of all columns where ``spec`` names none.

    Raises:
        DataError: The blocks are not all the columns there are.
    """
    sizes = spec.blocks or (columns,)
    if sum(sizes) != columns:
        raise DataError(
            f"the blocks of data set {spec.name!r} are not its columns",
            got=f"blocks={list(sizes)}, which are {sum(sizes)}",
            expected=f"sizes that add up to {columns}",
        )
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def feature_blocks(spec: DataSpec) -> Rows:
    """The block that each feature is made from.

    Shapes:
        returns: ``[F]``
    """
    if spec.blocks is not None and spec.reduction == "none":
        return np.repeat(np.arange(len(spec.blocks)), spec.blocks)
    count = len(spec.blocks or (0,))
    return np.repeat(np.arange(count), spec.n_features // count)


def draw_holdings(spec: DataSpec, n_records: int, splits: Sequence[Rows], seed: int) -> Rows | None:
    """At which kind of hospital each record was taken; None where all hold every block.

    There are as many kinds as blocks. Kind m holds the blocks m, m + 1, ..., ``spec.held_blocks`` of them, counted round.
    In every split kinds are equally frequent, to within one record, and chance says which of them have that record more:
    what a record lacks does not say whether it is trained on. Rows of no split count as of kind 0.

    Args:
        spec: The blocks.
        n_records: N.
        splits: The rows of each split.
        seed: The run's seed.

    Shapes:
        returns: ``[N]``
    """
    if spec.blocks is None or not spec.hides_blocks:
        return None
    generator, kinds = numpy_stream(seed, "data", "holdings"), len(spec.blocks)
    holdings = np.zeros(n_records, dtype=np.int64)
    for rows in splits:
        holdings[rows] = (generator.permutation(len(rows)) + generator.integers(kinds)) % kinds
    return holdings


def hidden(
    features: NDArray[np.float32], fill: NDArray[np.float32], spec: DataSpec, holdings: Rows
) -> NDArray[np.float32]:
    """The features with ``fill`` in the place of every block that a record's hospital does not hold.

    Shapes:
        features: ``[N, F]``; fill: ``[F]``; holdings, ``[N]``: the kind of each record's hospital; returns: ``[N, F]``
    """
    assert spec.blocks is not None
    assert spec.held_blocks is not None
    after = (feature_blocks(spec)[None, :] - holdings[:, None]) % len(spec.blocks)
    return np.where(after < spec.held_blocks, features, fill[None, :])


def owners(spec: DataSpec, n_clients: int, seed: int) -> Rows:
    """Which kind of hospital each client is: kinds are equally frequent, to within one client, in random order.

    Raises:
        DataError: There are fewer clients than kinds, so that some records would have no client.

    Shapes:
        returns: ``[C]``
    """
    assert spec.blocks is not None
    if n_clients < len(spec.blocks):
        raise DataError(
            "too few clients for every kind of hospital",
            got=f"n_clients={n_clients}",
            expected=f"at least {len(spec.blocks)}, one for each block",
            fix="raise n_clients, or leave held_blocks out",
        )
    return numpy_stream(seed, "data", "partition", "holdings").permutation(n_clients) % len(spec.blocks)
