"""A tape's structure as tensors of one dtype on one device."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from qflsec.circuits.tapes.measured import Values
from qflsec.circuits.tapes.steps import load_steps
from qflsec.circuits.tapes.structure import Structure

__all__ = ["TapeProgram", "load_tape"]


class TapeProgram:
    """Runs all tapes of one structure."""

    def __init__(self, structure: Structure, like: Tensor) -> None:
        n = structure.n_wires
        self._start = pad(like.new_ones(1, 1, 1), (0, 0, 0, 2 ** (n + 1) - 1))
        self._steps = load_steps(structure.steps, n, like)
        self._values = Values(structure.measured, n, like)

    def __call__(self, numbers: Sequence[Tensor], rows: int) -> list[Tensor]:
        """The values of each measurement.

        Shapes:
            numbers: as the structure says, with or without an axis of rows in front; returns: ``(rows, ...)``.
        """
        psi, used = self._start.expand(rows, -1, -1), 0
        for step in self._steps:
            psi = step(psi, numbers[used : used + step.count])
            used += step.count
        return self._values(psi, numbers[used:])


@lru_cache(maxsize=256)
def load_tape(structure: Structure, dtype: torch.dtype, device: torch.device) -> TapeProgram:
    """The program of a structure for one real dtype and device."""
    # made in a thread of its own, as the kernel's: transforms of torch.func and inference mode belong to a thread
    with ThreadPoolExecutor(max_workers=1) as fresh:
        return fresh.submit(
            lambda: TapeProgram(structure, torch.empty(0, dtype=dtype, device=device))
        ).result()
