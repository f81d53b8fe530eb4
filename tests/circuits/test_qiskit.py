from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from qiskit.quantum_info import Statevector

from qflsec.circuits import (
    Circuit,
    CircuitError,
    build_circuit,
    expectations,
    qiskit_observables,
    statevector,
    to_qiskit,
)


def compare(circuit: Circuit, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(circuit.n_weights, dtype=torch.float64, generator=generator)
    features = torch.randn(circuit.n_features, dtype=torch.float64, generator=generator)
    theirs = Statevector(to_qiskit(circuit, weights, features))
    ours = statevector(circuit, weights, features, dtype=torch.complex128)
    overlap = torch.from_numpy(theirs.reverse_qargs().data.copy()).conj() @ ours
    assert abs(complex(overlap)) == pytest.approx(1, abs=1e-12)  # equal up to a global phase
    values = torch.tensor([theirs.expectation_value(o).real for o in qiskit_observables(circuit)])
    mine = expectations(circuit, weights, features, dtype=torch.complex128)
    torch.testing.assert_close(mine, values.double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("seed", range(12))
def test_random_circuits_have_qiskits_state(random_circuit: Callable[..., Circuit], seed: int) -> None:
    compare(random_circuit(seed, 1 + seed % 6, 30), seed)


def test_amplitude_embedding_minds_the_order_of_qubits() -> None:
    compare(build_circuit(n_qubits=3, encoder="amplitude", layers=2), 0)
    compare(build_circuit(n_qubits=3, encoder="amplitude", n_features=5), 1)
    circuit = build_circuit(n_qubits=2, encoder="amplitude", n_features=3)
    zeros = to_qiskit(circuit, torch.zeros(6), torch.zeros(3))
    assert abs(Statevector(zeros).data[0]) == pytest.approx(1)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(CircuitError, match="features of the wrong shape"):
        to_qiskit(build_circuit(n_qubits=2), torch.zeros(6), torch.zeros(3, 2))
