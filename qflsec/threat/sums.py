"""Sums that an observer can take apart: which clients' updates follow from the sums that it holds.

Every sum is a linear equation in the updates of its clients. Elimination finds every client whose update is
determined, exactly; other results of it are smaller sums, though not always the smallest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

__all__ = ["RunAnonymity", "eliminate", "run_anonymity"]

Floats = npt.NDArray[np.float64]

_TOLERANCE = 1e-9
_SUBSETS = 20_000
"""How many subsets of clients are tried for the smallest effective k."""


def eliminate(rows: Floats) -> tuple[Floats, Floats]:
    """The reduced row-echelon form, and what makes it from the rows.

    A unit vector that lies in the row space is a row of the reduced form: its entry is 0 at every pivot but its
    own, and a vector of the row space is determined by its entries at the pivots. So no determined client is
    missed.

    Args:
        rows: The coefficients of each client in each sum.

    Returns:
        The reduced rows that are not zero, and the combinations of the given rows that they are.

    Shapes:
        rows: ``(m, n)``; returns: ``(r, n)`` and ``(r, m)``
    """
    m, n = rows.shape
    work = np.concatenate(
        [rows / np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-300), np.eye(m)], axis=1
    )
    scale = 1.0 / np.maximum(np.abs(rows).max(axis=1), 1e-300)
    rank = 0
    for column in range(n):
        if rank == m:
            break
        pivot = rank + int(np.abs(work[rank:, column]).argmax())
        if abs(work[pivot, column]) < _TOLERANCE:
            continue
        work[[rank, pivot]] = work[[pivot, rank]]
        work[rank] /= work[rank, column]
        others = np.arange(m) != rank
        work[others] -= np.outer(work[others, column], work[rank])
        rank += 1
    reduced = np.where(np.abs(work[:rank, :n]) < _TOLERANCE, 0.0, work[:rank, :n])
    return reduced, work[:rank, n:] * scale[None, :]


@dataclass(frozen=True, kw_only=True)
class RunAnonymity:
    """How anonymous clients are among the sums of a whole run, if their updates were alike in every round.

    Attributes:
        clients: The honest clients in any of the sums.
        sums: The number of sums.
        rank: The rank of the participation matrix.
        singled_out: The clients whose update follows from the sums by subtraction.
        smallest_k: The fewest clients of a sum that follows from them; None where ``checked`` clients were not enough.
        checked: Up to how many clients every subset was tried.
    """

    clients: tuple[int, ...]
    sums: int
    rank: int
    singled_out: tuple[int, ...]
    smallest_k: int | None
    checked: int


def run_anonymity(sums: Sequence[frozenset[int]]) -> RunAnonymity:
    """The anonymity over a run.

    Weights do not matter: a client's column scaled by its number of examples has the same support.

    Args:
        sums: The honest clients in each sum whose shares the observer does not know.

    Source:
        The attack is Lam, Wei, Brooks, Reddi, Mitzenmacher: Gradient disaggregation, ICML 2021, with a known
        participant matrix.
    """
    distinct = [clients for clients in dict.fromkeys(sums) if clients]
    everybody = tuple(sorted({client for clients in distinct for client in clients}))
    if not distinct:
        return RunAnonymity(clients=(), sums=0, rank=0, singled_out=(), smallest_k=None, checked=0)
    rows = np.array([[float(client in clients) for client in everybody] for clients in distinct])
    reduced, _ = eliminate(rows)
    support = [np.flatnonzero(row) for row in reduced]
    singled = tuple(sorted(everybody[int(where[0])] for where in support if len(where) == 1))
    smallest, checked = _smallest(reduced, min(len(where) for where in support))
    return RunAnonymity(
        clients=everybody,
        sums=len(sums),
        rank=len(reduced),
        singled_out=singled,
        smallest_k=smallest,
        checked=checked,
    )


def _smallest(basis: Floats, bound: int) -> tuple[int | None, int]:
    """The smallest support in the row space, and up to which size every support was tried.

    A vector of the row space vanishes outside a set of columns if and only if the columns outside have a rank
    below that of the basis: then a combination of the rows is zero on all of them.
    """
    n = basis.shape[1]
    tried = 0
    for size in range(1, bound):
        if tried + comb(n, size) > _SUBSETS:
            return None, size - 1
        tried += comb(n, size)
        if any(_vanishes(basis, outside) for outside in _complements(n, size)):
            return size, size
    return bound, bound


def _vanishes(basis: Floats, outside: Sequence[int]) -> bool:
    return len(outside) == 0 or int(np.linalg.matrix_rank(basis[:, list(outside)], tol=1e-8)) < len(basis)


def _complements(n: int, size: int) -> Iterator[tuple[int, ...]]:
    for chosen in itertools.combinations(range(n), size):
        inside = set(chosen)
        yield tuple(column for column in range(n) if column not in inside)
