"""Quantum homomorphic encryption: right under every key, unreadable under the average key.

Statistical tests fix their seeds; each states its false-alarm rate.
"""

from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenseal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

import qflsec.protocols.blind.homomorphic
from qflsec.base import ProtocolAbort, SeededSecrets
from qflsec.circuits import Angle, Circuit, Gate, Observable, build_circuit, pauli_z, to_qnode
from qflsec.circuits.gates import CONSTANT
from qflsec.protocols.blind import BlindError, QubitError
from qflsec.protocols.blind.homomorphic import (
    EvaluationKeys,
    Homomorphic,
    KeyVault,
    Laboratory,
    PadClient,
    PadServer,
    gadget_angles,
    homomorphic_expectations,
    key_forms,
    padded_circuit,
    product_state,
)
from qflsec.protocols.blind.homomorphic.laboratory import clifford, measure_z, reduced_state

CLIFFORD_T = ("H", "S", "X", "Y", "Z", "SX", "CNOT", "CZ", "CY", "SWAP", "T")


class Listed:
    """Secrets that are given."""

    seeded = True

    def __init__(self, keys: np.ndarray) -> None:
        self._bytes = np.packbits(keys.astype(np.uint8)).tobytes()

    def draw(self, n_bytes: int) -> bytes:
        assert n_bytes == len(self._bytes)
        return self._bytes


def all_keys(n: int) -> np.ndarray:
    """Every key of n wires, a round each: ``(2 n, 4^n)``."""
    return np.array(list(itertools.product((0, 1), repeat=2 * n))).T


def random_gates(rng: np.random.Generator, n: int, *, gates: int, t: int) -> tuple[Gate, ...]:
    names = [*rng.choice([g for g in CLIFFORD_T[:-1] if len(CONSTANT[g]) <= 2**n], gates), *["T"] * t]
    rng.shuffle(names)
    size = {name: len(CONSTANT[name]).bit_length() - 1 for name in CLIFFORD_T}
    return tuple(
        Gate(str(name), tuple(int(w) for w in rng.permutation(n)[: size[str(name)]])) for name in names
    )


def encoded(n: int, gates: tuple[Gate, ...]) -> Circuit:
    """A circuit whose features set the state of every wire before the gates."""
    first = [
        Gate(name, (w,), (Angle.feature(2 * w + k),)) for w in range(n) for k, name in enumerate(("RY", "RZ"))
    ]
    return Circuit(
        n_qubits=n,
        gates=(*first, *gates),
        observables=(pauli_z(0, n),),
        n_weights=0,
        n_features=2 * n,
    )


def statevector(circuit: Circuit, features: np.ndarray) -> np.ndarray:
    """By multiplying matrices out, the first wire most significant."""
    n = circuit.n_qubits
    state = np.zeros((2,) * n, dtype=complex)
    state[(0,) * n] = 1
    for gate in circuit.gates:
        if gate.name in CONSTANT:
            matrix = np.array(CONSTANT[gate.name])
        else:
            angle = features[gate.angles[0].index]
            generator = {"RY": [[0, -1j], [1j, 0]], "RZ": [[1, 0], [0, -1]]}[gate.name]
            matrix = np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * np.array(generator)
        k = len(gate.wires)
        tensor = matrix.reshape((2,) * (2 * k))
        state = np.tensordot(tensor, state, axes=(range(k, 2 * k), gate.wires))
        state = np.moveaxis(state, range(k), gate.wires)
    return state.ravel()


def run_keys(
    circuit: Circuit, features: np.ndarray, keys: np.ndarray, *, seed: int = 0, wrong: bool = False
) -> tuple[np.ndarray, np.ndarray, PadClient]:
    """The decrypted states and the padded ones, one round for each key, through encrypted keys."""
    split = padded_circuit(circuit)
    rounds = keys.shape[1]
    forms = key_forms(split.steps, split.n_wires)
    rows = np.tile(features, (rounds, 1))
    angles = gadget_angles(split, np.zeros((rounds, 0)))
    lab = Laboratory(rounds, seed)
    client = PadClient(rounds=rounds, n_wires=split.n_wires, angles=angles, secrets=Listed(keys))
    wires = [lab.prepare(zero, one) for zero, one in product_state(split, rows)]
    client.pad(wires)
    padded = reduced_state(wires)
    public, ciphertexts = client.encrypt_keys()
    sent: list[Any] = []
    server = PadServer(split, angles, lab.entangled_pair)
    held = server.run(wires, lambda _, half, c: sent.append((half, c)))
    evaluated = server.evaluate(
        public, ciphertexts, np.concatenate([forms.gadgets, forms.x, forms.z])[:, forms.initial]
    )
    plain = client.decrypt_rows(evaluated)
    for index, (half, c) in enumerate(sent):
        client.close_gadget(index, half, c, plain[index], forms.gadgets[index, forms.outcomes])
    t, n = forms.n_gadgets, split.n_wires
    x = plain[t : t + n].copy()
    if wrong:
        x[0] ^= 1
    client.unpad_qubits(held, x, plain[t + n :], forms)
    return reduced_state(held), padded, client


@pytest.mark.parametrize(
    ("n", "t", "seed"), [(1, 0, 0), (1, 3, 1), (2, 2, 2), (2, 4, 3), (3, 4, 4), (3, 0, 5)]
)
def test_every_key_decrypts_to_the_plain_state(n: int, t: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    circuit = encoded(n, random_gates(rng, n, gates=8, t=t))
    features = rng.normal(size=2 * n)
    expected = statevector(circuit, features)
    states, _, _ = run_keys(circuit, features, all_keys(n), seed=seed)
    fidelity = np.einsum("a,rab,b->r", expected.conj(), states, expected).real
    assert fidelity.min() > 1 - 1e-12


def test_a_wrong_key_does_not() -> None:
    circuit = encoded(2, (Gate("CNOT", (0, 1)), Gate("T", (0,)), Gate("H", (0,)), Gate("T", (1,))))
    features = np.array([0.4, 0.3, 1.1, -0.2])
    expected = statevector(circuit, features)
    states, _, _ = run_keys(circuit, features, all_keys(2), wrong=True)
    fidelity = np.einsum("a,rab,b->r", expected.conj(), states, expected).real
    assert fidelity.max() < 0.999


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_padded_qubits_are_maximally_mixed(n: int) -> None:
    features = np.full(2 * n, 0.7)
    circuit = encoded(n, (Gate("T", (0,)),))
    _, padded, _ = run_keys(circuit, features, all_keys(n))
    assert np.abs(padded.mean(axis=0) - np.eye(2**n) / 2**n).max() < 1e-15
    without_z = all_keys(n)[:, (all_keys(n)[n:] == 0).all(axis=0)]
    _, leaky, _ = run_keys(circuit, features, without_z)
    assert np.abs(leaky.mean(axis=0) - np.eye(2**n) / 2**n).max() > 0.01


def matrix_of(kind: str, wires: tuple[int, ...], n: int) -> np.ndarray:
    state = np.eye(2**n, dtype=complex).reshape((2,) * n + (2**n,))
    k = len(wires)
    tensor = np.array(CONSTANT[kind]).reshape((2,) * (2 * k))
    moved = np.moveaxis(np.tensordot(tensor, state, axes=(range(k, 2 * k), wires)), range(k), wires)
    return moved.reshape(2**n, 2**n)


def pad_matrix(bits: np.ndarray, n: int) -> np.ndarray:
    found = np.eye(1)
    x, z = np.array(CONSTANT["X"]), np.array(CONSTANT["Z"])
    for wire in range(n):
        one = np.linalg.matrix_power(x, bits[wire]) @ np.linalg.matrix_power(z, bits[n + wire])
        found = np.kron(found, one)
    return found


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 3))
def test_the_key_matrix_moves_pads_through_clifford_circuits(seed: int, n: int) -> None:
    """Against matrices: U X^a Z^b = phase X^a' Z^b' U."""
    rng = np.random.default_rng(seed)
    gates = random_gates(rng, n, gates=10, t=0)
    # every wire is the server's from its first weighted gate on
    first = tuple(Gate("RZ", (w,), (Angle.weight(0),)) for w in range(n))
    circuit = Circuit(
        n_qubits=n, gates=(*first, *gates), observables=(pauli_z(0, n),), n_weights=1, n_features=0
    )
    steps = [step for step in padded_circuit(circuit).steps if step.kind != "phase"]
    forms = key_forms(steps, n)
    unitary = np.eye(2**n)
    for gate in gates:
        unitary = matrix_of(gate.name, gate.wires, n) @ unitary
    key = rng.integers(0, 2, 2 * n)
    moved = np.concatenate([forms.x, forms.z]) @ key % 2
    before = unitary @ pad_matrix(key, n)
    after = pad_matrix(moved, n) @ unitary
    assert abs(abs(np.vdot(before, after)) / 2**n - 1) < 1e-12


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6), n_bits=st.integers(1, 8))
def test_the_server_adds_key_bits_that_it_cannot_read(seed: int, n_bits: int) -> None:
    rng = np.random.default_rng(seed)
    vault = KeyVault(n_bits)
    bits = rng.integers(0, 2, (n_bits, 17), dtype=np.uint8)
    rows = rng.integers(0, 2, (3, n_bits), dtype=np.uint8)
    rows[:, 0] = 1
    server = EvaluationKeys(vault.public(), vault.encrypt(bits))
    assert not server.context.has_secret_key()
    assert (vault.decrypt(server.evaluate(rows), 17) == rows @ bits % 2).all()


def test_the_largest_sum_does_not_wrap() -> None:
    vault = KeyVault(24)
    bits = np.ones((24, 4096), dtype=np.uint8)
    server = EvaluationKeys(vault.public(), vault.encrypt(bits))
    (blob,) = server.evaluate(np.ones((1, 24), dtype=np.uint8))
    assert (vault.decrypt([blob], 4096) == 0).all()


def test_the_secret_key_does_not_leave_the_client() -> None:
    vault = KeyVault(2)
    blob = vault.public()
    context = tenseal.context_from(blob)
    assert not context.has_secret_key()
    assert not context.has_public_key()
    with pytest.raises(ProtocolAbort):
        EvaluationKeys(blob, [b"nothing"])


def two_qubits() -> Circuit:
    return build_circuit(
        n_qubits=2, layers=1, ansatz="ry-cz", observables=tuple(pauli_z(w, 2) for w in range(2))
    )


@pytest.mark.parametrize("mode", ["deferred", "interactive"])
def test_expectations_equal_pennylane(mode: Any) -> None:
    """12 estimates, 4.5 standard deviations each: false alarms below 1e-4."""
    circuit = Circuit(
        n_qubits=3,
        gates=(
            *(Gate("RY", (w,), (Angle.feature(w),)) for w in range(3)),
            Gate("CRX", (0, 1), (Angle.weight(0),)),
            Gate("IsingYY", (1, 2), (Angle.weight(1, scale=0.7, offset=0.2),)),
            Gate("RX", (0,), (Angle.weight(2),)),
            Gate("SWAP", (0, 2)),
            Gate("T", (1,)),
        ),
        observables=(pauli_z(0, 3), Observable(((0.7, "XYI"), (0.2, "IIZ"), (0.5, "III")))),
        n_weights=3,
        n_features=3,
    )
    rng = np.random.default_rng(7)
    weights, features = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    executor = Homomorphic(shots=4000, seed=3, mode=mode, secrets=SeededSecrets(5))
    found = homomorphic_expectations(circuit, weights, features, executor=executor)
    node = to_qnode(circuit)
    with torch.no_grad():
        expected = np.array(
            [
                [float(v) for v in node(torch.tensor(f), torch.tensor(w))]
                for w, f in zip(weights, features, strict=True)
            ]
        )
    assert np.abs(found - expected).max() < 4.5 / np.sqrt(4000)
    groups = 2
    assert executor.costs.rounds == groups * 3 * 4000
    assert executor.costs.qubits_to_client == executor.costs.gadgets > 0
    assert (executor.costs.bytes_to_server > 0) == (mode == "deferred")
    assert (executor.costs.bytes_to_client > 0) == (mode == "deferred")


def server_bits(secrets: Any) -> np.ndarray:
    """All that the server measures in a run: outcomes of gadgets and of the read wires."""
    circuit = Circuit(
        n_qubits=2,
        gates=(
            *(Gate("RY", (w,), (Angle.feature(w),)) for w in range(2)),
            Gate("IsingZZ", (0, 1), (Angle.weight(0),)),
        ),
        observables=(pauli_z(0, 2), pauli_z(1, 2)),
        n_weights=1,
        n_features=2,
    )
    views: list[Any] = []
    executor = Homomorphic(shots=8000, seed=2, mode="interactive", secrets=secrets, views=views)
    homomorphic_expectations(circuit, np.array([0.3]), np.array([0.4, 0.9]), executor=executor)
    return np.concatenate([np.concatenate([v.gadgets, v.outcomes]) for v in views], axis=1)


class NoKeys:
    """Secrets that pad nothing."""

    seeded = True

    def draw(self, n_bytes: int) -> bytes:
        return bytes(n_bytes)


def test_what_the_server_measures_is_uniform_and_the_control_is_not() -> None:
    """A chi-square over all joint outcomes: false alarms 1e-3."""

    def p_value(secrets: Any) -> float:
        bits = server_bits(secrets)
        codes = (bits.T.astype(np.int64) @ (1 << np.arange(len(bits)))).astype(np.int64)
        return float(chisquare(np.bincount(codes, minlength=2 ** len(bits))).pvalue)

    assert p_value(SeededSecrets(11)) > 1e-3
    assert p_value(NoKeys()) < 1e-12


def test_raw_and_decrypted_bits_agree_half_the_time() -> None:
    """A binomial test at 1e-3; without keys they agree always."""
    gates = (Gate("RY", (0,), (Angle.feature(0),)), Gate("CNOT", (0, 1)))
    circuit = Circuit(n_qubits=2, gates=gates, observables=(pauli_z(0, 2),), n_weights=0, n_features=1)

    def agreement(secrets: Any) -> tuple[int, int]:
        views: list[Any] = []
        executor = Homomorphic(shots=4000, seed=3, mode="deferred", secrets=secrets, views=views)
        value = homomorphic_expectations(circuit, np.zeros(0), np.array([np.pi]), executor=executor)
        assert value == -1  # every decrypted bit is 1
        return int(sum(view.outcomes.sum() for view in views)), 4000

    hits, n = agreement(SeededSecrets(4))
    assert binomtest(hits, n).pvalue > 1e-3
    assert agreement(NoKeys()) == (4000, 4000)


def test_gadget_outcomes_of_the_client_are_uniform() -> None:
    """Chi-square of the T gadget's k over every key, 1e-3: the half carries nothing of the wire."""
    keys = np.repeat(all_keys(1), 1000, axis=1)
    circuit = encoded(1, (Gate("T", (0,)), Gate("T", (0,)), Gate("H", (0,)), Gate("T", (0,))))
    split = padded_circuit(
        Circuit(
            n_qubits=1,
            gates=(Gate("RZ", (0,), (Angle.weight(0),)), *circuit.gates[2:]),
            observables=(pauli_z(0, 1),),
            n_weights=1,
            n_features=0,
        )
    )
    rounds = keys.shape[1]
    angles = gadget_angles(split, np.full((rounds, 1), 0.4))
    forms = key_forms(split.steps, 1)
    lab = Laboratory(rounds, 9)
    client = PadClient(rounds=rounds, n_wires=1, angles=angles, secrets=Listed(keys))
    wires = [lab.prepare(np.full(rounds, 0.8 + 0j), np.full(rounds, 0.6 + 0j))]
    client.pad(wires)
    initial = client.own_rows(forms.gadgets[:, forms.initial])
    PadServer(split, angles, lab.entangled_pair).run(
        wires,
        lambda index, half, c: client.close_gadget(
            index, half, c, initial[index], forms.gadgets[index, forms.outcomes]
        ),
    )
    for k in client._k:
        assert chisquare(np.bincount(k, minlength=2)).pvalue > 1e-3


def test_a_batch_gives_what_the_whole_gives() -> None:
    executor = Homomorphic(shots=10, seed=1, secrets=SeededSecrets(1))
    again = Homomorphic(shots=10, seed=1, secrets=SeededSecrets(1))
    args = (two_qubits(), np.array([0.3, -0.8]), np.array([0.4, 0.9]))
    assert (
        homomorphic_expectations(*args, executor=executor) == homomorphic_expectations(*args, executor=again)
    ).all()


def test_what_cannot_be_split_is_refused() -> None:
    late = Circuit(
        n_qubits=1,
        gates=(Gate("RX", (0,), (Angle.weight(0),)), Gate("RX", (0,), (Angle.feature(0),))),
        observables=(pauli_z(0, 1),),
        n_weights=1,
        n_features=1,
    )
    with pytest.raises(BlindError, match="after the server's first gate"):
        padded_circuit(late)
    many = build_circuit(n_qubits=4, layers=4, ansatz="ry-cz", observables=(pauli_z(0, 4),))
    weights, features = np.zeros(many.n_weights), np.zeros(many.n_features)
    with pytest.raises(BlindError, match="interactive"):
        homomorphic_expectations(many, weights, features, executor=Homomorphic(shots=1, seed=0))
    with pytest.raises(BlindError, match="mode"):
        Homomorphic(shots=1, seed=0, mode="later")  # type: ignore[arg-type]
    with pytest.raises(BlindError, match="shots"):
        Homomorphic(shots=0, seed=0)


def test_qubits_under_gates_have_no_readable_content() -> None:
    lab = Laboratory(3, 0)
    one, other = lab.entangled_pair()
    with pytest.raises(QubitError):
        one.state  # noqa: B018
    first = measure_z(one)
    assert (measure_z(other) == first).all()
    with pytest.raises(QubitError, match="measured"):
        clifford("H", one)
    mine = lab.prepare(np.ones(3, dtype=complex), np.zeros(3, dtype=complex))
    with pytest.raises(QubitError, match="different qubits"):
        clifford("CZ", mine, mine)
    stranger = Laboratory(3, 1).prepare(np.ones(3, dtype=complex), np.zeros(3, dtype=complex))
    with pytest.raises(QubitError, match="different qubits"):
        clifford("CZ", mine, stranger)


@pytest.mark.parametrize(
    "path",
    sorted(Path(qflsec.protocols.blind.homomorphic.__path__[0]).glob("*.py")),
    ids=lambda path: path.name,
)
def test_only_the_laboratory_draws_from_statistical_generators(path: Path) -> None:
    names = {
        getattr(node, "attr", None) or getattr(node, "id", None)
        for node in ast.walk(ast.parse(path.read_text()))
    }
    drawn = names & {"numpy_stream", "default_rng", "random", "stream", "Generator"}
    assert bool(drawn) == (path.name == "laboratory.py")
