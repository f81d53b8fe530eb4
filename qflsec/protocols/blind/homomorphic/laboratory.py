"""Qubits under gates: the hidden states behind the handles that client and server pass to each other.

States stay in this module. Whoever holds a handle can turn it, link it with another and measure it, once.
"""

from __future__ import annotations

import math
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from qflsec.base import numpy_stream
from qflsec.protocols.blind.angles import Floats
from qflsec.protocols.blind.errors import QubitError
from qflsec.protocols.blind.qubits import Bits, Qubits

__all__ = ["Clifford", "Complex", "Laboratory", "clifford", "measure_z", "pauli", "phase", "reduced_state"]

Clifford = Literal["H", "S", "X", "Z", "CNOT", "CZ"]
Complex = npt.NDArray[np.complex128]
_ROOT_HALF = math.sqrt(0.5)


class Laboratory:
    """Nature in one batch of rounds: the joint state of all qubits, and chance.

    Args:
        rounds: The number of rounds; they are independent of each other.
        seed: The run's seed; outcomes are nature's, and no party's secret.
        purpose: What the stream is for.
    """

    def __init__(self, rounds: int, seed: int, *purpose: str | int) -> None:
        self.rounds = rounds
        self._rng = numpy_stream(seed, "homomorphic", "physics", *purpose)
        self._state: Complex = np.ones(rounds, dtype=np.complex128)
        self._axes: list[Qubits] = []

    def prepare(self, zero: Complex, one: Complex) -> Qubits:
        """A fresh qubit in each round.

        Shapes:
            zero, one: ``(rounds,)`` amplitudes.
        """
        self._state = np.stack([self._state * zero, self._state * one])
        return self._adopt()

    def entangled_pair(self) -> tuple[Qubits, Qubits]:
        """Two fresh qubits in (|00> + |11>) / sqrt 2 in each round."""
        half = np.full(self.rounds, _ROOT_HALF, dtype=np.complex128)
        none = np.zeros_like(half)
        first = np.stack([self._state * half, self._state * none])
        second = np.stack([self._state * none, self._state * half])
        self._state = np.stack([first, second])
        return self._adopt(), self._adopt()

    def _adopt(self) -> Qubits:
        handle = Qubits()
        self._axes.insert(0, handle)
        _home[handle] = self
        return handle

    def _axis(self, handle: Qubits) -> int:
        return next(axis for axis, other in enumerate(self._axes) if other is handle)

    def _moved(self, *handles: Qubits) -> Complex:
        """A view of the state with the handles' axes first."""
        found: Complex = np.moveaxis(
            self._state, [self._axis(handle) for handle in handles], range(len(handles))
        )
        return found

    def _measure(self, handle: Qubits) -> Bits:
        zero, one = self._moved(handle)
        weight = (np.abs(one) ** 2).reshape(-1, self.rounds).sum(axis=0)
        outcome: npt.NDArray[np.bool_] = self._rng.random(self.rounds) < weight
        norm = np.sqrt(np.clip(np.where(outcome, weight, 1 - weight), 1e-300, None))
        self._state = np.where(outcome, one, zero) / norm
        self._axes.pop(self._axis(handle))
        del _home[handle]
        return outcome.astype(np.uint8)


_home: WeakKeyDictionary[Qubits, Laboratory] = WeakKeyDictionary()


def _find(*handles: Qubits) -> Laboratory:
    try:
        places = {id(_home[handle]): _home[handle] for handle in handles}
    except KeyError:
        raise QubitError("this qubit has been measured", fix="measure a qubit only once") from None
    if len(places) > 1 or len({id(handle) for handle in handles}) < len(handles):
        raise QubitError("a gate needs different qubits of one batch")
    return next(iter(places.values()))


def clifford(name: Clifford, *handles: Qubits) -> None:
    """One Clifford gate in every round; the control of ``CNOT`` comes first."""
    moved = _find(*handles)._moved(*handles)  # noqa: SLF001 - one module's physics
    if name == "H":
        zero = moved[0].copy()
        moved[0] = (zero + moved[1]) * _ROOT_HALF
        moved[1] = (zero - moved[1]) * _ROOT_HALF
    elif name == "S":
        moved[1] *= 1j
    elif name == "X":
        moved[[0, 1]] = moved[[1, 0]]
    elif name == "Z":
        moved[1] *= -1
    elif name == "CNOT":
        moved[1][[0, 1]] = moved[1][[1, 0]]
    else:
        moved[1, 1] *= -1


def phase(handle: Qubits, radians: Floats) -> None:
    """diag(1, exp(i angle)), an angle for each round."""
    _find(handle)._moved(handle)[1] *= np.exp(1j * radians)  # noqa: SLF001


def pauli(handle: Qubits, x: Bits, z: Bits) -> None:
    """X^x Z^z, two bits for each round."""
    moved = _find(handle)._moved(handle)  # noqa: SLF001
    moved[1] *= 1.0 - 2.0 * z
    zero = moved[0].copy()
    moved[0] = np.where(x, moved[1], zero)
    moved[1] = np.where(x, zero, moved[1])


def measure_z(handle: Qubits) -> Bits:
    """Measure in the computational basis, an outcome for each round; the qubit is spent."""
    return _find(handle)._measure(handle)  # noqa: SLF001


def reduced_state(handles: list[Qubits]) -> Complex:
    """The density matrix of some qubits in each round: a simulator's shortcut for tests.

    No party can have this, and none calls it.

    Shapes:
        ``(rounds, 2^k, 2^k)``, the first handle most significant.
    """
    lab = _find(*handles)
    flat = lab._moved(*handles).reshape(2 ** len(handles), -1, lab.rounds)  # noqa: SLF001
    found: Complex = np.einsum("aer,ber->rab", flat, flat.conj())
    return found
