"""PennyLane's operations as steps: gates of our set where they are made of these, else their matrices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qflsec.circuits.errors import NotAffine
from qflsec.circuits.qnode_tape import IDLE, NAMES, STATES
from qflsec.circuits.tapes.structure import Step

__all__ = ["as_tensor", "lower_operations"]

_SMALL = 3
"""Wires up to which a gate without angles is taken by its matrix rather than by its parts."""
_LARGE = 8
_IRREVERSIBLE = ("MidMeasure", "MidMeasureMP", "Conditional", "PauliMeasure", "Projector")


def as_tensor(value: Any) -> Tensor:  # noqa: ANN401 - whatever PennyLane holds
    """A number, an array or a tensor as a tensor."""
    return value if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value))


def lower_operations(
    operations: Iterable[Any], wires: dict[Any, int]
) -> tuple[tuple[Step, ...], list[Tensor]]:
    """The steps of a tape's operations, and their numbers: angles, matrices and amplitudes in this order.

    Numbers have an axis of rows in front where the operations broadcast.

    Raises:
        NotAffine: An operation is no unitary that PennyLane decomposes or has a matrix of.
    """
    import pennylane as qml

    steps: list[Step] = []
    numbers: list[Tensor] = []
    with qml.QueuingManager.stop_recording():
        for operation in operations:
            _lower(operation, wires, steps, numbers)
    return tuple(steps), numbers


def _lower(operation: Any, wires: dict[Any, int], steps: list[Step], numbers: list[Tensor]) -> None:  # noqa: ANN401
    import pennylane as qml

    name = operation.name
    if name in IDLE:
        return
    places = tuple(wires[label] for label in operation.wires)
    if name in NAMES:
        steps.append(Step("gate", places, NAMES[name]))
        numbers.extend(as_tensor(value) for value in operation.data)
    elif name in STATES and not steps:
        steps.append(Step("amplitudes", places))
        numbers.append(as_tensor(operation.data[0]))
    elif isinstance(operation, qml.operation.Channel) or type(operation).__name__ in _IRREVERSIBLE:
        raise NotAffine("the QNode has an operation that is not unitary", got=operation)
    elif not _by_matrix(operation) and operation.has_decomposition:
        for part in operation.decomposition():
            _lower(part, wires, steps, numbers)
    elif operation.has_matrix and len(places) <= _LARGE:
        steps.append(Step("matrix", places))
        numbers.append(as_tensor(operation.matrix()))
    else:
        raise NotAffine(f"the operation {name} has neither a decomposition nor a matrix that is small enough")


def _by_matrix(operation: Any) -> bool:  # noqa: ANN401
    """Whether a matrix is the better of the two.

    It is for constant and controlled gates, which have many parts, and for gates that are given by arrays: what a
    matrix decomposes into has no gradient where angles are not unique.
    """
    import pennylane as qml

    if not operation.has_matrix or len(operation.wires) > _SMALL:
        return False
    many = not operation.num_params or isinstance(operation, qml.ops.Controlled)
    return many or any(getattr(operation, "ndim_params", ()))
