"""Calling a user's QNode for many rows: for its angles alone, for its tapes, or whole in PennyLane."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from qflsec.base.errors import ConfigError
from qflsec.base.randomness import stream
from qflsec.circuits import NotAffine
from qflsec.circuits.branches import Branches, RowValues
from qflsec.circuits.executors import exact_expectations, exact_noisy_expectations
from qflsec.circuits.from_pennylane import Reading, read_qnode
from qflsec.circuits.roles import Roles
from qflsec.circuits.staying import staying
from qflsec.circuits.tapes import Building, tape_values

__all__ = ["Mode", "Probe", "QNodeCall", "Whole", "probe", "qnode_call"]

Here = Literal["angles", "branches", "tapes", "tapes-vmap", "tapes-kept", "tapes-rows"]
Whole = Literal["broadcast", "vmap", "loop"]
Mode = Literal[Here, Whole]
"""How rows are evaluated, the fastest first: the kernel runs the QNode's gates at the angles that its function gives;
rows that take one branch of it are evaluated together, in the fastest way of that branch (:mod:`qflsec.circuits.branches`);
PennyLane builds tapes for all rows, by broadcasting, by ``torch.func.vmap``, so that values stay in torch that the function
takes out of it (:mod:`qflsec.circuits.staying`), or row by row, and they are executed here (:mod:`qflsec.circuits.tapes`); or PennyLane executes them too, in the same three ways."""

_BUILDING: dict[Mode, Building] = {
    "tapes": "broadcast",
    "tapes-vmap": "vmap",
    "tapes-kept": "vmap",
    "tapes-rows": "rows",
}
_ROWS = 3
_STEP = 1e-2


@dataclass(frozen=True)
class QNodeCall:
    """A QNode as a function of flat weights and features.

    Attributes:
        qnode: The QNode.
        roles: What each of its arguments takes.
        n_features: Features per record.
        reading: Its circuit, some of whose angles it gives itself; None if it has none.
    """

    qnode: Callable[..., Any]
    roles: Roles
    n_features: int
    reading: Reading | None = None

    def one(self, weights: Tensor, features: Tensor) -> Tensor:
        """One row: ``(P,)``, ``(F,)`` -> ``(M,)``."""
        return _stack(self._call(weights, features), axes=0)

    def rows(self, weights: Tensor, features: Tensor, mode: Mode) -> Tensor:
        """Rows ``(N, P)``, ``(N, F)`` -> ``(N, M)``."""
        if mode == "angles":
            return self._through_kernel(weights, features)
        if mode == "branches":
            return self.branches(weights, features)
        if mode in _BUILDING:
            qnode = self._kept if mode == "tapes-kept" else self.qnode
            return tape_values(qnode, self.roles, weights, features, _BUILDING[mode])
        if mode == "broadcast":
            once = len(weights) == 1  # PennyLane takes a batch of one for none in places
            if once:
                weights, features = weights.expand(2, -1), features.expand(2, -1)
            values = _stack(self._call(weights, features), axes=1)
            return values[:1] if once else values
        if mode == "vmap":
            return torch.func.vmap(self.one)(weights, features)
        return torch.stack([self.one(w, x) for w, x in zip(weights, features, strict=True)])

    @cached_property
    def _kept(self) -> Any:  # noqa: ANN401 - PennyLane's
        return staying(self.qnode)

    @cached_property
    def branches(self) -> Branches:
        """The branches of the QNode's function, as far as rows have taken them."""

        def fastest(qnode: Any) -> RowValues:  # noqa: ANN401 - PennyLane's
            call = qnode_call(qnode, self.roles, self.n_features)
            mode = probe(call, self.roles.n_weights, self.n_features).mode
            return partial(call.rows, mode=mode)

        others = partial(self.rows, mode="tapes-rows")
        return Branches(self.qnode, self.roles, values=fastest, others=others)

    def _through_kernel(self, weights: Tensor, features: Tensor) -> Tensor:
        """The kernel's gates, at the angles that the QNode's own function gives."""
        if self.reading is None:
            raise ConfigError("the QNode has no circuit")
        features = torch.func.vmap(self.reading.inputs)(features, weights)
        dtype = torch.complex128 if weights.dtype == torch.float64 else torch.complex64
        circuit, noise = self.reading.circuit, self.reading.noise
        if noise is None:
            return exact_expectations(circuit, weights, features, dtype=dtype)
        return exact_noisy_expectations(circuit, weights, features, noise=noise, dtype=dtype)

    def _call(self, weights: Tensor, features: Tensor) -> Any:  # noqa: ANN401 - what QNodes return
        return self.qnode(**self.roles.arguments(weights, features))


def qnode_call(qnode: Any, roles: Roles, n_features: int) -> QNodeCall:  # noqa: ANN401 - a user's object
    """A QNode that is no circuit, with its gates where these are a circuit's.

    Raises:
        CircuitError: The QNode fails at the sizes given.
    """
    try:
        return QNodeCall(qnode, roles, n_features, read_qnode(qnode, roles, n_features, partly=True))
    except NotAffine:
        return QNodeCall(qnode, roles, n_features)


def _stack(result: Any, axes: int) -> Tensor:  # noqa: ANN401 - what QNodes return
    """Measured values along a last axis, after ``axes`` axes of rows."""
    parts = [torch.as_tensor(value) for value in (result if isinstance(result, (tuple, list)) else (result,))]
    rows = max(value.shape[:axes] for value in parts)  # a value that no input reaches has no axis of rows
    columns = [value if value.dim() == axes + 1 else value.expand(rows).unsqueeze(-1) for value in parts]
    return torch.cat(columns, dim=-1)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a few calls of a QNode showed.

    Attributes:
        mode: The fastest mode that gives the values and gradients of single calls.
        n_values: Measured values, M.
        milliseconds: CPU time of one record, forward and backward, in this mode.
    """

    mode: Mode
    n_values: int
    milliseconds: float


def probe(call: QNodeCall, n_params: int, n_features: int) -> Probe:
    """Find the fastest mode that is right: it gives the values of single calls, and their change along the weights.

    Raises:
        ConfigError: The QNode fails on a single record, or no mode gives the derivative of its values.
    """
    generator = stream(0, "qnode-probe")
    weights = torch.rand(_ROWS, n_params, generator=generator, dtype=torch.float64)
    features = torch.rand(_ROWS, n_features, generator=generator, dtype=torch.float64)
    try:
        values = call.rows(weights, features, "loop").detach()
        reference = None if values.is_complex() else _Reference(call, weights, features, values)
    except Exception as error:
        raise ConfigError(
            "the QNode fails on one record",
            got=f"{type(error).__name__}: {error}",
            fix=f"it must take {call.roles.features} of shape ({n_features},), "
            + ", ".join(f"{name} of shape {shape}" for name, shape in call.roles.weights),
        ) from error
    if reference is None:
        raise ConfigError(
            "the QNode returns complex numbers, such as a state",
            expected="real numbers",
            fix="return expectation values or probabilities",
        )
    for mode in get_args(Mode):
        try:
            found = _evaluate(call, weights, features, mode)
        except Exception:  # noqa: BLE001, S112 - whatever stops this mode, the next one is tried
            continue
        if reference.agrees(*found):
            break
    else:
        raise ConfigError(
            "the QNode has no derivative in its weights",
            expected="the change of its values along its weights, which torch does not give",
            fix="keep weights in torch in its function: no float(), tolist(), numpy() or rounding of them",
        )
    many = 1 if mode == "loop" else 8  # a batch of usual size, over which its cost is shared
    start = time.process_time()
    _evaluate(call, weights.repeat(many, 1), features.repeat(many, 1), mode)
    elapsed = time.process_time() - start
    return Probe(mode=mode, n_values=reference.values.shape[-1], milliseconds=1e3 * elapsed / (many * _ROWS))


class _Reference:
    """Values of single calls and their change along a direction of the weights, by differences.

    Torch's own derivative of single calls is the closer reference where it exists; it does not where the function
    takes weights out of torch.
    """

    def __init__(self, call: QNodeCall, weights: Tensor, features: Tensor, values: Tensor) -> None:
        generator = stream(1, "qnode-probe")
        self._direction = torch.randn(weights.shape, generator=generator, dtype=weights.dtype)
        self._direction /= self._direction.norm(dim=-1, keepdim=True).clamp_min(1.0)
        self.values = values

        def at(step: float) -> Tensor:
            return _weighted(call.rows(weights + step * self._direction, features, "loop")).detach()

        # five points: some devices round to single precision, so that the step cannot be small
        self._change = (8 * (at(_STEP) - at(-_STEP)) - at(2 * _STEP) + at(-2 * _STEP)) / (12 * _STEP)
        self._gradient = None
        try:
            _, gradient = _evaluate(call, weights, features, "loop")
        except RuntimeError:
            return
        if self._along(gradient):
            self._gradient = gradient

    def agrees(self, values: Tensor, gradient: Tensor) -> bool:
        """Whether a mode gives the same: values ``(N, M)``, gradient ``(N, P)``."""
        if values.shape != self.values.shape or not torch.allclose(values, self.values, atol=1e-5):
            return False
        if self._gradient is not None and not torch.allclose(gradient, self._gradient, atol=1e-5):
            return False
        return self._along(gradient)

    def _along(self, gradient: Tensor) -> bool:
        return torch.allclose((gradient * self._direction).sum(-1), self._change, atol=1e-3, rtol=1e-3)


def _weighted(values: Tensor) -> Tensor:
    """One number for each row, in which every value counts differently: ``(N, M)`` -> ``(N,)``."""
    slopes = torch.arange(1, values.numel() + 1, dtype=values.dtype).reshape(values.shape)
    return (values * slopes).sum(-1)


def _evaluate(call: QNodeCall, weights: Tensor, features: Tensor, mode: Mode) -> tuple[Tensor, Tensor]:
    leaf = weights.clone().requires_grad_()
    values = call.rows(leaf, features, mode)
    (gradient,) = torch.autograd.grad(_weighted(values).sum(), leaf)
    return values.detach(), gradient
