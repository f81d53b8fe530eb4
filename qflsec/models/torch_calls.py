"""Calling a torch module as a pure function of parameters, for many sets of them at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from qflsec.base.errors import ConfigError
from qflsec.models.base import EXACT, Execution, Generators
from qflsec.models.torch_layers import Replaced
from qflsec.models.torch_module import examples, failing, outputs
from qflsec.models.torch_values import running

__all__ = ["ModuleCall", "check_replaced", "measured_call"]

Blocks = Mapping[str, Tensor]
Mode = Literal["vmap", "records", "loop"]
_ABSOLUTE, _RELATIVE = 1e-4, 1e-3  # single precision, and PennyLane's own
_REPEATS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class ModuleCall:
    """A module as a function of named parameters and flat records.

    Attributes:
        module: The module; its own parameters are never read.
        shape: The shape in which it takes a record.
        mode: ``"vmap"`` for many sets of parameters together, ``"records"`` for their records too, each as a batch of its
            own, ``"loop"`` for one set after the other.
        milliseconds: CPU time of one record, forward and backward, in this mode.
    """

    module: nn.Module
    shape: tuple[int, ...]
    mode: Mode = "vmap"
    milliseconds: float = 0.0

    def one(self, blocks: Blocks, records: Tensor) -> Tensor:
        """One set of parameters.

        Shapes:
            blocks: as in the module; records: ``(B, F)``; returns: ``(B, K)``
        """
        batch = records.reshape(len(records), *self.shape)
        held = {place: block for name, block in blocks.items() for place in self._places[name]}

        def call(batch: Tensor) -> Tensor:
            found: Tensor = functional_call(self.module, held, (batch,), tie_weights=False)
            return found.reshape(len(batch), -1)

        return vmap(call)(batch[:, None]).squeeze(1) if self.mode == "records" else call(batch)

    @cached_property
    def _places(self) -> Mapping[str, tuple[str, ...]]:
        """Where each parameter is held: by several layers, if they share it, but once by each.

        torch's own tying sets a parameter of a layer with two names twice, and leaves the layer with what was set.
        """
        named: dict[int, str] = {}
        places: dict[str, list[str]] = {}
        seen = set()
        for place, parameter in self.module.named_parameters(remove_duplicate=False):
            owner, _, attribute = place.rpartition(".")
            holder = (id(self.module.get_submodule(owner)), attribute)
            name = named.setdefault(id(parameter), place)
            if holder not in seen:
                places.setdefault(name, []).append(place)
            seen.add(holder)
        return {name: tuple(found) for name, found in places.items()}

    def many(
        self, blocks: Blocks, records: Tensor, execution: Execution, generator: Generators | None
    ) -> Tensor:
        """Sets of parameters, each with records of its own.

        Shapes:
            blocks: ``(N, ...)``; records: ``(N, B, F)``; returns: ``(N, B, K)``
        """
        if self.mode == "loop":
            with running(execution, generator):
                return torch.stack(
                    [
                        self.one({name: block[i] for name, block in blocks.items()}, records[i])
                        for i in range(len(records))
                    ]
                )
        # With one row, vmap takes other kernels than with many, and a run would differ in its last digits from the
        # same run in a batch. Where a row costs copies of records (shots, a quantum server), batches are no issue.
        twice = len(records) == 1 and execution.shots is None and execution.evaluator is None
        if twice:
            blocks = {name: block.expand(2, *block.shape[1:]) for name, block in blocks.items()}
            records = records.expand(2, *records.shape[1:])
        # a parameter that does not train is every row's, and one product of all rows would round by their number
        frozen = {name: p for name, p in self.module.named_parameters() if name not in blocks}
        blocks = {**blocks, **{name: p.expand(len(records), *p.shape) for name, p in frozen.items()}}
        with running(execution, generator):
            found: Tensor = vmap(self.one)(blocks, records)
        return found[:1] if twice else found


def measured_call(module: nn.Module, shape: tuple[int, ...], *, one_by_one: bool = False) -> ModuleCall:
    """The fastest mode that gives the outputs and gradients of single calls, with its cost.

    Args:
        module: The module.
        shape: The shape in which it takes a record.
        one_by_one: Whether it calls its circuits for one record after the other.

    Raises:
        ConfigError: The module cannot be called or differentiated with other parameters than its own.
    """
    records = examples(shape).flatten(1)
    generator = torch.Generator().manual_seed(0)
    blocks = {
        name: torch.stack([p.detach() + 0.1 * torch.randn(p.shape, generator=generator) for _ in records])
        for name, p in module.named_parameters()
        if p.requires_grad
    }
    loop = ModuleCall(module=module, shape=shape, mode="loop")
    try:
        reference = _tried(loop, blocks, records)
    except Exception as error:
        raise failing(error, records[:1].reshape(1, *shape)) from error
    _check_gradients(loop, blocks, records, reference)
    modes: tuple[Mode, ...] = ("records", "vmap") if one_by_one else ("vmap",)
    calls = (replace(loop, mode=mode) for mode in modes)
    call = next((one for one in calls if _gives(one, blocks, records, reference)), loop)
    started, repeats = time.process_time(), 1 if call is loop else _REPEATS
    _tried(
        call,
        {n: b.repeat(repeats, *[1] * (b.dim() - 1)) for n, b in blocks.items()},
        records.repeat(repeats, 1),
    )
    spent = time.process_time() - started
    return replace(call, milliseconds=1e3 * spent / (repeats * len(records)))


def _gives(call: ModuleCall, blocks: Blocks, records: Tensor, reference: tuple[Tensor, ...]) -> bool:
    """Whether a mode gives these outputs and gradients."""
    try:
        found = _tried(call, blocks, records)
    except Exception:  # noqa: BLE001 - whatever stops vmap, single calls are right
        return False
    return all(
        torch.allclose(a, b, atol=_ABSOLUTE, rtol=_RELATIVE) for a, b in zip(found, reference, strict=True)
    )


def _tried(call: ModuleCall, blocks: Blocks, records: Tensor) -> tuple[Tensor, ...]:
    """Outputs, and gradients in every block and in the records, of one record for each set of parameters."""
    leaves = {name: block.clone().requires_grad_() for name, block in blocks.items()}
    inputs = records.clone().requires_grad_()
    with torch.enable_grad():
        found = call.many(leaves, inputs[:, None, :], EXACT, None)
        slopes = torch.arange(1, found.numel() + 1, dtype=found.dtype).reshape(found.shape)
        gradients = torch.autograd.grad(
            (found * slopes).sum(), [*leaves.values(), inputs], materialize_grads=True
        )
    return found.detach(), *gradients


def _check_gradients(
    call: ModuleCall, blocks: Blocks, records: Tensor, reference: tuple[Tensor, ...]
) -> None:
    """Refuse a module that depends on something in which it has no derivative.

    Raises:
        ConfigError: It does.
    """
    *gradients, in_records = reference[1:]
    with torch.no_grad():
        for (name, block), gradient in zip(blocks.items(), gradients, strict=True):
            moved = {**blocks, name: block + torch.ones_like(block)}
            changed = call.many(moved, records[:, None, :], EXACT, None) - reference[0]
            if bool(changed.any()) and not bool(gradient.any()):
                raise ConfigError(
                    f"the module's output depends on {name!r}, but has no gradient in it",
                    fix="leave out detach(), rounding and argmax, or set requires_grad = False to keep it as it is",
                )
    if not bool(in_records.any()):
        raise ConfigError(
            "the module's output has no gradient in the features",
            fix="features are real numbers: leave out detach(), rounding and conversions to whole numbers",
        )


def check_replaced(before: nn.Module, after: nn.Module, example: Tensor, replaced: Replaced) -> None:
    """Compare a module with the same one whose quantum layers were replaced, at the first one's own parameters.

    Raises:
        ConfigError: Outputs or gradients differ.
    """
    if not (replaced.kernel or replaced.tapes or replaced.pennylane):
        return
    found = []
    for module in (before, after):
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        with running() if module is after else nullcontext():
            values = outputs(module, example)
        slopes = torch.arange(1, values.numel() + 1, dtype=values.dtype).reshape(values.shape)
        gradients = torch.autograd.grad((values * slopes).sum(), list(named.values()), materialize_grads=True)
        found.append({"outputs": values.detach(), **dict(zip(named, gradients, strict=True))})
    for name, value in found[0].items():
        if not torch.allclose(value, found[1][name], atol=_ABSOLUTE, rtol=_RELATIVE):
            raise ConfigError(
                "the quantum layers do not give here what they give in PennyLane",
                got=f"{name} that differ by {float((value - found[1][name]).abs().max()):.2g}",
                fix="please report the circuit",
            )
