"""Patterns: sizes, flow, live space, and equality with the kernel and PennyLane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import SeededSecrets
from qflsec.circuits import (
    Angle,
    Circuit,
    Gate,
    Observable,
    build_circuit,
    expectations,
    parameter_shift,
    pauli_z,
    to_qnode,
)
from qflsec.circuits.gates import GATES
from qflsec.protocols.blind import (
    BlindConfig,
    BlindError,
    Exact,
    Graph,
    blind_expectations,
    blind_gradients,
    brickwork_nodes,
    compile_patterns,
    shift_rows,
)


def random_circuit(seed: int, *, n: int | None = None) -> Circuit:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5)) if n is None else n
    gates = []
    for _ in range(int(rng.integers(0, 13))):
        name = str(rng.choice([g for g in GATES if GATES[g].n_wires <= n]))
        wires = tuple(int(w) for w in rng.permutation(n)[: GATES[name].n_wires])
        angles = tuple(
            (
                Angle.weight(int(rng.integers(3)), scale=float(rng.normal()), offset=0.3),
                Angle.feature(int(rng.integers(2)), scale=1.3),
                Angle.constant(float(rng.normal())),
            )[rng.integers(3)]
            for _ in range(GATES[name].n_angles)
        )
        gates.append(Gate(name, wires, angles))
    words = [["".join(rng.choice(list("IXYZ"), n)) for _ in range(2)] for _ in range(2)]
    observables = tuple(Observable(tuple((float(rng.normal()), w) for w in pair)) for pair in words)
    return Circuit(n_qubits=n, gates=tuple(gates), observables=observables, n_weights=3, n_features=2)


def kernel(circuit: Circuit, weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    return expectations(
        circuit, torch.tensor(weights), torch.tensor(features), dtype=torch.complex128
    ).numpy()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), embedding=st.sampled_from(["ansatz", "brickwork"]))
def test_exact_mode_equals_the_kernel(seed: int, embedding: Any) -> None:
    circuit = random_circuit(seed)
    rng = np.random.default_rng(seed + 1)
    weights, features = rng.normal(size=(2, 3)), rng.normal(size=(2, 2))
    found = blind_expectations(
        circuit,
        weights,
        features,
        executor=Exact(seed=seed, secrets=SeededSecrets(seed)),
        config=BlindConfig(embedding=embedding),
    )
    assert np.abs(found - kernel(circuit, weights, features)).max() < 1e-8


@pytest.mark.parametrize("seed", range(4))
def test_exact_mode_equals_pennylane(seed: int) -> None:
    circuit = random_circuit(seed, n=3)
    weights, features = np.array([0.3, -1.2, 2.0]), np.array([0.7, 0.1])
    with torch.no_grad():
        expected = to_qnode(circuit)(torch.tensor(features), torch.tensor(weights))
    found = blind_expectations(circuit, weights, features, executor=Exact(seed=seed))
    assert np.abs(found - np.array([float(v) for v in expected])).max() < 1e-8


@pytest.mark.parametrize("seed", range(8))
def test_the_live_space_is_one_more_than_the_wires(seed: int) -> None:
    circuit = random_circuit(seed)
    for delegation in compile_patterns(circuit):
        assert delegation.pattern.graph.live_qubits <= circuit.n_qubits + 1


@pytest.mark.parametrize(("n", "layers"), [(2, 1), (2, 2), (4, 2), (4, 4), (6, 3)])
def test_size_of_layers_of_ry_and_cz(n: int, layers: int) -> None:
    gates = [
        gate
        for layer in range(layers)
        for gate in (
            *(Gate("RY", (q,), (Angle.weight(layer * n + q),)) for q in range(n)),
            *(Gate("CZ", (q, q + 1)) for q in range(n - 1)),
        )
    ]
    circuit = Circuit(
        n_qubits=n,
        gates=tuple(gates),
        observables=tuple(pauli_z(q, n) for q in range(n)),
        n_weights=n * layers,
        n_features=0,
    )
    (delegation,) = compile_patterns(circuit)
    assert delegation.pattern.graph.n_nodes == n * (2 * layers - 1)
    assert delegation.pattern.graph.n_colours <= 2


@pytest.mark.parametrize("names", [["H", "H"], ["CNOT", "CNOT"], ["X"], ["SWAP"], ["Z", "S", "T", "CZ"]])
def test_gates_that_cost_no_node(names: list[str]) -> None:
    gates = tuple(Gate(name, (0, 1)[: GATES[name].n_wires]) for name in names)
    for before in ((), (Gate("RX", (0,), (Angle.weight(0),)), Gate("RX", (1,), (Angle.weight(0),)))):
        sizes = []
        for middle in ((), gates):
            circuit = Circuit(
                n_qubits=2,
                gates=(*before, *middle),
                observables=(pauli_z(0, 2), pauli_z(1, 2)),
                n_weights=1,
                n_features=0,
            )
            sizes.append(compile_patterns(circuit)[0].pattern.graph.n_nodes)
        assert sizes[0] == sizes[1]


@pytest.mark.parametrize("seed", range(5))
def test_the_colouring_is_proper(seed: int) -> None:
    for delegation in compile_patterns(random_circuit(seed)):
        graph = delegation.pattern.graph
        assert all(graph.colouring[a] != graph.colouring[b] for a, b in graph.edges)


def test_an_odd_cycle_takes_three_colours_and_a_bipartite_graph_two() -> None:
    for edges in (((0, 1), (0, 1)), ((1, 0),), ((0, 3),), ((1, 1),)):
        with pytest.raises(BlindError, match="bad edges"):
            Graph(n_nodes=3, edges=edges, order=(0, 1, 2))
    triangle = Graph(n_nodes=3, edges=((0, 1), (0, 2), (1, 2)), order=(0, 1, 2))
    ring = Graph(n_nodes=6, edges=((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5)), order=tuple(range(6)))
    assert (triangle.n_colours, ring.n_colours) == (3, 2)


@pytest.mark.parametrize("embedding", ["ansatz", "brickwork"])
def test_gradients_equal_the_kernels(embedding: Any) -> None:
    w = Angle.weight
    circuit = Circuit(  # a controlled rotation, and a weight in several gates
        n_qubits=3,
        gates=(
            Gate("Rot", (0,), (w(0), w(1, scale=0.7), w(2))),
            Gate("RY", (1,), (Angle.feature(0),)),
            Gate("CRX", (0, 1), (w(1),)),
            Gate("IsingYY", (1, 2), (w(2, offset=0.4),)),
            Gate("RX", (0,), (Angle.feature(1),)),
        ),
        observables=(pauli_z(1, 3), Observable(((0.5, "XYZ"), (-1.5, "ZIX")))),
        n_weights=3,
        n_features=2,
    )
    rng = np.random.default_rng(1)
    weights, features = rng.normal(size=(2, 1, 3)), rng.normal(size=(2, 2))
    expected = parameter_shift(
        circuit, torch.tensor(weights), torch.tensor(features), dtype=torch.complex128
    ).numpy()
    found = blind_gradients(
        circuit, weights, features, executor=Exact(seed=0), config=BlindConfig(embedding=embedding)
    )
    assert found.shape == (2, 2, 2, 3)
    assert np.abs(found - expected).max() < 1e-7
    assert np.abs(expected).max() > 0.1


def test_a_gradient_shifts_each_weighted_node_twice() -> None:
    circuit = build_circuit(n_qubits=2, layers=2, ansatz="ry-cz")
    weighted = sum(
        any(term.kind == "weight" for term in angle.terms)
        for angle in compile_patterns(circuit)[0].pattern.angles
    )
    assert shift_rows(circuit) == 2 * weighted


def test_brickwork_size() -> None:
    circuit = build_circuit(n_qubits=3, layers=1, ansatz="ry-cz")
    (delegation,) = compile_patterns(circuit, embedding="brickwork", stages=12)
    assert delegation.pattern.graph.n_nodes == brickwork_nodes(3, 12) == 144
    with pytest.raises(BlindError, match="too few stages"):
        compile_patterns(circuit, embedding="brickwork", stages=1)


def test_amplitude_embedding_is_refused() -> None:
    circuit = build_circuit(n_qubits=2, layers=1, encoder="amplitude")
    for embedding in ("ansatz", "brickwork"):
        with pytest.raises(BlindError, match="amplitude embedding"):
            compile_patterns(circuit, embedding=embedding)


def test_an_observable_without_letters_needs_no_server() -> None:
    circuit = Circuit(
        n_qubits=1, gates=(), observables=(Observable(((0.7, "I"),)),), n_weights=0, n_features=0
    )
    assert blind_expectations(circuit, [], [], executor=Exact(seed=0)) == 0.7


def test_shapes_that_do_not_fit_are_refused() -> None:
    circuit = build_circuit(n_qubits=2, layers=1, ansatz="ry-cz")
    with pytest.raises(BlindError, match="weights do not fit"):
        blind_expectations(circuit, [0.1], [0.1, 0.2], executor=Exact(seed=0))
    with pytest.raises(BlindError, match="broadcast"):
        blind_expectations(circuit, np.zeros((3, 2)), np.zeros((2, 2)), executor=Exact(seed=0))
