"""The period of expectation values in each weight."""

from __future__ import annotations

import math
from functools import lru_cache

from qflsec.circuits.circuit import Circuit
from qflsec.circuits.gates import GATES

__all__ = ["weight_periods"]


@lru_cache(maxsize=256)
def weight_periods(circuit: Circuit) -> tuple[float | None, ...]:
    """The period of every expectation value in each weight.

    An expectation value is a trigonometric polynomial in each gate's angle, whose frequencies are the
    differences of the eigenvalues of the gate's generator: 0 and 1 for Pauli and Ising rotations and for
    phase shifts, also controlled ones (a controlled phase shift is itself 2 pi periodic); 0, 1/2 and 1
    for controlled rotations. A weight that enters several gates gets the sums and differences of their
    frequencies. So with every scale 1 or -1 the frequencies are whole (period 2 pi), or whole multiples of
    1/2 when a controlled rotation is among them (period 4 pi). Other scales, and weights that no gate
    reads, are promised no period.

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
            if angle.kind != "weight":
                continue
            if abs(angle.scale) != 1.0:
                scaled.add(angle.index)
            period = 4 * math.pi if GATES[gate.name].controlled else 2 * math.pi
            periods[angle.index] = max(period, periods[angle.index] or 0.0)
    return tuple(None if index in scaled else period for index, period in enumerate(periods))
