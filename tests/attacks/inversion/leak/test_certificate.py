"""The gradient-leak certificate against derived dimensions, dense linear algebra, and the kernel's own derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from qflsec.attacks import Blocked, InversionChallenge, InversionClaim
from qflsec.attacks.inversion import DeepLeakage, SnapshotRecovery
from qflsec.attacks.inversion.leak import certify
from qflsec.attacks.inversion.leak.algebra import _dense_closure, algebra_of
from qflsec.attacks.inversion.leak.pauli import bracket, coefficients, word_index, word_matrix
from qflsec.attacks.inversion.leak.snapshot import solve_snapshot
from qflsec.attacks.inversion.leak.structure import Structure, structure_of
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.circuits import (
    Angle,
    Circuit,
    Gate,
    Observable,
    build_circuit,
    expectations,
    pauli_z,
    statevector,
)
from qflsec.federation import FederationConfig
from qflsec.models import Execution, Hybrid, Model, Vqc, build_model, per_sample_gradients
from qflsec.threat import NOBODY, Item, View

RATE = 0.1


def matchgate(n: int, layers: int, observables: Sequence[Observable] = ()) -> Circuit:
    """RX encoding, then X X on neighbours of an open chain and Z on every wire: fermions without interaction."""
    gates = [Gate("RX", (q,), (Angle.feature(q),)) for q in range(n)]
    for layer in range(layers):
        first = layer * (2 * n - 1)
        gates += [Gate("IsingXX", (q, q + 1), (Angle.weight(first + q),)) for q in range(n - 1)]
        gates += [Gate("RZ", (q,), (Angle.weight(first + n - 1 + q),)) for q in range(n)]
    return Circuit(
        n_qubits=n,
        gates=tuple(gates),
        observables=tuple(observables) or (pauli_z(0, n),),
        n_weights=layers * (2 * n - 1),
        n_features=n,
    )


def weighted_z(*weights: float) -> Observable:
    n = len(weights)
    return Observable(tuple((w, "I" * q + "Z" + "I" * (n - q - 1)) for q, w in enumerate(weights)))


def structured(circuit: Circuit) -> Structure:
    found = structure_of(circuit)
    assert isinstance(found, Structure), found
    return found


def test_words_brackets_and_coefficients_are_those_of_the_matrices() -> None:
    generator = np.random.default_rng(0)
    for n in (1, 2):
        matrices = np.stack([word_matrix(word, n) for word in range(4**n)])
        assert np.allclose(np.einsum("aij,bji->ab", matrices, matrices), 2**n * np.eye(4**n))
        first, second = generator.normal(size=(2, 4**n))
        a, b = (np.tensordot(v, matrices, axes=1) for v in (first, second))
        assert np.allclose(coefficients(a, n), first)
        assert np.allclose(bracket(first, second[None], n)[0], coefficients(1j * (a @ b - b @ a), n))
    assert np.allclose(word_matrix(word_index([(1, "Y")], 2), 2), np.kron(np.eye(2), [[0, -1j], [1j, 0]]))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_matchgates_span_so_2n_and_z_has_an_orbit_of_4n_minus_4(n: int) -> None:
    """Quadratic Majorana operators: dim so(2n) = n (2n - 1). Z on a wire turns one plane of the 2n directions and
    commutes with so(2) + so(2n - 2), which leaves 2 (2n - 2) dimensions of its orbit."""
    found = algebra_of(structured(matchgate(n, 1)))
    assert (found.dimension, found.cap, found.visible.dimension) == (
        n * (2 * n - 1),
        4 * n - 4,
        n * (2 * n - 1),
    )


def test_orbits_of_sums_of_z() -> None:
    """Equal weights commute with u(4), of dimension 16; different ones with the torus alone: 28 - 16 and 28 - 4."""
    assert algebra_of(structured(matchgate(4, 2, [weighted_z(1, 1, 1, 1)]))).cap == 12
    assert algebra_of(structured(matchgate(4, 2, [weighted_z(0.3, 0.5, 0.7, 1.1)]))).cap == 24


def test_the_hardware_efficient_ansatz_spans_everything() -> None:
    """su(16), and the orbit of Z is SU(16) / S(U(8) x U(8)), of dimension 255 - 127."""
    found = algebra_of(structured(build_circuit(n_qubits=4, layers=2)))
    assert (found.dimension, found.cap, found.visible.dimension) == (255, 128, 255)


def test_words_and_dense_linear_algebra_close_to_the_same_space() -> None:
    for circuit in (matchgate(3, 1), build_circuit(n_qubits=3, layers=2, ansatz="ry-cz")):
        structure = structured(circuit)
        generators, _ = structure.generators()
        dense = _dense_closure(generators, generators, 3)
        assert len(dense) == algebra_of(structure).dimension


MIXED = Circuit(
    n_qubits=3,
    n_features=3,
    n_weights=6,
    observables=(pauli_z(1, 3), Observable(((0.5, "XYI"), (1.0, "ZIZ")))),
    gates=(
        Gate("RY", (0,), (Angle.feature(0),)),
        Gate("CRX", (0, 1), (Angle.weight(0, scale=2.0, offset=0.3),)),
        Gate("H", (2,)),
        Gate("RY", (2,), (Angle.feature(2, scale=0.5),)),  # shares no wire with what is trained so far
        Gate("T", (1,)),
        Gate("ControlledPhaseShift", (1, 2), (Angle.weight(1),)),
        Gate("Rot", (2,), (Angle.weight(2), Angle.weight(0), Angle.constant(0.4))),
        Gate("CY", (2, 0)),
        Gate("CRZ", (2, 1), (Angle.weight(3),)),
        Gate("IsingXX", (0, 2), (Angle.weight(4),)),
        Gate("SX", (1,)),
        Gate("PhaseShift", (1,), (Angle.weight(5),)),
        Gate("CRY", (1, 0), (Angle.constant(0.7),)),
    ),
)


@pytest.mark.parametrize(
    "circuit",
    [MIXED, matchgate(3, 2), build_circuit(n_qubits=3, layers=2)],
    ids=["mixed", "matchgate", "rot"],
)
def test_rows_are_the_kernels_values_and_derivatives(circuit: Circuit) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(circuit.n_weights, generator=generator, dtype=torch.float64, requires_grad=True)
    features = torch.randn(circuit.n_features, generator=generator, dtype=torch.float64)
    values = expectations(circuit, weights, features, dtype=torch.complex128)
    slopes = torch.stack([torch.autograd.grad(one, weights, retain_graph=True)[0] for one in values], dim=1)
    structure = structured(circuit)
    psi = statevector(structure.encoder, weights.detach(), features, dtype=torch.complex128).numpy()
    encoded = 8 * coefficients(np.outer(psi, psi.conj()), 3)
    in_values, in_slopes = structure.rows(weights.detach().numpy())
    assert np.allclose(in_values @ encoded, values.detach().numpy(), atol=1e-12)
    assert np.allclose(in_slopes @ encoded, slopes.numpy(), atol=1e-12)


def test_rank_rounds_and_condition_of_matchgates() -> None:
    """A round shows a tangent space of 12 dimensions; four rounds show all 28 coordinates. Of a product of RX rotations
    so(8) keeps 10: <Z_q>, and strings of Y with Z in between for each pair. Those are one round's."""
    found = certify(Vqc(circuit=matchgate(4, 5))).circuit
    assert found is not None
    blind, knowing = found.unknowns
    assert blind.ranks == (12, 22, 27, 28)
    assert (blind.count, blind.at_least, blind.rounds_known, blind.rounds_alone) == (28, 3, 4, 4)
    assert (knowing.count, knowing.ranks, knowing.rounds_known, knowing.rounds_alone) == (10, (10,), 1, 1)
    assert 1 < blind.condition < 1e3


def test_of_a_head_with_several_outputs_one_round_shows_everything() -> None:
    """A generic mixture of four Z shows 24 dimensions, and the four values, which the head's gradient tells, the other 4."""
    circuit = matchgate(4, 5, [pauli_z(q, 4) for q in range(4)])
    certificate = certify(Hybrid(n_features=4, circuit=circuit, n_classes=3))
    assert certificate.circuit is not None
    blind, _ = certificate.circuit.unknowns
    assert (certificate.circuit.cap, blind.ranks, blind.rounds_alone) == (24, (28,), 1)
    assert any("heads with many outputs" in warning for warning in certificate.warnings())
    assert certificate.first_layer


def test_a_shallow_circuit_reaches_less_than_its_algebra() -> None:
    found = certify(build_model({"name": "vqc", "n_qubits": 4, "layers": 3, "ansatz": "ry-cz"})).circuit
    assert found is not None
    assert found.unknowns[0].count < found.unknowns[0].visible <= 4**4 - 1


def test_the_tangent_map_counts_what_one_gradient_determines() -> None:
    def tangent(layers: int, records: int = 1) -> tuple[int, int, int | None]:
        found = certify(
            build_model({"name": "vqc", "n_qubits": 4, "layers": layers}), records=records, max_rounds=1
        ).tangent
        return found.rank, found.unknowns, found.rounds

    assert tangent(3) == (4, 4, 1)
    # one layer: Z on one wire never depends on the wire that no CNOT joins to it
    assert tangent(1) == (3, 4, None)
    # ten records are 40 unknowns, and 36 numbers tell at most 36 of them
    rank, unknowns, rounds = tangent(3, records=10)
    assert rank <= 36 < unknowns
    assert rounds == 2


def test_why_there_is_no_linear_system() -> None:
    def reason(model: Model) -> str:
        found = certify(model, max_rounds=1)
        assert found.circuit is None
        return found.refusal

    assert "read again" in reason(
        build_model({"name": "vqc", "n_qubits": 2, "layers": 2, "encoder": "reuploading"})
    )
    assert "no circuit" in reason(build_model({"name": "classical", "n_features": 2}))
    assert "7 qubits" in reason(build_model({"name": "vqc", "n_qubits": 7, "layers": 1}))
    with pytest.raises(ConfigError, match="records"):
        certify(build_model({"name": "vqc", "n_qubits": 2, "layers": 1}), records=0)


def challenge(attack: str, n_records: int = 1) -> InversionChallenge:
    return InversionChallenge(
        seed=0,
        attack=attack,
        target=0,
        n_records=n_records,
        n_features=4,
        feature_range=(0.0, math.pi),
        training=FederationConfig(learning_rate=RATE),
    )


def rounds_of(
    model: Model, item: Callable[..., Item], view: Callable[..., View], rounds: int
) -> tuple[View, torch.Tensor]:
    """Updates of one record at independent models, in double precision."""
    generator = torch.Generator().manual_seed(1)
    features = math.pi * torch.rand(1, 4, generator=generator, dtype=torch.float64)
    items = []
    for place in range(rounds):
        params = model.initial(generator).double()
        gradient = per_sample_gradients(
            model, params, features, torch.tensor([1]), execution=Execution(dtype="complex128")
        )[0]
        items.append(item("model", params, round_index=place))
        items.append(item("update", -RATE * gradient, about=frozenset({0}), round_index=place))
    return view(*items, model=model), features[0]


@pytest.mark.parametrize(("encoder", "needed"), [(False, 4), (True, 1)])
def test_the_snapshot_recovers_where_the_certificate_says_and_not_before(
    item: Callable[..., Item], view: Callable[..., View], encoder: bool, needed: int
) -> None:
    model = Vqc(circuit=matchgate(4, 5))
    found = certify(model).circuit
    assert found is not None
    assert found.unknowns[int(encoder)].rounds_alone == needed
    errors = []
    for rounds in range(max(1, needed - 1), needed + 1):
        seen, truth = rounds_of(model, item, view, rounds)
        claim = SnapshotRecovery(encoder=encoder)(seen, challenge("snapshot"))
        assert isinstance(claim, InversionClaim)
        assert claim.labels is not None
        errors.append(float((claim.features[0] - truth).abs().max()))
    assert errors[-1] < 1e-6
    assert int(claim.labels[0]) == 1
    assert all(error > 1e-2 for error in errors[:-1])


@pytest.mark.parametrize(("rounds", "weights", "nullity"), [(3, 4, 1), (2, 40, 1), (2, 3, 3)])
def test_a_round_without_a_gradient_says_nothing(rounds: int, weights: int, nullity: int) -> None:
    """Its residual would be zero, and any factor would solve it with no state at all."""
    generator = np.random.default_rng(0)
    state = generator.normal(size=7)
    derivatives = [generator.normal(size=(weights, 7)) for _ in range(rounds + 1)]
    factors = [0.3, -2.0, 0.0, 5.0][: rounds + 1]
    gradients = [factor * rows @ state for factor, rows in zip(factors, derivatives, strict=True)]
    found = solve_snapshot(derivatives, gradients)
    assert found.nullity == nullity
    assert math.isclose(float(np.linalg.norm(found.direction)), 1.0)
    if nullity == 1:
        assert abs(found.direction @ state) > (1 - 1e-9) * float(np.linalg.norm(state))


def test_no_gradient_at_all_leaves_every_state() -> None:
    found = solve_snapshot([np.eye(3)] * 2, [np.zeros(3)] * 2)
    assert found.nullity == 3
    assert math.isclose(float(np.linalg.norm(found.direction)), 1.0)


def test_a_snapshot_is_a_warm_start(item: Callable[..., Item], view: Callable[..., View]) -> None:
    """One screened start that is refined by one step: alone it is lost, with the snapshot it is there already."""
    seen, truth = rounds_of(Vqc(circuit=matchgate(4, 5)), item, view, 2)
    errors = []
    for warm in (False, True):
        attack = DeepLeakage(snapshot=warm, restarts=1, screened=2, iterations=1, prior=False)
        claim = attack(seen, challenge("dlg"))
        assert isinstance(claim, InversionClaim)
        errors.append(float((claim.features[0] - truth).abs().max()))
    assert errors[1] < 1e-6 < errors[0]


def test_what_a_snapshot_cannot_be_solved_for(
    item: Callable[..., Item], view: Callable[..., View], pipeline: Callable[..., object]
) -> None:
    seen, _ = rounds_of(Vqc(circuit=matchgate(4, 2)), item, view, 1)
    assert SnapshotRecovery()(seen, challenge("snapshot", 2)) == Blocked(
        reason="client 0 has 2 records, whose snapshots mix"
    )
    for change in (
        {"model": {"encoder": "reuploading"}},
        {"local_steps": 2},
        {"model": {"name": "hybrid", "n_features": 4}},
    ):
        with pytest.raises(IncompatibleAttack, match="snapshot cannot be solved"):
            SnapshotRecovery().check(pipeline(members=10, **change), NOBODY)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_rounds"):
        SnapshotRecovery(max_rounds=0)
