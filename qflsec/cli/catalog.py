"""``qflsec list`` and ``qflsec show``: what there is, and what it says of itself."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any, get_args

import typer

from qflsec.base.errors import UnknownName
from qflsec.cli.options import AsJson
from qflsec.cli.render import print_json

__all__ = ["list_names", "show"]

_PLURALS = {
    "attacks": "attack",
    "layers": "layer",
    "datasets": "dataset",
    "models": "model",
    "partitions": "partition",
    "threats": "threat",
    "panels": "panel",
    "presets": "preset",
}


def list_names(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(_PLURALS)}.")],
    as_json: AsJson = False,
) -> None:
    """List what there is of one kind, with one line on each."""
    if kind not in _PLURALS:
        from qflsec.lab.grid.schema import nearest

        raise UnknownName(
            "unknown kind",
            got=repr(kind),
            expected=f"one of {', '.join(_PLURALS)}",
            fix=nearest(kind, list(_PLURALS)),
        )
    items = [{"name": name, "idea": _idea(thing)} for name, thing in _things(_PLURALS[kind]).items()]
    if as_json:
        print_json({"schema": "qflsec-list/1", "kind": kind, "items": items})
        return
    width = max((len(item["name"]) for item in items), default=0)
    for item in items:
        typer.echo(f"{item['name']:<{width}}  {item['idea']}")


def show(
    name: Annotated[str, typer.Argument(help="The name of anything that 'qflsec list' lists.")],
    as_json: AsJson = False,
) -> None:
    """Show the card and parameters of whatever 'qflsec list' lists."""
    found = [(kind, things[name]) for kind in _PLURALS.values() if name in (things := _things(kind))]
    if not found:
        from qflsec.lab.grid.schema import nearest

        known = [known for kind in _PLURALS.values() for known in _things(kind)]
        raise UnknownName("nothing has this name", got=repr(name), fix=nearest(name, known))
    documents = [_document(kind, name, thing) for kind, thing in found]
    if as_json:
        print_json({"schema": "qflsec-show/1", "items": documents})
        return
    for document in documents:
        for key, value in document.items():
            if key == "text":
                typer.echo(value)
            elif isinstance(value, dict):
                typer.echo(f"{key}:")
                for part, content in value.items():
                    typer.echo(f"  {part}: {content}")
            elif isinstance(value, list):
                typer.echo(f"{key}:")
                for part in value:
                    typer.echo(f"  - {part}")
            else:
                typer.echo(f"{key}: {value}")


def _things(kind: str) -> dict[str, Any]:
    if kind == "preset":
        from qflsec.lab import presets

        return dict(presets())
    from qflsec.base.registry import Kind, find, names

    known: tuple[Kind, ...] = get_args(Kind)
    return {name: find(item, name) for item in known if item == kind for name in names(item)}


def _idea(thing: Any) -> str:  # noqa: ANN401 - plugins are heterogeneous
    card = getattr(thing, "card", None)
    if card is not None:
        return str(card.idea)
    if isinstance(thing, type) or callable(thing):
        return (inspect.getdoc(thing) or "").partition("\n")[0]
    import tomllib

    return str(tomllib.loads(thing.read_text(encoding="utf-8"))["description"]).partition("\n")[0]


def _document(kind: str, name: str, thing: Any) -> dict[str, Any]:  # noqa: ANN401
    if kind == "preset":
        return {"kind": kind, "name": name, "path": str(thing), "text": thing.read_text(encoding="utf-8")}
    card = getattr(thing, "card", None)
    stated: dict[str, Any] = {"idea": _idea(thing)} if card is None else dataclasses.asdict(card)
    source = stated.pop("source", None)
    if source is not None:
        stated["source"] = f"{source['paper']} ({source['year']}), {source['where']}"
    stated.pop("name", None)
    from qflsec.lab.grid.schema import table_of

    takes_a_table = kind in {"attack", "layer", "threat"}
    fields = table_of(thing).model_fields if takes_a_table else {}
    return {
        "kind": kind,
        "name": name,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in stated.items()},
        "parameters": {
            key: "required" if field.is_required() else _shown(field.default) for key, field in fields.items()
        },
        "module": thing.__module__,
    }


def _shown(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
