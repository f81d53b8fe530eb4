"""``qflsec init``: a first matrix of your own, with the files that it names."""

from __future__ import annotations

import shlex
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from qflsec.base.errors import ConfigError

__all__ = ["init"]

_FILES = ("matrix.toml", "circuit.py", "records.csv")


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where to; made if it does not exist.")
    ] = Path(),
) -> None:
    """Write a commented matrix with a circuit and records, which runs at once; nothing is overwritten."""
    there = [name for name in _FILES if (folder / name).exists()]
    if there:
        raise ConfigError(
            "nothing is overwritten",
            got=f"{', '.join(there)} in {folder.resolve()}",
            expected=f"a folder without {', '.join(_FILES)}",
            fix="name another folder, or move them away",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            text = (
                resources.files("qflsec.cli").joinpath("template", f"{name}.txt").read_text(encoding="utf-8")
            )
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError("the folder cannot be written to", got=f"{folder}: {error.strerror}") from error
    typer.echo(f"wrote {', '.join(str(folder / name) for name in _FILES)}")
    enter = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    typer.echo(f"next: {enter}qflsec matrix run matrix.toml")
