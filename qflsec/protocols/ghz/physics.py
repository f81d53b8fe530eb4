"""Entangled qubits on their way and in the clients' hands: the hidden states, and the handles that stand for them.

A handle stands for one client's qubit in each copy of a batch. Only what nature allows can be done with it: turn
it, and measure it, once. States stay in this module; a test holds the parties to that.

A GHZ state under turns about Z, depolarising of single qubits and measurements of single qubits never leaves the
form ``a |0...0> + b |1...1>`` on the qubits that are left, so that two amplitudes for each copy are the exact state
for any number of clients. A depolarised qubit is replaced by a random one, and its place in the state is lost to
the environment, which is as good as a measurement of it along Z that nobody reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NoReturn
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from qflsec.base import QflsecError, numpy_stream

__all__ = ["Bits", "Laboratory", "QuantumError", "Qubits", "measure", "rotate", "split"]

Bits = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_ROOT_HALF = math.sqrt(0.5)


class QuantumError(QflsecError):
    """A qubit was read, copied or used twice, or a state was asked for that cannot be made."""


class Qubits:
    """A handle; it has no content, cannot be copied, and is spent by a measurement."""

    __slots__ = ("__weakref__",)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise QuantumError("a qubit has no readable content", got=name, fix="measure it, once")

    def __copy__(self) -> NoReturn:
        raise QuantumError("a qubit cannot be copied", fix="measure it, once")

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> NoReturn:
        self.__copy__()


@dataclass(kw_only=True)
class _Batch:
    """The state of the qubits that are left of each copy, and nature's chance."""

    zero: npt.NDArray[np.complex128]
    one: npt.NDArray[np.complex128]
    left: npt.NDArray[np.int64]
    alone: Mask
    rng: np.random.Generator


@dataclass(kw_only=True)
class _Held:
    """One client's qubit in some copies: part of the joint state, alone on the equator, or random."""

    batch: _Batch
    copies: npt.NDArray[np.int64]
    random: Mask
    phase: Floats

    @property
    def alone(self) -> Mask:
        """Where it belongs to a product state."""
        alone: Mask = self.batch.alone[self.copies] & ~self.random
        return alone

    @property
    def entangled(self) -> Mask:
        """Where it belongs to the joint state."""
        return ~(self.batch.alone[self.copies] | self.random)


_vault: WeakKeyDictionary[Qubits, _Held] = WeakKeyDictionary()


class Laboratory:
    """The source's bench and the lines from it to the clients: states, noise, chance.

    Args:
        seed: The run's seed; outcomes and noise are nature's, and no party's secret.
        purpose: What the stream is for.
        depolarising: The probability with which a sent qubit is replaced by a random one.

    Raises:
        QuantumError: A probability out of range.
    """

    def __init__(self, seed: int, *purpose: str | int, depolarising: float = 0.0) -> None:
        if not 0 <= depolarising <= 1:
            raise QuantumError("bad depolarising probability", got=depolarising, expected="0 to 1")
        self._rng = numpy_stream(seed, "ghz", "physics", *purpose)
        self._depolarising = depolarising

    def send(
        self, n: int, copies: int, *, product: Mask | None = None, radians: Floats | None = None
    ) -> list[Qubits]:
        """Prepare copies of a state of ``n`` qubits and send one qubit of each to every client.

        Args:
            n: The number of qubits.
            copies: The number of copies.
            product: The copies that are ``|+_phi> x ... x |+_phi>`` in place of a GHZ state; none by default.
            radians: The phase of each qubit in those, 0 by default.

        Shapes:
            product: ``(copies,)``; radians: ``(n,)``

        Raises:
            QuantumError: There are fewer than two qubits, or no copy.
        """
        if n < 2 or copies < 1:
            raise QuantumError(
                "no such state", got=f"{n} qubits, {copies} copies", expected="2 and 1 or more"
            )
        batch = _Batch(
            zero=np.full(copies, _ROOT_HALF, dtype=np.complex128),
            one=np.full(copies, _ROOT_HALF, dtype=np.complex128),
            left=np.full(copies, n, dtype=np.int64),
            alone=np.zeros(copies, dtype=bool) if product is None else product.astype(bool),
            rng=self._rng,
        )
        phases = np.zeros(n) if radians is None else radians
        sent = []
        for index in range(n):
            random = self._rng.random(copies) < self._depolarising
            held = _Held(
                batch=batch,
                copies=np.arange(copies),
                random=random,
                phase=np.full(copies, float(phases[index])),
            )
            _measure_along_z(batch, np.flatnonzero(random & ~batch.alone))
            qubits = Qubits()
            _vault[qubits] = held
            sent.append(qubits)
        return sent


def split(qubits: Qubits, chosen: Mask) -> tuple[Qubits, Qubits]:
    """Two handles in place of one: the chosen copies and the others.

    Shapes:
        chosen: ``(copies,)``
    """
    held = _find(qubits)
    parts = []
    for where in (chosen, ~chosen):
        part = Qubits()
        _vault[part] = _Held(
            batch=held.batch, copies=held.copies[where], random=held.random[where], phase=held.phase[where]
        )
        parts.append(part)
    del _vault[qubits]
    return parts[0], parts[1]


def rotate(qubits: Qubits, radians: Floats) -> None:
    """RZ up to a global phase: the amplitude of |1> turns by an angle, one for each copy.

    Shapes:
        radians: ``(copies,)``

    Units:
        radians
    """
    held = _find(qubits)
    held.batch.one[held.copies] *= np.where(held.entangled, np.exp(1j * radians), 1.0)
    held.phase += radians


def measure(qubits: Qubits, radians: Floats, along_z: Mask | None = None) -> Bits:
    """Measure in the basis (|0> +- exp(i angle) |1>) / sqrt 2, or |0>, |1>; a basis for each copy.

    Args:
        qubits: The qubits; the handle is spent.
        radians: The angle: 0 is X, pi/2 is Y.
        along_z: The copies that are measured in the basis |0>, |1> instead.

    Shapes:
        radians, along_z: ``(copies,)``; returns: ``(copies,)``, 0 for plus or |0>
    """
    held = _find(qubits)
    del _vault[qubits]
    batch, copies = held.batch, held.copies
    z = np.zeros(len(copies), dtype=bool) if along_z is None else along_z
    turn = np.exp(-1j * radians)
    chance = np.where(held.alone & ~z, 0.5 - 0.5 * np.cos(held.phase - radians), 0.5)
    across = held.entangled & ~z
    bias = (batch.zero[copies].conj() * batch.one[copies] * turn).real
    chance = np.where(across & (batch.left[copies] == 1), 0.5 - bias, chance)
    outcome = batch.rng.random(len(copies)) < chance
    sideways = np.where(outcome, -turn, turn)
    batch.one[copies] *= np.where(across, sideways, 1.0)
    batch.left[copies] -= across
    collapsed = held.entangled & z
    outcome[collapsed] = _measure_along_z(batch, copies[collapsed])
    return outcome.astype(np.uint8)


def _measure_along_z(batch: _Batch, copies: npt.NDArray[np.int64]) -> Mask:
    """Take one qubit out of the joint state of these copies; whether it was |1>."""
    zero, one = batch.zero[copies], batch.one[copies]
    ones: Mask = batch.rng.random(len(copies)) < np.abs(one) ** 2
    batch.zero[copies] = np.where(ones, 0, zero / np.where(zero == 0, 1, np.abs(zero)))
    batch.one[copies] = np.where(ones, one / np.where(one == 0, 1, np.abs(one)), 0)
    batch.left[copies] -= 1
    return ones


def _find(qubits: Qubits) -> _Held:
    try:
        return _vault[qubits]
    except KeyError:
        raise QuantumError("this qubit has been measured", fix="measure a qubit only once") from None
