"""The target of a blind shot's cost, in processor time."""

from __future__ import annotations

from qflsec.protocols.blind.bench import bench_circuit, shot_seconds


def test_a_blind_shot_takes_less_than_50_microseconds() -> None:
    circuit = bench_circuit(2, 2)
    assert min(shot_seconds(circuit, shots=4096, tests=1024) for _ in range(3)) < 50e-6
