"""Matrices of every kind, from a specification to a result; a document says which kind it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from qflsec.base import ConfigError, StoreError
from qflsec.lab.grid.results import Result
from qflsec.lab.grid.runner import Progress, run_matrix
from qflsec.lab.grid.schema import at
from qflsec.lab.grid.spec import GridSpec, kind_of, parse_toml, read_text
from qflsec.lab.grid.store import Store
from qflsec.lab.grid.world import AnyWorld
from qflsec.lab.worlds.channel import ChannelWorld
from qflsec.lab.worlds.delegation import DelegationWorld
from qflsec.lab.worlds.federation.world import FederationWorld

__all__ = [
    "KINDS",
    "assemble",
    "build",
    "from_json",
    "load_spec",
    "parse_spec",
    "presets",
    "read_result",
    "run",
    "to_dict",
    "to_json",
]

KINDS: Mapping[str, type[AnyWorld]] = {
    world.kind: world for world in (FederationWorld, ChannelWorld, DelegationWorld)
}
"""The kinds of matrix, by what a specification says of itself."""


def presets() -> dict[str, Path]:
    """The specifications that come with the package, by name."""
    folder = Path(str(resources.files("qflsec.lab"))) / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_spec(preset_or_file: str | Path, *, kind: str | None = None) -> GridSpec:
    """A specification by the name of a preset or the path of a file.

    Args:
        preset_or_file: Which.
        kind: The kind that it has to be of; any by default.

    Raises:
        ConfigError: There is none, or it cannot be used; the message says where and how to mend it.
    """
    path, text = read_text(preset_or_file, presets())
    with at(path.name):
        return parse_spec(text, base=path.parent, kind=kind)


def parse_spec(text: str, *, base: Path, kind: str | None = None) -> GridSpec:
    """A specification from TOML text.

    Args:
        text: The text.
        base: The folder that the names of files are relative to.
        kind: The kind that it has to be of; any by default.

    Raises:
        ConfigError: It cannot be used.
    """
    found = parse_toml(text)
    said = kind_of(found, {name: world.spec_type for name, world in KINDS.items()})
    if kind is not None and said != kind:
        raise ConfigError(
            f"not a {kind} matrix",
            got=f"kind {said!r}",
            expected=f'a file that says kind = "{kind}"',
            fix="'qflsec matrix run' takes every kind",
        )
    spec_type = KINDS[said].spec_type
    return spec_type.from_document(spec_type.located(found, base))


def build(spec: GridSpec) -> AnyWorld:
    """Make the objects that a specification names.

    Raises:
        QflsecError: A name is unknown or a value cannot be used; the message starts with the key path.
    """
    return KINDS[spec.kind].make(spec)


def run(
    spec: GridSpec,
    store: str | Path,
    *,
    jobs: int | None = None,
    backend: str = "loky",
    address: str | None = None,
    command: str = "",
    long: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Result[Any]:
    """Run what is left of a matrix and return its result.

    Args:
        spec: The specification.
        store: The store; made where it does not exist.
        jobs: The number of workers.
        backend: ``"loky"``, ``"dask"`` or ``"ray"``.
        address: A running Dask scheduler or Ray cluster.
        command: The command that a report shall name.
        long: Whether a plan is confirmed that would take more than a day.
        on_progress: Called after every finished batch.

    Raises:
        QflsecError: The specification, its data, the store or the backend cannot be used.
    """
    world = build(spec)
    steps = run_matrix(world, store, jobs=jobs, backend=backend, address=address, command=command, long=long)
    for progress in steps:
        if on_progress is not None:
            on_progress(progress)
    return assemble(world, store, command=command)


def assemble(world: AnyWorld, store: str | Path, *, command: str = "") -> Result[Any]:
    """What a store knows of a matrix.

    Raises:
        StoreError: There is no such store.
    """
    with Store(store, create=False) as opened:
        result: Result[Any] = world.assemble(opened.rows(), command=command)
    return result


def read_result(path: str | Path, spec: GridSpec | None = None) -> Result[Any]:
    """The result in a store, or in a JSON document that was exported from one.

    Args:
        path: The store or the document.
        spec: The matrix; the one that was last run into the store by default.

    Raises:
        StoreError: The file is neither.
    """
    place = Path(path)
    if place.is_file():
        with place.open("rb") as file:
            start = file.read(64).lstrip()
        if start.startswith(b"{"):
            return from_json(place.read_text(encoding="utf-8"))
    with Store(place, create=False) as store:
        last = store.last_matrix(None if spec is None else spec.name)
        if spec is None and last is None:
            raise StoreError("no matrix was run into this store", got=store.path, fix="run one with --store")
        if spec is None:
            assert last is not None
            spec = KINDS[last["kind"]].spec_type.from_json(last["spec"])
        command = "" if last is None else str(last["command"])
        result: Result[Any] = build(spec).assemble(store.rows(), command=command)
    return result


def to_dict(result: Result[Any]) -> dict[str, Any]:
    """A result as a document: JSON types, numbers that are not finite as null."""
    return KINDS[result.kind].document(result)


def to_json(result: Result[Any], *, indent: int | None = 2) -> str:
    """The document of a result, as text."""
    return json.dumps(to_dict(result), indent=indent, allow_nan=False)


def from_json(text: str) -> Result[Any]:
    """The result that :func:`to_json` wrote.

    Raises:
        StoreError: The text is not such a document.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise StoreError("not a JSON document", got=str(error)) from None
    schema = found.get("schema") if isinstance(found, dict) else type(found).__name__
    kind = next((world for world in KINDS.values() if world.schema == schema), None)
    if kind is None:
        expected = ", ".join(world.schema for world in KINDS.values())
        raise StoreError("not a matrix result of this version", got=schema, expected=expected)
    try:
        result: Result[Any] = kind.read(found)
    except (KeyError, TypeError) as error:
        raise StoreError("a matrix result lacks a field", got=repr(error)) from None
    return result
