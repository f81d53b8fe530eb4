"""The step that every script of this folder measures: value and gradient of all weights for 32 records.

RX angle embedding, three strongly entangling layers, Z on wire 0; binary cross entropy of three times the value.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from qflsec.circuits.bench import (
    BATCH,
    LAYERS,
    bench_data,
    bench_step,
    bench_weights,
    least_costs,
    one_thread,
)
from qflsec.circuits.build import build_circuit
from qflsec.circuits.executors import exact_expectations

Gradient = Callable[[], np.ndarray]


def pairs(n: int) -> list[tuple[int, int, int]]:
    """The CNOTs of each layer: (layer, control, target)."""
    return [(layer, i, (i + layer % (n - 1) + 1) % n) for layer in range(LAYERS) for i in range(n)]


def compare(peer: str, make: Callable[[int, np.ndarray, np.ndarray, np.ndarray], Gradient]) -> None:
    """Print what a peer's step costs over ours, in processor time of this process; gradients are compared first.

    Args:
        peer: Its name.
        make: From qubits, weights ``(3, n, 3)``, features ``(32, n)`` and labels ``(32,)`` to a step that returns the
            gradient ``(9 n,)``.
    """
    for n in [int(size) for size in sys.argv[1:]] or (4, 8):
        circuit, weights, (features, labels) = (
            build_circuit(n_qubits=n, layers=LAYERS),
            bench_weights(n),
            bench_data(n, BATCH),
        )
        values = lambda: exact_expectations(circuit, weights, features)[:, 0]  # noqa: B023, E731
        ours = bench_step(values, weights, labels)
        theirs = make(n, weights.detach().numpy().reshape(LAYERS, n, 3), features.numpy(), labels.numpy())
        np.testing.assert_allclose(np.asarray(theirs()).reshape(-1), ours()[0].numpy(), atol=1e-3)
        with one_thread():
            costs = least_costs({"ours": ours, peer: theirs}, 12)
        ratio = costs["ours"] / costs[peer]
        print(f"{n} qubits: qflsec / {peer} = {f'1/{1 / ratio:.1f}' if ratio < 1 else f'{ratio:.1f}'}")
