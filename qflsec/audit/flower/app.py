"""What a Flower app is: two objects, a configuration, and where in its code it trains and aggregates."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qflsec.audit.outcome import Place
from qflsec.audit.roles import Roles
from qflsec.base import ConfigError

__all__ = ["FlowerApp", "app_of_folder", "app_of_roles"]

_PROJECT = "pyproject.toml"
_EXPECTED = (
    'pyproject.toml with [tool.flwr.app.components], serverapp = "module:app" and clientapp = "module:app"'
)
_METHODS = {"fit": "train", "evaluate": "evaluate", "aggregate_fit": "server", "aggregate_train": "server"}
_CALLS = {"train": "train", "evaluate": "evaluate", "main": "server"}

Config = Mapping[str, bool | int | float | str]


@dataclass(frozen=True, kw_only=True)
class FlowerApp:
    """A Flower app.

    Attributes:
        name: What it is called.
        server: Its ServerApp.
        client: Its ClientApp.
        config: Its run configuration, nested keys joined by dots.
        places: Where it trains, evaluates and aggregates: ``train``, ``evaluate``, ``server``.
    """

    name: str
    server: Any
    client: Any
    config: Config = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)


def app_of_folder(folder: Path) -> FlowerApp:
    """The app of a folder; its modules are imported.

    Raises:
        ConfigError: The folder holds no app, or Flower is not installed.
        Exception: Whatever the app's modules raise.
    """
    project = _project(folder)
    components = project.get("tool", {}).get("flwr", {}).get("app", {}).get("components", {})
    named = {role: components.get(role) for role in ("serverapp", "clientapp")}
    if not all(isinstance(name, str) and ":" in name for name in named.values()):
        raise ConfigError(
            "the folder holds no Flower app", got=folder.name, expected=_EXPECTED, fix="or name a Python file"
        )
    if importlib.util.find_spec("flwr") is None:
        raise ConfigError(
            "a Flower app needs flwr, which is not installed here", fix="pip install 'qflsec[flower]'"
        )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    found = {role: _component(str(name)) for role, name in named.items()}
    modules = dict.fromkeys(str(name).partition(":")[0] for name in named.values())
    files = [Path(file) for name in modules if (file := getattr(sys.modules[name], "__file__", None))]
    return FlowerApp(
        name=str(project.get("project", {}).get("name", folder.name)),
        server=found["serverapp"],
        client=found["clientapp"],
        config=_config(project),
        places=_places(folder, files),
    )


def app_of_roles(roles: Roles, folder: Path, file: str) -> FlowerApp | None:
    """The app whose two objects a file holds; None where it holds none."""
    if "flwr" not in sys.modules:
        return None
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

    servers = [(name, one) for name, one in roles.items() if isinstance(one, ServerApp)]
    clients = [(name, one) for name, one in roles.items() if isinstance(one, ClientApp)]
    if not servers or not clients or not roles.asked(servers[0][0], clients[0][0]):
        return None
    project = _project(folder) if (folder / _PROJECT).is_file() else {}
    return FlowerApp(
        name=clients[0][0],
        server=servers[0][1],
        client=clients[0][1],
        config=_config(project),
        places=_places(folder, [folder / file]),
    )


def _project(folder: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((folder / _PROJECT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            "the folder holds no Flower app", got=folder.name, expected=_EXPECTED, fix="or name a Python file"
        ) from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{_PROJECT} cannot be read", got=str(error)) from None


def _component(name: str) -> Any:  # noqa: ANN401 - the user's own
    module, _, attributes = name.partition(":")
    thing: Any = importlib.import_module(module)
    for attribute in attributes.split("."):
        if not hasattr(thing, attribute):
            raise ConfigError(f"{_PROJECT} names a component that is not there", got=name)
        thing = getattr(thing, attribute)
    return thing


def _config(project: Mapping[str, Any]) -> Config:
    table = project.get("tool", {}).get("flwr", {}).get("app", {}).get("config", {})
    return dict(_flat(table, ""))


def _flat(table: Mapping[str, Any], front: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        name = f"{front}.{key}" if front else key
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, value


def _places(folder: Path, files: list[Path]) -> dict[str, Place]:
    """Where the code trains, evaluates and aggregates: decorated functions, or the methods of older apps."""
    found: dict[str, Place] = {}
    for path in files:
        with suppress(OSError, SyntaxError, ValueError):
            name = str(path.resolve().relative_to(folder.resolve()))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef):
                    role = _role(node)
                    if role and role not in found:
                        found[role] = Place(file=name, line=node.lineno)
    return found


def _role(node: ast.FunctionDef) -> str:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute):
            return _CALLS.get(decorator.func.attr, "")
    return _METHODS.get(node.name, "")
