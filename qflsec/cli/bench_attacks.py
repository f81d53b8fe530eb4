"""``qflsec bench attacks``: shadow models, membership attacks and gradient matching, as ratios in one process."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from qflsec.cli.options import AsJson, command_line
from qflsec.cli.render import print_json

__all__ = ["bench_attacks"]


def bench_attacks(
    models: Annotated[int, typer.Option(min=2, help="Shadow federations.")] = 64,
    restarts: Annotated[int, typer.Option(min=1, help="Of gradient matching.")] = 16,
    repeats: Annotated[
        int, typer.Option(min=1, help="Measurements of the federations; the best counts.")
    ] = 3,
    as_json: AsJson = False,
) -> None:
    """Measure attacks on privacy in processor time of one process: against PennyLane, the bare kernel and each other."""
    from qflsec.lab.bench_attacks import bench_attacks as measure
    from qflsec.lab.bench_attacks import render_attacks

    rows = measure(models=models, restarts=restarts, repeats=repeats)
    if as_json:
        found = [{**asdict(row), "ratio": row.ratio, "met": row.met} for row in rows]
        print_json({"schema": "qflsec-bench-attacks/1", "command": command_line(), "rows": found})
        return
    if not rows:
        typer.echo("numba is not installed: there is no compiled kernel to measure.")
        return
    typer.echo(render_attacks(rows))
