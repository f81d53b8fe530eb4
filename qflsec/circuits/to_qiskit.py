"""A circuit as a Qiskit circuit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qflsec.circuits.circuit import Angle, Circuit, Gate
from qflsec.circuits.derive import derive, resolve
from qflsec.circuits.errors import CircuitError

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.quantum_info import SparsePauliOp

__all__ = ["append_gate", "qiskit_observables", "to_qiskit"]

METHODS = {
    "RX": "rx",
    "RY": "ry",
    "RZ": "rz",
    "PhaseShift": "p",
    "CRX": "crx",
    "CRY": "cry",
    "CRZ": "crz",
    "ControlledPhaseShift": "cp",
    "IsingXX": "rxx",
    "IsingYY": "ryy",
    "IsingZZ": "rzz",
    "H": "h",
    "X": "x",
    "Y": "y",
    "Z": "z",
    "S": "s",
    "T": "t",
    "SX": "sx",
    "CNOT": "cx",
    "CZ": "cz",
    "CY": "cy",
    "SWAP": "swap",
}


def to_qiskit(circuit: Circuit, weights: Tensor, features: Tensor) -> QuantumCircuit:
    """The circuit with its angles bound, without measurements.

    Wire q is qubit q. Qiskit counts qubit 0 as the least significant bit of a basis state's index, we count
    wire 0 as the most significant: ``Statevector(qc).reverse_qargs()`` is in our order, and a Pauli word is
    written backwards (:func:`qiskit_observables`).

    Args:
        circuit: The circuit.
        weights: One weight vector.
        features: One feature vector.

    Shapes:
        weights ``(P,)``, features ``(F,)``.

    Raises:
        CircuitError: A wrong shape.
    """
    from qiskit import QuantumCircuit

    for name, tensor, size in (
        ("weights", weights, circuit.n_weights),
        ("features", features, circuit.n_features),
    ):
        if tuple(tensor.shape) != (size,):
            raise CircuitError(f"{name} of the wrong shape", got=tuple(tensor.shape), expected=f"({size},)")
    weights, features = derive(circuit, weights.detach().double(), features.detach().double())
    circuit, sources = resolve(circuit), {"weight": weights, "feature": features}

    def value(angle: Angle) -> float:
        if angle.kind == "constant":
            return angle.offset
        return float(sources[angle.kind][angle.index]) * angle.scale + angle.offset

    qc = QuantumCircuit(circuit.n_qubits)
    for gate in circuit.gates:
        append_gate(qc, gate, [value(angle) for angle in gate.angles])
    return qc


def append_gate(qc: QuantumCircuit, gate: Gate, values: list[Any]) -> None:
    """Put a gate behind a circuit of Qiskit.

    Args:
        qc: The circuit.
        gate: The gate.
        values: Its angles: numbers, or expressions of Qiskit's parameters.
    """
    if gate.name == "AmplitudeEmbedding":
        from qiskit.circuit.library import StatePreparation

        state = torch.zeros(2 ** len(gate.wires), dtype=torch.float64)
        state[: len(values)] = torch.tensor(values, dtype=torch.float64)
        if not state.any():
            state[0] = 1.0
        qc.append(StatePreparation((state / state.norm()).tolist()), list(gate.wires)[::-1])
    elif gate.name == "Rot":
        for axis, angle in zip("zyz", values, strict=True):
            getattr(qc, f"r{axis}")(angle, gate.wires[0])
    else:
        getattr(qc, METHODS[gate.name])(*values, *gate.wires)


def qiskit_observables(circuit: Circuit) -> tuple[SparsePauliOp, ...]:
    """The observables, with Qiskit's order of qubits in their labels."""
    from qiskit.quantum_info import SparsePauliOp

    return tuple(
        SparsePauliOp.from_list([(word[::-1], coefficient) for coefficient, word in observable.terms])
        for observable in circuit.observables
    )
