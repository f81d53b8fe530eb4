"""Cost of a blind shot, against one PennyLane shot of the same circuit, in processor time of one process."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from qflsec.circuits import Circuit, build_circuit, pauli_z, to_qnode
from qflsec.protocols.blind.compiler import compile_patterns
from qflsec.protocols.blind.delegate import blind_expectations
from qflsec.protocols.blind.execute import Shots
from qflsec.protocols.blind.session import BATCH

__all__ = ["bench_blind", "bench_circuit", "pennylane_seconds", "shot_seconds"]


def bench_circuit(n_qubits: int, layers: int) -> Circuit:
    """An angle encoding, layers of RY and a chain of CZ, and Z on every wire."""
    return build_circuit(
        n_qubits=n_qubits,
        layers=layers,
        ansatz="ry-cz",
        observables=tuple(pauli_z(wire, n_qubits) for wire in range(n_qubits)),
    )


def shot_seconds(circuit: Circuit, *, shots: int, tests: int = 0, batch: int = BATCH, seed: int = 0) -> float:
    """Processor seconds of one round, computation or test, with secrets from the system."""
    weights, features = _inputs(circuit)
    blind_expectations(circuit, weights, features, executor=Shots(shots=1, seed=seed))
    executor = Shots(shots=shots, tests=tests, seed=seed, batch=batch)
    seconds = _seconds(lambda: blind_expectations(circuit, weights, features, executor=executor))
    return seconds / (shots + tests)


def bench_blind(*, shots: int = 20_000, seed: int = 0) -> dict[str, float]:
    """Costs and ratios; stable keys.

    Units:
        Seconds of processor time for each round; ratios without unit. The ratio to PennyLane is the time of
        ``shots`` blind shots over that of one PennyLane execution with as many shots, and of one over one.
        ``seconds_per_amplitude`` divides the round's time by nodes x 2^(n + 1).
    """
    found: dict[str, float] = {}
    for n, layers in ((2, 2), (4, 2), (4, 4), (6, 2)):
        circuit = bench_circuit(n, layers)
        nodes = compile_patterns(circuit)[0].pattern.graph.n_nodes
        key = f"{n}_qubits_{layers}_layers"
        seconds = shot_seconds(circuit, shots=shots, seed=seed)
        found[f"seconds_per_shot_{key}"] = seconds
        found[f"seconds_per_amplitude_{key}"] = seconds / (nodes * 2 ** (n + 1))
        found[f"nodes_{key}"] = nodes
        if layers == 2 and n <= 4:
            found[f"seconds_per_round_with_tests_{key}"] = shot_seconds(
                circuit, shots=shots // 2, tests=shots // 2, seed=seed
            )
            found[f"ratio_to_pennylane_{key}"] = seconds * shots / pennylane_seconds(circuit, shots)
            found[f"ratio_of_one_shot_to_pennylane_{key}"] = seconds / pennylane_seconds(circuit, 1)
    circuit = bench_circuit(2, 2)
    for batch in (16, 128, 1024, 8192):
        found[f"seconds_per_shot_batch_{batch}"] = shot_seconds(
            circuit, shots=min(shots, 100 * batch), batch=batch, seed=seed
        )
    return found


def _inputs(circuit: Circuit) -> tuple[np.ndarray, np.ndarray]:
    return np.linspace(0.1, 1.5, circuit.n_weights), np.linspace(0.2, 1.0, circuit.n_features)


def pennylane_seconds(circuit: Circuit, shots: int) -> float:
    """Processor seconds of one PennyLane execution with so many shots, the best of five."""
    node = to_qnode(circuit, shots=shots)
    weights, features = (torch.tensor(values) for values in _inputs(circuit))
    with torch.no_grad():
        node(features, weights)
        return min(_seconds(lambda: node(features, weights)) for _ in range(5))


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
