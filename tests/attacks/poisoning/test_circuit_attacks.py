"""QUID and tampered circuits: against formulas, matrices and what a circuit computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.attacks.poisoning import GateInsertion, Quid, RotationBias
from qflsec.attacks.poisoning.circuit_tampering import tampering_gates
from qflsec.attacks.poisoning.quid import farthest_labels, state_distances
from qflsec.attacks.tampering import biased, diffusion, encoder_of, inserted, with_circuit
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.circuits import Angle, Circuit, Gate, build_circuit, expectations, pauli_z, statevector
from qflsec.federation import Hands, Pipeline
from qflsec.models import Model, build_model
from qflsec.threat import corrupted_clients

MakeHands = Callable[..., Hands]
NONE = torch.zeros(0, dtype=torch.float64)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_distances_of_product_states_by_the_formula(seed: int) -> None:
    """Fidelity of RX product states: the product of cos^2 of half the differences."""
    first, second = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(seed)).double() * math.pi
    encoder = encoder_of(build_circuit(n_qubits=4, layers=2))
    assert encoder.n_weights == 0
    assert len(encoder.gates) == 4
    fidelity = torch.cos((first[:, None] - second[None]) / 2).square().prod(dim=-1)
    expected = (2 * (1 - fidelity)).sqrt()
    assert torch.allclose(state_distances(encoder, first, second), expected, atol=1e-6)


def test_distances_are_frobenius_norms() -> None:
    encoder = encoder_of(build_circuit(n_qubits=2, encoder="reuploading", layers=3, rotation="Y"))
    records = torch.rand(2, 2).double()
    states = statevector(encoder, NONE, records, dtype=torch.complex128).numpy()
    rho, sigma = (np.outer(state, state.conj()) for state in states)
    expected = np.linalg.norm(rho - sigma)
    assert float(state_distances(encoder, records[:1], records[1:])) == pytest.approx(expected, abs=1e-6)


def test_the_farthest_class_by_counting() -> None:
    generator = torch.Generator().manual_seed(2)
    features = torch.rand(9, 3, generator=generator) * math.pi
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 0])
    encoder = encoder_of(build_circuit(n_qubits=3))
    away = state_distances(encoder, features, features).numpy()
    found = farthest_labels(encoder, features, labels, n_classes=4)
    for i in range(9):
        means = [np.mean([away[i, j] for j in range(9) if labels[j] == c]) for c in range(3)]
        assert int(found[i]) == int(np.argmax(means))
    assert 3 not in found.tolist(), "a class without records is nobody's"


def test_quid_trains_on_these_labels(hands: MakeHands) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    held = hands(seen)
    Quid().updates(held)
    features, labels = seen[0]
    assert torch.equal(features, held.features)
    encoder = encoder_of(held.model.circuit)  # type: ignore[attr-defined]
    for lane in range(2):
        present = held.mask[lane] > 0
        expected = farthest_labels(encoder, held.features[lane][present], held.labels[lane][present], 2)
        assert torch.equal(labels[lane][present], expected)
        assert torch.equal(labels[lane][~present], held.labels[lane][~present])
    Quid(fraction=0.5).updates(hands(seen))
    assert int((seen[1][1] != held.labels).sum(dim=-1).max()) <= 3


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_diffusion_operator_is_the_inversion_about_the_mean(n: int) -> None:
    columns = []
    for basis in range(2**n):
        flips = tuple(Gate("X", (wire,)) for wire in range(n) if basis >> (n - 1 - wire) & 1)
        circuit = Circuit(
            n_qubits=n,
            gates=(*flips, *diffusion(n)),
            observables=(pauli_z(0, n),),
            n_weights=0,
            n_features=0,
        )
        columns.append(statevector(circuit, NONE, NONE, dtype=torch.complex128).numpy())
    found = np.stack(columns, axis=1)
    expected = np.full((2**n, 2**n), 2 / 2**n) - np.eye(2**n)
    # each column may have a phase of its own
    overlap = np.abs(np.sum(found.conj() * expected, axis=0))
    assert np.allclose(overlap, 1.0, atol=1e-9)
    mixed = reduce(np.kron, [np.array([[1, 1], [1, -1]]) / math.sqrt(2)] * n)
    state = statevector(
        Circuit(
            n_qubits=n,
            gates=(*(Gate("RY", (w,), (Angle.constant(0.3 + w),)) for w in range(n)), *diffusion(n)),
            observables=(pauli_z(0, n),),
            n_weights=0,
            n_features=0,
        ),
        NONE,
        NONE,
        dtype=torch.complex128,
    ).numpy()
    before = reduce(np.kron, [np.array([math.cos((0.3 + w) / 2), math.sin((0.3 + w) / 2)]) for w in range(n)])
    assert abs(np.vdot(expected @ before, state)) == pytest.approx(1.0, abs=1e-9)
    assert mixed.shape == found.shape


def test_gates_stand_where_they_were_put() -> None:
    circuit = build_circuit(n_qubits=3, layers=2)
    gates = tampering_gates("bit-flip", 3)
    assert [gate.name for gate in inserted(circuit, gates, "encoder").gates[:7]] == [
        *("RX", "RX", "RX", "X", "X", "X"),
        "Rot",
    ]
    assert [gate.name for gate in inserted(circuit, gates, "end").gates[-4:]] == ["CNOT", "X", "X", "X"]


def test_a_bit_flip_at_the_end_turns_every_answer_and_a_sign_flip_none(vqc: Model) -> None:
    circuit = vqc.circuit  # type: ignore[attr-defined]
    weights, features = torch.rand(36).double(), torch.rand(5, 4).double()
    honest = expectations(circuit, weights, features, dtype=torch.complex128)
    for kind, factor in (("bit-flip", -1.0), ("sign-flip", 1.0), ("pauli", -1.0)):
        tampered = inserted(circuit, tampering_gates(kind, 4), "end")  # type: ignore[arg-type]
        assert torch.allclose(
            expectations(tampered, weights, features, dtype=torch.complex128), factor * honest, atol=1e-9
        )


def test_a_biased_circuit_is_the_circuit_at_other_weights(vqc: Model) -> None:
    weights, features = torch.rand(36), torch.rand(5, 4)
    tampered = with_circuit(vqc, biased(vqc.circuit, 0.7))  # type: ignore[attr-defined]
    assert torch.allclose(tampered(weights, features), vqc(weights + 0.7, features), atol=1e-5)
    assert tampered.to_config() != vqc.to_config()


@pytest.mark.parametrize("attack", [GateInsertion(kind="grover", boost=3.0), RotationBias(boost=3.0)])
def test_the_tampered_circuit_is_trained_on_honest_records(
    hands: MakeHands, attack: GateInsertion | RotationBias
) -> None:
    seen: list[Model | None] = []
    held = hands([])

    def train(features: torch.Tensor, labels: torch.Tensor, *, model: Model | None = None) -> torch.Tensor:
        assert torch.equal(features, held.features)
        assert torch.equal(labels, held.labels)
        seen.append(model)
        return torch.ones(2, 2, 36)

    sent = attack.updates(replace(held, train=train))
    assert torch.equal(sent, torch.full((2, 2, 36), 3.0))  # type: ignore[arg-type]
    if isinstance(attack, GateInsertion):
        late = replace(attack, last_round=1).updates(replace(held, train=train, round=2))
        assert late is held.honest
    assert seen[0] is not None
    assert seen[0].n_params == 36


def test_a_loop_trains_the_tampered_model(pipeline: Callable[..., Pipeline]) -> None:
    """A circuit whose rotations all turn by a whole period computes the same: the update is the honest one."""
    from qflsec.federation import RunSpec, Stack, run_batch

    small, threat = pipeline(model={"layers": 1}, members=20, rounds=1), corrupted_clients(n=2)
    attacks = [RotationBias(bias=2 * math.pi), RotationBias(bias=1.0)]
    honest, same, other = run_batch(
        small,
        Stack(name="none"),
        [RunSpec(seed=0), *(RunSpec(seed=0, adversary=attack, threat=threat) for attack in attacks)],
    )
    assert torch.allclose(same.params, honest.params, atol=1e-4)
    assert not torch.allclose(other.params, honest.params, atol=1e-2)


def test_a_bit_flip_before_the_measurement_is_a_label_flip(pipeline: Callable[..., Pipeline]) -> None:
    """Of two classes: the gradient of the turned answer on right labels is that of the answer on wrong ones."""
    from qflsec.attacks.poisoning import LabelFlip
    from qflsec.federation import RunSpec, Stack, run_batch

    small, threat = pipeline(model={"layers": 1}, members=20, rounds=2), corrupted_clients(n=2)
    specs = [
        RunSpec(seed=0, adversary=attack, threat=threat, evaluate="never")
        for attack in (GateInsertion(kind="bit-flip", place="end"), LabelFlip())
    ]
    tampered, flipped = run_batch(small, Stack(name="none"), specs)
    assert torch.allclose(tampered.params, flipped.params, atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Quid(fraction=0.0),
        lambda: GateInsertion(kind="swap"),  # type: ignore[arg-type]
        lambda: GateInsertion(place="middle"),  # type: ignore[arg-type]
        lambda: GateInsertion(boost=0.0),
        lambda: GateInsertion(boost=math.inf),
        lambda: GateInsertion(last_round=-1),
        lambda: RotationBias(bias=0.0),
        lambda: RotationBias(boost=0.0),
    ],
)
def test_impossible_parameters_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_models_that_have_no_such_circuit(pipeline: Callable[..., Pipeline]) -> None:
    small, threat = pipeline(members=20, rounds=1), corrupted_clients(n=1)
    classical = replace(small, model=build_model({"name": "classical", "n_features": 4, "n_classes": 2}))
    hybrid = replace(
        small,
        model=build_model({"name": "hybrid", "n_features": 4, "n_qubits": 2, "layers": 1, "n_classes": 2}),
    )
    for attack in (Quid(), GateInsertion(), RotationBias()):
        attack.check(small, threat)
        with pytest.raises(IncompatibleAttack, match="variational"):
            attack.check(classical, threat)
    GateInsertion().check(hybrid, threat)
    with pytest.raises(IncompatibleAttack, match="encode"):
        Quid().check(hybrid, threat)
    seven = replace(
        small,
        data=replace(small.data, n_features=7),
        model=build_model({"name": "vqc", "n_qubits": 7, "layers": 1}),
    )
    with pytest.raises(IncompatibleAttack, match="subset"):
        GateInsertion(kind="grover").check(seven, threat)
