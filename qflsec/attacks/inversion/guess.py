"""What records are like, for somebody who has seen none of those in question."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from qflsec.base import stream

__all__ = ["typical_records"]

_SETS = 32
_STEPS = 8


def typical_records(known: Tensor, count: int) -> Tensor:
    """The set of records that is nearest, on average, to sets drawn from known ones, each record to the one it is assigned to.

    Reconstructions come in no order and are assigned to records as well as they can be. So the best guess of several
    records is not their mean several times: of one feature it is the expected smallest, second smallest, and so on. The
    search assigns drawn sets to the guess and moves the guess to the mean of what was assigned, which brings it nearer in
    every step. Of one record it is the mean. Everybody who knows the same records guesses the same.

    Args:
        known: Records of the same kind.
        count: How many records are in a set.

    Shapes:
        known: ``(m, F)``; returns: ``(count, F)``, float64
    """
    if count == 1:
        return known.double().mean(dim=0, keepdim=True)
    return _typical(known.double().numpy().tobytes(), len(known), count).clone()


@lru_cache(maxsize=64)  # runs of one data set ask for the same, whatever their stacks
def _typical(numbers: bytes, n_known: int, count: int) -> Tensor:
    """The search, for the bytes of the known records in double precision."""
    from scipy.optimize import linear_sum_assignment

    known = torch.frombuffer(bytearray(numbers), dtype=torch.float64).reshape(n_known, -1)
    generator = stream(0, "typical-records")
    rows = torch.rand(_SETS, max(count, len(known)), generator=generator).argsort(dim=1)[:, :count]
    sets = known[rows % len(known)]
    guess = sets[0]
    for _ in range(_STEPS):
        total = torch.zeros_like(guess)
        for drawn in sets:
            _, columns = linear_sum_assignment(torch.cdist(guess, drawn).square().numpy())
            total += drawn[torch.as_tensor(columns)]
        guess = total / len(sets)
    return guess
