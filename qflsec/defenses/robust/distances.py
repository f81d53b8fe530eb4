"""Squared distances between all pairs of updates, in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qflsec.defenses.robust.rows import Array

__all__ = ["CANCELLED", "SMALL", "squared_distances"]

SMALL = 60_000
"""Up to so many differences, n * n * d, they are all formed: quicker than the Gram form, and exact."""
CANCELLED = 1e-6
"""Where a squared distance is a smaller part than this of the squared norms that it is the rest of, digits are lost."""


def squared_distances(values: npt.NDArray[Any]) -> Array:
    """The squared L2 distance between each pair of rows.

    The Gram form ``|x|^2 + |y|^2 - 2 x.y`` is quick, but loses the distance of two rows that have a large part in
    common: it can be negative, and equal rows are no longer equal. So rows are centred first, on their mean or, where
    one far row has moved that, on their median, and pairs that have still lost digits are formed by differences.

    Args:
        values: The rows, finite.

    Returns:
        A symmetric matrix with zeros on its diagonal; infinity where a square exceeds double precision.

    Shapes:
        values: ``(n, d)``; returns: ``(n, n)``
    """
    n, d = values.shape
    with np.errstate(over="ignore", invalid="ignore"):
        if n * n * d <= SMALL:
            wide = values.astype(np.float64, copy=False)
            apart = wide[:, None, :] - wide[None, :, :]
            return np.asarray(np.einsum("ijk,ijk->ij", apart, apart))
        wide = values.astype(np.float64)
        found, lost = _gram(wide, np.full(n, 1.0 / n) @ wide)
        if int(lost.sum()) > n:
            # halves are added, so that the midpoint of two huge numbers does not overflow
            ordered = np.sort(values, axis=0)[(n - 1) // 2 : n // 2 + 1].astype(np.float64)
            found, lost = _gram(values.astype(np.float64), (ordered / len(ordered)).sum(axis=0))
        for row in np.flatnonzero(lost.any(axis=1)):
            others = np.flatnonzero(lost[row])
            apart = values[others].astype(np.float64) - values[row]
            found[row, others] = np.einsum("ij,ij->i", apart, apart)
    np.fill_diagonal(found, 0.0)
    return np.maximum(found, found.T)


def _gram(rows: Array, centre: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Squared distances by the Gram form of centred rows, and the pairs that lost digits; ``rows`` are overwritten."""
    rows -= centre  # in place: a second matrix would cost as much as the product
    found = rows @ rows.T
    squares = found.diagonal().copy()
    sums = squares[:, None] + squares
    found *= -2.0
    found += sums
    sums *= CANCELLED
    lost = ~(found > sums)  # what is infinite or no number is not above
    np.fill_diagonal(lost, val=False)
    return found, lost
