"""Values of a QNode for many rows of inputs, its tapes being executed here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from qflsec.circuits.roles import Roles
from qflsec.circuits.tapes.build import Said, say, stacked
from qflsec.circuits.tapes.program import load_tape

__all__ = ["Building", "tape_values"]

Building = Literal["broadcast", "vmap", "rows"]
"""How the user's function is run for many rows: all at once on batched arguments, under ``torch.func.vmap``, or one
after the other."""


def tape_values(
    qnode: Any,  # noqa: ANN401
    roles: Roles,
    weights: Tensor,
    features: Tensor,
    building: Building,
) -> Tensor:
    """Measured values of rows of inputs, differentiable any number of times, in the precision of the weights.

    Args:
        qnode: A QNode without shots.
        roles: What each of its arguments takes.
        weights: Flat weights.
        features: Features.
        building: How its function is run.

    Shapes:
        weights ``(N, P)``, features ``(N, F)`` -> ``(N, M)``.

    Raises:
        NotAffine: An operation is not unitary, or a measurement is no function of the state.
        Exception: Whatever the function or a broadcasting operation raises on a batch.
    """
    if building == "rows":
        return _row_by_row(qnode, roles, weights, features)
    if len(weights) == 1:  # PennyLane takes a batch of one for none in places
        twice = tape_values(qnode, roles, weights.expand(2, -1), features.expand(2, -1), building)
        return twice[:1]
    tapes, post = (_vmapped if building == "vmap" else say)(qnode, roles, weights, features)
    results = tuple(_result(_execute(tape, len(weights), weights)) for tape in tapes)
    return _columns(post(results)[0], len(weights))


def _execute(said: Said, rows: int, like: Tensor) -> list[Tensor]:
    structure, numbers = said.lower()
    return load_tape(structure, like.dtype, like.device)(numbers, rows)


def _result(values: list[Tensor]) -> Any:  # noqa: ANN401 - what PennyLane hands to post-processing
    return values[0] if len(values) == 1 else tuple(values)


def _vmapped(
    qnode: Any,  # noqa: ANN401
    roles: Roles,
    weights: Tensor,
    features: Tensor,
) -> tuple[list[Said], Callable[..., Any]]:
    """The tapes of all rows: the function runs once, on tensors that stand for all of them."""
    told: list[tuple[list[Said], Callable[..., Any]]] = []

    def numbers(weights: Tensor, features: Tensor) -> list[Tensor]:
        told.append(say(qnode, roles, weights, features))
        return [
            value
            for said in told[0][0]
            for value in (*said.leaves, *said.numbers)
            if isinstance(value, Tensor)
        ]

    batched = iter(torch.func.vmap(numbers)(weights, features))
    said, post = told[0]

    def spread(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(next(batched) if isinstance(value, Tensor) else value for value in values)

    return [
        Said(one.form, spread(one.leaves), one.wires, one.measured, spread(one.numbers)) for one in said
    ], post


def _row_by_row(qnode: Any, roles: Roles, weights: Tensor, features: Tensor) -> Tensor:  # noqa: ANN401
    """The function runs for each row; equal tapes are executed together."""
    calls = [say(qnode, roles, w, x) for w, x in zip(weights.unbind(), features.unbind(), strict=True)]
    groups: dict[Any, list[tuple[int, int]]] = {}
    for row, (tapes, _) in enumerate(calls):
        for place, said in enumerate(tapes):
            groups.setdefault(said.key, []).append((row, place))
    found: dict[tuple[int, int], Any] = {}
    for members in groups.values():
        batch = stacked([calls[row][0][place] for row, place in members])
        values = [value.unbind() for value in _execute(batch, len(members), weights)]
        for member, own in zip(members, zip(*values, strict=True), strict=True):
            found[member] = _result(list(own))
    return torch.stack(
        [
            _columns(post(tuple(found[row, place] for place in range(len(tapes))))[0], None)
            for row, (tapes, post) in enumerate(calls)
        ]
    )


def _columns(result: Any, rows: int | None) -> Tensor:  # noqa: ANN401 - what QNodes return
    """Values along a last axis, behind the axis of rows if there is one."""
    lead = () if rows is None else (rows,)
    parts = [torch.as_tensor(value) for value in (result if isinstance(result, (tuple, list)) else (result,))]
    return torch.cat([part.reshape(*lead, -1) for part in parts], dim=-1)
