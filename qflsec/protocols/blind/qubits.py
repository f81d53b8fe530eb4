"""Qubits on their way and in the server's hands: the hidden states, and the handles that stand for them.

A handle stands for one node's qubit in each round of a batch. Only what nature allows can be done with it:
entangle it, and measure it, once. States stay in this module; a test holds the parties to that. A qubit that
has just arrived is kept apart until it has to join the state, so that a J step maps n qubits to n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from qflsec.base import numpy_stream
from qflsec.protocols.blind.angles import Floats
from qflsec.protocols.blind.errors import BlindError, QubitError
from qflsec.protocols.blind.pulses import Line, PulsedSource

__all__ = [
    "Bits",
    "QuantumChannel",
    "Qubits",
    "entangle",
    "expected_distribution",
    "measure",
    "project",
    "rotate",
    "spare_photons",
]

Bits = npt.NDArray[np.uint8]
Complex = npt.NDArray[np.complex128]
_ROOT_HALF = math.sqrt(0.5)


class Qubits:
    """A handle; it has no content, cannot be copied, and is spent by a measurement."""

    __slots__ = ("__weakref__",)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise QubitError("a qubit has no readable content", got=name, fix="measure it, once")

    def __copy__(self) -> NoReturn:
        raise QubitError("a qubit cannot be copied", fix="measure it, once")

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> NoReturn:
        self.__copy__()


class QuantumChannel:
    """The way from client to server, and the laboratory there: states, noise, chance.

    Args:
        seed: The run's seed; outcomes and noise are nature's, and no party's secret.
        purpose: What the stream is for.
        depolarising: The probability with which a sent qubit is replaced by a random one.
        pulses: The client's laser; a source of single photons when None.
        line: Whether the pulses are lost at random, or split by the server.

    Raises:
        BlindError: A probability out of range.
    """

    def __init__(
        self,
        seed: int,
        *purpose: str | int,
        depolarising: float = 0.0,
        pulses: PulsedSource | None = None,
        line: Line = "lossy",
    ) -> None:
        if not 0 <= depolarising <= 1:
            raise BlindError("bad depolarising probability", got=depolarising, expected="0 to 1")
        self._rng = numpy_stream(seed, "blind", "physics", *purpose)
        self._depolarising = depolarising
        self._photons = None if pulses is None else np.cumsum(pulses.photons(line))
        self._state: Complex = np.ones(1, dtype=np.complex128)
        self._axes: list[Qubits] = []

    def begin(self) -> None:
        """A batch of rounds begins; qubits of the last that nobody measured are lost."""
        self._state = np.ones(1, dtype=np.complex128)
        self._axes = []

    def send(self, radians: Floats, basis: npt.NDArray[np.int8]) -> Qubits:
        """Send one qubit in each round.

        Args:
            radians: The phase of |+_theta> in each round.
            basis: -1 for |+_theta>; else the bit of a basis state.
        """
        one = np.exp(1j * radians) * _ROOT_HALF
        zero = np.full_like(one, _ROOT_HALF)
        dummies = basis >= 0
        uniform = not dummies.any()
        if not uniform:
            zero = np.where(dummies, basis == 0, zero)
            one = np.where(dummies, basis == 1, one)
        if self._depolarising > 0:
            zero, one = self._noise(zero, one)
        qubits = Qubits()
        _vault[qubits] = _Fresh(self, zero, one, uniform)
        if self._photons is not None:
            self._emit(_vault[qubits], zero, one)
        return qubits

    def _emit(self, found: _Fresh, zero: Complex, one: Complex) -> None:
        """Count the photons of each round's pulse, and make handles for those beyond the first."""
        assert self._photons is not None
        counted = np.searchsorted(self._photons, self._rng.random(zero.shape), side="right")
        found.photons = np.clip(counted, 1, len(self._photons) - 1)
        for more in range(1, int(found.photons.max())):
            there = found.photons > more
            nothing = self._rng.integers(2, size=zero.shape)  # where there is no such photon: a random state
            spare = Qubits()
            _vault[spare] = _Fresh(
                self, np.where(there, zero, nothing), np.where(there, one, 1 - nothing), uniform=False
            )
            found.spares.append(spare)

    def _noise(self, zero: Complex, one: Complex) -> tuple[Complex, Complex]:
        hit = self._rng.random(zero.shape) < self._depolarising
        pauli = self._rng.integers(4, size=zero.shape)
        swap = hit & (pauli >= 2)
        sign = np.where(hit & (pauli % 2 == 1), -1.0, 1.0)
        return np.where(swap, one, zero), np.where(swap, zero, one) * sign

    def _join(self, qubits: Qubits) -> int:
        """Add a fresh qubit to the joint state, if it is not there; its axis."""
        found = _find(qubits)
        if found.zero is not None and found.one is not None:
            new = np.empty((2, *self._state.shape[:-1], len(found.zero)), dtype=np.complex128)
            np.multiply(self._state, found.zero, out=new[0])
            np.multiply(self._state, found.one, out=new[1])
            self._state, found.zero, found.one = new, None, None
            self._axes.insert(0, qubits)
            if found.partner is not None:
                partner, found.partner = found.partner, None
                self._flip_both(self._axis(partner), 0, None)
        return self._axis(qubits)

    def _axis(self, qubits: Qubits) -> int:
        for axis, other in enumerate(self._axes):
            if other is qubits:
                return axis
        raise QubitError("this qubit belongs to rounds that are over")

    def _flip_both(self, a: int, b: int, where: npt.NDArray[np.bool_] | None) -> None:
        both = [slice(None)] * self._state.ndim
        both[a] = both[b] = slice(1, 2)
        self._state[tuple(both)] *= -1.0 if where is None else np.where(where, -1.0, 1.0)


@dataclass
class _Fresh:
    """A qubit: its own amplitudes until it joins the state, and the one CZ that waits until then."""

    channel: QuantumChannel
    zero: Complex | None
    one: Complex | None
    uniform: bool
    partner: Qubits | None = None
    photons: npt.NDArray[np.int64] | None = None
    spares: list[Qubits] = field(default_factory=list)


_vault: WeakKeyDictionary[Qubits, _Fresh] = WeakKeyDictionary()


def _find(qubits: Qubits) -> _Fresh:
    try:
        return _vault[qubits]
    except KeyError:
        raise QubitError("this qubit has been measured", fix="measure a qubit only once") from None


def rotate(qubits: Qubits, radians: Floats) -> None:
    """RZ by an angle in each round, up to a phase: what a client does with a qubit that passes it on a line."""
    found = _find(qubits)
    turn = np.exp(1j * radians)
    for one in (found, *(_find(spare) for spare in found.spares)):
        if one.one is not None:
            one.one = one.one * turn
    if found.one is None:
        channel = found.channel
        place: list[slice | int] = [slice(None)] * channel._state.ndim  # noqa: SLF001 - one module's physics
        place[channel._axis(qubits)] = 1  # noqa: SLF001
        channel._state[tuple(place)] *= turn  # noqa: SLF001


def entangle(a: Qubits, b: Qubits, where: npt.NDArray[np.bool_] | None = None) -> None:
    """CZ between two qubits, in all rounds or in some.

    Args:
        a: A qubit.
        b: Another.
        where: The rounds in which it is done; all when None.
    """
    if a is b:
        raise QubitError("CZ needs two qubits")
    first, second = _find(a), _find(b)
    channel = first.channel
    if second.zero is None:
        a, b, first, second = b, a, second, first
    if second.zero is None or second.partner is not None or where is not None:
        _join_all(channel, a, b)
        channel._flip_both(channel._axis(a), channel._axis(b), where)  # noqa: SLF001 - one module's physics
        return
    if first.zero is not None:
        channel._join(a)  # noqa: SLF001
    second.partner = a


def _join_all(channel: QuantumChannel, *qubits: Qubits) -> None:
    for one in qubits:
        channel._join(one)  # noqa: SLF001


def spare_photons(qubits: Qubits) -> tuple[npt.NDArray[np.int64] | None, list[Qubits]]:
    """The number of photons in each round's pulse, and handles for those beyond the first, which leave it.

    Counting photons tells nothing of their polarisation. The k-th spare is a photon in the rounds with more
    than k + 1, and worthless in the others. None of a source of single photons.
    """
    found = _find(qubits)
    spares, found.spares = found.spares, []
    return found.photons, spares


def project(groups: Sequence[Sequence[Qubits]]) -> Bits:
    """Ask in each round whether all qubits of one of the groups are |0>, and nothing else; 1 is yes.

    A measurement with two outcomes: the qubits stay, in the state's projection on the answer.
    """
    qubits = [one for group in groups for one in group]
    channel = _find(qubits[0]).channel
    _join_all(channel, *qubits)
    state = channel._state  # noqa: SLF001
    inside = np.zeros((*state.shape[:-1], 1))
    for group in groups:
        place: list[slice | int] = [slice(None)] * state.ndim
        for one in group:
            place[channel._axis(one)] = 0  # noqa: SLF001
        inside[tuple(place)] = 1.0
    weight = (np.abs(state) ** 2 * inside).reshape(-1, state.shape[-1]).sum(axis=0)
    yes = channel._rng.random(len(weight)) < weight  # noqa: SLF001
    state *= np.where(yes, inside, 1 - inside)
    state /= np.sqrt(np.clip(np.where(yes, weight, 1 - weight), 1e-300, None))
    answer: Bits = yes.astype(np.uint8)
    return answer


def measure(qubits: Qubits, radians: Floats) -> Bits:
    """Measure in the basis (|0> +- exp(i angle) |1>) / sqrt 2, an angle for each round; 0 is plus."""
    found = _find(qubits)
    channel = found.channel
    channel._join(qubits)  # noqa: SLF001
    carried = [other for other, fresh in _vault.items() if fresh.partner is qubits]
    _join_all(channel, *carried[1:])
    del _vault[qubits]
    return _project(channel, qubits, radians, carried[0] if carried else None)


def _project(channel: QuantumChannel, qubits: Qubits, radians: Floats, successor: Qubits | None) -> Bits:
    axis = channel._axis(qubits)  # noqa: SLF001
    state = np.moveaxis(channel._state, axis, 0)  # noqa: SLF001
    channel._axes.pop(axis)  # noqa: SLF001
    zero, one = state[0], state[1]
    after = None if successor is None else _vault[successor]
    coins = channel._rng.random(len(radians))  # noqa: SLF001
    if after is not None and after.uniform:
        outcome = coins >= 0.5
        norm: Floats | float = 1.0
    else:
        cross = (zero.conj() * (one * np.exp(-1j * radians))).real
        bias = cross.reshape(-1, len(radians)).sum(axis=0)
        if after is not None and after.zero is not None and after.one is not None:
            bias = bias * (np.abs(after.zero) ** 2 - np.abs(after.one) ** 2)
        outcome = coins >= 0.5 + bias
        norm = 1 / np.sqrt(np.clip(np.where(outcome, 1 - 2 * bias, 1 + 2 * bias), 1e-300, None))
    turned = one * np.exp(-1j * (radians + math.pi * outcome))
    if after is None or after.zero is None or after.one is None:
        channel._state = (zero + turned) * norm  # noqa: SLF001
        return outcome.astype(np.uint8)
    new = np.empty((2, *turned.shape), dtype=np.complex128)
    np.add(zero, turned, out=new[0])
    np.subtract(zero, turned, out=new[1])
    new[0] *= after.zero * norm
    new[1] *= after.one * norm
    channel._state = new  # noqa: SLF001
    assert successor is not None
    channel._axes.insert(0, successor)  # noqa: SLF001
    after.zero = after.one = after.partner = None
    return outcome.astype(np.uint8)


def expected_distribution(qubits: list[Qubits], radians: list[Floats]) -> Floats:
    """The distribution of the outcomes of measuring all remaining qubits; a simulator's shortcut.

    No party can have this: it reads amplitudes. Only the exact executor, which is no protocol, calls it.

    Shapes:
        ``(2, ..., 2, rounds)``, an axis for each qubit in the order given.
    """
    channel = _find(qubits[0]).channel
    _join_all(channel, *qubits)
    state: Complex = channel._state  # noqa: SLF001
    for one, angle in zip(qubits, radians, strict=True):
        axis = channel._axis(one)  # noqa: SLF001
        moved: Complex = np.moveaxis(state, axis, 0)
        turned = moved[1] * np.exp(-1j * angle)
        both = np.empty((2, *turned.shape), dtype=np.complex128)
        np.add(moved[0], turned, out=both[0])
        np.subtract(moved[0], turned, out=both[1])
        both *= _ROOT_HALF
        state = np.moveaxis(both, 0, axis)
    axes = [channel._axis(one) for one in qubits]  # noqa: SLF001
    for one in qubits:
        del _vault[one]
    channel.begin()
    return np.abs(state.transpose(*axes, state.ndim - 1)) ** 2
