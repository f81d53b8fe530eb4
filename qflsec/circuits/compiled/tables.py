"""What the compiled passes read and write: a program's tables, its inputs, the buffers of a block.

All of it but the inputs stays the same between calls. It is told as one array of addresses and whole numbers, in the
order of :class:`Tables` and then of :class:`Work`: a call looks at every array that it is given, and what is compiled
around it unpacks each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from qflsec.circuits.compiled.passes import INNER
from qflsec.circuits.compiled.pointers import double_at, like_at, once, whole_at

__all__ = ["Inputs", "Tables", "Work", "fill_lanes", "tables_of", "work_of"]


class Tables(NamedTuple):
    """The arrays of a :class:`~qflsec.circuits.compiled.program.Program`, each flat, and the sizes of a block.

    Arrays are pointers: numba counts references to arrays, at every call, and a pass is shorter than the counting.

    Attributes:
        gain: Twice ``factor``, in the state's dtype.
        one: The number 1 of the state's dtype, the only one that is not told.
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
    n_ops: int
    n_angles: int
    n_groups: int
    n_outputs: int
    n_weights: int
    n_features: int
    spread: int
    size: int
    width: int
    one: Any


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
        overlaps: One vector for each amplitude.
        values, seeds: One vector for each observable.
        by_weight, by_feature, by_start: The gradient, one vector for each entry.
        moved_psi, moved_lam: Tangents of the states.
        moved_angles: How angles move: one vector for each amplitude.
        gradient: Of a step of training: one number for each weight.
        angles: float64, for whatever angles are being turned into cosines and sines.
        norms: float64, two for each lane.
        support: Where a state that is being spread is not zero.
        at_weights, at_features, at_direction, at_samples: For each lane, which row it reads.
    """

    psi: Any
    lam: Any
    c: Any
    s: Any
    pc: Any
    ps: Any
    overlaps: Any
    values: Any
    seeds: Any
    by_weight: Any
    by_feature: Any
    by_start: Any
    moved_psi: Any
    moved_lam: Any
    moved_angles: Any
    gradient: Any
    angles: Any
    norms: Any
    support: Any
    at_weights: Any
    at_features: Any
    at_direction: Any
    at_samples: Any


@njit(**INNER)
def tables_of(told, like):
    """The tables that are told; ``like`` is an array of the state's dtype."""
    return Tables(
        whole_at(told[0]), whole_at(told[1]), whole_at(told[2]), whole_at(told[3]), double_at(told[4]),
        double_at(told[5]), like_at(like, told[6]), whole_at(told[7]), like_at(like, told[8]), told[9], told[10],
        told[11], told[12], told[13], told[14], told[15], told[16], told[17], like.dtype.type(1),
    )  # fmt: skip


@njit(**INNER)
def work_of(told, like):
    """The buffers that are told behind the tables."""
    return Work(
        like_at(like, told[18]), like_at(like, told[19]), like_at(like, told[20]), like_at(like, told[21]),
        like_at(like, told[22]), like_at(like, told[23]), like_at(like, told[24]), like_at(like, told[25]),
        like_at(like, told[26]), like_at(like, told[27]), like_at(like, told[28]), like_at(like, told[29]),
        like_at(like, told[30]), like_at(like, told[31]), like_at(like, told[32]), like_at(like, told[33]),
        double_at(told[34]), double_at(told[35]), whole_at(told[36]), whole_at(told[37]), whole_at(told[38]),
        whole_at(told[39]), whole_at(told[40]),
    )  # fmt: skip


@njit(**INNER)
def fill_lanes(inputs, distinct, own_features, per_row, place, last, width):
    """Which row of weights and which features each lane of a block has, from the sample ``place`` on.

    Lanes beyond the sample ``last`` repeat it, so that every block is full.
    """
    once()
    for lane in range(width):
        sample = min(last, place + lane)
        inputs.at_weights[lane] = distinct[sample // per_row]
        inputs.at_features[lane] = sample if own_features else sample % per_row
