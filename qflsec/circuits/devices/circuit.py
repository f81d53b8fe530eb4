"""Circuits as they run on a device: transpiled to its gates and places, with the channel of each gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qflsec.circuits.circuit import Angle, AngleKind, Circuit, Gate, Observable
from qflsec.circuits.devices.noise import DeviceNoise
from qflsec.circuits.devices.table import DeviceTable, device_table
from qflsec.circuits.errors import CircuitError
from qflsec.circuits.from_qiskit import GATES, IDLE
from qflsec.circuits.placed_noise import OneWire, PlacedNoise, Scaled, Term
from qflsec.circuits.to_qiskit import append_gate

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

__all__ = ["on_device", "transpiled"]

_VECTORS: dict[AngleKind, str] = {"weight": "w", "feature": "x", "derived": "d"}
_KINDS = {name: kind for kind, name in _VECTORS.items()}


@lru_cache(maxsize=64)
def transpiled(circuit: Circuit, noise: DeviceNoise) -> tuple[QuantumCircuit, tuple[int, ...]]:
    """The circuit in the device's gates, with parameters ``w`` for weights, ``x`` for features and ``d`` for derived inputs.

    Args:
        circuit: The circuit.
        noise: The device.

    Returns:
        The circuit of Qiskit, and the qubit at which each wire ends.

    Raises:
        CircuitError: The device is too small, or the circuit embeds amplitudes.
        MissingExtra: A package is not installed.
    """
    from qiskit import QuantumCircuit, transpile
    from qiskit.circuit import ParameterVector

    backend = device_table(noise.device, noise.qubits, noise.seed).backend
    if circuit.n_qubits > backend.num_qubits:
        raise CircuitError(
            "the circuit is larger than the device",
            got=f"{circuit.n_qubits} qubits",
            expected=f"at most {backend.num_qubits}",
        )
    if any(gate.name == "AmplitudeEmbedding" for gate in circuit.gates):
        raise CircuitError("devices have no amplitude embedding here", fix="encode by rotations")
    sizes = {"weight": circuit.n_weights, "feature": circuit.n_features, "derived": len(circuit.derived)}
    sources = {kind: ParameterVector(name, sizes[kind]) for kind, name in _VECTORS.items()}

    def value(angle: Angle) -> Any:  # noqa: ANN401 - a number or an expression of Qiskit's
        if angle.kind == "constant":
            return angle.offset
        return angle.scale * sources[angle.kind][angle.index] + angle.offset

    made = QuantumCircuit(circuit.n_qubits)
    for gate in circuit.gates:
        append_gate(made, gate, [value(angle) for angle in gate.angles])
    native = transpile(made, backend, optimization_level=1, seed_transpiler=0)
    return native, tuple(native.layout.final_index_layout(filter_ancillas=True))


@lru_cache(maxsize=64)
def on_device(circuit: Circuit, noise: DeviceNoise) -> tuple[Circuit, PlacedNoise]:
    """The circuit on the qubits that it uses of a device, and the noise of its gates and of the readout.

    It has the weights and features of the circuit. A gate that is none of ours is made of several, with its noise after the
    last of them.

    Args:
        circuit: The circuit, with observables of I and Z, as a device measures them.
        noise: The device.

    Raises:
        CircuitError: An observable has X or Y, or as in :func:`transpiled`.
        MissingExtra: A package is not installed.
    """
    if any(set(word) - {"I", "Z"} for observable in circuit.observables for _, word in observable.terms):
        raise CircuitError(
            "a device measures in Z, and turns into other bases are not modelled",
            got="an observable with X or Y",
            fix="measure Z, after a rotation in the circuit",
        )
    table = device_table(noise.device, noise.qubits, noise.seed)
    native, ends = transpiled(circuit, noise)
    used = {native.find_bit(qubit).index for one in native.data for qubit in one.qubits if _acts(one)}
    wires = {qubit: wire for wire, qubit in enumerate(sorted(used | set(ends)))}
    gates, after = _read(native, table, noise.times, wires)
    placed = replace(
        circuit,
        n_qubits=len(wires),
        gates=tuple(gates),
        observables=tuple(_moved(one, [wires[q] for q in ends], len(wires)) for one in circuit.observables),
    )
    read = tuple(OneWire(wires[q], table.readout[q]) for q in ends if q in table.readout)
    return placed, PlacedNoise(tuple(after), read)


def _acts(instruction: Any) -> bool:  # noqa: ANN401 - Qiskit's class
    return instruction.operation.name not in IDLE


def _read(
    native: QuantumCircuit, table: DeviceTable, times: int, wires: Mapping[int, int]
) -> tuple[list[Gate], list[tuple[Term, ...]]]:
    """Our gates of a native circuit, and the channels after each."""
    gates: list[Gate] = []
    after: list[tuple[Term, ...]] = []
    for instruction in filter(_acts, native.data):
        name = instruction.operation.name
        qubits = tuple(native.find_bit(qubit).index for qubit in instruction.qubits)
        places = [wires[qubit] for qubit in qubits]
        own = _gates_of(instruction.operation, places)
        gates += own
        after += [()] * (len(own) - 1) + [_terms(table, name, qubits, places) * times]
    return gates, after


def _gates_of(operation: Any, places: Sequence[int]) -> list[Gate]:  # noqa: ANN401 - a gate of Qiskit
    if operation.name in GATES:
        return [
            Gate(GATES[operation.name], tuple(places), tuple(_angle(value) for value in operation.params))
        ]
    from qiskit import QuantumCircuit, transpile

    alone = QuantumCircuit(len(places))
    alone.append(operation, range(len(places)))
    made = transpile(alone, basis_gates=list(GATES), optimization_level=0)
    return [
        gate
        for one in made.data
        for gate in _gates_of(one.operation, [places[made.find_bit(qubit).index] for qubit in one.qubits])
    ]


def _angle(value: Any) -> Angle:  # noqa: ANN401 - a number or an expression of Qiskit's
    parameters = list(getattr(value, "parameters", ()))
    if not parameters:
        return Angle.constant(float(value))
    (parameter,) = parameters  # transpiling at this level adds no two of them
    offset, one = (float(value.bind({parameter: at})) for at in (0.0, 1.0))
    return Angle(_KINDS[parameter.vector.name], parameter.index, one - offset, offset)


def _terms(table: DeviceTable, name: str, qubits: tuple[int, ...], places: Sequence[int]) -> tuple[Term, ...]:
    error = table.gates.get((name, qubits))
    if error is None:
        return ()
    single = tuple(OneWire(wire, matrix) for wire, matrix in zip(places, error.matrices, strict=True))
    if error.factors is None:
        return single
    return (Scaled((places[0], places[1]), error.factors), *single)


def _moved(observable: Observable, ends: Sequence[int], n_qubits: int) -> Observable:
    """The observable on the wires at which the circuit's wires end."""
    terms = []
    for coefficient, word in observable.terms:
        letters = ["I"] * n_qubits
        for end, letter in zip(ends, word, strict=True):
            letters[end] = letter
        terms.append((coefficient, "".join(letters)))
    return Observable(tuple(terms))
