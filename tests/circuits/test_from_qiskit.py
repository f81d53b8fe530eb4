"""Qiskit circuits read by Qiskit's own means: the gates that a conversion drops or turns round, one by one."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.library import real_amplitudes, zz_feature_map
from qiskit.quantum_info import SparsePauliOp, Statevector

from qflsec.base.errors import ConfigError
from qflsec.circuits import CircuitError, NotAffine, expectations, from_qiskit, statevector
from qflsec.circuits.converted import check_conversions
from qflsec.models import build_model

X, W = ParameterVector("x", 3), ParameterVector("theta", 3)


def start() -> QuantumCircuit:
    """No amplitude is zero, and every wire has its own state."""
    qc = QuantumCircuit(3)
    for wire in range(3):
        qc.ry(X[wire], wire)
        qc.rz(W[wire], wire)
    return qc


def composite(qc: QuantumCircuit) -> None:
    inner = QuantumCircuit(2, name="mine")
    inner.rx(W[0], 0)
    inner.cx(0, 1)
    qc.append(inner.to_gate(), [2, 0])
    qc.append(inner.to_gate().control(1), [1, 0, 2])


def library(qc: QuantumCircuit) -> None:
    block = real_amplitudes(3, reps=1)
    values = [W[0], X[1], 0.3, W[2] * X[0], -W[1], 0.1]
    qc.append(block.assign_parameters(dict(zip(block.parameters, values, strict=True))).to_gate(), [2, 0, 1])


def control_states(qc: QuantumCircuit) -> None:
    qc.cx(0, 1, ctrl_state=0)
    qc.cz(1, 2, ctrl_state=0)
    qc.cy(2, 0, ctrl_state=0)
    qc.ch(0, 2, ctrl_state=0)
    qc.cp(X[0], 0, 1, ctrl_state=0)
    qc.crx(W[0], 1, 2, ctrl_state=0)
    qc.crz(W[1], 2, 0, ctrl_state=0)
    qc.ccx(0, 1, 2, ctrl_state=1)
    qc.csx(1, 0, ctrl_state=0)


def wire_orders(qc: QuantumCircuit) -> None:
    qc.csx(0, 1)
    qc.cu(0.1, W[0], 0.3, 0.4, 2, 1)
    qc.rzx(W[1], 0, 2)
    matrix = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)) + 1j)[0]
    qc.unitary(matrix, [2, 0])
    qc.ecr(1, 2)
    qc.iswap(0, 1)


def controlled(qc: QuantumCircuit) -> None:
    qc.mcx([0, 1], 2)
    qc.mcp(X[2], [0, 2], 1)
    qc.cswap(0, 1, 2)
    qc.sdg(0)
    qc.tdg(1)
    qc.sxdg(2)
    qc.u(W[0], X[0], 0.2, 1)
    qc.r(W[1], 0.3, 0)


def functions(qc: QuantumCircuit) -> None:
    qc.rx(math.pi * W[0] * X[0], 0)
    qc.ry((X[0] + 2).log() + (W[1] / 4).arcsin(), 1)
    qc.rz((X[1] / 3).tan() + (W[2].exp() - 1) ** 2 / X[0], 2)
    qc.rxx((math.pi - X[0]) * (math.pi - X[1]), 0, 2)


def prepared(qc: QuantumCircuit) -> None:
    qc.compose(prepare(), inplace=True, front=True)


def prepare() -> QuantumCircuit:
    qc = QuantumCircuit(3)
    vector = np.arange(1, 5) / np.linalg.norm(np.arange(1, 5))
    qc.prepare_state(vector, [2, 0])
    return qc


CASES = [composite, library, control_states, wire_orders, controlled, functions, prepared]


@pytest.mark.parametrize("change", CASES, ids=lambda f: f.__name__)
def test_gates_are_qiskits_own(change: Callable[[QuantumCircuit], None]) -> None:
    qc = start()
    change(qc)
    qc.measure_all()
    labels = ["ZII", "IIZ", SparsePauliOp(["XYZ", "IZX"], [0.5, -2.0])]
    circuit = from_qiskit(qc, observables=labels)
    assert (circuit.n_features, circuit.n_weights) == (3, 3)
    features, weights = torch.tensor([0.4, -0.7, 1.2]).double(), torch.tensor([0.9, 0.3, -0.2]).double()
    bare = qc.remove_final_measurements(inplace=False)
    bound = bare.assign_parameters(
        {
            p: v
            for vector, values in ((X, features), (W, weights))
            for p, v in zip(vector, values.tolist(), strict=True)
        }
    )
    theirs = Statevector(bound)
    ours = statevector(circuit, weights, features, dtype=torch.complex128).numpy()
    assert abs(np.vdot(np.asarray(theirs.reverse_qargs()), ours)) == pytest.approx(1, abs=1e-9)
    values = expectations(circuit, weights, features, dtype=torch.complex128)
    for value, label in zip(values, labels, strict=True):
        assert float(value) == pytest.approx(theirs.expectation_value(SparsePauliOp(label)).real, abs=1e-9)


def qnn(**changes: Any) -> SimpleNamespace:
    """What ``EstimatorQNN`` of qiskit-machine-learning 0.9 documents as its properties."""
    features, ansatz = zz_feature_map(2, reps=2), real_amplitudes(2, reps=1)
    known = {
        "circuit": features.compose(ansatz),
        "input_params": list(features.parameters),
        "weight_params": list(ansatz.parameters),
        "observables": [SparsePauliOp("IZ"), SparsePauliOp("ZI")],
    }
    return SimpleNamespace(**{**known, **changes})


def test_an_estimator_qnn_is_read_by_what_it_shows() -> None:
    network = qnn()
    circuit = from_qiskit(network)
    assert (circuit.n_features, circuit.n_weights, len(circuit.observables)) == (2, 4, 2)
    x, w = [0.3, -1.1], [0.2, 0.5, -0.4, 1.3]
    bound = network.circuit.assign_parameters(
        dict(zip([*network.input_params, *network.weight_params], [*x, *w], strict=True))
    )
    theirs = [Statevector(bound).expectation_value(o).real for o in network.observables]
    weights, features = torch.tensor(w, dtype=torch.float64), torch.tensor(x, dtype=torch.float64)
    ours = expectations(circuit, weights, features, dtype=torch.complex128)
    assert ours.tolist() == pytest.approx(theirs, abs=1e-12)
    swapped = from_qiskit(
        qnn(circuit=network.circuit, input_params=network.weight_params, weight_params=network.input_params)
    )
    assert (swapped.n_features, swapped.n_weights) == (4, 2)


def test_a_small_angle_that_is_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """No value of Z shows a last turn about Z; the state does, and in first order."""
    source = start()
    source.rz(1e-5, 0)
    assert len(from_qiskit(source).gates) == 7
    module = sys.modules["qflsec.circuits.from_qiskit"]
    gates = module._gates
    monkeypatch.setattr(module, "_gates", lambda *args: gates(*args)[:-1])
    with pytest.raises(NotAffine, match="does not give its state and values; got a distance of states of"):
        from_qiskit(source)


def branching() -> QuantumCircuit:
    qc = QuantumCircuit(1, 1)
    qc.rx(X[0], 0)
    qc.measure(0, 0)
    qc.ry(W[0], 0)
    return qc


def initialised() -> QuantumCircuit:
    qc = start()
    qc.initialize([0.6, 0.8], 0)
    return qc


def two_vectors() -> QuantumCircuit:
    qc = QuantumCircuit(1)
    qc.rx(X[0], 0)
    qc.ry(Parameter("data"), 0)
    return qc


@pytest.mark.parametrize(
    ("source", "options", "kind", "words"),
    [
        (7, {}, CircuitError, "not a circuit of Qiskit; got int"),
        (branching(), {}, NotAffine, "measures in the middle"),
        (initialised(), {}, NotAffine, "instruction .* is no gate"),
        (two_vectors(), {}, CircuitError, "which parameters .* features is not said; got data, x"),
        (qnn(weight_params=None), {}, CircuitError, "neither input_params nor weight_params; got .*θ"),
        (
            start(),
            {"features_argument": "y"},
            CircuitError,
            "no such features_argument; got y; expected theta, x",
        ),
        (start(), {"observables": ["ZZ"]}, CircuitError, "an observable of another size; got ZZ"),
        (start(), {"observables": ["ABC"]}, CircuitError, "not a Pauli observable of Qiskit; got ABC"),
    ],
)
def test_what_cannot_be_read_is_refused(
    source: Any, options: dict[str, Any], kind: type[CircuitError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        from_qiskit(source, **options)
    assert "\n" not in str(caught.value)


FILE = """
from qiskit import QuantumCircuit
from qiskit.circuit.library import real_amplitudes, zz_feature_map

circuit = zz_feature_map(2, reps=1).compose(real_amplitudes(2, reps=1))
"""


def test_a_model_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    config = {"name": "qiskit", "path": f"{path}:circuit", "n_features": 2}
    model = build_model(config)
    assert (model.n_features, model.n_params, model.n_classes) == (2, 4, 2)
    assert build_model(model.to_config()) == model
    assert build_model({**config, "observables": ["IZ", "ZI"]}).n_classes == 2
    for change, words in (
        ({"n_features": 3}, "another number of features than the Qiskit circuit; got 3; expected 2"),
        ({"n_classes": 3}, "has 1 observable; got n_classes = 3"),
        ({"path": f"{path}:nothing"}, "has no circuit .nothing."),
        ({"path": None}, "built from a file"),
        ({"observables": "ZZ"}, "a list of strings"),
    ):
        with pytest.raises(ConfigError, match=words):
            build_model({**config, **change})


def converter(*, drop: bool) -> Callable[[QuantumCircuit], Callable[..., None]]:
    """What ``qml.from_qiskit`` gives: a function that holds its source; a bad one forgets the last gate."""

    def load(quantum_circuit: QuantumCircuit) -> Callable[..., None]:
        def conversion(params: dict[Any, float], wires: Any) -> None:
            bound = quantum_circuit.assign_parameters(params)
            for instruction in bound.data[: -1 if drop else None]:
                at = [wires[bound.find_bit(qubit).index] for qubit in instruction.qubits]
                gate = {"ry": qml.RY, "rz": qml.RZ, "cx": qml.CNOT}[instruction.operation.name]
                gate(*instruction.operation.params, wires=at)

        conversion.__module__ = "pennylane_qiskit.converter"
        return conversion

    return load


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("last", ["cx", "ry"])
def test_a_converted_qnode_that_differs_from_its_source_is_told(
    last: str, drop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was converted before or within the QNode, and by a whole gate or a small angle."""
    source = start()
    if last == "cx":
        source.cx(0, 2)
    else:
        source.ry(1e-5, 1)
    load = converter(drop=drop)
    monkeypatch.setitem(sys.modules, "pennylane_qiskit.converter", ModuleType("pennylane_qiskit.converter"))
    monkeypatch.setattr(qml, "from_qiskit", load)
    before = load(source)

    def outside(inputs: Any, weights: Any) -> Any:
        before(params={X: inputs, W: weights}, wires=range(3))
        return qml.expval(qml.Z(0))

    def inside(inputs: Any, weights: Any) -> Any:
        qml.from_qiskit(source)(params={X: inputs, W: weights}, wires=range(3))
        return qml.expval(qml.Z(0))

    for function in (outside, inside):
        if drop:
            with pytest.raises(
                CircuitError, match=r"did not convert '(before|source)' faithfully.*name = .qiskit"
            ):
                check_conversions(function)
        else:
            check_conversions(function)
