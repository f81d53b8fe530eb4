"""What torch shows while a party works: the records that its module is called with, gradients, steps of the optimiser.

The truth that attacks are scored against comes from here. It stays with the auditor: no view holds it.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn import functional
from torch.nn.modules.loss import _Loss
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

from qflsec.audit.flower.private import PrivateWatch
from qflsec.audit.flower.recording import SERVER, Batch, Seen, Step
from qflsec.audit.parts import Array

__all__ = ["Watch", "matched"]

_LOSSES = {
    getattr(functional, name): name
    for name in ("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
                 "binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin_loss",
                 "multi_margin_loss", "hinge_embedding_loss", "kl_div", "gaussian_nll_loss")
}  # fmt: skip
_PREDICTIONS = {torch.argmax, Tensor.argmax, torch.max, Tensor.max}
_COMPARISONS = {torch.eq, Tensor.eq, Tensor.__eq__, torch.ne, Tensor.ne, Tensor.__ne__}
_MOST_BYTES = 2**29
_NUMBERS = ("lr", "momentum", "weight_decay", "betas")


class _Functions(TorchFunctionMode):
    """Sees every loss that is computed and every prediction that is compared, from wherever it was imported."""

    def __init__(self, told: Callable[[str, Any], None]) -> None:
        super().__init__()
        self._told = told
        self._predicted: Any = None

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - torch's interface
        types: Any,  # noqa: ANN401
        args: Any = (),  # noqa: ANN401
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        words = dict(kwargs or {})
        if func in _LOSSES:
            self._told(_LOSSES[func], args[1] if len(args) > 1 else words.get("target"))
        elif func in _COMPARISONS and len(args) > 1:
            both = [value for value in args[:2] if value is not self._predicted]
            if len(both) == 1:  # the other one is the label
                self._told("", both[0])
        found = func(*args, **words)
        if func in _PREDICTIONS:
            self._predicted = found if isinstance(found, Tensor) else found.indices
        return found


class Watch:
    """Watches torch in this process.

    Attributes:
        seen: What was seen, by round, party and kind of message.
        features: Each record by digest, as long as there is room for it.
        labels: Its label, where a loss or a comparison with the prediction showed it.
        modules: The modules that were called from outside, by class, as they were when first called.
    """

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int, str], Seen] = {}
        self.features: dict[bytes, Array] = {}
        self.labels: dict[bytes, float] = {}
        self.modules: dict[type, nn.Module] = {}
        self._room = _MOST_BYTES
        self._now: Seen | None = None
        self._who = SERVER
        self._depth = 0
        self._parameters: set[int] = set()
        self._last: Batch | None = None
        self._threads: set[int] = set()
        self._private = PrivateWatch(self._epsilon)
        self._stack = ExitStack()

    @contextmanager
    def party(self, index: int, node: int, kind: str) -> Iterator[None]:
        """Whatever torch does meanwhile is done by this party."""
        self._private.begin(self._stack)
        before = self._now, self._who, self._depth
        self._now = self.seen.setdefault((index, node, kind), Seen())
        self._who, self._depth, self._last = node, 0, None
        try:
            with self._functions():
                yield
        finally:
            self._now, self._who, self._depth = before

    @contextmanager
    def _functions(self) -> Iterator[None]:
        """The mode belongs to a thread: entered once in each."""
        thread = threading.get_ident()
        with ExitStack() as stack:
            if thread not in self._threads:
                self._threads.add(thread)
                stack.callback(self._threads.discard, thread)
                stack.enter_context(_Functions(self._label))
            yield

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on all modules and optimisers, taken off again."""
        with ExitStack() as stack:
            for handle in (
                register_module_forward_pre_hook(self._enter),
                register_module_forward_hook(self._leave, always_call=True),
                register_optimizer_step_pre_hook(self._step),
            ):
                stack.callback(handle.remove)
            self._stack = stack
            yield

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if not isinstance(module, _Loss):
            self._depth += 1

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        if isinstance(module, _Loss):
            return
        self._depth -= 1
        if self._depth or self._now is None:
            return
        given = next((value for value in args if isinstance(value, Tensor) and value.dim()), None)
        if given is None or is_functorch_wrapped_tensor(
            given
        ):  # Opacus calls layers again for single gradients
            return
        if (
            given.grad_fn is not None and self._last is not None
        ):  # the second half of a model, called on its own
            self._mark(output, self._last)
            return
        if type(module) not in self.modules:
            with suppress(Exception):  # a module that cannot be copied cannot be attacked either
                self.modules[type(module)] = _copied(module)
        self._parameters = {id(parameter) for parameter in module.parameters()}
        batch = Batch(rows=tuple(self._keep(row) for row in given.detach().cpu().numpy()))
        self._now.batches.append(batch)
        self._last = batch
        self._mark(output, batch)

    @staticmethod
    def _mark(output: Any, batch: Batch) -> None:  # noqa: ANN401
        """Note when a gradient comes back through the output."""
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(lambda _: setattr(batch, "trained", True))  # type: ignore[no-untyped-call]

    def _keep(self, row: Array) -> bytes:
        row = np.ascontiguousarray(row)
        with np.errstate(
            over="ignore"
        ):  # one digest of a record, whatever floats a party keeps it in; -0 is 0
            values = row.astype(np.float32) + np.float32(0) if row.dtype.kind == "f" else row
        digest = hashlib.blake2b(values.tobytes(), digest_size=16).digest()
        if digest not in self.features and self._room >= row.nbytes:
            self._room -= row.nbytes
            self.features[digest] = row.copy()
        return digest

    def _label(self, loss: str, labels: Any) -> None:  # noqa: ANN401
        """Note what the last batch's records are labelled, and the loss that showed it."""
        batch = self._last
        if batch is None or not isinstance(labels, Tensor) or len(labels.reshape(-1)) != len(batch.rows):
            return
        batch.loss = loss or batch.loss
        for digest, label in zip(batch.rows, labels.detach().reshape(-1).tolist(), strict=True):
            self.labels[digest] = label

    def _step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ANN401
        if self._now is None or not optimizer.param_groups:
            return
        group = optimizer.param_groups[0]
        settings = tuple(
            (name, float(group[name])) for name in _NUMBERS if isinstance(group.get(name), int | float)
        )
        held = {id(parameter) for one in optimizer.param_groups for parameter in one["params"]}
        self._now.steps.append(
            Step(
                optimizer=type(optimizer).__name__,
                settings=settings,
                moves_model=bool(held & self._parameters),
            )
        )
        private = self._private.step(optimizer, len(self._last.rows) if self._last is not None else 0)
        if private is not None:
            self._now.private.append(private)

    def _epsilon(self, epsilon: float, delta: float) -> None:
        if self._now is not None:
            self._now.told.append((epsilon, delta))


def _copied(module: nn.Module) -> nn.Module:
    """A copy, without what Opacus hangs on a module that it wraps."""
    made = copy.deepcopy(module)
    if hasattr(made, "autograd_grad_sample_hooks") and isinstance(made._module, nn.Module):  # noqa: SLF001
        made = made._module  # noqa: SLF001
        for one in made.modules():
            one._forward_hooks.clear()  # noqa: SLF001
            one._backward_hooks.clear()  # noqa: SLF001
            one._is_full_backward_hook = None  # noqa: SLF001
            for name in ("autograd_grad_sample_hooks", "activations", "max_batch_len"):
                one.__dict__.pop(name, None)
    for parameter in made.parameters():
        parameter.grad = None
    return made


def matched(modules: Mapping[type, nn.Module], arrays: Mapping[str, Array]) -> nn.Module | None:
    """The module whose state has the shapes of these arrays, or whose parameters have; None where none has."""
    shapes = [tuple(value.shape) for value in arrays.values()]
    for module in modules.values():
        for held in (module.state_dict(), dict(module.named_parameters())):
            if [tuple(value.shape) for value in held.values()] == shapes:
                return module
    return None
