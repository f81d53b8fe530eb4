"""What stays the same between the calls of one program in one thread, as one array of addresses and whole numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from qflsec.circuits.compiled.program import Program
from qflsec.circuits.compiled.simd import BYTES
from qflsec.circuits.compiled.sizes import phases_size, whole

__all__ = ["Told", "aligned", "tell"]

Numbers = npt.NDArray[Any]
_DOUBLE, _WHOLE = np.dtype(np.float64), np.dtype(np.int64)
_TORCH = {np.dtype(np.float32): torch.float32, _DOUBLE: torch.float64, _WHOLE: torch.int64}


class Told(NamedTuple):
    """The array, and what its addresses point to.

    Attributes:
        told: Addresses and whole numbers, in the order of :class:`.tables.Tables` and :class:`.tables.Work`.
        held: The arrays, which have to live as long.
    """

    told: npt.NDArray[np.int64]
    held: tuple[Numbers, ...]


def aligned(count: int, dtype: np.dtype[Any]) -> Numbers:
    """A flat array that begins at a cache line, as all of torch's do; its numbers are arbitrary."""
    return torch.empty(count, dtype=_TORCH[dtype]).numpy()


def tell(program: Program, dtype: np.dtype[Any], n_weights: int, n_features: int) -> Told:
    """The tables of a program in the dtype of its states, and buffers for one block of samples.

    Args:
        program: The program.
        dtype: float32 or float64.
        n_weights: Weights of the circuit.
        n_features: Its features.
    """
    width, size = BYTES // dtype.itemsize, 2**program.n_qubits
    groups, n_outputs, _ = program.coefficients.shape
    n_ops, n_angles = len(program.ops), len(program.masks)
    tables = tuple(
        np.ascontiguousarray(table)
        for table in (
            program.ops, program.masks, program.sources, program.index, program.factor, program.offset,
            (2 * program.factor).astype(dtype), program.words, program.coefficients.astype(dtype),
        )
    )  # fmt: skip
    counts = (n_ops, n_angles, groups, n_outputs, n_weights, n_features, program.spread, size, width)
    phases, state = phases_size(size, width, n_ops, n_angles), 2 * size * width
    angles = (n_angles * width,) * 2
    outputs, gradients = (n_outputs * width,) * 2, (n_weights * width, n_features * width, size * width)
    moved = (state, state, size * width)
    parts = (state, state, *angles, phases, phases, size * width, *outputs, *gradients, *moved, n_weights)
    kinds = (
        (dtype, parts),
        (_DOUBLE, (max(size * width, n_angles + 8), 2 * width)),
        (_WHOLE, (size, *(width,) * 4)),
    )
    buffers, places = [], []
    for kind, sizes in kinds:
        # each part begins at a cache line
        starts = np.cumsum([0, *map(whole, sizes)])
        buffers.append(aligned(int(starts[-1]), kind))
        places += [_address(buffers[-1]) + int(start) * kind.itemsize for start in starts[:-1]]
    told = np.array([*map(_address, tables), *counts, *places], np.int64)
    return Told(told, (*tables, *buffers))


def _address(array: Numbers) -> int:
    return int(array.ctypes.data)
