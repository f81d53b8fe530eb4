"""Pages of the documentation's site that are made from the code: a page for each package, and one of all commands."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import typer.main
from mkdocs.structure.files import File, Files

import qflsec

_HIDDEN = {"qflsec.__main__", "qflsec.cli"}


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401 - mkdocs's own
    """Add the reference to the pages that are written by hand."""
    home = Path(config["config_file_path"]).with_name("README.md").read_text(encoding="utf-8")
    made = {"index.md": home.replace("](docs/", "]("), "reference/commands.md": _commands()}
    for name in _packages():
        made[f"reference/{name}.md"] = _package(name)
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def _packages() -> list[str]:
    """The packages with a face of their own, the uppermost first."""
    found = pkgutil.walk_packages(qflsec.__path__, "qflsec.")
    names = [part.name for part in found if part.ispkg and part.name not in _HIDDEN]
    return [name for name in names if getattr(importlib.import_module(name), "__all__", ())]


def _package(name: str) -> str:
    face = importlib.import_module(name)
    parts = [f"# {name}", "", (face.__doc__ or "").strip(), ""]
    for public in sorted(face.__all__):
        thing = getattr(face, public)
        # a constant or an alias has no docstring of its own
        if inspect.isfunction(inspect.unwrap(thing) if callable(thing) else thing) or inspect.isclass(thing):
            parts += [f"::: {thing.__module__}.{thing.__qualname__}", ""]
        else:
            parts += [f"## `{public}`", "", f"`{thing!r}`"[:500], ""]
    return "\n".join(parts)


def _commands() -> str:
    from qflsec.cli.app import app

    command = typer.main.get_command(app)
    return _one(command, "qflsec", 1)


def _one(command: Any, path: str, level: int) -> str:  # noqa: ANN401 - click's own
    import click

    context = click.Context(command, info_name=path)
    parts = [f"{'#' * min(level, 4)} {path}", "", (command.help or "").strip(), ""]
    parts += ["```text", command.get_usage(context), "```", ""]
    rows = [
        record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))
    ]
    if rows:
        parts += ["| option | what it does |", "|---|---|"]
        parts += [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in rows]
        parts += [""]
    for name, child in sorted(getattr(command, "commands", {}).items()):
        parts += [_one(child, f"{path} {name}", level + 1)]
    return "\n".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
