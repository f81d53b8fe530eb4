"""Plain reference code for every rule: loops over rows and coordinates, as the papers write them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

Matrix = np.ndarray[Any, Any]


def squared(x: Matrix, y: Matrix) -> float:
    return sum((float(a) - float(b)) ** 2 for a, b in zip(x, y, strict=True))


def distance(x: Matrix, y: Matrix) -> float:
    return math.sqrt(squared(x, y))


def median(rows: Matrix) -> Matrix:
    found = []
    for column in rows.T:
        ordered = sorted(column)
        n = len(ordered)
        found.append((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)
    return np.array(found)


def trimmed_mean(rows: Matrix, f: int) -> Matrix:
    return np.array([np.mean(sorted(column)[f : len(column) - f]) for column in rows.T])


def mean_around_median(rows: Matrix, count: int) -> Matrix:
    found = []
    for column, middle in zip(rows.T, median(rows), strict=True):
        found.append(np.mean(sorted(column, key=lambda x: (abs(x - middle), x))[:count]))
    return np.array(found)


def sum_of_distances(rows: Matrix, point: Matrix) -> float:
    return sum(distance(row, point) for row in rows)


def smoothed_median(rows: Matrix, smoothing: float) -> Matrix:
    """The fixed point of smoothed Weiszfeld steps, nu in units of the smallest ball around a row with most rows in it."""
    radii = [sorted(distance(row, other) for other in rows)[len(rows) // 2] for row in rows]
    point = rows.mean(axis=0)
    for _ in range(400):
        weights = 1 / np.maximum(np.linalg.norm(rows - point, axis=1), smoothing * min(radii))
        point = weights @ rows / weights.sum()
    return np.asarray(point)


def krum_score(rows: Matrix, i: int, neighbours: int) -> tuple[float, float]:
    """The score, and the sum over all others, which decides between equals."""
    others = sorted(squared(rows[i], rows[j]) for j in range(len(rows)) if j != i)
    return sum(others[:neighbours]), sum(others)


def krum_scores(rows: Matrix, f: int, neighbours: int | None = None) -> list[float]:
    q = max(1, len(rows) - f - 2) if neighbours is None else neighbours
    return [krum_score(rows, i, q)[0] for i in range(len(rows))]


def minimum_diameter(rows: Matrix, f: int) -> tuple[float, float, Matrix]:
    """Diameter, sum of squared distances and mean of the best set of n - f rows."""
    best = None
    for kept in itertools.combinations(range(len(rows)), len(rows) - f):
        pairs = [distance(rows[i], rows[j]) for i, j in itertools.combinations(kept, 2)]
        key = (max(pairs, default=0.0), sum(pair**2 for pair in pairs))
        if best is None or key < best[:2]:
            best = (*key, rows[list(kept)].mean(axis=0))
    assert best is not None
    return best


def smallest_eigenvalue(rows: Matrix, f: int) -> list[Matrix]:
    """The means of all sets of n - f rows with the smallest largest eigenvalue of the covariance, but for rounding."""
    found = []
    for kept in itertools.combinations(range(len(rows)), len(rows) - f):
        part = rows[list(kept)]
        covariance = np.atleast_2d(np.cov(part.T, bias=True)) if len(part) > 1 else np.zeros((1, 1))
        found.append((float(np.linalg.eigvalsh(covariance)[-1]), part.mean(axis=0)))
    limit = min(value for value, _ in found) + 1e-7 * max(value for value, _ in found)
    return [mean for value, mean in found if value <= limit]


def centred_clipping(rows: Matrix, centre: Matrix, radius: float | None, iterations: int) -> Matrix:
    for _ in range(iterations):
        lengths = [distance(row, centre) for row in rows]
        limit = float(np.median(lengths)) if radius is None else radius
        moves = [
            (row - centre) * (min(1.0, limit / length) if length else 1.0)
            for row, length in zip(rows, lengths, strict=True)
        ]
        centre = centre + sum(moves) / len(rows)
    return centre


def bulyan(rows: Matrix, f: int) -> Matrix:
    left, chosen = list(range(len(rows))), []
    while len(chosen) < len(rows) - 2 * f:
        part = rows[left]
        q = min(max(1, len(left) - f - 2), len(left) - 1)
        scores = [krum_score(part, i, q) for i in range(len(left))]
        chosen.append(left.pop(scores.index(min(scores))))
    return mean_around_median(rows[chosen], len(rows) - 4 * f)


def nnm(rows: Matrix, f: int) -> Matrix:
    found = []
    for row in rows:
        order = sorted(range(len(rows)), key=lambda j: (distance(row, rows[j]), j))
        found.append(rows[order[: len(rows) - f]].mean(axis=0))
    return np.array(found)


def dnc(rows: Matrix, drops: int) -> Matrix:
    centred = rows - rows.mean(axis=0)
    top = np.linalg.svd(centred)[2][0]
    order = sorted(range(len(rows)), key=lambda i: float(centred[i] @ top) ** 2)
    return rows[sorted(order[: len(rows) - drops])].mean(axis=0)


def cosine(x: Matrix, y: Matrix) -> float:
    lengths = distance(x, 0 * x) * distance(y, 0 * y)
    return float(x @ y) / lengths if lengths else 0.0


def fltrust(rows: Matrix, trusted: Matrix) -> Matrix:
    total, step = 0.0, np.zeros(len(trusted))
    for row in rows:
        score = max(0.0, cosine(row, trusted))
        if score:
            total += score
            step = step + score * distance(trusted, 0 * trusted) / distance(row, 0 * row) * row
    return step / total if total else step


def foolsgold_weights(history: Matrix) -> Matrix:
    n = len(history)
    cosines = [[cosine(history[i], history[j]) for j in range(n)] for i in range(n)]
    similar = [max(cosines[i][j] for j in range(n) if j != i) for i in range(n)]
    weights = []
    for i in range(n):
        pardoned = []
        for j in range(n):
            if j != i:
                milder = similar[i] / similar[j] if similar[j] > similar[i] > 0 else 1.0
                pardoned.append(cosines[i][j] * milder)
        weights.append(min(1.0, max(0.0, 1.0 - max(pardoned))))
    top = max(weights)
    if top <= 1e-12:
        return np.zeros(n)
    found = []
    for weight in weights:
        share = weight / top
        logit = math.inf if share >= 1 else -math.inf if share <= 0 else math.log(share / (1 - share))
        found.append(min(1.0, max(0.0, logit + 0.5)))
    return np.array(found)


def flame_admitted(rows: Matrix) -> set[int]:
    """The first connected component that holds more than half, as the distance grows that joins two rows.

    Where a cluster must hold more than half, HDBSCAN has one branch. Two rows are joined at the largest of their distance
    and the distances to their nearest others.
    """
    n = len(rows)
    apart = [[max(0.0, 1.0 - cosine(x, y)) for y in rows] for x in rows]
    core = [min(apart[i][j] for j in range(n) if j != i) for i in range(n)]
    joins = sorted({max(apart[i][j], core[i], core[j]) for i in range(n) for j in range(n) if i != j})
    for level in joins:
        for start in range(n):
            found, ends = {start}, [start]
            while ends:
                i = ends.pop()
                for j in set(range(n)) - found:
                    if max(apart[i][j], core[i], core[j]) <= level:
                        found.add(j)
                        ends.append(j)
            if len(found) > n // 2:
                return found
    return set(range(n))


def arc(rows: Matrix, f: int) -> Matrix:
    n, found = len(rows), rows.copy()
    order = sorted(range(n), key=lambda i: -distance(rows[i], 0 * rows[i]))
    k = math.floor(2 * (f / n) * (n - f) + 1e-9)
    limit = distance(rows[order[k]], 0 * rows[0])
    for i in order[:k]:
        length = distance(rows[i], 0 * rows[i])
        found[i] = rows[i] * (min(1.0, limit / length) if length else 1.0)
    return found
