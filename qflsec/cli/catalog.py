"""``qflsec list`` and ``qflsec show``: what there is, and what it says of itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qflsec.base.errors import UnknownName
from qflsec.base.parameters import plain, summary
from qflsec.cli.index import Index, indexed
from qflsec.cli.options import AsJson, Plugins
from qflsec.cli.render import print_json

if TYPE_CHECKING:
    from qflsec.base.parameters import Parameter

__all__ = ["described_parameters", "idea_of", "list_names", "show", "things"]

_PLURALS = {
    "attacks": "attack",
    "defenses": "defense",
    "protocols": "protocol",
    "layers": "layer",
    "topologies": "topology",
    "models": "model",
    "datasets": "dataset",
    "partitions": "partition",
    "threats": "threat",
    "checks": "check",
    "claims": "claim",
    "panels": "panel",
    "presets": "preset",
}


def list_names(
    kind: Annotated[
        str | None, typer.Argument(help=f"One of {', '.join(_PLURALS)}; everything by default.")
    ] = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """List what there is, of one kind or of all, with one line on each."""
    if kind is not None and kind not in _PLURALS:
        from qflsec.lab.grid.schema import nearest

        raise UnknownName(
            "unknown kind",
            got=repr(kind),
            expected=f"one of {', '.join(_PLURALS)}",
            fix=nearest(kind, list(_PLURALS)),
        )
    # what is listed as a defense or a protocol is a layer, and stands once in a list of everything
    wanted = [kind] if kind is not None else [plural for plural in _PLURALS if plural != "layers"]
    everything = _everything(plugins)
    found = {plural: everything[_PLURALS[plural]] for plural in wanted}
    if as_json:
        items = [
            {"kind": _PLURALS[plural], "name": name, "idea": said["idea"]}
            for plural, named in found.items()
            for name, said in named.items()
        ]
        print_json({"schema": "qflsec-list/2", "kinds": wanted, "items": items})
        return
    for plural, named in found.items():
        if kind is None:
            typer.echo(f"{plural}:")
        indent = "" if kind is not None else "  "
        width = max((len(name) for name in named), default=0)
        for name, said in named.items():
            typer.echo(f"{indent}{name:<{width}}  {said['idea']}")


def show(
    name: Annotated[str, typer.Argument(help="The name of anything that 'qflsec list' lists.")],
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Show the card and parameters of whatever 'qflsec list' lists."""
    everything = _everything(plugins)
    kinds = [kind for kind in _PLURALS.values() if kind != "layer"]
    documents = [everything[kind][name]["document"] for kind in kinds if name in everything[kind]]
    if not documents:
        from qflsec.lab.grid.schema import nearest

        known = [known for kind in kinds for known in everything[kind]]
        say = f"'qflsec list {name}' names them" if name in _PLURALS else nearest(name, known)
        raise UnknownName(
            "nothing has this name", got=repr(name), fix=say or "'qflsec list' says what there is"
        )
    if as_json:
        print_json({"schema": "qflsec-show/2", "items": documents})
        return
    for document in documents:
        _print(document)


def things(kind: str) -> dict[str, Any]:
    """Everything of one kind by its name: plugins, or the files of presets."""
    if kind == "preset":
        from qflsec.lab import presets

        return dict(presets())
    from qflsec.base.registry import Kind, find, names

    if kind in {"defense", "protocol"}:
        from qflsec.federation import SecretLayer

        layers = things("layer")
        return {
            name: layer
            for name, layer in layers.items()
            if issubclass(layer, SecretLayer) == (kind == "protocol")
        }
    registered: Kind = kind  # type: ignore[assignment]
    return {name: find(registered, name) for name in names(registered)}


def described_parameters(kind: str, thing: Any) -> tuple[Parameter, ...]:  # noqa: ANN401 - plugins are heterogeneous
    """What a specification can set of a plugin."""
    from qflsec.lab.grid.fields import parameters_of

    if kind in {"panel", "check"}:
        return ()
    if kind == "model":
        keys = getattr(thing, "keys", None)
        return () if keys is None else parameters_of(keys)
    if kind in {"dataset", "partition"}:
        from qflsec.data import DataSpec, PartitionSpec

        # a source and a partitioner are handed the whole table
        chosen_by = {"dataset": (DataSpec, "name"), "partition": (PartitionSpec, "kind")}
        spec, key = chosen_by[kind]
        return tuple(parameter for parameter in parameters_of(spec) if parameter.name != key)
    return parameters_of(thing)


def _everything(plugins: list[str] | None) -> Index:
    """What everything says of itself, by kind and name, with the user's plugins beside those that are installed."""
    if plugins:
        from qflsec.lab.grid.files import load_user_plugins

        load_user_plugins(plugins)
        found = _plugins()
    else:
        found = indexed(_plugins)
    return {**found, "preset": _said("preset")}


def _plugins() -> Index:
    return {kind: _said(kind) for kind in _PLURALS.values() if kind != "preset"}


def _said(kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: {"idea": idea_of(thing), "document": _document(kind, name, thing)}
        for name, thing in things(kind).items()
    }


def idea_of(thing: Any) -> str:  # noqa: ANN401 - plugins are heterogeneous
    """What it is, on one line."""
    card = getattr(thing, "card", None)
    if card is not None:
        return str(card.idea)
    if callable(thing):
        return plain((thing.__doc__ or "").strip().partition("\n")[0])
    import tomllib

    return str(tomllib.loads(thing.read_text(encoding="utf-8"))["description"]).partition("\n")[0]


def _document(kind: str, name: str, thing: Any) -> dict[str, Any]:  # noqa: ANN401 - plugins are heterogeneous
    if kind == "preset":
        return {"kind": kind, "name": name, "path": str(thing), "text": thing.read_text(encoding="utf-8")}
    card = getattr(thing, "card", None)
    stated: dict[str, Any] = {"idea": summary(thing)} if card is None else dataclasses.asdict(card)
    source = stated.pop("source", None)
    if source is not None:
        stated["source"] = f"{source['paper']} ({source['year']}), {source['where']}"
    stated.pop("name", None)
    return {
        "kind": kind,
        "name": name,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in stated.items()},
        "parameters": {part.name: part.to_dict() for part in described_parameters(kind, thing)},
        "module": thing.__module__,
    }


def _print(document: Mapping[str, Any]) -> None:
    for key, value in document.items():
        if key == "text":
            typer.echo(value)
        elif key == "parameters":
            typer.echo("parameters:" if value else "parameters: none")
            for name, said in value.items():
                typer.echo(f"  {name}: {_parameter(said)}")
        elif isinstance(value, list):
            typer.echo(f"{key}:")
            for part in value:
                typer.echo(f"  - {part}")
        else:
            typer.echo(f"{key}: {value}")


def _parameter(said: Mapping[str, Any]) -> str:
    unit = f" ({said['unit']})" if said["unit"] else ""
    default = "required" if said["required"] else f"{json.dumps(said['default'])} by default"
    default = "none by default" if not said["required"] and said["default"] is None else default
    return f"{said['type']}{unit}, {default}. {said['about']}".rstrip()
