"""A small federation that plugins are tried in: seconds of work, and every kind of party."""

from __future__ import annotations

import inspect
import pickle
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch

from qflsec.circuits import NoiseModel
from qflsec.data import DataSpec
from qflsec.federation import (
    FederationConfig,
    Layer,
    Pipeline,
    RunResult,
    RunSpec,
    Stack,
    Topology,
    run_batch,
)
from qflsec.federation.topology import Star
from qflsec.lab.conformance.trial import Fault
from qflsec.models import Execution, build_model

__all__ = ["SEEDS", "changes", "device_runs", "honest_runs", "other_chance", "pipeline", "runs", "same_model"]

SEEDS = (0, 1)


@cache
def pipeline(topology: Topology | None = None) -> Pipeline:
    """Seven clients of four records each; two rounds of plain gradient descent on two qubits."""
    return Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=2,
            balanced=True,
            members=28,
            nonmembers=28,
            auxiliary=30,
            test=20,
        ),
        model=build_model({"name": "vqc", "n_qubits": 2, "layers": 1}),
        federation=FederationConfig(n_clients=7, rounds=2, learning_rate=0.3, declared_corrupted=1),
        topology=topology or Star(),
    )


def runs(
    specs: Sequence[RunSpec], *, layers: Sequence[Layer] = (), topology: Topology | None = None
) -> list[RunResult]:
    """Runs side by side.

    Raises:
        Fault: One failed.
    """
    found = run_batch(pipeline(topology), Stack.from_layers("checked", list(layers)), specs, secrets="seeded")
    for run in found:
        if run.outcome.startswith("failed"):
            raise Fault(run.outcome.removeprefix("failed: "), run.traceback)
    return found


@cache
def honest_runs() -> tuple[RunResult, ...]:
    """Runs without adversary and without layers."""
    return tuple(runs([RunSpec(seed=seed) for seed in SEEDS]))


@cache
def device_runs() -> tuple[RunResult, ...]:
    """The same with two of the clients on a noisier device."""
    noisy = Execution(noise=NoiseModel(kind="local-depolarizing", p=0.05, where="every-gate"))
    mixed = replace(pipeline(), client_executions={1: noisy, 4: noisy})
    specs = [RunSpec(seed=seed) for seed in SEEDS]
    return tuple(run_batch(mixed, Stack.from_layers("checked", []), specs, secrets="seeded"))


def same_model(first: RunResult, second: RunResult) -> bool:
    """Whether two runs ended in the same model, bit for bit."""
    return (first.outcome, first.accuracy) == (second.outcome, second.accuracy) and torch.equal(
        first.params.nan_to_num(), second.params.nan_to_num()
    )


@contextmanager
def other_chance(seed: int) -> Iterator[None]:
    """Other states of the generators that belong to the whole process, which no plugin may draw from."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextmanager
def changes(*things: object) -> Iterator[list[str]]:
    """What changes meanwhile on objects, their classes and the module that those stand in, by name.

    Classes and modules of the package are not looked at.
    """
    before = _noted(things)
    found: list[str] = []
    yield found
    found += [name for name, content in _noted(things).items() if before.get(name) != content]


def _noted(things: Sequence[object]) -> dict[str, bytes]:
    places: dict[str, Any] = {}
    for thing in things:
        if inspect.isroutine(thing):
            kinds: list[Any] = [thing]
        else:
            places["on itself"] = thing
            kinds = [owner for owner in type(thing).__mro__ if not _is_ours(owner.__module__)]
            places |= {f"on class {owner.__name__}": owner for owner in kinds}
        if kinds and not _is_ours(kinds[0].__module__):
            places["in its module"] = sys.modules[kinds[0].__module__]
    found = {}
    for place, owner in places.items():
        for name, value in list(vars(owner).items()) if hasattr(owner, "__dict__") else ():
            content = _content(value)
            if not name.startswith("__") and content is not None:
                found[f"{name!r} {place}"] = content
    return found


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in {"qflsec", "abc", "builtins", "typing"}


def _content(value: object) -> bytes | None:
    """The content of a value that can change; None for code and for what cannot be noted."""
    if inspect.ismodule(value) or inspect.isclass(value) or callable(value):
        caches = getattr(value, "cache_info", None)
        return None if caches is None else repr(caches().currsize).encode()
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001 - what does not pickle is left out
        return None
