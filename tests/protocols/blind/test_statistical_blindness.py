"""Blindness of larger patterns by statistics: 20 nodes of four qubits, 48 of a brickwork.

Each test fixes its seed and has a false-alarm rate of one in 1,000 in all: many p-values are judged together,
the smallest by Bonferroni and their distribution by Kolmogorov and Smirnov. The same judgement must condemn
clients that leave a pad out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from qflsec.base import SeededSecrets
from qflsec.circuits import build_circuit, pauli_z
from qflsec.lab.worlds.delegation import ScoredClient
from qflsec.protocols.blind import (
    AngleGrid,
    QuantumChannel,
    QuantumServer,
    Transcript,
    compile_patterns,
    node_angles,
    plan_order,
    play,
)

ALARM = 1e-3
ROUNDS = 20_000


def heard(n: int, layers: int, embedding: Any, *, pads: Any = "all", tests: int = 0) -> dict[str, Any]:
    """What a server heard and said in 20,000 rounds of one fixed computation, tests among them."""
    circuit = build_circuit(
        n_qubits=n, layers=layers, ansatz="ry-cz", observables=tuple(pauli_z(w, n) for w in range(n))
    )
    (delegation,) = compile_patterns(circuit, embedding=embedding)
    pattern, grid, secrets = delegation.pattern, AngleGrid(), SeededSecrets(11, embedding)
    rng = np.random.default_rng(5)
    weights, features = rng.normal(size=(1, circuit.n_weights)), rng.normal(size=(1, circuit.n_features))
    client = ScoredClient(
        pads=pads,
        pattern=pattern,
        angles=grid.to_grid(node_angles(pattern, weights, features)),
        plan=plan_order(
            secrets, rows=1, shots=ROUNDS - tests, tests=tests, colours=max(pattern.graph.n_colours, 1)
        ),
        grid=grid,
        secrets=secrets,
        channel=QuantumChannel(7, embedding),
    )
    seen = Transcript()
    play(client, QuantumServer(pattern.graph, grid), pattern.graph, transcript=seen)
    nodes = range(pattern.graph.n_nodes)
    return {
        "graph": pattern.graph,
        "outputs": pattern.outputs,
        "client": client,
        "delta": {v: np.concatenate([batch[v] for batch in seen.deltas]) for v in nodes},
        "reply": {v: np.concatenate([batch[v] for batch in seen.replies]) for v in nodes},
    }


def top(delta: np.ndarray, bits: int) -> np.ndarray:
    """The leading bits of angles on the grid of 2^32."""
    found: np.ndarray = (delta >> np.uint64(32 - bits)).astype(np.int64)
    return found


def low(delta: np.ndarray, bits: int) -> np.ndarray:
    """The trailing bits."""
    found: np.ndarray = (delta & np.uint64(2**bits - 1)).astype(np.int64)
    return found


def uniform(values: np.ndarray, bins: int) -> float:
    return float(stats.chisquare(np.bincount(values, minlength=bins)).pvalue)


def p_values(seen: dict[str, Any]) -> list[float]:
    """Of deltas over 256 bins at both ends, of replies, and of pairs along edges and across the order."""
    graph, delta, reply = seen["graph"], seen["delta"], seen["reply"]
    found = []
    for node in range(graph.n_nodes):
        found += [uniform(top(delta[node], 8), 256), uniform(low(delta[node], 8), 256)]
        found += [uniform(reply[node].astype(np.int64), 2)]
        found += [uniform(2 * top(delta[node], 5) + reply[node], 64)]
    apart = list(zip(graph.order, graph.order[3:], strict=False))
    for a, b in (*graph.edges, *apart):
        found += [uniform(8 * top(delta[a], 3) + top(delta[b], 3), 64)]
        found += [uniform(2 * top(delta[a], 4) + reply[b], 32), uniform(2 * top(delta[b], 4) + reply[a], 32)]
        found += [uniform(2 * reply[a].astype(np.int64) + reply[b], 4)]
    return found


@pytest.mark.parametrize(("n", "layers", "embedding"), [(4, 2, "ansatz"), (2, 2, "brickwork")])
@pytest.mark.parametrize("tests", [0, ROUNDS // 2, ROUNDS])
def test_deltas_and_replies_are_uniform_and_independent(
    n: int, layers: int, embedding: str, tests: int
) -> None:
    seen = heard(n, layers, embedding, tests=min(tests, ROUNDS - 1))
    assert seen["graph"].n_nodes == (20 if embedding == "ansatz" else 48)
    found = p_values(seen)
    assert len(found) > 150
    assert min(found) * len(found) > ALARM / 2
    # p-values of overlapping pairs depend on each other a little; those of the nodes' deltas do not
    nodes = found[: 4 * seen["graph"].n_nodes]
    assert stats.kstest([*nodes[::4], *nodes[1::4]], "uniform").pvalue > ALARM / 2


@pytest.mark.parametrize("pads", ["none", "no-angle-pads", "no-outcome-pads"])
def test_the_same_judgement_condemns_missing_pads(pads: str) -> None:
    """Without outcome pads the deltas alone are uniform still: outcomes show beside them."""
    found = p_values(heard(4, 2, "ansatz", pads=pads))
    assert min(found) * len(found) < 1e-12


def test_tests_and_computations_tell_the_same_angles_and_replies() -> None:
    """Two samples: the joint table of round type, delta and reply of every node; Bonferroni."""
    seen = heard(4, 2, "ansatz", tests=ROUNDS // 2)
    kind = seen["client"].tests.astype(np.int64)
    found = []
    for node in range(seen["graph"].n_nodes):
        what = 2 * top(seen["delta"][node], 5) + seen["reply"][node]
        table = np.bincount(64 * kind + what, minlength=128).reshape(2, 64)
        found.append(stats.chi2_contingency(table).pvalue)
    assert min(found) * len(found) > ALARM


@pytest.mark.parametrize(("n", "layers", "embedding"), [(4, 2, "ansatz"), (2, 2, "brickwork")])
def test_raw_and_decoded_outputs_agree_half_the_time(n: int, layers: int, embedding: str) -> None:
    """On every output, and on their parity; Bonferroni over exact binomial tests. Without pads they always do."""
    for pads, certain in (("all", False), ("no-outcome-pads", True)):
        seen = heard(n, layers, embedding, pads=pads)
        assert len(seen["outputs"]) == n
        same = [seen["reply"][v] == seen["client"].signals(v) for v in seen["outputs"]]
        counts = [int(one.sum()) for one in (*same, np.bitwise_xor.reduce(same))]
        if certain:
            assert counts[:n] == [ROUNDS] * n
        else:
            assert min(stats.binomtest(c, ROUNDS).pvalue for c in counts) * len(counts) > ALARM
