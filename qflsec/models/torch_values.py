"""Values of circuits inside a torch module: executed as a run says, for many sets of weights at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor

from qflsec.base.errors import ConfigError, QflsecError
from qflsec.circuits import Circuit, NotAffine
from qflsec.circuits.from_pennylane import read_qnode
from qflsec.circuits.roles import Roles
from qflsec.models.base import EXACT, Execution, Generators, leading_shape
from qflsec.models.execute import measure
from qflsec.models.qnode_call import Mode, QNodeCall, Whole, probe, qnode_call

__all__ = [
    "CircuitValues",
    "Found",
    "QNodeValues",
    "Values",
    "evaluated",
    "is_running",
    "running",
    "values_of",
]

Values = Callable[[Tensor, Tensor], Tensor]
"""Measured values of rows: weights ``(..., P)``, inputs ``(..., F)`` -> ``(..., M)``."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """How the circuits of a module are executed now."""

    execution: Execution = EXACT
    generator: Generators | None = None


_ALONE = _Run()
_RUN: ContextVar[_Run] = ContextVar("run", default=_ALONE)


@contextmanager
def running(execution: Execution = EXACT, generator: Generators | None = None) -> Iterator[None]:
    """Execute the circuits of modules that are called meanwhile.

    Args:
        execution: How.
        generator: The stream of measurement outcomes.
    """
    token = _RUN.set(_Run(execution=execution, generator=generator))
    try:
        yield
    finally:
        _RUN.reset(token)


def is_running() -> bool:
    """Whether a module is called inside of :func:`running`."""
    return _RUN.get() is not _ALONE


def check_exact(name: str) -> None:
    """Refuse what PennyLane would run otherwise than the run says.

    Raises:
        ConfigError: The run is not exact.
    """
    asked = _RUN.get().execution
    if asked.evaluator or asked != Execution(dtype=asked.dtype):
        raise ConfigError(
            f"the module calls QNode {name!r} with other arguments than when it was tried, so PennyLane runs it, exactly",
            got=asked,
            fix="call it with weights and features of the same shapes each time",
        )


def evaluated(values: Values, weights: Tensor, inputs: Tensor) -> Tensor:
    """Values inside a module, which may be called under ``torch.func.vmap``, once or within another."""
    if not (_is_batched(weights) or _is_batched(inputs)):
        return values(weights, inputs)
    rows: Tensor = _Rows.apply(weights, inputs, values)  # type: ignore[no-untyped-call]
    return rows


def _is_batched(tensor: Tensor) -> bool:
    """Whether it stands for many rows."""
    return torch._C._functorch.is_batchedtensor(tensor)  # noqa: SLF001 - torch has no public question


class _Rows(torch.autograd.Function):
    """A circuit under ``torch.func.vmap``: all rows go to the kernel together, outside of it.

    The kernel takes leading axes itself, and samplers, shifted evaluations and evaluators know no ``vmap``. The
    rule is run on the tensors of the level below, the last time on plain ones, and what it computes is recorded by
    autograd as usual, so that no backward pass is written here.
    """

    @staticmethod
    def forward(weights: Tensor, inputs: Tensor, values: Values) -> Tensor:
        return values(weights, inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ANN401 - torch's interface
        pass

    @staticmethod
    def vmap(
        _: Any,  # noqa: ANN401 - torch's interface
        in_dims: tuple[int | None, int | None, None],
        weights: Tensor,
        inputs: Tensor,
        values: Values,
    ) -> tuple[Tensor, int]:
        # what all rows share keeps an axis of length 1, so that its unitaries are built once
        rows, records = (
            tensor[None] if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip((weights, inputs), in_dims[:2], strict=True)
        )
        between = [1] * (records.dim() - rows.dim())
        return evaluated(values, rows.reshape(len(rows), *between, *rows.shape[1:]), records), 0


@dataclass(frozen=True)
class QNodeValues:
    """Values of a QNode that is no circuit: for many records its tapes, or its angles, are computed at once.

    Attributes:
        call: The QNode.
        mode: How rows are evaluated.
    """

    call: QNodeCall
    mode: Mode

    def __call__(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Exact values, differentiated by autograd.

        Shapes:
            weights: ``(..., P)``; inputs: ``(..., F)``; returns: ``(..., M)``
        """
        lead = leading_shape(weights, inputs)
        rows, records = (value.expand(*lead, -1).reshape(-1, value.shape[-1]) for value in (weights, inputs))
        return self.call.rows(rows, records, self.mode).reshape(*lead, -1)


@dataclass(frozen=True)
class CircuitValues:
    """Values of a circuit.

    Attributes:
        circuit: The circuit.
        execution: Noise and gradient of its own, which the run's execution is joined with.
    """

    circuit: Circuit
    execution: Execution = EXACT

    def __call__(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Values as the run executes circuits.

        Shapes:
            weights: ``(..., P)``; inputs: ``(..., F)``; returns: ``(..., M)``

        Raises:
            ConfigError: Both the circuit and the run have noise.
        """
        run = _RUN.get()
        own, asked = self.execution, run.execution
        if own.noise is not None and asked.noise is not None:
            raise ConfigError(
                "a quantum layer of the module has noise of its own",
                got=asked.noise,
                fix="remove one of them",
            )
        execution = replace(
            asked,
            dtype="complex128" if weights.dtype == torch.float64 else "complex64",
            gradient=own.gradient if asked.gradient == "autograd" else asked.gradient,
            noise=own.noise or asked.noise,
        )
        return measure(self.circuit, weights, inputs, execution, run.generator)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What evaluates a QNode inside a module.

    Attributes:
        values: Its values.
        n_values: How many there are, M.
        reason: Why it is no circuit; None where it is one.
    """

    values: Values
    n_values: int
    reason: str | None = None


def values_of(qnode: Any, roles: Roles, n_features: int) -> Found:  # noqa: ANN401 - a user's object
    """What evaluates a QNode: the kernel, or what computes its tapes for many records at once.

    Raises:
        NotAffine: PennyLane alone can; the message says why it is no circuit.
    """
    try:
        read = read_qnode(qnode, roles, n_features)
    except QflsecError as error:
        return _without_circuit(qnode, roles, n_features, error)
    return Found(
        values=CircuitValues(read.circuit, Execution(noise=read.noise)),
        n_values=len(read.circuit.observables),
    )


def _without_circuit(qnode: Any, roles: Roles, n_features: int, reason: QflsecError) -> Found:  # noqa: ANN401
    try:
        call = qnode_call(qnode, roles, n_features)
        found = probe(call, roles.n_weights, n_features)
    except QflsecError as error:
        raise NotAffine(reason.what) from error
    if found.mode in get_args(Whole):
        raise NotAffine(reason.what)
    return Found(values=QNodeValues(call, found.mode), n_values=found.n_values, reason=reason.what)
