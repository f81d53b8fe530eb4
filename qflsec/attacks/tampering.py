"""Tampering with circuits: what a corrupted client may have executed in place of the shared circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from math import pi
from typing import Literal

from qflsec.base import IncompatibleAttack
from qflsec.circuits import Angle, Circuit, Gate
from qflsec.models import Hybrid, Model, Vqc

__all__ = [
    "Place",
    "biased",
    "check_circuit",
    "diffusion",
    "encoder_of",
    "erasing_gates",
    "inserted",
    "with_circuit",
]

Place = Literal["start", "encoder", "end"]


def check_circuit(attack: str, model: Model) -> Circuit:
    """The circuit of a model that can be given another one.

    Args:
        attack: The attack's name, for the message.
        model: The model.

    Raises:
        IncompatibleAttack: There is none.
    """
    if not isinstance(model, Vqc | Hybrid):
        raise IncompatibleAttack(
            f"{attack!r} tampers with the circuit of a variational model, and cannot get at that of {model.name!r}",
            expected="a 'vqc' or a 'hybrid' model",
            fix="attack a pipeline with such a model",
        )
    return model.circuit


def with_circuit(model: Model, circuit: Circuit) -> Model:
    """The model with another circuit of the same weights, features and observables."""
    assert isinstance(model, Vqc | Hybrid)  # check_circuit() said so
    return replace(model, circuit=circuit, recipe=())


def _first_trained(circuit: Circuit) -> int:
    """The position of the first gate that reads a weight; the number of gates where none does."""
    for position, gate in enumerate(circuit.gates):
        for angle in gate.angles:
            if angle.kind == "weight":
                return position
            if angle.kind == "derived" and "weight" in circuit.derived[angle.index].kinds:
                return position
    return len(circuit.gates)


def encoder_of(circuit: Circuit) -> Circuit:
    """The gates before the first one that is trained, as a circuit without weights.

    A circuit that uploads features again has them encoded once in it.
    """
    gates = circuit.gates[: _first_trained(circuit)]
    used = [angle for gate in gates for angle in gate.angles if angle.kind == "derived"]
    return replace(
        circuit,
        gates=gates,
        n_weights=0,
        weight_shape=None,
        derived=circuit.derived if used else (),
    )


def erasing_gates(circuit: Circuit) -> tuple[tuple[Gate, ...], tuple[Gate, ...]] | None:
    """Gates before and after the encoder that make it leave |0...0>, whatever the record.

    Each wire must be encoded by one rotation about a Pauli axis, with a Hadamard before it or none. The gates before it
    bring |0> to an eigenstate of that rotation, on which it is a phase, and the gates after it bring that back.

    Returns:
        Both; None where the circuit's features are encoded in another way, or again later.
    """
    position = _first_trained(circuit)
    if any(
        angle.kind not in {"constant", "weight"} for gate in circuit.gates[position:] for angle in gate.angles
    ):
        return None
    mixed: set[int] = set()
    axes: dict[int, str] = {}
    for gate in circuit.gates[:position]:
        wire = gate.wires[0]
        if gate.name == "H" and wire not in mixed and wire not in axes:
            mixed.add(wire)
        elif gate.name in _EIGENSTATE and wire not in axes:
            axes[wire] = gate.name
        else:
            return None
    if mixed - axes.keys():
        return None
    before, after = [], []
    for wire, name in axes.items():
        there, back = ([replace(gate, wires=(wire,)) for gate in gates] for gates in _EIGENSTATE[name])
        # the encoder's own Hadamard comes between the eigenstate and its rotation: one more undoes it
        before += [*there, Gate("H", (wire,))] if wire in mixed else there
        after += back
    return tuple(before), tuple(after)


_QUARTER = (Gate("RX", (0,), (Angle.constant(-pi / 2),)), Gate("RX", (0,), (Angle.constant(pi / 2),)))
_EIGENSTATE: dict[str, tuple[tuple[Gate, ...], tuple[Gate, ...]]] = {
    "RX": ((Gate("H", (0,)),), (Gate("H", (0,)),)),
    "RY": (_QUARTER[:1], _QUARTER[1:]),
    "RZ": ((), ()),
}
"""For each rotation, gates from |0> to an eigenstate, and back."""


def inserted(circuit: Circuit, gates: Sequence[Gate], place: Place) -> Circuit:
    """The circuit with further gates.

    Args:
        circuit: The circuit.
        gates: The gates.
        place: At the start, after the encoder, or at the end, before the measurement.
    """
    position = {"start": 0, "encoder": _first_trained(circuit), "end": len(circuit.gates)}[place]
    return replace(circuit, gates=(*circuit.gates[:position], *gates, *circuit.gates[position:]))


def biased(circuit: Circuit, bias: float) -> Circuit:
    """The circuit with an angle added to every angle that is a weight.

    Units:
        bias: radians
    """

    def turned(gate: Gate) -> Gate:
        angles = [
            replace(angle, offset=angle.offset + bias) if angle.kind == "weight" else angle
            for angle in gate.angles
        ]
        return replace(gate, angles=tuple(angles))

    return replace(circuit, gates=tuple(turned(gate) for gate in circuit.gates))


def diffusion(n_qubits: int) -> tuple[Gate, ...]:
    """Grover's diffusion operator ``2|s><s| - 1``, s the uniform superposition, up to a global phase.

    The phase of the all-ones state is made of rotations by the parities of all subsets of wires, each computed by
    CNOTs and undone: ``pi n_1 ... n_k`` with ``n_j = (1 - Z_j) / 2`` is a sum over subsets S of
    ``(-1)**|S| pi / 2**k Z_S``.

    Source:
        Grover, STOC 1996, arXiv:quant-ph/9605043 (inversion about the mean).
    """
    wires = range(n_qubits)
    gates = [Gate(name, (wire,)) for name in ("H", "X") for wire in wires]
    for size in range(1, n_qubits + 1):
        # RZ(angle) is exp(-i angle Z / 2)
        angle = -2 * (-1) ** size * pi / 2**n_qubits
        for subset in combinations(wires, size):
            steps = [Gate("CNOT", pair) for pair in pairwise(subset)]
            gates += [*steps, Gate("RZ", (subset[-1],), (Angle.constant(angle),)), *reversed(steps)]
    return (*gates, *(Gate(name, (wire,)) for name in ("X", "H") for wire in wires))
