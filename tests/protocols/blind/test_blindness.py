"""Blindness by enumeration of all secrets through the production client, at eight angles."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from blind_views import B3, all_secrets, client_of, deviation, exact_view, play_replies, view_given

from qflsec.base import SeededSecrets
from qflsec.circuits import Angle, Circuit, Gate, Observable, build_circuit
from qflsec.protocols.blind import (
    AngleGrid,
    Exact,
    Pattern,
    Shots,
    Transcript,
    blind_expectations,
    compile_patterns,
    node_angles,
)
from qflsec.protocols.blind.execute import BlindConfig

W = Angle.weight


def pattern_of(n: int, gates: Sequence[Gate], word: str, **how: Any) -> Pattern:
    circuit = Circuit(
        n_qubits=n,
        gates=tuple(gates),
        observables=(Observable(((1.0, word),)),),
        n_weights=3,
        n_features=0,
    )
    return compile_patterns(circuit, **how)[0].pattern


LINE = pattern_of(1, [Gate("RX", (0,), (W(0),)), Gate("RZ", (0,), (W(1),)), Gate("RX", (0,), (W(2),))], "Z")
PAIR = pattern_of(2, [Gate("RX", (0,), (W(0),)), Gate("RX", (1,), (W(1),)), Gate("CZ", (0, 1))], "XX")
SHORT = pattern_of(1, [Gate("RX", (0,), (W(0),)), Gate("RZ", (0,), (W(1),))], "X")
EVERYTHING = range(4)


def test_the_patterns_are_what_they_should_be() -> None:
    assert (LINE.graph.n_nodes, LINE.graph.edges) == (3, ((0, 1), (1, 2)))
    assert (PAIR.graph.n_nodes, len(PAIR.graph.edges)) == (4, 3)
    assert SHORT.graph.n_nodes == 2


@pytest.mark.parametrize("replies", list(itertools.product(range(2), repeat=3)))
def test_computation_rounds_are_blind(replies: tuple[int, ...]) -> None:
    for angles in ([0, 0, 0], [1, 6, 3]):
        assert deviation(exact_view(LINE, angles, replies, all_secrets(3, range(2)))) < 1e-12


@pytest.mark.parametrize("replies", list(itertools.product(range(2), repeat=4)))
def test_computation_rounds_on_two_wires_are_blind(replies: tuple[int, ...]) -> None:
    assert deviation(exact_view(PAIR, [1, 2, 7, 5], replies, all_secrets(4, range(2)))) < 1e-12


@pytest.mark.parametrize("colour", [0, 1])
@pytest.mark.parametrize("replies", list(itertools.product(range(2), repeat=3)))
def test_test_rounds_are_blind(colour: int, replies: tuple[int, ...]) -> None:
    view = exact_view(LINE, [1, 6, 3], replies, all_secrets(3, EVERYTHING), colour=colour)
    assert deviation(view) < 1e-12


def test_without_outcome_pads_it_is_not_blind() -> None:
    assert deviation(exact_view(LINE, [1, 6, 3], (0, 0, 0), all_secrets(3, [0]))) > 0.9


def test_without_angle_pads_it_is_not_blind() -> None:
    theta, coins = all_secrets(3, range(2))
    assert deviation(exact_view(LINE, [1, 6, 3], (0, 0, 0), (theta * 0, coins))) > 0.9


def test_fixed_dummies_show_the_test_rounds() -> None:
    secrets = all_secrets(3, range(2))  # the coins' second bit, which is the dummies', is 0
    assert deviation(exact_view(LINE, [1, 6, 3], (0, 0, 0), secrets, colour=0)) > 0.9


def test_outputs_without_pads_are_not_blind() -> None:
    theta, coins = all_secrets(3, range(2))
    theta[2], coins[2] = 0, 0
    assert deviation(exact_view(LINE, [1, 6, 3], (0, 0, 0), (theta, coins))) > 0.9


def test_a_pad_of_eight_angles_under_fine_angles_leaks_though_the_qubits_look_mixed() -> None:
    grid = AngleGrid(bits=6)
    theta, coins = all_secrets(2, range(2))
    coarse = exact_view(SHORT, [5, 43], (0, 0), (theta * 8, coins), grid=grid)
    qubits = coarse.sum(axis=0)
    assert np.abs(qubits * len(qubits) - np.eye(len(qubits))).max() < 1e-12
    assert deviation(coarse) > 0.9


def test_two_circuits_in_one_brickwork_look_alike() -> None:
    """One wire: the whole joint state; two wires (eight nodes): given any deltas and replies."""
    gates = [[Gate("RX", (0,), (W(0),))], [Gate("H", (0,)), Gate("RZ", (0,), (W(1),))]]
    views = []
    for gate in gates:
        pattern = pattern_of(1, gate, "Z", embedding="brickwork", stages=1)
        angles = B3.to_grid(node_angles(pattern, np.array([[np.pi / 4, np.pi / 2, 0]]), np.zeros((1, 0))))[0]
        views.append((pattern.graph, exact_view(pattern, angles, (0, 1, 1, 0), all_secrets(4, range(2)))))
    assert views[0][0] == views[1][0]
    assert np.abs(views[0][1] - views[1][1]).max() < 1e-12 / views[0][1].size
    assert deviation(views[0][1]) < 1e-12


def test_two_circuits_on_two_wires_in_one_brickwork_look_alike() -> None:
    product = [Gate("RX", (0,), (W(0),)), Gate("RX", (1,), (W(1),))]
    entangled = [Gate("CNOT", (0, 1))]
    rng = np.random.default_rng(4)
    patterns = [pattern_of(2, g, "ZZ", embedding="brickwork", stages=1) for g in (product, entangled)]
    assert patterns[0].graph == patterns[1].graph
    for pattern in patterns:
        values = node_angles(pattern, np.array([[np.pi / 4, np.pi / 2, 0]]), np.zeros((1, 0)))
        for _ in range(4):
            replies, deltas = rng.integers(2, size=8), rng.integers(8, size=8)
            state = view_given(pattern, B3.to_grid(values)[0], replies, deltas)
            assert np.abs(state * 256 - np.eye(256)).max() < 1e-12


def test_the_graph_does_not_depend_on_values() -> None:
    graphs = {
        pattern_of(2, [Gate("RY", (0,), (Angle.constant(a),)), Gate("CNOT", (0, 1))], "ZZ").graph
        for a in (0.0, np.pi / 2, np.pi, 0.3)
    }
    assert len(graphs) == 1


def test_deltas_and_replies_are_uniform_on_a_larger_pattern() -> None:
    """Chi-square of every node's delta in 64 bins, and of delta beside reply; Bonferroni at 1e-3 in all."""
    from scipy import stats

    circuit = build_circuit(n_qubits=2, layers=2, ansatz="ry-cz")
    seen = Transcript()
    for tests in (0, 6_000):
        executor = Shots(
            shots=6_000,
            tests=tests,
            threshold=tests,
            seed=1,
            secrets=SeededSecrets(1, tests),
            transcript=seen,
        )
        blind_expectations(circuit, [0.3, 1.1, 2.0, 0.7], [0.5, 0.9], executor=executor)
    nodes = seen.graphs[0].n_nodes
    values = []
    for node in range(nodes):
        delta = np.concatenate([batch[node] for batch in seen.deltas]) >> np.uint64(26)
        reply = np.concatenate([batch[node] for batch in seen.replies])
        values.append(stats.chisquare(np.bincount(delta.astype(int), minlength=64)).pvalue)
        values.append(
            stats.chisquare(np.bincount((delta >> np.uint64(2)).astype(int) * 2 + reply, minlength=32)).pvalue
        )
    assert min(values) * len(values) > 1e-3


def test_raw_and_decoded_output_bits_agree_half_the_time() -> None:
    """Within 4.4 standard deviations: false-alarm rate 1e-5."""
    circuit = Circuit(
        n_qubits=1,
        gates=(Gate("X", (0,)), Gate("RX", (0,), (W(0),))),
        observables=(Observable(((1.0, "Z"),)),),
        n_weights=1,
        n_features=0,
    )
    seen = Transcript()
    executor = Shots(shots=10_000, seed=2, secrets=SeededSecrets(2), transcript=seen)
    decoded = blind_expectations(circuit, [0.0], [], executor=executor)
    assert decoded == -1.0  # every decoded bit is 1
    last = seen.graphs[0].order[-1]
    raw = np.concatenate([batch[last] for batch in seen.replies])
    assert abs(raw.mean() - 0.5) < 4.4 * 0.5 / 100


def test_test_and_computation_rounds_send_maximally_mixed_qubits() -> None:
    for colour in (-1, 0, 1):
        secrets = all_secrets(3, EVERYTHING)
        client, tape = client_of(LINE, [1, 6, 3], *secrets, colour=colour)
        _, qubits = play_replies(LINE, client, tape, (0, 0, 0))
        for states in qubits:
            assert np.abs(states.T @ states.conj() / len(states) - np.eye(2) / 2).max() < 1e-12


def test_off_grid_angles_are_refused_or_rounded() -> None:
    circuit = build_circuit(n_qubits=1, layers=1, ansatz="ry-cz", encoder="angle")
    from qflsec.protocols.blind import BlindError

    strict = BlindConfig(grid=AngleGrid(bits=8, off_grid="refuse"))
    with pytest.raises(BlindError, match="off the grid"):
        blind_expectations(circuit, [0.1], [0.2], executor=Exact(seed=0), config=strict)
    on = np.pi / 64
    blind_expectations(circuit, [3 * on], [on], executor=Exact(seed=0), config=strict)
    rounded = BlindConfig(grid=AngleGrid(bits=8))
    value = blind_expectations(circuit, [0.1], [0.2], executor=Exact(seed=0), config=rounded)
    exact = blind_expectations(circuit, [0.1], [0.2], executor=Exact(seed=0))
    nodes = compile_patterns(circuit)[0].pattern.graph.n_nodes
    assert 0 < abs(value - exact).max() <= AngleGrid(bits=8).error_bound(nodes)
