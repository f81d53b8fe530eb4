"""A user's torch module: made from a seed, and refused where it is no function of single records."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from qflsec.base.errors import ConfigError
from qflsec.base.randomness import stream
from qflsec.models.layer import QuantumLayer
from qflsec.models.torch_layers import is_torch_layer, own_shots

__all__ = ["Dropout", "Make", "check_repeats", "examples", "failing", "made", "outputs"]

Dropout = Literal["refuse", "off"]
Make = Callable[[], nn.Module]
_EXAMPLES = 4


def examples(shape: tuple[int, ...], *, number: int = 0) -> Tensor:
    """Some records that a module is tried with.

    Shapes:
        returns: ``(4, *shape)``, in [0, 1)
    """
    return torch.rand(_EXAMPLES, *shape, generator=stream(number, "torch-module"))


def made(make: Make, seed: int, *, example: Tensor, dropout: Dropout) -> nn.Module:
    """A module with the initial values of a seed, in single precision.

    The user's function draws from torch's own generator, as ``torch.nn.Linear`` does. It is seeded meanwhile and
    left as it was.

    Args:
        make: The user's function.
        seed: Of torch's generator.
        example: Records as the module takes them.
        dropout: Whether dropout is refused, or switched off by ``module.eval()``.

    Raises:
        ConfigError: It makes no module, or one that is no function of single records.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            module = make()
        except Exception as error:
            raise ConfigError(
                f"{_called(make)}() fails", got=_sentence(error), fix="it must need no arguments"
            ) from error
        if not isinstance(module, nn.Module):
            raise ConfigError(f"{_called(make)}() makes no torch module", got=type(module).__name__)
        if isinstance(module, QuantumLayer) or is_torch_layer(module):
            module = nn.Sequential(module)
        module = module.float()
        module.train(mode=dropout == "refuse")
        if any(is_lazy(part) for part in (*module.parameters(), *module.buffers())):
            outputs(module, example)
    _refuse(module, dropout)
    return module


def _called(make: Make) -> str:
    return getattr(make, "__name__", type(make).__name__)


def _sentence(error: Exception) -> str:
    """An exception on one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _refuse(module: nn.Module, dropout: Dropout) -> None:
    """Refuse layers that are no functions of single records.

    Raises:
        ConfigError: There is one.
    """
    for name, layer in module.named_modules():
        what = f"layer {name!r} is {type(layer).__name__}"
        if isinstance(layer, _BatchNorm):
            raise ConfigError(
                f"{what}: its statistics mix the records of a batch, so that no record has a gradient of its own, "
                "and are kept in buffers that no defense covers",
                fix="use torch.nn.GroupNorm or torch.nn.LayerNorm",
            )
        if isinstance(layer, _DropoutNd) and layer.p > 0 and dropout == "refuse":
            raise ConfigError(
                f"{what}: it draws at random, so that the model is no function of its parameters and features",
                got=f"p = {layer.p}",
                fix='set p = 0, or dropout = "off", which trains and tests in eval mode, where dropout does nothing',
            )
        if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
            raise ConfigError(
                f"{what}: it takes whole numbers, and features are real ones",
                fix="use torch.nn.Linear, on one-hot columns where a feature is a category",
            )
        if (shots := own_shots(layer)) is not None:
            raise ConfigError(
                f"quantum layer {name!r} has shots of its own",
                got=shots,
                fix="remove them and set the shots of the execution",
            )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError("the module has no parameter that is trained", fix="set requires_grad")


def outputs(module: nn.Module, batch: Tensor) -> Tensor:
    """What a module makes of records.

    Shapes:
        batch: ``(B, ...)``; returns: ``(B, K)``

    Raises:
        ConfigError: It fails, or gives something else.
    """
    try:
        found = module(batch)
    except Exception as error:
        raise failing(error, batch) from error
    if not isinstance(found, Tensor) or not found.is_floating_point():
        what = f"{found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError("the module gives no tensor of real numbers", got=what)
    if found.dim() not in (1, 2) or len(found) != len(batch) or found.numel() == 0:
        raise ConfigError(
            f"the module's output does not fit a batch of {len(batch)} record{'s' * (len(batch) > 1)}",
            got=f"shape {tuple(found.shape)}",
            expected=f"({len(batch)}, classes), or ({len(batch)}, 1) for two classes",
            fix="keep the axis of the records: squeeze(-1) in place of squeeze(), flatten(1) in place of flatten()",
        )
    return found.reshape(len(batch), -1)


def failing(error: Exception, batch: Tensor) -> ConfigError:
    """A module that cannot take a batch, as one line."""
    if isinstance(error, ConfigError):
        return error
    flat = math.prod(batch.shape[1:])
    return ConfigError(
        f"the module fails on a batch of shape {tuple(batch.shape)}",
        got=_sentence(error),
        fix=f"for images, input_shape = [channels, height, width] shapes the {flat} features"
        if batch.dim() == 2
        else None,
    )


def check_repeats(module: nn.Module, make: Make, example: Tensor, dropout: Dropout) -> None:
    """Refuse a module that draws at random, keeps a state, or whose records see each other.

    Raises:
        ConfigError: It does.
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        first, second = outputs(module, example), outputs(module, example)
        drew = not torch.equal(before, torch.get_rng_state())
        alone = torch.cat([outputs(module, record[None]) for record in example])
    changed = [name for name, buffer in module.named_buffers() if not torch.equal(buffer, buffers[name])]
    if changed:
        raise ConfigError(
            f"buffer {changed[0]!r} of the module changes when it is called, so that it is no function of its "
            "parameters and features",
            fix="keep no statistics in it",
        )
    if drew or not torch.equal(first, second):
        raise ConfigError(
            "the module gives different outputs for the same records"
            if not drew
            else "the module draws at random when it is called",
            fix='set dropout = "off", or make it a function of its parameters and features alone',
        )
    if not torch.isfinite(first).all():
        raise ConfigError("the module's output is not finite", got=first.flatten()[:4].tolist())
    if not torch.allclose(first, alone, atol=1e-5, rtol=1e-4):
        raise ConfigError(
            "the module's output for a record depends on the other records of the batch, so that no record has a "
            "gradient of its own",
            got=f"outputs that differ by {float((first - alone).abs().max()):.2g} from those of single records",
            fix="normalise over the features of each record, as torch.nn.LayerNorm does",
        )
    again = dict(made(make, 0, example=example, dropout=dropout).named_parameters())
    for name, parameter in module.named_parameters():
        if name not in again or not torch.equal(again[name], parameter):
            raise ConfigError(
                f"the initial values of {name!r} are not drawn from torch's generator",
                got="two modules that differ after the same torch.manual_seed",
                fix="draw them with torch, so that a run can be repeated",
            )
