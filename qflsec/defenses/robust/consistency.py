"""Consistency of a client's updates over the rounds: how the next one is predicted, and which scores stand apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qflsec.defenses.robust.draws import Generator, uniform
from qflsec.defenses.robust.rows import Array

__all__ = ["hessian_product", "stands_apart"]

_REFERENCES = 50
"""Uniform samples that the spread of the scores is compared with."""


def hessian_product(steps: Array, changes: Array, vector: Array) -> Array:
    """What a move of the model changes in a gradient, by the L-BFGS approximation of the Hessian.

    It is the matrix that BFGS arrives at from ``sigma`` times the identity, ``sigma = y.s / s.s`` of the last pair, in its
    compact form, so that no matrix of the size of the model is made. The last step gives the last change exactly.

    Args:
        steps: How the model moved, s, the latest last.
        changes: How the gradient changed by it, y.
        vector: The move.

    Shapes:
        steps: ``(m, d)``; changes: ``(m, d)``; vector: ``(d,)``; returns: ``(d,)``

    Source:
        Byrd, Nocedal, Schnabel: Representations of quasi-Newton matrices, Mathematical Programming 63, 1994, theorem 2.3.
    """
    square = float(steps[-1] @ steps[-1]) if len(steps) else 0.0
    if square == 0:
        return np.zeros_like(vector)
    sigma = float(changes[-1] @ steps[-1]) / square
    both = steps @ changes.T
    lower = np.tril(both, -1)
    middle = np.block([[sigma * (steps @ steps.T), lower], [lower.T, -np.diag(both.diagonal())]])
    right = np.concatenate([sigma * (steps @ vector), changes @ vector])
    # the model may have moved the same way twice: of several solutions the shortest
    weights = np.linalg.lstsq(middle, right, rcond=None)[0]
    half = len(steps)
    return np.asarray(sigma * vector - sigma * (weights[:half] @ steps) - weights[half:] @ changes)


def stands_apart(scores: Array, generator: Generator) -> npt.NDArray[np.bool_]:
    """The scores of a higher group that the gap statistic tells from the others; none where it finds one group.

    One group is too few where two fit better than they fit as many uniform numbers, by more than one standard error.
    Groups of numbers on a line are intervals, so that the best two are found exactly.

    Args:
        scores: The scores.
        generator: Of the uniform numbers.

    Shapes:
        scores: ``(n,)``; returns: ``(n,)``

    Source:
        Tibshirani, Walther, Hastie: Estimating the number of clusters in a data set via the gap statistic, JRSS B 63,
        2001, with uniform numbers over the range of the scores.
    """
    nobody = np.zeros(len(scores), dtype=bool)
    span = float(np.ptp(scores)) if len(scores) else 0.0
    if len(scores) < 3 or not 0 < span < np.inf:
        return nobody
    found, cut = _within((scores[None] - scores.min()) / span)
    expected, _ = _within(uniform((_REFERENCES, len(scores)), generator))
    gaps = expected.mean(axis=0) - found[0]
    error = expected[:, 1].std() * np.sqrt(1.0 + 1.0 / _REFERENCES)
    return scores >= np.sort(scores)[cut[0]] if gaps[0] < gaps[1] - error else nobody


def _within(numbers: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """Logarithms of the squares about the means of one group and of the best two, and how many are in the lower of these.

    Shapes:
        numbers: ``(r, n)``, between 0 and 1; returns: ``(r, 2)`` and ``(r,)``
    """
    ordered = np.sort(numbers, axis=1)
    n = ordered.shape[1]
    sums, squares = np.cumsum(ordered, axis=1), np.cumsum(ordered**2, axis=1)
    sizes = np.arange(1, n)
    lower = squares[:, :-1] - sums[:, :-1] ** 2 / sizes
    upper = squares[:, -1:] - squares[:, :-1] - (sums[:, -1:] - sums[:, :-1]) ** 2 / (n - sizes)
    best = (lower + upper).argmin(axis=1)
    two = np.take_along_axis(lower + upper, best[:, None], axis=1)[:, 0]
    one = squares[:, -1] - sums[:, -1] ** 2 / n
    # two groups of equal numbers have no squares but those of rounding
    return np.log(np.maximum(np.stack([one, two], axis=1), 1e-12)), best + 1
