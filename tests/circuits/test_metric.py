"""The Fubini-Study metric against PennyLane, finite differences and fidelities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pennylane as qml
import pytest
import torch
from pennylane import numpy as pnp

from qflsec.circuits import (
    Angle,
    Circuit,
    CircuitError,
    Form,
    Gate,
    build_circuit,
    fubini_study,
    metric_blocks,
    metric_limits,
    pauli_z,
    statevector,
)
from qflsec.circuits.forms import Read


def layered(n: int, layers: int, *, by_wire: bool = False) -> Any:
    """A QNode of rotation layers that queues one sub-layer after the other, or one wire after the other."""
    places = [(part, wire) for part in range(3) for wire in range(n)]
    if by_wire:
        places.sort(key=lambda place: place[1])

    @qml.qnode(qml.device("default.qubit", wires=n + 1))
    def circuit(weights: Any, x: Any) -> Any:
        for wire in range(n):
            qml.RX(x[wire], wires=wire)
        for layer in range(layers):
            for part, wire in places:
                (qml.RZ, qml.RY, qml.RZ)[part](weights[layer, wire, part], wires=wire)
            for wire in range(n):
                qml.CNOT(wires=[wire, (wire + layer % (n - 1) + 1) % n])
        return qml.expval(qml.PauliZ(0))

    return circuit


def ours(n: int, layers: int) -> Circuit:
    return build_circuit(n_qubits=n, layers=layers, n_features=n)


def inside(circuit: Circuit) -> torch.Tensor:
    """Which pairs of weights are in one block."""
    kept = torch.zeros(circuit.n_weights, circuit.n_weights, dtype=torch.bool)
    for block in metric_blocks(circuit):
        kept[torch.tensor(block)[:, None], torch.tensor(block)] = True
    return kept


@pytest.mark.parametrize("approx", ["block-diag", None])
def test_the_metric_is_pennylanes(approx: str | None) -> None:
    n, layers = 3, 2
    circuit, generator = ours(n, layers), torch.Generator().manual_seed(4)
    weights = 6 * torch.rand(circuit.n_weights, generator=generator, dtype=torch.float64)
    x = torch.rand(n, generator=generator, dtype=torch.float64)
    values = pnp.array(weights.reshape(layers, n, 3).numpy(), requires_grad=True)
    metric = qml.metric_tensor if approx else qml.adjoint_metric_tensor
    found = metric(layered(n, layers), **({"approx": approx} if approx else {}))(
        values, pnp.array(x.numpy(), requires_grad=False)
    )
    theirs = torch.tensor(found).reshape(circuit.n_weights, -1)
    mine = fubini_study(circuit, weights, x, dtype=torch.complex128)
    if approx:
        keep = inside(circuit)
        assert float((mine - theirs)[~keep].abs().max()) > 0.01  # what the blocks leave out is not zero
        mine = torch.where(keep, mine, 0.0)
    assert float((mine - theirs).abs().max()) < 1e-6


def test_blocks_do_not_depend_on_the_order_in_which_gates_are_written() -> None:
    """PennyLane's do: rotations that are written wire by wire give blocks of other metrics, off by more than 0.1."""
    n, layers = 3, 2
    circuit = ours(n, layers)
    weights = 6 * torch.rand(
        circuit.n_weights, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    values = pnp.array(weights.reshape(layers, n, 3).numpy(), requires_grad=True)
    x = pnp.array([0.2, 0.9, 0.5], requires_grad=False)
    found = qml.metric_tensor(layered(n, layers, by_wire=True), approx="block-diag")(values, x)
    theirs = torch.tensor(found).reshape(circuit.n_weights, -1)
    mine = fubini_study(circuit, weights, torch.tensor(x), dtype=torch.complex128)
    assert float((torch.where(inside(circuit), mine, 0.0) - theirs).abs().max()) > 0.1
    first, entangling = circuit.gates[: 2 * n], circuit.gates[2 * n :]
    by_wire = tuple(sorted(first, key=lambda gate: gate.wires)) + entangling
    assert by_wire != circuit.gates
    assert metric_blocks(replace(circuit, gates=by_wire)) == metric_blocks(circuit)
    assert metric_blocks(circuit)[:3] == ((0, 3, 6), (1, 4, 7), (2, 5, 8))


def infidelity(circuit: Circuit, weights: torch.Tensor, features: torch.Tensor, step: torch.Tensor) -> float:
    first, second = (
        statevector(circuit, w, features, dtype=torch.complex128) for w in (weights, weights + step)
    )
    return 1 - float((first.conj() * second).sum().abs().square())


@pytest.mark.parametrize("seed", range(6))
def test_the_metric_is_the_second_order_of_the_infidelity(
    seed: int, random_circuit: Callable[..., Circuit]
) -> None:
    """1 - |<psi(w)|psi(w + d)>|^2 = d g d + O(|d|^3), on circuits over the whole gate set with shared, scaled weights."""
    circuit, generator = random_circuit(seed, 3, 14), torch.Generator().manual_seed(seed)
    weights, along = torch.rand(2, circuit.n_weights, generator=generator, dtype=torch.float64) * 3
    features = torch.rand(circuit.n_features, generator=generator, dtype=torch.float64) * 3
    metric = fubini_study(circuit, weights, features, dtype=torch.complex128)
    size = 1e-3
    both = [infidelity(circuit, weights, features, sign * size * along) for sign in (1, -1)]
    assert sum(both) / 2 / size**2 == pytest.approx(float(along @ metric @ along), rel=1e-4, abs=1e-7)
    assert float(torch.linalg.eigvalsh(metric).min()) > -1e-12


def test_amplitudes_and_products_of_inputs_have_a_metric() -> None:
    """RZ by w x on (|0> + |1>) / sqrt 2 moves at x / 2; a gate of the features alone does not move."""
    product = Form(((1.0, (Read("weight", 0), Read("feature", 0))),))
    one = Circuit(
        n_qubits=1,
        gates=(
            Gate("RY", (0,), (Angle.constant(math.pi / 2),)),
            Gate("RZ", (0,), (Angle.derived(0),)),
            Gate("RX", (0,), (Angle.feature(0),)),
        ),
        observables=(pauli_z(0, 1),),
        n_weights=2,
        n_features=1,
        derived=(product,),
    )
    found = fubini_study(one, torch.tensor([0.4, 9.0]), torch.tensor([[1.0], [3.0]]), dtype=torch.complex128)
    assert torch.allclose(found[:, 0, 0], torch.tensor([0.25, 2.25], dtype=torch.float64))
    assert float(found[:, 1].abs().max()) == 0.0  # no gate reads the second weight
    assert metric_blocks(one) == ((0,), (1,))
    amplitudes = build_circuit(n_qubits=2, encoder="amplitude", layers=1)
    found = fubini_study(amplitudes, torch.rand(amplitudes.n_weights), torch.rand(5, 4))
    assert found.shape == (5, amplitudes.n_weights, amplitudes.n_weights)


def test_a_batch_gives_every_entry_its_own_bits() -> None:
    circuit, generator = ours(4, 2), torch.Generator().manual_seed(2)
    weights = torch.rand(5, 3, 1, circuit.n_weights, generator=generator)
    features = torch.rand(5, 3, 7, 4, generator=generator)
    found = fubini_study(circuit, weights, features)
    assert found.shape == (5, 3, 7, circuit.n_weights, circuit.n_weights)
    assert torch.equal(found[2:3], fubini_study(circuit, weights[2:3], features[2:3]))


def test_no_metric_is_above_the_limits_of_its_circuit() -> None:
    generator = torch.Generator().manual_seed(3)
    shared = Circuit(
        n_qubits=2,
        gates=(
            Gate("H", (0,)),
            Gate("RX", (1,), (Angle.feature(0),)),
            Gate("CRX", (0, 1), (Angle.weight(0, scale=-3.0),)),
            Gate("PhaseShift", (0,), (Angle.weight(1),)),
            Gate("IsingXX", (0, 1), (Angle.weight(0, offset=0.3),)),
            Gate("Rot", (1,), (Angle.weight(1), Angle.weight(2, scale=0.5), Angle.constant(0.2))),
        ),
        observables=(pauli_z(0, 2),),
        n_weights=3,
        n_features=1,
    )
    assert metric_limits(shared).tolist() == [4.0, 1.0, 0.0625]
    for circuit in (shared, ours(3, 2)):
        weights = 6.3 * torch.rand(200, circuit.n_weights, generator=generator, dtype=torch.float64)
        features = 6.3 * torch.rand(200, circuit.n_features, generator=generator, dtype=torch.float64)
        found = fubini_study(circuit, weights, features, dtype=torch.complex128).diagonal(dim1=-2, dim2=-1)
        assert bool((found <= metric_limits(circuit) + 1e-12).all())
        assert bool((found.amax(dim=0) > 0.5 * metric_limits(circuit)).all()), "and not far from them either"


def test_a_circuit_without_weights_is_refused() -> None:
    bare = Circuit(n_qubits=1, gates=(), observables=(pauli_z(0, 1),), n_weights=0, n_features=0)
    with pytest.raises(CircuitError, match="without weights"):
        fubini_study(bare, torch.zeros(0), torch.zeros(0))
