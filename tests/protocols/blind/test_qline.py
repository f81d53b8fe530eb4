"""Pads of several clients: exact views of every coalition with the server, at eight angles.

All secrets of the honest parties are enumerated through the production parties, one case a round. Those of
the corrupted ones are fixed, since the coalition knows them. The tester stands in for the quantum channel.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from blind_views import B3, Listed, Tape

from qflsec.base import ProtocolAbort, SeededSecrets
from qflsec.circuits import Angle, Circuit, Gate, Observable, build_circuit, to_qnode
from qflsec.protocols.blind import (
    BlindClient,
    BlindError,
    Exact,
    LineClient,
    LineOwner,
    Pattern,
    Qline,
    QlineClients,
    QuantumServer,
    RoundPlan,
    Shots,
    blind_evaluate,
    blind_expectations,
    compile_patterns,
)
from qflsec.protocols.blind.qubits import QuantumChannel, measure, rotate

W = Angle.weight


def pattern_of(gates: Sequence[Gate], word: str) -> Pattern:
    circuit = Circuit(
        n_qubits=1, gates=tuple(gates), observables=(Observable(((1.0, word),)),), n_weights=2, n_features=0
    )
    return compile_patterns(circuit)[0].pattern


ONE = pattern_of([Gate("H", (0,)), Gate("RZ", (0,), (W(0),))], "X")
TWO = pattern_of([Gate("RX", (0,), (W(0),)), Gate("RZ", (0,), (W(1),))], "X")


class Secret:
    """A named secret of one party: an angle or a coin for each node, or the mask of a pair."""

    def __init__(self, name: str, values: int) -> None:
        self.name, self.values = name, values


def needed(clients: int) -> list[Secret]:
    masks = [Secret(f"mask {a}{b}", 8) for a, b in itertools.combinations(range(clients), 2)]
    return [Secret("r", 2), *(Secret(f"theta {c}", 8) for c in range(clients)), *masks]


def known_to(name: str, corrupted: set[int]) -> bool:
    kind, _, who = name.partition(" ")
    if kind == "r":
        return 0 in corrupted
    return any(int(c) in corrupted for c in who)


def enumerated(
    clients: int, nodes: int, corrupted: set[int], fixed: Mapping[str, Sequence[int]]
) -> dict[str, np.ndarray]:
    """``(nodes, cases)`` of each secret: every value of the honest ones that are not fixed."""
    axes = []
    for secret in needed(clients):
        for node in range(nodes):
            if secret.name in fixed:
                axes.append([fixed[secret.name][node]])
            elif known_to(secret.name, corrupted):
                axes.append([(3 + node) % secret.values])
            else:
                axes.append(list(range(secret.values)))
    table = np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")])
    names = [secret.name for secret in needed(clients)]
    return {name: table[k * nodes : (k + 1) * nodes] for k, name in enumerate(names)}


def line_of(
    pattern: Pattern, angles: Any, cases: dict[str, np.ndarray], clients: int, still: set[int]
) -> tuple[Qline, Tape]:
    """The line whose parties hold these secrets; clients in ``still`` skip their rotation."""
    tape = Tape()
    nodes, rounds = cases["r"].shape

    def turn(place: int) -> Any:
        def act(where: Any, radians: np.ndarray) -> None:
            if place not in still:
                tape.sent[where] = tape.sent[where] * np.stack(
                    [np.ones(rounds), np.exp(1j * radians)], axis=1
                )

        return act

    owner = BlindClient(
        pattern=pattern,
        angles=np.asarray(angles, dtype=np.uint64)[None],
        plan=RoundPlan(rows=np.zeros(rounds, dtype=int), colours=np.full(rounds, -1)),
        grid=B3,
        secrets=Listed(cases["theta 0"], cases["r"]),
        channel=tape,  # type: ignore[arg-type]
    )
    parties: list[Any] = [LineOwner(owner, B3, Pile(masks_of(0, cases, clients)))]
    for place in range(1, clients):
        mine = [cases[f"theta {place}"], *masks_of(place, cases, clients)]
        parties.append(LineClient(place, B3, Pile(mine), turn=turn(place)))
    return Qline(parties[0], parties[1:], nodes=nodes, grid=B3), tape


def masks_of(place: int, cases: dict[str, np.ndarray], clients: int) -> list[np.ndarray]:
    return [cases[f"mask {place}{other}"] for other in range(place + 1, clients)]


class Pile(Listed):
    """Given secrets, drawn one after the other."""

    def __init__(self, values: list[np.ndarray]) -> None:
        self.parts = [value.astype("<u4").tobytes() for value in values]


def view_of(
    pattern: Pattern,
    angles: Any,
    *,
    clients: int,
    corrupted: set[int] = frozenset(),  # type: ignore[assignment]
    replies: Sequence[int] = (0, 0),
    still: set[int] = frozenset(),  # type: ignore[assignment]
    masked: bool = True,
    fixed: Mapping[str, Sequence[int]] | None = None,
) -> np.ndarray:
    """The joint state of the honest clients' shares and the qubits, given all that the coalition knows."""
    nodes = pattern.graph.n_nodes
    cases = enumerated(clients, nodes, corrupted, fixed or {})
    if not masked:
        cases = {name: value * (not name.startswith("mask")) for name, value in cases.items()}
    line, tape = line_of(pattern, angles, cases, clients, still)
    rounds = next(line.batches(cases["r"].shape[1]))
    honest = [c for c in range(clients) if c not in corrupted]
    key = np.zeros(rounds, dtype=np.int64)
    where = {}
    for new, node in pattern.graph.arrivals():
        for arriving in new:
            where[arriving] = line.send(arriving)
        shares = line.shares(node)
        for c in honest:
            key = key * 8 + shares[c].astype(np.int64)
        line.hear(node, np.full(rounds, replies[node], dtype=np.uint8))
    state = np.ones((rounds, 1))
    for node in range(nodes):
        state = (state[:, :, None] * tape.sent[where[node]][:, None, :]).reshape(rounds, -1)
    dim = 2**nodes
    view = np.zeros((8 ** (nodes * len(honest)), dim, dim), dtype=complex)
    for a, b in itertools.product(range(dim), repeat=2):
        products = state[:, a] * state[:, b].conj()
        view[:, a, b] = np.bincount(key, products.real, len(view)) + 1j * np.bincount(
            key, products.imag, len(view)
        )
    return view / rounds


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """The trace distance of two joint states."""
    eigenvalues = np.linalg.eigvalsh(first - second)
    return float(np.abs(eigenvalues).sum() / 2)


@pytest.mark.parametrize("clients", [1, 2, 3])
def test_every_coalition_without_the_owner_sees_nothing_of_the_angle(clients: int) -> None:
    for size in range(clients):
        for others in itertools.combinations(range(1, clients), size):
            views = [view_of(ONE, [angle], clients=clients, corrupted=set(others)) for angle in (0, 1, 4, 6)]
            assert all(difference(views[0], view) < 1e-12 for view in views[1:]), others


@pytest.mark.parametrize("replies", list(itertools.product(range(2), repeat=2)))
def test_two_nodes_on_a_line_of_two(replies: tuple[int, int]) -> None:
    """All others collude with the server, which answers as it likes; the second angle follows the first."""
    views = [
        view_of(TWO, angles, clients=2, corrupted={1}, replies=replies) for angles in ([0, 0], [3, 5], [6, 1])
    ]
    assert all(difference(views[0], view) < 1e-12 for view in views[1:])


def test_an_owner_that_skips_its_rotation_is_read_by_all_others() -> None:
    skipped = {"theta 0": [0]}
    views = [view_of(ONE, [angle], clients=3, corrupted={1, 2}, fixed=skipped) for angle in (0, 2)]
    assert difference(*views) > 0.99
    assert difference(*[view_of(ONE, [a], clients=3, corrupted={1}, fixed=skipped) for a in (0, 2)]) < 1e-12


def test_another_client_that_skips_its_rotation_harms_the_result_but_not_the_owner() -> None:
    views = [view_of(ONE, [angle], clients=2, still={1}) for angle in (0, 2)]
    assert difference(*views) < 1e-12


def honest_thetas(thetas: tuple[int, int], *, masked: bool) -> np.ndarray:
    """The view of the server and client 2, given the thetas of the clients 0 and 1."""
    fixed = {"theta 0": [thetas[0]], "theta 1": [thetas[1]]}
    return view_of(ONE, [3], clients=3, corrupted={2}, fixed=fixed, masked=masked)


def test_shares_tell_the_sum_of_the_honest_thetas_and_nothing_else() -> None:
    views = [honest_thetas(thetas, masked=True) for thetas in ((1, 4), (4, 1), (7, 6), (0, 5))]
    assert all(difference(views[0], view) < 1e-12 for view in views[1:])
    assert difference(views[0], honest_thetas((1, 5), masked=True)) > 0.1  # another sum: another pad


def test_without_masks_the_shares_are_the_thetas() -> None:
    assert difference(honest_thetas((1, 4), masked=False), honest_thetas((4, 1), masked=False)) > 0.99


def test_whoever_misses_one_theta_misses_the_pad() -> None:
    """Given all secrets of all clients but one, its theta, and so the sum, is uniform."""
    for missing in (1, 2):
        cases = enumerated(3, 1, {0, 1, 2} - {missing}, {})
        total = sum(cases[f"theta {c}"][0] for c in range(3)) % 8
        line, _ = line_of(ONE, [0], cases, 3, set())
        next(line.batches(len(total)))
        assert (np.bincount(total, minlength=8) == len(total) // 8).all()
        others = [vars(helper) for helper in line.helpers if helper is not line.helpers[missing - 1]]
        theta = cases[f"theta {missing}"]
        assert not any(
            isinstance(v, np.ndarray) and np.array_equal(v, theta) for o in others for v in o.values()
        )


def sources(n: int) -> tuple[SeededSecrets, ...]:
    return tuple(SeededSecrets(5, "helper", index) for index in range(n))


@pytest.mark.parametrize("helpers", [0, 1, 3])
def test_values_and_gradients_equal_pennylane(helpers: int) -> None:
    import torch

    circuit = build_circuit(n_qubits=2, layers=2, ansatz="ry-cz")
    weights, features = np.array([0.3, 1.1, 2.0, 0.7]), np.array([0.5, 0.9])
    executor = Exact(seed=1, client=QlineClients(helpers=sources(helpers)))
    found = blind_evaluate(circuit, weights, features, executor=executor)
    node = to_qnode(circuit)
    leaf = torch.tensor(weights, requires_grad=True)
    value = torch.stack(list(torch.as_tensor(node(torch.tensor(features), leaf)).reshape(-1)))
    jacobian = torch.stack([torch.autograd.grad(v, leaf, retain_graph=True)[0] for v in value])
    assert np.abs(found.values - value.detach().numpy()).max() < 1e-8
    assert np.abs(found.in_weights - jacobian.numpy()).max() < 1e-7


def test_a_line_with_tests_accepts_an_honest_server_and_catches_another() -> None:
    """20000 shots within 4.9 standard deviations of a mean of +-1: false-alarm rate 1e-6."""

    class Flipping(QuantumServer):
        def measure(self, node: int, delta: Any) -> Any:
            return super().measure(node, delta) ^ 1

    circuit = build_circuit(n_qubits=2, layers=1, ansatz="ry-cz")
    weights, features = [0.3, 1.1], [0.5, 0.9]
    line = QlineClients(helpers=sources(2))
    shots = Shots(shots=20_000, tests=200, seed=4, client=line, secrets=SeededSecrets(9))
    value = blind_expectations(circuit, weights, features, executor=shots)
    exact = blind_expectations(circuit, weights, features, executor=Exact(seed=0))
    assert np.abs(value - exact).max() < 4.9 / np.sqrt(20_000)
    assert shots.results[0].failures == 0
    bad = Shots(shots=10, tests=60, seed=4, client=line, server=Flipping)
    with pytest.raises(ProtocolAbort, match="failed the tests"):
        blind_expectations(circuit, weights, features, executor=bad)


def test_rotating_a_qubit_before_and_after_it_joins_the_state() -> None:
    channel = QuantumChannel(1)
    turns = np.linspace(0, 6, 50)
    first, second = (channel.send(np.zeros(50), np.full(50, -1, dtype=np.int8)) for _ in range(2))
    rotate(first, turns)
    assert not measure(first, turns).any()
    third = channel.send(np.full(50, 0.5), np.full(50, -1, dtype=np.int8))
    channel._join(second)
    rotate(second, turns)
    assert not measure(second, turns).any()
    dummy = channel.send(np.zeros(50), np.ones(50, dtype=np.int8))
    rotate(dummy, turns)
    rotate(third, turns)
    assert not measure(third, turns + 0.5).any()


def test_a_mask_of_another_shape_is_refused() -> None:
    helper = LineClient(1, B3, SeededSecrets(1))
    helper.begin(2, 3, 2)
    with pytest.raises(BlindError, match="another shape"):
        helper.masks.take(0, np.zeros((2, 4), dtype=np.uint64))
