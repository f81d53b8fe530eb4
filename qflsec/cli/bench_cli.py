"""``qflsec bench cli``: how quickly commands answer that look something up, as ratios to importing NumPy."""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from qflsec.base.errors import ConfigError
from qflsec.cli.options import AsJson, command_line
from qflsec.cli.render import print_json

__all__ = ["COMMANDS", "bench_cli"]

TARGET = 6.0
"""The largest ratio that is accepted."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "--version": ("--version",),
    "--help": ("--help",),
    "init": ("init", "{out}-{turn}"),
    "list": ("list",),
    "show": ("show", "dlg"),
    "status": ("matrix", "status", "--store", "{store}"),
    "diff": ("matrix", "diff", "{store}", "{store}"),
    "export": ("matrix", "export", "--store", "{store}", "--out", "{out}.json"),
    "report": ("matrix", "report", "--store", "{store}", "--out", "{out}.html"),
}
"""What is measured, with the names of a store and of an output, and the turn, to be filled in."""
_BASELINE = ("-c", "import numpy")


@dataclass(frozen=True, kw_only=True)
class CliRow:
    """One command.

    Attributes:
        command: Its name.
        ratio: Its processor time over that of ``python -c "import numpy"``, each the least of all measurements.
        seconds: Its least processor time.
        wall_seconds: Its least time by the clock.
        target: The largest ratio that is accepted.
    """

    command: str
    ratio: float
    seconds: float
    wall_seconds: float
    target: float = TARGET

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.ratio <= self.target


def bench_cli(
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each command; the best counts.")] = 5,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", help="A store to look at; one of the size of quickstart's is made by default."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the commands that look things up, each in processes of its own, against importing NumPy."""
    with TemporaryDirectory() as folder:
        place = Path(folder) / "bench.sqlite" if store is None else store.absolute()
        if store is None:
            _fill(place)
        rows = _measure(place, Path(folder), repeats)
        size = place.stat().st_size
    if as_json:
        found = [{**asdict(row), "met": row.met} for row in rows]
        print_json(
            {"schema": "qflsec-bench-cli/1", "command": command_line(), "store_bytes": size, "rows": found}
        )
        return
    typer.echo(f"With a store of {size / 1e6:.1f} MB:\n")
    typer.echo("| command | times import numpy | at most | processor time | clock |")
    typer.echo("|---|---|---|---|---|")
    for row in rows:
        typer.echo(
            f"| {row.command} | {row.ratio:.1f}{'' if row.met else ' (missed)'} | {row.target:.0f} "
            f"| {row.seconds:.2f} s | {row.wall_seconds:.2f} s |"
        )


def _fill(store: Path) -> None:
    """The matrix of quickstart with classical models: as many rows, which are as long, in half a minute."""
    from qflsec.lab import load_spec, run

    spec = load_spec("quickstart")
    document = json.loads(spec.to_json())
    for pipeline in document["pipelines"].values():
        pipeline["model"] = {"name": "classical"}
    made = spec.from_json(json.dumps(document))
    run(made, store, jobs=1, command="qflsec bench cli")


def _measure(store: Path, folder: Path, repeats: int) -> list[CliRow]:
    """All commands in turn, again and again, so that a busy spell of the machine falls on all alike."""
    least: dict[str, tuple[float, float]] = {}
    for turn in range(repeats + 1):  # the first also fills caches
        words = {"": _BASELINE} | {
            name: (
                "-m",
                "qflsec",
                *(word.format(store=store, out=folder / "out", turn=turn) for word in parts),
            )
            for name, parts in COMMANDS.items()
        }
        for name, command in words.items():
            now, before = _timed(command, folder), least.get(name, (math.inf, math.inf))
            least[name] = min(before[0], now[0]), min(before[1], now[1])
    return [
        CliRow(
            command=name,
            ratio=least[name][0] / least[""][0],
            seconds=least[name][0],
            wall_seconds=least[name][1],
        )
        for name in COMMANDS
    ]


def _timed(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Processor time and time by the clock of one process, in seconds; compiled modules are kept in the folder."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, *words],
        env={**kept, "OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": str(folder / "compiled")},
        capture_output=True,
        text=True,
        check=False,
    )
    clock, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise ConfigError(f"'{' '.join(words)}' cannot be measured", got=done.stderr.strip()[-300:])
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, clock
