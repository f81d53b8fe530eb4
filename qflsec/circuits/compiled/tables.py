"""What the compiled passes read and write: a program's tables, its inputs, the buffers of a block."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from qflsec.circuits.compiled.passes import INNER
from qflsec.circuits.compiled.simd import pointer

__all__ = ["Inputs", "Tables", "Work", "fill_lanes", "tables_of"]


class Tables(NamedTuple):
    """The arrays of a :class:`~qflsec.circuits.compiled.program.Program`, each flat, and the sizes of a block.

    Arrays are pointers: numba counts references to arrays, at every call, and a pass is shorter than the counting.

    Attributes:
        one: The number 1 of the state's dtype.
        gain: Twice ``factor``, in the state's dtype.
    """

    ops: Any
    masks: Any
    sources: Any
    index: Any
    factor: Any
    offset: Any
    gain: Any
    words: Any
    coefficients: Any
    one: Any
    n_ops: int
    n_angles: int
    n_groups: int
    n_outputs: int
    n_weights: int
    n_features: int
    spread: int
    size: int
    width: int


class Inputs(NamedTuple):
    """What a block reads: distinct rows of weights, rows of features, and which of them each lane has.

    Attributes:
        weights: ``(distinct rows, P)``
        features: ``(samples, F)``
        start: ``(samples, 2**n)``, real amplitudes of the first state.
        started: Whether there is such a state; |0...0> otherwise.
        at_weights: ``(lanes,)``
        at_features: ``(lanes,)``
    """

    weights: Any
    features: Any
    start: Any
    started: bool
    at_weights: Any
    at_features: Any


class Work(NamedTuple):
    """The buffers of a block, each flat and aligned.

    Attributes:
        psi, lam: States: a row of real parts and one of imaginary parts for each amplitude.
        c, s: Of each angle, for all lanes.
        pc, ps: Of diagonals: one number for each amplitude where weights are shared; of the diagonal that is being
            applied, for all lanes, where it differs between them.
        angles: float64, for whatever angles are being turned into cosines and sines.
        overlaps: One vector for each amplitude.
        values, seeds: One vector for each observable.
        by_weight, by_feature, by_start: The gradient, one vector for each entry.
        support: Where a state that is being spread is not zero.
    """

    psi: Any
    lam: Any
    c: Any
    s: Any
    pc: Any
    ps: Any
    angles: Any
    overlaps: Any
    values: Any
    seeds: Any
    by_weight: Any
    by_feature: Any
    by_start: Any
    support: Any


@njit(**INNER)
def tables_of(arrays, n_weights, n_features, width):
    """A program's arrays, in the order of :class:`Tables`, as its tables; the last of them is ``spread``."""
    ops, masks, sources, index, factor, offset, gain, words, coefficients, spread = arrays
    groups, n_outputs, size = coefficients.shape
    return Tables(
        pointer(ops), pointer(masks), pointer(sources), pointer(index), pointer(factor), pointer(offset),
        pointer(gain), pointer(words), pointer(coefficients), coefficients.dtype.type(1), len(ops), len(masks), groups,
        n_outputs, n_weights, n_features, spread, size, width,
    )  # fmt: skip


@njit(**INNER)
def fill_lanes(inputs, distinct, own_features, per_row, place, last, width):
    """Which row of weights and which features each lane of a block has, from the sample ``place`` on.

    Lanes beyond the sample ``last`` repeat it, so that every block is full.
    """
    for lane in range(width):
        sample = min(place + lane, last)
        inputs.at_weights[lane] = distinct[sample // per_row]
        inputs.at_features[lane] = sample if own_features else sample % per_row
