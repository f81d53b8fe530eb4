"""The period of expectation values in each weight."""

from __future__ import annotations

import math
from functools import lru_cache

from qflsec.circuits.circuit import Angle, Circuit
from qflsec.circuits.forms import affine_scales
from qflsec.circuits.gates import GATES

__all__ = ["weight_periods"]


@lru_cache(maxsize=256)
def weight_periods(circuit: Circuit) -> tuple[float | None, ...]:
    """The period of every expectation value in each weight.

    An expectation value is a trigonometric polynomial in each gate's angle, whose frequencies are the
    differences of the eigenvalues of the gate's generator: 0 and 1 for Pauli and Ising rotations and for
    phase shifts, also controlled ones (a controlled phase shift is itself 2 pi periodic); 0, 1/2 and 1
    for controlled rotations. A weight that enters several gates gets the sums and differences of their
    frequencies; so does one of several weights that an angle adds up. So with every scale 1 or -1 the frequencies are whole (period 2 pi), or whole multiples of
    1/2 when a controlled rotation is among them (period 4 pi). Other scales, weights in products and
    functions, and weights that no gate reads, are promised no period.

    Source:
        Wierichs, Izaac, Wang and Lin, General parameter-shift rules for quantum gradients, Quantum 6, 677,
        2022 (expectation values as finite Fourier series).

    Units:
        Radians.
    """
    periods: list[float | None] = [None] * circuit.n_weights
    scaled: set[int] = set()
    for gate in circuit.gates:
        for angle in gate.angles:
            for index, scale in _scales(circuit, angle).items():
                if scale is None or abs(scale) != 1.0:
                    scaled.add(index)
                period = 4 * math.pi if GATES[gate.name].controlled else 2 * math.pi
                periods[index] = max(period, periods[index] or 0.0)
    return tuple(None if index in scaled else period for index, period in enumerate(periods))


def _scales(circuit: Circuit, angle: Angle) -> dict[int, float | None]:
    """For each weight that the angle depends on: its factor, or None where the angle is not affine in it."""
    if angle.kind == "weight":
        return {angle.index: angle.scale}
    if angle.kind != "derived":
        return {}
    scales = affine_scales(circuit.derived[angle.index], "weight")
    return {index: None if scale is None else scale * angle.scale for index, scale in scales.items()}
