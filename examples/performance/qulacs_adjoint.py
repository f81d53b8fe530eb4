"""qulacs: a parametric circuit for each record, gradients by `backprop`."""

from __future__ import annotations

import numpy as np
from qulacs import Observable, ParametricQuantumCircuit
from step import Gradient, compare, pairs


def make(n: int, weights: np.ndarray, features: np.ndarray, labels: np.ndarray) -> Gradient:
    observable = Observable(n)
    observable.add_operator(1.0, "Z 0")
    circuits = []
    for record in features:
        circuit = ParametricQuantumCircuit(n)
        # qulacs turns the other way
        for wire in range(n):
            circuit.add_RX_gate(wire, -float(record[wire]))
        for layer, wire, target in pairs(n):
            if wire == 0:
                for rotated in range(n):
                    for place, add in enumerate(
                        (
                            circuit.add_parametric_RZ_gate,
                            circuit.add_parametric_RY_gate,
                            circuit.add_parametric_RZ_gate,
                        )
                    ):
                        add(rotated, -float(weights[layer, rotated, place]))
            circuit.add_CNOT_gate(wire, target)
        circuits.append(circuit)

    from qulacs import QuantumState

    def gradient() -> np.ndarray:
        total = np.zeros(weights.size)
        for circuit, label in zip(circuits, labels, strict=True):
            state = QuantumState(n)
            circuit.update_quantum_state(state)
            value = observable.get_expectation_value(state)
            factor = 3 / (1 + np.exp(-3 * value)) - 3 * label
            total -= factor * np.array(circuit.backprop(observable))
        return total

    return gradient


compare("qulacs", make)
