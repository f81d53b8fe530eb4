"""Reads a Qiskit circuit, or an ``EstimatorQNN``, by Qiskit's own means, and checks it against Qiskit's own state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qflsec.circuits.circuit import Angle, Circuit, Gate, Observable
from qflsec.circuits.derive import angle_of
from qflsec.circuits.errors import CircuitError, NotAffine
from qflsec.circuits.forms import Form, power
from qflsec.circuits.kernel import expectations, statevector
from qflsec.circuits.roles import FEATURE_NAMES
from qflsec.circuits.to_qiskit import METHODS

__all__ = ["MAX_DISTANCE", "from_qiskit", "state_distance"]

ComplexVector = npt.NDArray[np.complex128]
MAX_DISTANCE = 1e-7
"""Of states that are the same up to rounding."""

GATES = {theirs: ours for ours, theirs in METHODS.items()}
INVERSES = {"sdg": -math.pi / 2, "tdg": -math.pi / 4}
IDLE = ("barrier", "id", "delay")
PROBES = 5
_FUNCTIONS: dict[str, Callable[[Form], Form]] = {
    "asin": lambda x: x.under("arcsin"),
    "acos": lambda x: x.under("arccos"),
    "atan": lambda x: x.under("arctan"),
    "sin": lambda x: x.under("sin"),
    "cos": lambda x: x.under("cos"),
    "tan": lambda x: x.under("sin").times(x.under("cos").under("reciprocal")),
    "exp": lambda x: x.under("exp"),
    "log": lambda x: x.under("log"),
    "Abs": lambda x: x.under("abs"),
}
"""SymPy's functions of one number."""


def from_qiskit(
    source: Any,  # noqa: ANN401 - a QuantumCircuit or an EstimatorQNN
    *,
    features_argument: str | None = None,
    observables: Sequence[Any] | None = None,
) -> Circuit:
    """The circuit of a Qiskit circuit, or of an ``EstimatorQNN``.

    Qiskit itself decomposes the circuit into the gate set, control states and composite gates included. The
    result's state and expectation values are then compared with Qiskit's, at random parameters.

    Args:
        source: A ``QuantumCircuit`` with parameters; or an object that has ``circuit``, ``input_params``,
            ``weight_params`` and ``observables``, as ``EstimatorQNN`` of qiskit-machine-learning has.
        features_argument: The parameter vector that takes the features, where its name does not say so (inputs,
            features, x, data or sample). All others take weights, in Qiskit's order.
        observables: What is measured, as labels or ``SparsePauliOp``, in Qiskit's order of qubits; those of the
            ``EstimatorQNN``, else Z on all qubits when None.

    Raises:
        NotAffine: The circuit is none of our gates and observables; the message says why.
        CircuitError: It is no circuit of Qiskit, or a role is not named.
    """
    from qiskit import QuantumCircuit

    circuit = getattr(source, "circuit", source)
    if not isinstance(circuit, QuantumCircuit):
        raise CircuitError(
            "not a circuit of Qiskit",
            got=type(source).__name__,
            expected="a QuantumCircuit or an EstimatorQNN",
        )
    circuit = circuit.remove_final_measurements(inplace=False)
    if hasattr(source, "input_params"):
        features, weights = list(source.input_params or ()), list(source.weight_params or ())
        observables = source.observables if observables is None else observables
    else:
        features, weights = _roles(circuit, features_argument)
    if missing := [p.name for p in circuit.parameters if p not in {*features, *weights}]:
        raise CircuitError(
            "parameters of the Qiskit circuit are neither input_params nor weight_params",
            got=", ".join(missing),
        )
    table = {p.name: Form.read("feature", k) for k, p in enumerate(features)}
    table |= {p.name: Form.read("weight", k) for k, p in enumerate(weights)}
    operators = _operators(observables, circuit.num_qubits)
    derived: dict[Form, int] = {}
    found = Circuit(
        n_qubits=circuit.num_qubits,
        gates=_gates(circuit, table, derived),
        observables=tuple(_observable(operator) for operator in operators),
        n_weights=len(weights),
        n_features=len(features),
        derived=tuple(derived),
    )
    for number in range(PROBES):
        _check(found, circuit, operators, (features, weights), number)
    return found


def _roles(circuit: Any, features_argument: str | None) -> tuple[list[Any], list[Any]]:  # noqa: ANN401
    """The parameters that take features and those that take weights, by the names of their vectors."""
    groups: dict[str, list[Any]] = {}
    for parameter in circuit.parameters:
        vector = getattr(parameter, "vector", None)
        groups.setdefault(parameter.name if vector is None else vector.name, []).append(parameter)
    known = [name for name in groups if name.lower() in FEATURE_NAMES]
    if features_argument is not None:
        if features_argument not in groups:
            raise CircuitError(
                "the circuit has no such features_argument", got=features_argument, expected=", ".join(groups)
            )
        known = [features_argument]
    if len(known) != 1:
        raise CircuitError(
            "which parameters of the Qiskit circuit take the features is not said",
            got=", ".join(groups) or "no parameters",
            expected="one vector called inputs, features, x, data or sample",
            fix=f'rename it, or add features_argument = "{next(iter(known or groups), "NAME")}" if that is the one',
        )
    weights = [parameter for name, group in groups.items() if name != known[0] for parameter in group]
    return groups[known[0]], weights


def _gates(circuit: Any, table: dict[str, Form], derived: dict[Form, int]) -> tuple[Gate, ...]:  # noqa: ANN401
    from qiskit import transpile
    from qiskit.exceptions import QiskitError

    if circuit.clbits and any(i.clbits for i in circuit.data):
        raise NotAffine("the Qiskit circuit measures in the middle, or acts on classical bits")
    try:
        flat = transpile(circuit, basis_gates=[*GATES, *INVERSES], optimization_level=0)
    except QiskitError as error:
        raise NotAffine("Qiskit cannot decompose the circuit into rotations", got=error.message) from error
    gates = []
    for instruction in flat.data:
        name = instruction.operation.name
        wires = tuple(flat.find_bit(qubit).index for qubit in instruction.qubits)
        if name in INVERSES:
            gates.append(Gate("PhaseShift", wires, (Angle.constant(INVERSES[name]),)))
        elif name in GATES:
            angles = tuple(
                angle_of(_form(value, table, name), derived) for value in instruction.operation.params
            )
            gates.append(Gate(GATES[name], wires, angles))
        elif name not in IDLE:
            raise NotAffine(
                f"the instruction {name!r} is no gate", fix="remove it, or prepare the state by gates"
            )
    return tuple(gates)


def _form(value: Any, table: dict[str, Form], name: str) -> Form:  # noqa: ANN401 - a number or an expression
    if not getattr(value, "parameters", None):
        return Form.constant(float(value))
    return _of_sympy(value.sympify(), table, name)


def _of_sympy(expression: Any, table: dict[str, Form], name: str) -> Form:  # noqa: ANN401 - SymPy's expression
    if expression.is_Symbol:
        return table[expression.name]
    if expression.is_number:
        return Form.constant(float(expression))
    parts = [_of_sympy(part, table, name) for part in expression.args]
    if expression.is_Add or expression.is_Mul:
        return reduce(Form.plus if expression.is_Add else Form.times, parts)
    if expression.is_Pow and not parts[1].kinds:
        return power(parts[0], parts[1].offset)
    if expression.is_Pow and not parts[0].kinds and parts[0].offset == math.e:  # as Qiskit 2.0 gives exp
        return parts[1].under("exp")
    function = _FUNCTIONS.get(type(expression).__name__)
    if function is None:
        raise NotAffine(
            f"an angle of {name} is not made of known functions of the parameters", got=expression
        )
    return function(parts[0])


def _operators(observables: Any, n_qubits: int) -> list[Any]:  # noqa: ANN401 - labels, operators, or one of them
    from qiskit.quantum_info import SparsePauliOp

    if observables is None:
        observables = ["Z" * n_qubits]
    single = isinstance(observables, str) or not isinstance(observables, Sequence)
    found = []
    for one in [observables] if single else observables:
        try:
            operator = SparsePauliOp(one)
        except Exception as error:  # whatever Qiskit raises for what is no operator
            raise CircuitError("not a Pauli observable of Qiskit", got=one) from error
        if operator.num_qubits != n_qubits:
            raise CircuitError("an observable of another size", got=one, expected=f"{n_qubits} qubits")
        found.append(operator)
    return found


def _observable(operator: Any) -> Observable:  # noqa: ANN401 - a SparsePauliOp
    """Qiskit writes qubit 0 rightmost, we write wire 0 leftmost."""
    terms = []
    for label, coefficient in operator.to_list():
        if abs(complex(coefficient).imag) > 1e-12:
            raise NotAffine("an observable with a complex coefficient", got=coefficient)
        terms.append((complex(coefficient).real, label[::-1]))
    return Observable(tuple(terms))


def _check(
    found: Circuit,
    circuit: Any,  # noqa: ANN401
    operators: Sequence[Any],
    parameters: tuple[list[Any], list[Any]],
    number: int,
) -> None:
    """Compare state and values with Qiskit's, at one random point; every second one is negative."""
    from qiskit.quantum_info import Statevector

    generator = torch.Generator().manual_seed(number)
    point = [
        (-1) ** number * (0.05 + 0.9 * torch.rand(len(own), dtype=torch.float64, generator=generator))
        for own in parameters
    ]
    bound = dict(zip([*parameters[0], *parameters[1]], torch.cat(point).tolist(), strict=True))
    theirs = Statevector(circuit.assign_parameters({p: bound[p] for p in circuit.parameters}))
    ours = statevector(found, point[1], point[0], dtype=torch.complex128).numpy()
    distance = state_distance(ours, np.asarray(theirs.reverse_qargs()))
    values = expectations(found, point[1], point[0], dtype=torch.complex128).numpy()
    expected = np.array([theirs.expectation_value(operator).real for operator in operators])
    if not (distance < MAX_DISTANCE and np.allclose(values, expected, atol=1e-7, rtol=0)):
        raise NotAffine(
            "the circuit read from Qiskit does not give its state and values",
            got=f"a distance of states of {distance:.2g}, values {values.round(6).tolist()}",
            expected=f"a distance of 0, values {expected.round(6).tolist()}",
        )


def state_distance(one: ComplexVector, other: ComplexVector) -> float:
    """The distance of two states up to a phase, in first order the error of an angle; an overlap has its square."""
    return float(np.linalg.norm(other - np.vdot(one, other) * one))
