"""QNodes whose functions branch: a record's branch is told for all records at once, and each is read once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qflsec.circuits.branches import Branches, RowValues
from qflsec.circuits.errors import NotAffine
from qflsec.circuits.from_pennylane import roles_of
from qflsec.models.qnode_call import QNodeCall, qnode_call

WIRES, FEATURES, WEIGHTS = 2, 3, 2
LIMIT = 0.25


def deciding(x: Tensor, weights: Tensor) -> Any:
    """A branch on a record, one within it on a weight, and a loop whose length a record sets."""
    qml.RY(weights[0], 0)
    if x[0] > 0 and x[1] < x[2]:
        qml.CNOT([0, 1])
        qml.RX(x[1], 1)
        if weights[1] < 0:
            return qml.expval(qml.PauliX(1))
    else:
        for _ in range(int(2.5 * torch.sigmoid(x[2]))):
            qml.RY(x[2] * weights[1], 1)
    return qml.expval(qml.PauliZ(0) @ qml.PauliZ(1))


def numbers(x: Tensor, weights: Tensor) -> Any:
    """Python's numbers of a record."""
    half = float(x[0]) / 2 + float("0.1")
    if half > LIMIT or x[1].item() < -0.3:
        qml.RX(weights[0] * x[2], 0)
    qml.RY(weights[1] + x[2].item(), 0)
    qml.RY(weights[0], 1)
    qml.CNOT([0, 1])
    return qml.expval(qml.PauliZ(1))


def choosing(x: Tensor, weights: Tensor) -> Any:
    """A wire that a record names, and a measurement that is no circuit's."""
    qml.RX(x[0] + weights[0], int(torch.argmax(x[:2])))
    qml.RY(weights[1], (x[2] > 0).long().item())
    return qml.var(qml.PauliZ(0))


def node_of(function: Callable[..., Any]) -> Any:
    return qml.QNode(function, qml.device("default.qubit", wires=WIRES))


def call_of(function: Callable[..., Any]) -> QNodeCall:
    node = node_of(function)
    return qnode_call(node, roles_of(node, n_weights=WEIGHTS), FEATURES)


CALLS = {function: call_of(function) for function in (deciding, numbers, choosing)}


@pytest.mark.parametrize("function", CALLS)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 8))
def test_values_and_slopes_are_those_of_single_calls(function: Any, seed: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    w, x = (torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (WEIGHTS, FEATURES))
    call, found = CALLS[function], []
    for mode in ("branches", "loop"):
        leaf = w.clone().requires_grad_()
        values = call.rows(leaf, x, mode)  # type: ignore[arg-type]
        found.append((values.detach(), *torch.autograd.grad(values.sin().sum(), leaf)))
    assert all(torch.allclose(own, other, atol=1e-6) for own, other in zip(*found, strict=True))


def test_each_branch_is_read_once_when_a_record_takes_it_and_copies_keep_it() -> None:
    read: list[Any] = []

    def values(qnode: Any) -> RowValues:
        read.append(qnode)
        return lambda w, _: torch.full((len(w), 1), float(len(read)))

    node = node_of(lambda x, weights: qml.RX(weights[0], 0) if x[0] > 0 else qml.RY(weights[0], 1))
    branches = Branches(node, roles_of(node, n_weights=1), values=values, others=values(node))
    read.clear()
    up, down = torch.ones(3, 1), -torch.ones(2, 1)
    weights = torch.zeros(5, 1)
    branches(weights[:3], up)
    assert len(read) == 1
    branches(weights, torch.cat([down, up]))
    assert len(read) == 2
    copy.deepcopy(branches)(weights, torch.cat([up, down]))
    assert len(read) == 2


def test_more_branches_than_are_read_and_values_outside_of_torch_are_left_to_single_calls() -> None:
    def counting(x: Tensor, weights: Tensor) -> Any:
        for _ in range(int(x[0])):
            qml.RX(weights[0], 0)
        return qml.expval(qml.PauliZ(0))

    def leaving(x: Tensor, weights: Tensor) -> Any:
        if x[0] > 20 and np.interp(float(x[0]), [0, 40], [0, 1]) > 0:
            qml.PauliX(0)
        qml.RX(weights[0] * x[0], 0)
        return qml.expval(qml.PauliZ(0))

    records = torch.arange(40.0)[:, None]
    for function, read, left in ((counting, 32, 8), (leaving, 1, 19)):
        branches, others = counted(function, ones)
        branches(torch.ones(40, 1), records)
        assert others == [1] * read + [left]  # each branch is compared with a single call


def test_a_branch_that_is_not_the_qnodes_own_is_left_to_single_calls() -> None:
    def signed(x: Tensor, weights: Tensor) -> Any:
        qml.RX(weights[0], 0 if x[0] > 0 else 1)
        return qml.expval(qml.PauliZ(0))

    branches, others = counted(signed, lambda w, _: torch.zeros(len(w), 1))
    assert branches(torch.ones(3, 1), torch.ones(3, 1)).sum() == 3
    assert others == [1, 3]


def ones(weights: Tensor, _: Tensor) -> Tensor:
    return torch.ones(len(weights), 1)


def counted(function: Callable[..., Any], values: RowValues) -> tuple[Branches, list[int]]:
    """Branches with given values, and how many rows were left to single calls, which give 1 for each."""
    node, others = node_of(function), list[int]()

    def single(weights: Tensor, features: Tensor) -> Tensor:
        others.append(len(weights))
        return ones(weights, features)

    return Branches(node, roles_of(node, n_weights=1), values=lambda _: values, others=single), others


def test_a_function_that_asks_nothing_has_no_branches() -> None:
    def plain(x: Tensor, weights: Tensor) -> Any:
        qml.RX(x[0] * weights[0], 0)
        return qml.expval(qml.PauliZ(0))

    with pytest.raises(NotAffine, match="asks for no value"):
        call_of(plain).rows(torch.ones(1, WEIGHTS), torch.ones(1, FEATURES), "branches")
