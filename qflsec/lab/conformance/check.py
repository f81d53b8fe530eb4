"""Running the checks of a plugin, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from qflsec.base import ConfigError, find, names
from qflsec.base.failures import traceback_of
from qflsec.base.registry import Kind
from qflsec.base.sources import trace
from qflsec.base.user_code import module_name
from qflsec.lab.conformance.adversaries import attack_trial
from qflsec.lab.conformance.parts import DataTrial, ModelTrial, PanelTrial, PartitionTrial, ThreatTrial
from qflsec.lab.conformance.stacks import LayerTrial, TopologyTrial
from qflsec.lab.conformance.trial import Fault, Trial, Unchecked
from qflsec.lab.grid.files import load_user_plugins
from qflsec.lab.grid.work import sentence_of

__all__ = ["Check", "check_plugin", "check_thing", "registered_by"]

_TRIALS: Mapping[Kind, Callable[[str, Any], Trial]] = {
    "attack": attack_trial,
    "layer": LayerTrial,
    "topology": TopologyTrial,
    "model": ModelTrial,
    "dataset": DataTrial,
    "partition": PartitionTrial,
    "threat": ThreatTrial,
    "panel": PanelTrial,
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one check found.

    Attributes:
        kind: What the plugin is, such as ``"attack"``.
        name: Its registry name.
        check: What was checked.
        state: ``"not checked"`` where the check cannot be made.
        why: Why it failed or was not made, or under what it holds.
        traceback: Of a mistake that it met.
    """

    kind: str
    name: str
    check: str
    state: Literal["ok", "failed", "not checked"]
    why: str = ""
    traceback: str = ""


def check_plugin(name: str) -> Iterator[Check]:
    """Check everything that a file or module registers.

    Args:
        name: The file or module, as ``plugins`` of a specification names it.

    Raises:
        ConfigError: It cannot be imported, or registers nothing.
    """
    load_user_plugins([name])
    found = registered_by(name)
    if not found:
        raise ConfigError(
            "nothing to check",
            got=f"{name}, which registers nothing",
            fix='decorate a class or function with @register("attack", "my-name")',
        )
    for kind, thing_name in found:
        yield from check_thing(kind, thing_name)


def registered_by(name: str) -> list[tuple[Kind, str]]:
    """Kind and name of everything that a file or module registers, with the modules of the user that it imports."""
    own = {module_name(name), *trace(Path(name)).modules} if name.endswith(".py") else {name}
    kinds: tuple[Kind, ...] = get_args(Kind)
    return [(kind, known) for kind in kinds for known in names(kind) if find(kind, known).__module__ in own]


def check_thing(kind: Kind, name: str) -> Iterator[Check]:
    """Check one plugin by its kind and registry name."""
    for check, function in _TRIALS[kind](name, find(kind, name)).checks().items():
        yield _made(kind, name, check, function)


def _made(kind: str, name: str, check: str, function: Callable[[], str | None]) -> Check:
    said = {"kind": kind, "name": name, "check": check}
    try:
        return Check(**said, state="ok", why=function() or "")
    except Unchecked as reason:
        return Check(**said, state="not checked", why=str(reason))
    except Fault as fault:
        return Check(**said, state="failed", why=str(fault), traceback=fault.traceback)
    except Exception as error:  # noqa: BLE001 - the plugin's code may raise anything
        return Check(**said, state="failed", why=sentence_of(error), traceback=traceback_of(error))
