"""What a QNode's function says for many rows of inputs, as few batches of equal tapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qflsec.circuits.errors import NotAffine
from qflsec.circuits.roles import Roles
from qflsec.circuits.tapes.lower import as_tensor, lower_operations
from qflsec.circuits.tapes.measured import read_measurement
from qflsec.circuits.tapes.structure import Measured, Structure

__all__ = ["Said", "say", "stacked"]


@dataclass(frozen=True)
class Said:
    """One tape, as the user's function and his transforms leave it.

    Attributes:
        form: Its operations without their numbers; equal for tapes that differ in numbers alone.
        leaves: The operations' numbers.
        wires: The places of its wires.
        measured: What it measures.
        numbers: The measurements' numbers.
    """

    form: Any
    leaves: tuple[Any, ...]
    wires: tuple[tuple[Any, int], ...]
    measured: tuple[Measured, ...]
    numbers: tuple[Tensor, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """What tapes of one batch have in common, numbers that depend on no input included."""
        shapes = tuple(tuple(one.shape) if isinstance(one, Tensor) else None for one in self.leaves)
        return self.form, shapes, self.wires, self.measured

    def lower(self) -> tuple[Structure, list[Tensor]]:
        """Its structure and all numbers: those of the steps, then those of the measurements."""
        import pennylane as qml

        wires = dict(self.wires)
        steps, numbers, taken = lower_operations(qml.pytrees.unflatten(self.leaves, self.form), wires)
        measured = tuple(one.beside(taken - len(wires)) for one in self.measured)
        return Structure(taken, steps, measured), [*numbers, *self.numbers]


def say(
    qnode: Any,  # noqa: ANN401
    roles: Roles,
    weights: Tensor,
    features: Tensor,
) -> tuple[list[Said], Callable[[Sequence[Any]], Any]]:
    """The tapes of one call, and what makes the call's result of theirs.

    Raises:
        NotAffine: A measurement is no function of a state.
    """
    import pennylane as qml

    arguments = roles.arguments(weights, features)
    tapes, post = qml.workflow.construct_batch(qnode, level="user")(**arguments)
    return [_said(tape, qnode.device.wires) for tape in tapes], post


def _said(tape: Any, device_wires: Any) -> Said:  # noqa: ANN401
    import pennylane as qml

    inner = [one for one in tape.operations if type(one).__name__ in ("MidMeasure", "MidMeasureMP")]
    if inner:
        (tape,), _ = qml.defer_measurements(tape)
    wires = {label: place for place, label in enumerate(_labels(tape, device_wires))}
    leaves, form = qml.pytrees.flatten(tape.operations)
    measured, numbers = [], []
    for measurement in tape.measurements:
        one, own = read_measurement(measurement, wires)
        measured.append(one)
        numbers += own
    return Said(form, tuple(leaves), tuple(wires.items()), tuple(measured), tuple(numbers))


def _labels(tape: Any, device_wires: Any) -> list[Any]:  # noqa: ANN401
    """The wires in the order in which a measurement of all of them reads them; the tape's own, if none does."""
    labels = list(tape.wires)
    if all(measurement.wires for measurement in tape.measurements):
        return labels
    if device_wires:
        return [*device_wires, *(label for label in labels if label not in device_wires)]
    return list(range(len(labels))) if set(labels) == set(range(len(labels))) else labels


def stacked(rows: Sequence[Said]) -> Said:
    """Tapes with one key as one tape that broadcasts.

    Raises:
        NotAffine: They differ in what cannot be stacked.
    """
    first = rows[0]
    if len(rows) == 1:
        return first
    leaves = [_stack_values(own) for own in zip(*(row.leaves for row in rows), strict=True)]
    numbers = [torch.stack(own) for own in zip(*(row.numbers for row in rows), strict=True)]
    return Said(first.form, tuple(leaves), first.wires, first.measured, tuple(numbers))


def _stack_values(values: Sequence[Any]) -> Any:  # noqa: ANN401
    """Numbers of all rows, or the one that all of them are."""
    if isinstance(values[0], Tensor):
        return torch.stack(list(values))
    if all(np.array_equal(values[0], value) for value in values):
        return values[0]
    try:
        return torch.stack([as_tensor(value) for value in values])
    except (TypeError, RuntimeError) as error:
        raise NotAffine("the QNode's operations differ in what is no number", got=values[0]) from error
