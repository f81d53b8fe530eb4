"""Functions of a user's file as parts: training, aggregation, encryption, key exchange, the server's state."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from qflsec.audit.adapters.records import as_array
from qflsec.audit.parts import (
    Aggregation,
    Array,
    Cipher,
    Data,
    KeyExchange,
    Part,
    Prediction,
    Release,
    Server,
    Training,
)
from qflsec.audit.roles import Roles, n_required
from qflsec.base import ConfigError

__all__ = ["functions_as_parts", "protection_as_parts"]


def functions_as_parts(roles: Roles, data: Data | None, notes: list[str]) -> Iterator[Part]:
    """The parts that are plain functions.

    Args:
        roles: The objects by their roles.
        data: The records, where there are some.
        notes: What cannot be used is added, a sentence each.
    """
    yield from _training(roles, data, notes)
    yield from protection_as_parts(roles, notes)


def protection_as_parts(roles: Roles, notes: list[str]) -> Iterator[Part]:
    """The parts that are plain functions and need no records: rule, noise, encryption, keys, the server's state.

    Args:
        roles: The objects by their roles.
        notes: What cannot be used is added, a sentence each.
    """
    rule, name = roles.get("aggregate"), roles.name("aggregate")
    if callable(rule) and roles.asked(name):
        yield Aggregation(name=name, place=roles.place(rule), aggregate=_aggregate(rule))
    yield from _release(roles, notes)
    encrypt, decrypt = roles.get("encrypt"), roles.get("decrypt")
    if callable(encrypt) and roles.asked(roles.name("encrypt"), roles.name("decrypt")):
        if n_required(encrypt) == 1 and (decrypt is None or n_required(decrypt) == 1):
            yield Cipher(
                name=roles.name("encrypt"),
                place=roles.place(encrypt),
                encrypt=encrypt,
                decrypt=decrypt,
                add=_add,
            )
        else:
            notes.append(
                f"{roles.name('encrypt')} or {roles.name('decrypt')} asks for more than the update or the message, so "
                "that neither can be called; give keys by a default or a closure"
            )
    exchange, name = roles.get("exchange"), roles.name("exchange")
    if callable(exchange) and roles.asked(name):
        if n_required(exchange) == 0:
            yield KeyExchange(name=name, place=roles.place(exchange), exchange=exchange)
        else:
            notes.append(f"{name} asks for arguments without a default, so that it cannot be called")
    server, name = roles.get("server"), roles.name("server")
    if server is not None and roles.asked(name):
        held = server() if callable(server) and n_required(server) == 0 else server
        yield Server(name=name, place=roles.place(server), holds=_held(held))


def _training(roles: Roles, data: Data | None, notes: list[str]) -> Iterator[Part]:
    name = (
        roles.wanted if roles.wanted and callable(vars_of(roles).get(roles.wanted)) else roles.name("train")
    )
    train = vars_of(roles).get(name)
    claimed = {
        roles.name(role)
        for role in ("data", "aggregate", "encrypt", "decrypt", "exchange", "private", "model")
    }
    if not callable(train) or not roles.asked(name) or (name in claimed and name != roles.name("train")):
        return
    if inspect.isclass(train):
        return
    if data is None:
        notes.append(
            f"{name} cannot be run: nothing gives it records; write a function load_data, or name one"
        )
        return
    yield Training(name=name, place=roles.place(train), train=_train(train), data=data)


def _release(roles: Roles, notes: list[str]) -> Iterator[Part]:
    privatise, name = roles.get("privatise"), roles.name("privatise")
    if not callable(privatise) or not roles.asked(name):
        return
    if n_required(privatise) == 1:
        yield Release(
            name=name, place=roles.place(privatise), privatise=lambda vector: as_array(privatise(vector))
        )
    else:
        notes.append(
            f"{name} asks for more than the update, so that it cannot be called; give the rest by defaults"
        )


def vars_of(roles: Roles) -> dict[str, Any]:
    """The public objects of the module by name."""
    return dict(roles.items())


def _train(train: Callable[..., Any]) -> Callable[[tuple[Array, Array], int], Prediction]:
    """``train(data, seed) -> predict`` of whatever signature: (data, seed), (x, y, seed), (data), (x, y)."""
    parameters = list(inspect.signature(train).parameters.values())
    positional = [one for one in parameters if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}]
    seeded = any(one.name in {"seed", "random_state", "rng_seed"} for one in parameters)
    required = [one for one in positional if one.default is one.empty]
    wide = len([one for one in required if one.name not in {"seed", "random_state", "rng_seed"}])
    keyword = next((one.name for one in parameters if one.name in {"seed", "random_state", "rng_seed"}), "")

    def run(records: tuple[Array, Array], seed: int) -> Prediction:
        arguments: tuple[Any, ...] = records if wide >= 2 else (records,)
        return _predictor(train(*arguments, **({keyword: seed} if seeded else {})))

    return run


def _predictor(model: Any) -> Prediction:  # noqa: ANN401 - whatever a training gives
    """Outputs of whatever a training gives: a function, a torch module, or an object with ``predict``."""
    if isinstance(model, tuple) and model:  # such as (model, history)
        model = model[0]
    for name in ("predict_proba", "decision_function", "predict"):
        method = getattr(model, name, None)
        if callable(method):
            return _arrays(method)
    if type(model).__module__.startswith("torch") or hasattr(model, "state_dict"):
        return _module(model)
    if callable(model):
        return _arrays(model)
    raise ConfigError(
        "the training gives nothing that predicts",
        got=type(model).__name__,
        expected="a function of features, a torch module, or an object with 'predict'",
    )


def _arrays(function: Callable[[Array], Any]) -> Prediction:
    return lambda x: as_array(function(x))


def _module(model: Any) -> Prediction:  # noqa: ANN401
    import torch

    def outputs(x: Array) -> Array:
        dtype = next((p.dtype for p in model.parameters()), torch.float32)
        with torch.no_grad():
            model.eval()
            return as_array(model(torch.as_tensor(np.asarray(x), dtype=dtype)))

    return outputs


def _aggregate(rule: Callable[..., Any]) -> Callable[[Array, Sequence[int]], Array]:
    n = n_required(rule)
    takes_counts = n > 1 or len(inspect.signature(rule).parameters) > 1

    def run(updates: Array, counts: Sequence[int]) -> Array:
        rows = [np.array(row) for row in updates]
        return as_array(rule(rows, list(counts)) if takes_counts else rule(rows))

    return run


def _add(first: Any, second: Any) -> Any:  # noqa: ANN401
    """Messages added as their kind does it; None where it has no sum (bytes and lists are joined, not added)."""
    if isinstance(first, bytes | str | list | tuple | dict):
        return None
    try:
        return first + second
    except TypeError:
        return None


def _held(server: Any) -> dict[str, Any]:  # noqa: ANN401
    if isinstance(server, dict):
        return {str(name): thing for name, thing in server.items()}
    if hasattr(server, "__dict__"):
        return dict(vars(server))
    return {"server": server}
