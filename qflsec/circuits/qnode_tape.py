"""The tape of a QNode at given inputs, in our gate set."""

from __future__ import annotations

import itertools
import math
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
        return features, weights

    def far_probes(self) -> list[tuple[Tensor, Tensor]]:
        """Features and weights beyond a turn, or at the ends of where the QNode takes them, of either sign.

        A function that branches on an input takes the other branch there, if it does so for one side of a threshold
        within a turn. What is not defined there, or fails, shows nothing and is left out.
        """
        low, high = self._within or (-2 * math.pi, 2 * math.pi)
        ends = low + 0.02 * (high - low), high - 0.02 * (high - low)
        near_features, near_weights = self.probe(0)
        found = []
        for first, second in itertools.product(ends, ends):
            features = near_features if self._unit else torch.full_like(near_features, first)
            probe = features.detach(), torch.full_like(near_weights, second).detach()
            try:
                tape = self.whole(*probe)
            except CircuitError:
                continue
            if all(value.isfinite().all() for values in values_of(tape) for value in values):
                found.append(probe)
        return found

    def called(self, features: Tensor, weights: Tensor) -> Tensor | None:
        """What a call of the QNode gives; None where it cannot be called, or draws outcomes."""
        if self._qnode.shots.total_shots is not None:  # type: ignore[attr-defined]
            return None
        try:
            with torch.no_grad():
                result = self._qnode(**self._roles.arguments(weights.detach(), features.detach()))
            parts = result if isinstance(result, (tuple, list)) else (result,)
            return torch.cat([torch.as_tensor(value).reshape(-1) for value in parts]).double()
        except Exception:  # noqa: BLE001 - whatever its device cannot do, such as noise channels
            return None

    def whole(self, features: Tensor, weights: Tensor, *, level: str | int = "user") -> Any:  # noqa: ANN401
        """The tape as the user wrote it, with his transforms.

        Raises:
            NotAffine: A transform makes several tapes of it.
            CircuitError: The QNode fails.
        """
        import pennylane as qml

        try:
            arguments = self._roles.arguments(weights, features)
            tapes, _ = qml.workflow.construct_batch(self._qnode, level=level)(**arguments)
        except Exception as error:  # whatever the user's function raises
            raise CircuitError(
                "the QNode fails",
                got=f"{type(error).__name__}: {error}",
                expected=f"{self._sizes[0]} features as {self._roles.features}, "
                + ", ".join(f"{name} of shape {shape}" for name, shape in self._roles.weights),
            ) from error
        if len(tapes) != 1:
            raise NotAffine("a transform makes several circuits of the QNode", got=len(tapes))
        return tapes[0]

    def settle(self, *, level: str | int = "user") -> None:
        """Find features that the QNode takes: any, of norm 1, within (-1, 1) or within (0, 1).

        A QNode that embeds amplitudes may leave their norm to its user, and arccos or a logarithm gives no number
        elsewhere.
        """
        try:
            self.whole(*self.probe(0), level=level)
        except CircuitError as error:
            if not isinstance(error.__cause__, ValueError) or "norm" not in str(error):
                raise
            self._unit = True
            return
        for self._within in (None, (-1.0, 1.0), (0.0, 1.0)):
            tape = self.whole(*self.probe(0), level=level)
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
