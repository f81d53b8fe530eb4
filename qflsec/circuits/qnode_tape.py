"""The tape of a QNode at given inputs, in our gate set."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qflsec.circuits.errors import CircuitError, NotAffine
from qflsec.circuits.gates import GATES
from qflsec.circuits.roles import Roles
from qflsec.circuits.to_pennylane import OPERATIONS

__all__ = ["IDLE", "NAMES", "STATES", "TapeReader", "gate_values", "skeleton"]

NAMES = {theirs: ours for ours, theirs in OPERATIONS.items()} | {
    name: name for name in GATES if name not in OPERATIONS
}
STATES = ("AmplitudeEmbedding", "StatePrep")
IDLE = ("GlobalPhase", "Identity", "Barrier", "Snapshot")


class TapeReader:
    """Builds a QNode's tape at given inputs."""

    def __init__(self, qnode: Callable[..., Any], roles: Roles, n_features: int) -> None:
        self._qnode, self._roles = qnode, roles
        self._sizes = n_features, roles.n_weights
        self._unit = False
        self._within: tuple[float, float] | None = None

    @property
    def device_wires(self) -> Any:  # noqa: ANN401
        """The wires of the QNode's device; None if it leaves them open."""
        return self._qnode.device.wires  # type: ignore[attr-defined]

    def probe(self, number: int) -> tuple[Tensor, Tensor]:
        """Random features and flat weights, always the same for one number; every second is a negative."""
        generator = torch.Generator().manual_seed(number // 2)
        sign = 1 - 2 * (number % 2)
        features, weights = (
            sign * torch.randn(n, dtype=torch.float64, generator=generator) for n in self._sizes
        )
        if self._unit:
            features = features / features.norm()
        elif self._within:
            low, high = self._within
            features, weights = (low + (high - low) * torch.special.ndtr(v) for v in (features, weights))
        return features.requires_grad_(), weights.requires_grad_()

    def whole(self, features: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        """The tape as the user wrote it."""
        import pennylane as qml

        try:
            arguments = self._roles.arguments(weights, features)
            return qml.workflow.construct_tape(self._qnode, level="user")(**arguments)
        except Exception as error:  # whatever the user's function raises
            raise CircuitError(
                "the QNode fails",
                got=f"{type(error).__name__}: {error}",
                expected=f"{self._sizes[0]} features as {self._roles.features}, "
                + ", ".join(f"{name} of shape {shape}" for name, shape in self._roles.weights),
                fix="take torch or qml.math in place of NumPy" if "numpy()" in str(error) else None,
            ) from error

    def settle(self) -> None:
        """Find features that the QNode takes: any, of norm 1, within (-1, 1) or within (0, 1).

        A QNode that embeds amplitudes may leave their norm to its user, and arccos or a logarithm gives no number
        elsewhere.
        """
        try:
            self.whole(*self.probe(0))
        except CircuitError as error:
            if not isinstance(error.__cause__, ValueError) or "norm" not in str(error):
                raise
            self._unit = True
            return
        for self._within in (None, (-1.0, 1.0), (0.0, 1.0)):
            tape = self.whole(*self.probe(0))
            if all(value.isfinite().all() for values in values_of(tape) for value in values):
                return

    def tape(self, features: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        """The tape in our gate set, without its noise channels."""
        import pennylane as qml

        tape = self.whole(features, weights)
        for operation in tape.operations:
            if type(operation).__name__ in ("MidMeasure", "MidMeasureMP", "Conditional", "PauliMeasure"):
                raise NotAffine("the QNode measures in the middle of its circuit", got=operation)
        tape = tape.copy(
            operations=[one for one in tape.operations if not isinstance(one, qml.operation.Channel)]
        )
        if tape.batch_size is not None:
            raise NotAffine("the QNode broadcasts over a batch", got=f"batch size {tape.batch_size}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (tape,), _ = qml.transforms.decompose(tape, gate_set={*NAMES, *STATES, *IDLE}, strict=False)
        return tape


def skeleton(tape: Any) -> list[tuple[str, list[Any]]]:  # noqa: ANN401
    """The names and wires of a tape's operations."""
    return [(operation.name, operation.wires.tolist()) for operation in tape.operations]


def values_of(tape: Any) -> list[list[Tensor]]:  # noqa: ANN401
    """The parameters of each operation, as tensors."""
    return [
        [
            value if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value))
            for value in operation.data
        ]
        for operation in tape.operations
    ]


def gate_values(tape: Any) -> list[list[Tensor]]:  # noqa: ANN401
    """The parameters of each gate; none of state preparations and idle operations."""
    found: list[list[Tensor]] = []
    for operation, values in zip(tape.operations, values_of(tape), strict=True):
        if operation.name in (*STATES, *IDLE):
            found.append([])
        elif operation.name not in NAMES:
            raise NotAffine(
                f"the gate {operation.name} is not in the kernel's set and has no decomposition into it"
            )
        else:
            found.append(values)
    return found
