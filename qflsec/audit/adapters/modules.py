"""Torch modules and set-ups of Opacus as parts."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from qflsec.audit.parts import Data, Opacus, Part, TorchModel
from qflsec.audit.roles import Roles, n_required
from qflsec.base.user_code import imported_anew

if TYPE_CHECKING:
    import torch

__all__ = ["modules_as_parts", "private_as_parts"]


def modules_as_parts(roles: Roles, data: Data | None, notes: list[str]) -> Iterator[Part]:
    """The parts that are made of torch modules.

    Args:
        roles: The objects by their roles.
        data: The records, where there are some.
        notes: What cannot be used is added, a sentence each.
    """
    if "torch" not in sys.modules:  # the pipeline does not use it
        return
    loss = _loss(roles)
    for name, make in _makers(roles):
        if not roles.asked(name):
            continue
        if data is None:
            notes.append(
                f"the module {name} cannot be run: nothing gives it records; write a function load_data"
            )
            continue
        yield TorchModel(
            name=name, place=roles.place(getattr_of(roles, name)), make=make, loss=loss, data=data
        )
    yield from private_as_parts(roles, data, notes)


def private_as_parts(roles: Roles, data: Data | None, notes: list[str]) -> Iterator[Part]:
    """The set-up of Opacus, where the pipeline makes one.

    Args:
        roles: The objects by their roles.
        data: The records, where there are some.
        notes: What cannot be used is added, a sentence each.
    """
    make_private, name = roles.get("private"), roles.name("private")
    if not callable(make_private) or not roles.asked(name):
        return
    if n_required(make_private):
        notes.append(f"{name} asks for arguments without a default, so that it cannot be called")
        return
    yield Opacus(
        name=name,
        place=roles.place(make_private),
        make=_three(make_private),
        loss=_loss(roles),
        data=data,
        anew=partial(_anew, roles.module, name),
    )


def getattr_of(roles: Roles, name: str) -> Any:  # noqa: ANN401
    """A public object of the module."""
    return dict(roles.items())[name]


def _makers(roles: Roles) -> Iterator[tuple[str, Callable[[], torch.nn.Module]]]:
    """What makes a module: the one that plays the role, or every module and class of modules of the file."""
    from torch.nn import Module

    chosen = roles.name("model") if "model" in roles.given else roles.wanted
    for name, thing in roles.items():
        if chosen and name != chosen:
            continue
        if isinstance(thing, Module) and not _is_loss(thing):
            yield name, partial(copy.deepcopy, thing)
        elif (inspect.isclass(thing) and issubclass(thing, Module) and _own(thing) and _bare(thing)) or (
            name == roles.name("model") and inspect.isfunction(thing) and _bare(thing)
        ):
            yield name, thing


def _own(thing: type) -> bool:
    """Whether a class is the user's and no library's."""
    return not thing.__module__.startswith(("torch.", "pennylane.", "opacus.", "qflsec.", "qiskit"))


def _bare(thing: Callable[..., Any]) -> bool:
    try:
        return n_required(thing) == 0
    except (TypeError, ValueError):
        return False


def _is_loss(thing: object) -> bool:
    from torch.nn.modules.loss import _Loss

    return isinstance(thing, _Loss)


def _loss(roles: Roles) -> Any:  # noqa: ANN401 - a criterion
    from torch.nn import CrossEntropyLoss

    found = roles.get("loss")
    if inspect.isclass(found):
        return found()
    return found if _is_loss(found) else CrossEntropyLoss()


def _anew(module: ModuleType, name: str) -> tuple[Any, Any, Any]:
    """What the function of this name gives after the user's files have been executed once more."""
    with imported_anew(module) as again:
        return _three(vars(again)[name])()


def _three(make: Callable[[], Any]) -> Callable[[], tuple[Any, Any, Any]]:
    """Module, optimiser and loader out of whatever the function gives, in any order."""

    def run() -> tuple[Any, Any, Any]:
        from torch.nn import Module
        from torch.optim import Optimizer
        from torch.utils.data import DataLoader

        given = make()
        things = list(given.values()) if isinstance(given, dict) else list(given)
        found = []
        for kind, word in ((Module, "module"), (Optimizer, "optimiser"), (DataLoader, "data loader")):
            one = next((thing for thing in things if isinstance(thing, kind) and not _is_loss(thing)), None)
            if one is None:
                msg = f"gives no {word} among {[type(thing).__name__ for thing in things]}"
                raise TypeError(msg)
            found.append(one)
        return found[0], found[1], found[2]

    return run
