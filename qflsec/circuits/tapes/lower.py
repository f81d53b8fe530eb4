"""PennyLane's operations as steps: gates of our set where they are made of these, else their matrices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from qflsec.circuits.errors import NotAffine
from qflsec.circuits.qnode_tape import IDLE, NAMES, STATES
from qflsec.circuits.tapes.structure import Step

__all__ = ["as_tensor", "lower_operations"]

_SMALL = 3
"""Wires up to which a gate without angles is taken by its matrix rather than by its parts."""
_LARGE = 8
_ENVIRONMENT = 2
"""Wires that environments may have in any case; else as many as the circuit, where a density matrix is as large."""
_IRREVERSIBLE = ("MidMeasure", "MidMeasureMP", "Conditional", "PauliMeasure")


def as_tensor(value: Any) -> Tensor:  # noqa: ANN401 - whatever PennyLane holds
    """A number, an array or a tensor as a tensor."""
    return value if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value))


def lower_operations(
    operations: Iterable[Any], wires: dict[Any, int]
) -> tuple[tuple[Step, ...], list[Tensor], int]:
    """The steps of a tape's operations, their numbers (angles, matrices and amplitudes in this order), and the wires they take.

    Numbers have an axis of rows in front where the operations broadcast. A channel takes wires of its own for its
    environment, which start in state 0 and are never measured (Stinespring): behind those of the tape.

    Raises:
        NotAffine: An operation is no unitary that PennyLane decomposes or has a matrix of, or channels take too many wires.
    """
    import pennylane as qml

    steps: list[Step] = []
    numbers: list[Tensor] = []
    taken = len(wires)
    with qml.QueuingManager.stop_recording():
        for operation in operations:
            if isinstance(operation, qml.operation.Channel):
                places = tuple(wires[label] for label in operation.wires)
                matrix, more = _dilation(_kraus(operation))
                steps.append(Step("matrix", (*range(taken, taken + more), *places)))
                numbers.append(matrix)
                taken += more
            else:
                _lower(operation, wires, steps, numbers)
    if taken - len(wires) > max(_ENVIRONMENT, len(wires)):
        raise NotAffine(
            "the QNode's channels have too large an environment", got=f"{taken - len(wires)} qubits"
        )
    return tuple(steps), numbers, taken


def _kraus(channel: Any) -> list[Tensor]:  # noqa: ANN401
    """The Kraus matrices of a channel; with an axis of rows in front where its strength has one.

    PennyLane gives those of one strength at a time, as it looks at the number.
    """
    strengths = [as_tensor(one) for one in channel.data]
    rows = max((len(one) for one in strengths if one.dim() == 1), default=0)
    if not rows:
        return [as_tensor(one) for one in channel.kraus_matrices()]
    each = [
        [as_tensor(one) for one in type(channel).compute_kraus_matrices(*own)]
        for own in zip(*(one.expand(rows).unbind() for one in strengths), strict=True)
    ]
    return [torch.stack(alike) for alike in zip(*each, strict=True)]


def _dilation(kraus: list[Tensor]) -> tuple[Tensor, int]:
    """A channel as a matrix on an environment that starts in state 0, and the environment's wires, which come first.

    Column ``(0, b)`` holds the entries ``K_a[:, b]`` in the rows ``(a, :)``; nothing is in the other columns.
    """
    size, more = kraus[0].shape[-1], max(1, (len(kraus) - 1).bit_length())
    isometry = torch.cat(kraus, dim=-2)
    missing = 2**more * size - isometry.shape[-2]
    return pad(isometry, (0, (2**more - 1) * size, 0, missing)), more


def _lower(operation: Any, wires: dict[Any, int], steps: list[Step], numbers: list[Tensor]) -> None:  # noqa: ANN401

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
    elif name == "Projector":  # the kept outcome of a measurement
        steps.append(Step("matrix", places, name))
        numbers.append(as_tensor(operation.matrix()))
    elif type(operation).__name__ in _IRREVERSIBLE:
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
