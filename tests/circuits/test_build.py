from __future__ import annotations

from typing import Any

import pennylane as qml
import pytest
import torch

from qflsec.circuits import CircuitError, Observable, build_circuit, expectations
from qflsec.circuits.build import Ansatz
from qflsec.circuits.compiled import compiled_expectations

TEMPLATES = {
    "strongly-entangling": lambda w, n: qml.StronglyEntanglingLayers(w.reshape(-1, n, 3), wires=range(n)),
    "basic-entangler": lambda w, n: qml.BasicEntanglerLayers(w.reshape(-1, n), wires=range(n)),
}


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("ansatz", list(TEMPLATES))
def test_ansatz_is_pennylanes_template(ansatz: Ansatz, n: int) -> None:
    """Gate order, ranges per layer and the layout of the weights."""
    circuit = build_circuit(n_qubits=n, ansatz=ansatz, layers=4, rotation="Y")

    @qml.qnode(qml.device("default.qubit", wires=n))
    def node(features: Any, weights: Any) -> Any:
        qml.AngleEmbedding(features, wires=range(n), rotation="Y")
        TEMPLATES[ansatz](weights, n)
        return qml.expval(qml.PauliZ(0))

    generator = torch.Generator().manual_seed(n)
    weights = torch.randn(circuit.n_weights, dtype=torch.float64, generator=generator)
    features = torch.randn(3, n, dtype=torch.float64, generator=generator)
    ours = expectations(circuit, weights, features, dtype=torch.complex128)[:, 0]
    torch.testing.assert_close(ours, node(features, weights), atol=1e-12, rtol=0)


def test_ry_cz_and_reuploading_by_hand() -> None:
    circuit = build_circuit(n_qubits=3, encoder="reuploading", ansatz="ry-cz", layers=2)
    layer = ["RX"] * 3 + ["RY"] * 3 + ["CZ"] * 2
    assert [gate.name for gate in circuit.gates] == layer * 2
    assert [gate.wires for gate in circuit.gates if gate.name == "CZ"] == [(0, 1), (1, 2)] * 2
    assert circuit.n_weights == 6
    assert circuit.n_features == 3


def test_rotation_z_turns_plus_states() -> None:
    """RZ of |0> would encode nothing."""
    circuit = build_circuit(
        n_qubits=1, rotation="Z", ansatz="ry-cz", observables=(Observable(((1.0, "X"),)),)
    )
    features = torch.tensor([[0.3], [1.2]])
    values = expectations(circuit, torch.zeros(1), features)
    torch.testing.assert_close(values, features.cos())


@pytest.mark.parametrize("held", [1, 2, 3])
def test_amplitudes_and_angles_are_a_product_state(held: int) -> None:
    """Against PennyLane, which writes amplitudes on the last wires and rotates the first; values and gradients."""
    n = 4
    circuit = build_circuit(
        n_qubits=n, encoder="amplitude-angle", amplitude_qubits=held, layers=2, rotation="Y"
    )
    assert circuit.n_features == 2**held + n - held

    @qml.qnode(qml.device("default.qubit", wires=n))
    def node(features: Any, weights: Any) -> Any:
        qml.AmplitudeEmbedding(features[..., : 2**held], wires=range(n - held, n), normalize=True)
        qml.AngleEmbedding(features[..., 2**held :], wires=range(n - held), rotation="Y")
        qml.StronglyEntanglingLayers(weights.reshape(-1, n, 3), wires=range(n))
        return qml.expval(qml.PauliZ(0))

    generator = torch.Generator().manual_seed(held)
    weights = torch.randn(circuit.n_weights, dtype=torch.float64, generator=generator, requires_grad=True)
    features = torch.rand(3, circuit.n_features, dtype=torch.float64, generator=generator, requires_grad=True)
    ours = expectations(circuit, weights, features, dtype=torch.complex128)[:, 0]
    theirs = node(features, weights)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    compiled = compiled_expectations(circuit, weights, features, dtype=torch.complex128)[:, 0]
    torch.testing.assert_close(compiled, ours, atol=1e-12, rtol=0)
    for values in (ours, compiled):
        found = torch.autograd.grad(values.sum(), (weights, features), retain_graph=True)
        expected = torch.autograd.grad(theirs.sum(), (weights, features), retain_graph=True)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-11, rtol=0)


def test_fewer_features_than_wires() -> None:
    circuit = build_circuit(n_qubits=3, n_features=2)
    assert circuit.n_features == 2
    assert expectations(circuit, torch.zeros(9), torch.zeros(2)).tolist() == [pytest.approx(1.0)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder": "other"}, "unknown encoder"),
        ({"ansatz": "other"}, "unknown ansatz"),
        ({"rotation": "W"}, "unknown rotation"),
        ({"layers": 0}, "too few layers"),
        ({"n_features": 3}, "3 features do not fit 2 qubits"),
        ({"encoder": "amplitude", "n_features": 5}, "5 features do not fit 2 qubits"),
        ({"encoder": "amplitude-angle", "n_features": 4}, "4 features do not fit 2 qubits"),
        ({"encoder": "amplitude-angle", "amplitude_qubits": 2}, "no wire for amplitudes or none for angles"),
        ({"encoder": "angle", "amplitude_qubits": 1}, "no use for amplitude_qubits"),
    ],
)
def test_mistakes_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(CircuitError, match=words):
        build_circuit(n_qubits=2, **options)
