"""Options that several commands share."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import click
import typer

from qflsec.base.errors import ConfigError, StoreError

__all__ = [
    "OWN_PROCESS",
    "Address",
    "AsJson",
    "Backend",
    "Engine",
    "Jobs",
    "Plugins",
    "Report",
    "SeedOffset",
    "Seeds",
    "Spec",
    "StoreFile",
    "check_workers",
    "command_line",
    "own_process",
    "parse_seeds",
    "refuse_options",
    "the_only_store",
]

OWN_PROCESS = "a process for one command"
_MAX_SEEDS = 100_000
_MAX_JOBS = 1024

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
SeedOffset = Annotated[
    int, typer.Option("--seed", help="Added to every seed, for an independent repetition.", show_default=True)
]
Seeds = Annotated[
    str | None, typer.Option("--seeds", help="Seeds in the place of the specification's, as in 0,1,2 or 0-9.")
]
Report = Annotated[Path | None, typer.Option("--report", help="Write the HTML report here.")]
Jobs = Annotated[int | None, typer.Option("--jobs", help="Worker processes; one for each core by default.")]
Backend = Annotated[
    str, typer.Option("--backend", help="local (processes of this machine), loky (joblib's), dask or ray.")
]
Address = Annotated[str | None, typer.Option("--address", help="A running Dask scheduler or Ray cluster.")]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="What makes the runs: loop (the training loop), flower (SuperLink and SuperNodes, slow) or flower-in-process (a "
        "Flower app in each worker); by default what the specification says.",
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugins", help="A file or module of yours that registers plugins; may be repeated."),
]
Spec = Annotated[str, typer.Argument(help="A preset ('qflsec list presets') or a TOML file.")]
StoreFile = Annotated[
    Path | None, typer.Option("--store", help="The result store; NAME.sqlite of the matrix by default.")
]


def own_process() -> bool:
    """Whether this process was started for one command, as a shell does, and not for another program that calls it."""
    context = click.get_current_context(silent=True)
    return context is not None and context.find_root().obj is OWN_PROCESS


def command_line() -> str:
    """The command as it was typed."""
    return shlex.join(["qflsec", *sys.argv[1:]])


def parse_seeds(text: str | None) -> tuple[int, ...] | None:
    """Seeds such as ``0,1,2`` or ``0-9``.

    Raises:
        ConfigError: The text is not a list of seeds.
    """
    if text is None:
        return None
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise ConfigError("--seeds is not a list of seeds", got=repr(text), expected="0,1,2 or 0-9")
        if int(last or first) < int(first):
            raise ConfigError("--seeds counts down", got=part.strip(), expected=f"{last}-{first}")
        if int(last or first) - int(first) >= _MAX_SEEDS:
            raise ConfigError(
                "--seeds lists too many seeds", got=part.strip(), expected=f"at most {_MAX_SEEDS:,}"
            )
        seeds.extend(range(int(first), int(last or first) + 1))
    return tuple(seeds)


def check_workers(jobs: int | None, backend: str, address: str | None) -> None:
    """Refuse workers that cannot be had, before anything is imported.

    Raises:
        ConfigError: There cannot be so many, or an address is given that nobody would use.
    """
    if jobs is not None and not 1 <= jobs <= _MAX_JOBS:
        raise ConfigError("--jobs is out of range", got=jobs, expected=f"1 to {_MAX_JOBS:,}")
    if address is not None and backend in {"local", "loky"}:
        raise ConfigError(
            "--address is of no use to workers of this machine",
            got=address,
            fix="add --backend dask or --backend ray",
        )


def refuse_options(context: typer.Context) -> None:
    """Refuse options of a command that were given in front of one of its subcommands.

    Raises:
        ConfigError: There are some.
    """
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name is not None
        and (where := context.get_parameter_source(parameter.name)) is not None
        and where.name == "COMMANDLINE"
    ]
    if given:
        raise ConfigError(
            f"options before {context.invoked_subcommand!r} are those of a single run",
            got=" ".join(given),
            fix=f"write them after {context.invoked_subcommand!r}, or leave them out",
        )


def the_only_store() -> Path:
    """The result store of the working folder, where it holds one alone.

    Raises:
        StoreError: It holds none or several.
    """
    found = sorted(Path().glob("*.sqlite"))
    if len(found) != 1:
        raise StoreError(
            "which result store is meant",
            got=", ".join(str(path) for path in found) or f"no *.sqlite in {Path.cwd()}",
            expected="one",
            fix="name it: --store FILE",
        )
    return found[0]
