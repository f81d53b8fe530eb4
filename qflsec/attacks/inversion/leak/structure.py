"""A circuit as an encoder followed by rotations, in the Heisenberg picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qflsec.attacks.inversion.leak.pauli import Complexes, Floats, coefficients, word_index, word_matrix
from qflsec.circuits import Circuit, Gate
from qflsec.circuits.circuit import Angle
from qflsec.circuits.lowering import Constant, Monomial, Operation, Rotation, lower

__all__ = ["MAX_QUBITS", "Structure", "structure_of"]

MAX_QUBITS = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """The part of a circuit that is trained, on states that an encoder prepares.

    Attributes:
        encoder: The gates that read features, without the trained ones.
        n_qubits: The wires.
        n_weights: The weights.
        steps: The gates behind the encoder, lowered, each with the angle that it reads, if that is trained.
        observables: What is measured.

    Shapes:
        observables: ``(K, 2**n, 2**n)``
    """

    encoder: Circuit
    n_qubits: int
    n_weights: int
    steps: tuple[tuple[tuple[Operation, ...], Angle | None], ...]
    observables: Complexes

    def generators(self) -> tuple[Floats, Floats]:
        """The trained gates' generators and the observables, seen from the encoder through the fixed gates.

        Shapes:
            returns: ``(G, 4**n)`` and ``(K, 4**n)``
        """
        before, found = np.eye(2**self.n_qubits, dtype=complex), []
        for operations, angle in self.steps:
            if angle is None:
                before = self._unitary(operations, 0.0) @ before
            else:
                found.append(before.conj().T @ self._generator(operations) @ before)
        stacked = np.stack(found) if found else np.zeros((0, *before.shape), dtype=complex)
        return self._flat(stacked), self._flat(before.conj().T @ self.observables @ before)

    def rows(self, weights: Floats) -> tuple[Floats, Floats]:
        """The observables in the Heisenberg picture and their derivatives in the weights.

        Both are linear in the encoded state: with e its coefficients times 2**n, ``values @ e`` are the measured
        values and ``derivatives @ e`` their derivatives.

        Shapes:
            weights: ``(P,)``; returns: ``(K, 4**n)`` and ``(P, K, 4**n)``
        """
        size = 2**self.n_qubits
        before = np.eye(size, dtype=complex)
        moved = np.zeros((self.n_weights, size, size), dtype=complex)
        for operations, angle in self.steps:
            value = 0.0 if angle is None else angle.scale * weights[angle.index] + angle.offset
            before = self._unitary(operations, value) @ before
            if angle is not None:
                moved[angle.index] += angle.scale * (before.conj().T @ self._generator(operations) @ before)
        values = before.conj().T @ self.observables @ before
        products = moved[:, None] @ values[None]
        return self._flat(values), self._flat(1j * (products - products.conj().swapaxes(-1, -2)))

    def _flat(self, matrices: Complexes) -> Floats:
        found = coefficients(matrices, self.n_qubits)
        found[np.abs(found) < 1e-13] = 0.0
        return found

    def _generator(self, operations: Sequence[Operation]) -> Complexes:
        """H of exp(-i a H), a being the trained angle."""
        found = np.zeros((2**self.n_qubits, 2**self.n_qubits), dtype=complex)
        for one in operations:
            if isinstance(one, Rotation):
                found += _half(one) * self._word(one)
        return found

    def _word(self, rotation: Rotation) -> Complexes:
        return word_matrix(word_index(rotation.letters, self.n_qubits), self.n_qubits)

    def _unitary(self, operations: Sequence[Operation], angle: float) -> Complexes:
        """The product of the operations; rotations that are trained turn by their share of ``angle``."""
        product = np.eye(2**self.n_qubits, dtype=complex)
        for one in operations:
            if isinstance(one, Rotation):
                half = one.angle.offset / 2 if one.angle.kind == "constant" else _half(one) * angle
                turned = np.cos(half) * np.eye(len(product)) - 1j * np.sin(half) * self._word(one)
            else:
                turned = self._fixed(one)
            product = turned @ product
        return product

    def _fixed(self, operation: Constant | Monomial) -> Complexes:
        wires = (operation.wire,) if isinstance(operation, Constant) else operation.wires
        n, size = self.n_qubits, 2**self.n_qubits
        gate = np.asarray(operation.matrix, dtype=complex)
        shifts = [n - 1 - wire for wire in wires]
        states = np.arange(size)
        local = np.zeros_like(states)
        for place, shift in enumerate(shifts):
            local |= ((states >> shift) & 1) << (len(wires) - 1 - place)
        rest = states & ~sum(1 << shift for shift in shifts)
        full: Complexes = np.where(rest[:, None] == rest, gate[np.ix_(local, local)], 0)
        return full


def _half(rotation: Rotation) -> float:
    """What the rotation exp(-i s a P / 2) makes of the trained angle a: s / 2, where s is kept as its scale."""
    return rotation.angle.scale / 2


def structure_of(circuit: Circuit) -> Structure | str:
    """The structure of a circuit whose gradients are linear in the encoded state, or why they are not.

    Gates that commute because they share no wire may stand in any order.
    """
    if circuit.n_qubits > MAX_QUBITS:
        return f"the circuit has {circuit.n_qubits} qubits, and operators of more than {MAX_QUBITS} are not written out"
    encoder: list[Gate] = []
    behind: list[Gate] = []
    touched: set[int] = set()
    for gate in (one for whole in circuit.gates for one in _pieces(whole)):
        kinds = {angle.kind for angle in gate.angles}
        if "derived" in kinds and not _features_only(circuit, gate):
            return f"an angle of {gate.name} reads a weight together with something else"
        if "weight" not in kinds and not touched & set(gate.wires):
            encoder.append(gate)
        elif kinds & {"feature", "derived"}:
            return "features are read again behind trained gates, so that gradients are not linear in one encoded state"
        else:
            behind.append(gate)
            touched |= set(gate.wires)
    words = [
        sum(
            c * word_matrix(word_index(enumerate(word), circuit.n_qubits), circuit.n_qubits)
            for c, word in o.terms
        )
        for o in circuit.observables
    ]
    return Structure(
        encoder=replace(circuit, gates=tuple(encoder)),
        n_qubits=circuit.n_qubits,
        n_weights=circuit.n_weights,
        steps=tuple(_step(gate) for gate in behind),
        observables=np.stack(words),
    )


def _features_only(circuit: Circuit, gate: Gate) -> bool:
    forms = [circuit.derived[angle.index] for angle in gate.angles if angle.kind == "derived"]
    return all("weight" not in form.kinds for form in forms)


def _pieces(gate: Gate) -> Iterator[Gate]:
    """The gate as gates of one angle each."""
    if gate.name == "Rot":
        for letter, angle in zip("ZYZ", gate.angles, strict=True):
            yield Gate(f"R{letter}", gate.wires, (angle,))
    else:
        yield gate


def _step(gate: Gate) -> tuple[tuple[Operation, ...], Angle | None]:
    """The gate's operations and the trained angle; rotations keep their share of that as their scale."""
    angle = gate.angles[0] if gate.angles and gate.angles[0].kind == "weight" else None
    if angle is not None:
        # as if the angle were read without scale and offset, which the step keeps
        gate = replace(gate, angles=(Angle.weight(angle.index),))
    return tuple(lower(gate)), angle
