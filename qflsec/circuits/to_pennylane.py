"""A circuit as a PennyLane QNode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qflsec.circuits.circuit import Angle, Circuit, Gate, Observable
from qflsec.circuits.forms import Factor, Form, Read

__all__ = ["to_qnode"]

OPERATIONS = {"H": "Hadamard", "X": "PauliX", "Y": "PauliY", "Z": "PauliZ"}
"""PennyLane's names where they differ from ours."""


def to_qnode(
    circuit: Circuit,
    device: Any = None,  # noqa: ANN401
    shots: int | None = None,
    **options: Any,  # noqa: ANN401
) -> Callable[..., Any]:
    """The circuit as a QNode ``f(features, weights)``.

    It returns one expectation value, or a tuple of them where the circuit has several observables. Leading
    axes of features and weights are PennyLane's parameter broadcasting: at most one. The weights have the
    circuit's ``weight_shape`` if it has one, else they are flat.

    Args:
        circuit: The circuit.
        device: A PennyLane device on wires 0 to n - 1; ``default.qubit`` when None.
        shots: Shots; None is exact.
        options: Further arguments of ``qml.QNode``, such as ``diff_method``.
    """
    import pennylane as qml

    shape = circuit.weight_shape or (circuit.n_weights,)

    def f(features: Any, weights: Any) -> Any:  # noqa: ANN401
        batch = qml.math.shape(weights)[: qml.math.ndim(weights) - len(shape)]
        weights = qml.math.reshape(weights, (*batch, circuit.n_weights))
        derived = [_form(form, features, weights) for form in circuit.derived]
        for gate in circuit.gates:
            _apply(gate, [_value(angle, features, weights, derived) for angle in gate.angles])
        values = tuple(qml.expval(_observable(o, circuit.n_qubits)) for o in circuit.observables)
        return values[0] if len(values) == 1 else values

    node: Callable[..., Any] = qml.QNode(
        f, device or qml.device("default.qubit", wires=circuit.n_qubits), **options
    )
    if shots is not None:
        node = qml.set_shots(node, shots)
    return node


def _form(form: Form, features: Any, weights: Any) -> Any:  # noqa: ANN401
    """A derived input, by operations that every interface of PennyLane knows."""
    total: Any = 0.0
    for coefficient, factors in form.terms:
        product: Any = coefficient
        for factor in factors:
            product = product * _factor(factor, features, weights)
        total = total + product
    return total


def _factor(factor: Factor, features: Any, weights: Any) -> Any:  # noqa: ANN401
    import pennylane as qml

    if isinstance(factor, Read):
        return (weights if factor.kind == "weight" else features)[..., factor.index]
    value = _form(factor.of, features, weights)
    match factor.name:
        case "sigmoid":
            return 1 / (1 + qml.math.exp(-value))
        case "reciprocal":
            return 1 / value
        case "power":
            return value ** factor.constants[0]
        case "clip":
            return qml.math.clip(value, *factor.constants)
    return getattr(qml.math, factor.name)(value)


def _value(angle: Angle, features: Any, weights: Any, derived: list[Any]) -> Any:  # noqa: ANN401
    import pennylane as qml

    if angle.kind == "constant":  # in the interface of the others: Rot does not mix NumPy and torch
        like = weights if qml.math.get_interface(weights) != "numpy" else features
        return qml.math.convert_like(np.asarray(angle.offset), like)  # in double precision
    if angle.kind == "derived":
        return derived[angle.index] * angle.scale + angle.offset
    source = weights if angle.kind == "weight" else features
    return source[..., angle.index] * angle.scale + angle.offset


def _apply(gate: Gate, values: list[Any]) -> None:
    import pennylane as qml

    wires = list(gate.wires)
    if gate.name == "AmplitudeEmbedding":
        qml.AmplitudeEmbedding(qml.math.stack(values, axis=-1), wires=wires, normalize=True, pad_with=0.0)
    else:
        getattr(qml, OPERATIONS.get(gate.name, gate.name))(*values, wires=wires)


def _observable(observable: Observable, n_qubits: int) -> Any:  # noqa: ANN401
    import pennylane as qml

    wires = {wire: wire for wire in range(n_qubits)}
    words = [qml.pauli.string_to_pauli_word(word, wire_map=wires) for _, word in observable.terms]
    coefficients = [coefficient for coefficient, _ in observable.terms]
    return words[0] if coefficients == [1.0] else qml.dot(coefficients, words)
