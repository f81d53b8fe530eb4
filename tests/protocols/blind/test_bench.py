"""Costs of a blind shot as ratios within one process."""

from __future__ import annotations

from qflsec.protocols.blind import compile_patterns
from qflsec.protocols.blind.bench import bench_circuit, pennylane_seconds, shot_seconds


def test_a_blind_shot_in_a_batch_costs_a_small_part_of_one_pennylane_execution() -> None:
    """Measured: 1/890 of one execution with one shot; 1/50 leaves room for a busy machine."""
    circuit = bench_circuit(2, 2)
    blind = min(shot_seconds(circuit, shots=4096, tests=1024) for _ in range(3))
    assert blind < pennylane_seconds(circuit, 1) / 50


def test_the_cost_grows_at_most_linearly_in_nodes_and_live_amplitudes() -> None:
    """Measured: the cost for each of nodes x 2^(n + 1) falls to a quarter from 2 to 4 qubits."""

    def per_amplitude(n: int) -> float:
        circuit = bench_circuit(n, 2)
        nodes = compile_patterns(circuit)[0].pattern.graph.n_nodes
        return min(shot_seconds(circuit, shots=4096) for _ in range(3)) / (nodes * 2 ** (n + 1))

    assert per_amplitude(4) < per_amplitude(2)
