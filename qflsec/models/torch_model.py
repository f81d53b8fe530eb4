"""A user's own torch module as a model."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from qflsec.base import finite
from qflsec.base.errors import ConfigError
from qflsec.base.notices import notice
from qflsec.base.registry import register
from qflsec.models.base import Execution, Generators, Model, leading_shape
from qflsec.models.fields import Fields, ModelKeys, configured_by
from qflsec.models.losses import CROSS_ENTROPY, Loss
from qflsec.models.torch_calls import ModuleCall, check_replaced, measured_call
from qflsec.models.torch_layers import Replaced, calls_pennylane, replace_layers
from qflsec.models.torch_module import Dropout, Make, check_repeats, examples, made, outputs
from qflsec.models.user_file import load_named

__all__ = ["TorchModel"]


@finite
@dataclass(frozen=True, kw_only=True)
class TorchModel(Model):
    """The module that a user's function makes, as a pure function of its parameters.

    The parameters are those of ``named_parameters()`` that require a gradient, in that order. What else the module
    holds, buffers and frozen parameters, is a constant: that of the module made with the seed 0. Initial values are
    those of a module that is made anew for each run, after ``torch.manual_seed`` with a number from the run's
    stream; the global generator is left as it was.

    PennyLane's ``TorchLayer`` is replaced by the same circuit in the batched kernel where it reads as one, else by what
    computes its tapes for many records at once, and compared with PennyLane in outputs and gradients. A module that ``torch.func.vmap`` cannot run is called for one
    set of parameters after the other. This is said once, in a warning.

    Args:
        make: Makes the module, without arguments.
        n_features: Features per record.
        input_shape: The shape in which the module takes a record; ``(n_features,)`` where none is given.
        dropout: ``"refuse"``, or ``"off"`` to train and test in eval mode, where dropout does nothing.
        loss: What training minimises; of one output it makes the logits of two classes.
        path: ``"file.py:name"`` where ``make`` came from a file.
        digest: SHA-256 of that file and of what it imports.

    Raises:
        ConfigError: The module cannot be used.
    """

    name = "torch"
    make: Make = field(compare=False, repr=False)
    n_features: int
    input_shape: tuple[int, ...] | None = None
    dropout: Dropout = "refuse"
    loss: Loss = CROSS_ENTROPY
    path: str | None = None
    digest: str = ""
    n_classes: int = field(init=False)
    angle_features: bool = field(init=False, default=False)
    call: ModuleCall = field(init=False, compare=False, repr=False)
    executable: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Make the module, try it, and find out how to call it."""
        if self.dropout not in ("refuse", "off"):
            raise ConfigError("unknown 'dropout'", got=repr(self.dropout), expected="'refuse' or 'off'")
        shape = self.input_shape or (self.n_features,)
        if math.prod(shape) != self.n_features:
            raise ConfigError(
                "input_shape does not hold the features of a record",
                got=f"{list(shape)}, which is {math.prod(shape)}, for {self.n_features}",
                fix="set 'n_features' of the data to that product",
            )
        example = examples(shape)
        module = self._made(0)
        check_repeats(module, self.make, example, self.dropout)
        replaced = replace_layers(module, example)
        check_replaced(self._made(0), module, example, replaced)
        derived = {
            "call": measured_call(module, shape, one_by_one=replaced.one_by_one),
            "n_classes": max(2, outputs(module, example).shape[-1]),
            "executable": bool(replaced.kernel)
            and not replaced.tapes
            and not calls_pennylane(module, example),
        }
        for attribute, value in derived.items():
            object.__setattr__(self, attribute, value)
        self._say(replaced)

    def _made(self, seed: int) -> torch.nn.Module:
        example = examples(self.input_shape or (self.n_features,))
        return made(self.make, seed, example=example, dropout=self.dropout)

    def _say(self, replaced: Replaced) -> None:
        said = []
        if replaced.kernel:
            many = len(replaced.kernel) > 1
            names = ", ".join(map(repr, replaced.kernel))
            said.append(f"quantum layer{'s' * many} {names} run{'s' * (not many)} in the batched kernel")
        said += [
            f"{name!r} is no circuit, and evaluated for many records at once ({why})"
            for name, why in replaced.tapes
        ]
        said += [f"{name!r} stays with PennyLane ({reason})" for name, reason in replaced.pennylane]
        if self.dropout == "off":
            said.append("dropout is off, in training too")
        if self.call.mode == "loop":
            said.append(
                "torch.func.vmap cannot run it, so sets of parameters are run one by one, which is slow"
            )
        if said:
            where = self.path.rpartition("/")[2] if self.path else getattr(self.make, "__name__", "module")
            cost = f"measured {self.call.milliseconds:.3g} ms of CPU time for a record's value and gradient"
            notice(f"module {where}: {'; '.join(said)}; {cost}", about=f"{where} {self.digest}")

    @cached_property
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The named parameters of the module that require a gradient."""
        return tuple((n, tuple(p.shape)) for n, p in self.call.module.named_parameters() if p.requires_grad)

    @property
    def periods(self) -> tuple[float | None, ...]:
        """None for every parameter: what the module does to it is not known."""
        return (None,) * self.n_params

    def initial(self, generator: torch.Generator) -> Tensor:
        """The parameters of a module that is made with a seed drawn from the generator."""
        seed = int(torch.randint(2**62, (), generator=generator))
        own = dict(self._made(seed).named_parameters())
        return torch.cat([own[name].detach().reshape(-1) for name, _ in self.layout])

    def to_config(self) -> dict[str, object]:
        """The configuration; it can be built again if the module came from a file."""
        return {
            "name": self.name,
            "path": self.path,
            "digest": self.digest,
            "n_features": self.n_features,
            "n_classes": self.n_classes,
            "input_shape": None if self.input_shape is None else list(self.input_shape),
            "dropout": self.dropout,
            **self.loss.to_config(),
        }

    def __reduce__(self) -> str | tuple[Any, ...]:
        """The user's function does not pickle; one that came from a file is loaded again."""
        if self.path is None:
            raise pickle.PicklingError("a module that was not made by a function of a file cannot be pickled")
        return (build_torch, (self.to_config(),))

    @cached_property
    def _double(self) -> ModuleCall | None:
        """The module in double precision; None where it converts to single precision itself."""
        blocks = {name: torch.zeros(1, *shape, dtype=torch.float64) for name, shape in self.layout}
        try:
            call = replace(self.call, module=deepcopy(self.call.module).double())
            with torch.no_grad():
                call.many(blocks, torch.zeros(1, 1, self.n_features, dtype=torch.float64), Execution(), None)
        except Exception:  # noqa: BLE001 - whatever it is, single precision is right
            return None
        return call

    def _logits(
        self, params: Tensor, features: Tensor, execution: Execution, generator: Generators | None
    ) -> Tensor:
        lead = leading_shape(params, features)
        if generator is not None and not isinstance(generator, torch.Generator):
            lanes = [
                self._logits(p, x, execution, g)
                for p, x, g in zip(
                    params.expand(*lead, -1), features.expand(*lead, -1), generator, strict=True
                )
            ]
            return torch.stack(lanes)
        self._check(execution)
        call = self.call if params.dtype == torch.float32 else self._double or self.call
        dtype = next(call.module.parameters()).dtype
        # where all records of a set share its parameters, the module takes them as one batch
        shared = len(lead) > 0 and (params.dim() == 1 or params.shape[-2] == 1)
        sets, batch = (lead[:-1], lead[-1]) if shared else (lead, 1)
        rows = params.squeeze(-2) if shared and params.dim() > 1 else params
        rows = rows.expand(*sets, self.n_params).reshape(-1, self.n_params)
        records = features.expand(*lead, self.n_features).reshape(len(rows), batch, self.n_features)
        found = call.many(self.unflatten(rows.to(dtype)), records.to(dtype), execution, generator)
        found = found.reshape(*lead, found.shape[-1]).to(params.dtype)
        return self.loss.two_logits(found) if found.shape[-1] == 1 else found

    def _check(self, execution: Execution) -> None:
        if not self.executable and (execution.evaluator or execution != Execution(dtype=execution.dtype)):
            raise ConfigError(
                "this module has no circuit that the kernel runs, or one beside it that PennyLane runs, so it is "
                "evaluated exactly and by autograd only",
                got=execution,
                fix="use torch layers of QNodes that read as circuits, and no other quantum layers",
            )


@dataclass(frozen=True, kw_only=True)
class TorchKeys(ModelKeys):
    """The keys of a torch module of your own.

    Attributes:
        path: The function that makes the module, as ``"file.py:make_model"``.
        digest: SHA-256 of its file, as a stored configuration holds it.
        input_shape: The shape in which the module takes a record; a vector by default.
        dropout: ``"refuse"``, or ``"off"`` to train and test in eval mode.
        n_classes: The number of classes; what the module gives by default.
    """

    path: str
    digest: str | None = None
    input_shape: tuple[int, ...] | None = None
    dropout: Dropout = "refuse"
    n_classes: int | None = None


@lru_cache(maxsize=16)
def _model(**options: Any) -> TorchModel:  # noqa: ANN401 - those of the model
    """A model, tried once in a process: a module in memory stands for one content of its file."""
    return TorchModel(**options)


@register("model", "torch")
@configured_by(TorchKeys)
def build_torch(config: Mapping[str, object]) -> TorchModel:
    """A torch module of your own, made by a function of the file that a configuration names.

    Raises:
        ConfigError: The configuration or the file cannot be used, or the file is not the one of ``digest``.
    """
    fields = Fields(config, TorchKeys)
    if not config.get("path"):
        raise ConfigError(
            "a model 'torch' is made by a file", got="no path", fix='add path = "file.py:make_model"'
        )
    path = fields.text("path")
    stored = fields.text("digest") if "digest" in fields else None
    make, digest = load_named(path, "function", digest=stored)
    if not callable(make):
        raise ConfigError(f"{path.rpartition(':')[2]!r} is no function", got=type(make).__name__)
    model = _model(
        make=make,
        n_features=fields.integer("n_features"),
        input_shape=fields.integers("input_shape") if "input_shape" in fields else None,
        dropout=fields.text("dropout"),
        loss=fields.loss(),
        path=path,
        digest=digest,
    )
    if "n_classes" in fields and fields.integer("n_classes") != model.n_classes:
        raise ConfigError(
            "n_classes is not what the module gives",
            got=fields.integer("n_classes"),
            expected=model.n_classes,
            fix="leave it out, or change the module's last layer",
        )
    return model
