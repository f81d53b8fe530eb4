from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from qflsec.circuits import Angle, Circuit, Gate, Observable, to_qnode
from qflsec.circuits.gates import GATES


@pytest.fixture(scope="session")
def pennylane_values() -> Callable[[Circuit, Tensor, Tensor], Tensor]:
    """PennyLane's expectation values (K,) of one weight and one feature vector, differentiable."""

    def values(circuit: Circuit, weights: Tensor, features: Tensor) -> Tensor:
        result: Any = to_qnode(circuit, diff_method="backprop")(features, weights)
        parts = result if isinstance(result, tuple) else (result,)
        return torch.stack([torch.as_tensor(part, dtype=torch.float64) for part in parts])

    return values


@pytest.fixture(scope="session")
def random_circuit() -> Callable[..., Circuit]:
    """A random circuit over the whole gate set."""

    def draw(
        seed: int,
        n_qubits: int,
        n_gates: int,
        *,
        names: tuple[str, ...] = tuple(GATES),
        scales: tuple[float, ...] = (1.0, -1.0, 0.5, 2.0),
        n_weights: int = 5,
        n_features: int = 3,
        n_observables: int = 2,
        kinds: tuple[str, ...] = ("weight", "feature", "constant"),
    ) -> Circuit:
        rng = random.Random(seed)

        def angle() -> Angle:
            kind = rng.choice(kinds)
            if kind == "constant":
                return Angle.constant(rng.uniform(-3, 3))
            index = rng.randrange(n_weights if kind == "weight" else n_features)
            return Angle(kind, index, rng.choice(scales), rng.choice((0.0, 0.3)))  # type: ignore[arg-type]

        def gate() -> Gate:
            name = rng.choice([name for name in names if GATES[name].n_wires <= n_qubits])
            wires = tuple(rng.sample(range(n_qubits), GATES[name].n_wires))
            return Gate(name, wires, tuple(angle() for _ in range(GATES[name].n_angles)))

        def observable() -> Observable:
            word = lambda: "".join(rng.choice("IXYZ") for _ in range(n_qubits))  # noqa: E731
            return Observable(tuple((rng.uniform(-1, 1), word()) for _ in range(rng.randint(1, 3))))

        return Circuit(
            n_qubits=n_qubits,
            gates=tuple(gate() for _ in range(n_gates)),
            observables=tuple(observable() for _ in range(n_observables)),
            n_weights=n_weights,
            n_features=n_features,
        )

    return draw
