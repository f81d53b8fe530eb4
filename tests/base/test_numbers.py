"""Options that are numbers refuse infinity and NaN, wherever they stand."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import qflsec
from qflsec.base import ConfigError, QflsecError, find, finite, names
from qflsec.base.registry import Kind

KINDS: tuple[Kind, ...] = ("attack", "layer", "model", "topology", "dataset", "partition", "threat")
NO_NUMBERS = (math.inf, -math.inf, math.nan, np.float32("nan"))


def numeric(kind: type) -> list[str]:
    return [
        field.name
        for field in dataclasses.fields(kind)
        if field.init and str(field.type) in {"float", "int", "float | None", "int | None"}
    ]


def registered() -> list[type]:
    found = [find(kind, name) for kind in KINDS for name in names(kind)]
    return [thing for thing in found if inspect.isclass(thing) and dataclasses.is_dataclass(thing)]


def configurations() -> Iterator[type]:
    """Every dataclass of the package that refuses some of its values, or is called a configuration."""
    for module in pkgutil.walk_packages(qflsec.__path__, "qflsec."):
        for name, thing in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if thing.__module__ != module.name or not dataclasses.is_dataclass(thing):
                continue
            checks = thing.__dict__.get("__post_init__")
            refuses = checks is not None and "ConfigError" in inspect.getsource(checks)
            if numeric(thing) and (refuses or name.endswith(("Config", "Spec", "Rules"))):
                yield thing


@pytest.mark.parametrize("kind", registered(), ids=lambda kind: f"{kind.__name__}")
def test_no_registered_option_takes_what_is_no_number(kind: type) -> None:
    needed = [
        f.name
        for f in dataclasses.fields(kind)
        if f.init and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    for name in numeric(kind):
        for value in NO_NUMBERS:
            with pytest.raises(ConfigError, match=f"'{name}' is no number"):
                kind(**{**dict.fromkeys(needed), name: value})


INNER = {"LedgerRow", "Gate", "Circuit", "Graph", "Pattern", "RoundUpdates", "Exact"}
"""Made by code, by the thousand; what they are made from is checked."""
ABSTRACT = {"ServerManipulation", "TamperedCircuit", "_Delegating", "QkdLink", "EpochLink", "CircuitNoise"}
"""What is registered of these is checked."""


def test_every_configuration_is_checked() -> None:
    bare = (
        {kind.__name__ for kind in configurations() if not hasattr(kind.__init__, "__wrapped__")}
        - INNER
        - ABSTRACT
    )
    assert bare == set(), "decorate with @finite"


def test_a_table_of_a_matrix_may_not_hold_infinity() -> None:
    from qflsec.lab.grid.schema import check

    with pytest.raises(QflsecError):
        check(Example, {"rate": math.inf}, "example")


@finite
@dataclass(frozen=True, kw_only=True)
class Example:
    rate: float = 0.5
    steps: int | None = None
    edges: tuple[float, ...] = ()
    flag: bool = False


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rate": math.nan}, "'rate' is no number; got nan"),
        ({"edges": (0.1, math.inf)}, "'edges' is no number"),
        ({"steps": 1.5}, "'steps' is out of range; got 1.5; expected a whole number"),
        ({"steps": 3.0}, "whole number"),
    ],
)
def test_what_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Example(**options)


def test_what_is_taken() -> None:
    made = Example(rate=1, steps=np.int64(3), edges=(0.0, 1.0), flag=True)
    assert (made.steps, made.rate) == (3, 1)
    assert dataclasses.replace(made, steps=None).steps is None
    with pytest.raises(ConfigError):
        dataclasses.replace(made, rate=math.inf)


@pytest.mark.parametrize("value", [10**400, -(10**5000)], ids=["large", "low"])
def test_an_integer_above_all_floats_is_a_users_mistake(value: int) -> None:
    @finite
    @dataclass(frozen=True, kw_only=True)
    class Settings:
        bits: int = 1

    with pytest.raises(ConfigError, match="'bits' is out of range; got an integer above all"):
        Settings(bits=value)
    assert Settings(bits=10**300).bits == 10**300
