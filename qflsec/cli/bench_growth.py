"""``qflsec bench growth``: how the cost of runs grows with clients, rounds, records and runs."""

from __future__ import annotations

from typing import Annotated

import typer

from qflsec.cli.options import AsJson, command_line
from qflsec.cli.render import print_json

__all__ = ["bench_growth"]


def bench_growth(
    axes: Annotated[
        str, typer.Option(help="What grows, with commas: clients, rounds, records, runs, rounds-of-1000.")
    ] = "clients,rounds,records,runs,rounds-of-1000",
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each size; the least counts.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Measure runs and views of rising sizes, up to 1,000 clients: processor time, what transcripts hold, and the power by which they grow."""
    from qflsec.base import ConfigError
    from qflsec.lab.bench_growth import AXES, render_growth
    from qflsec.lab.bench_growth import bench_growth as measure

    names = [part.strip() for part in axes.split(",")]
    if set(names) - set(AXES):
        raise ConfigError(
            "'--axes' names what does not grow", got=axes, expected=f"some of {', '.join(AXES)}"
        )
    rows = measure(names, repeats=repeats)
    if as_json:
        found = [
            {
                "axis": row.axis,
                "size": row.size,
                "run_cpu_seconds": row.run,
                "view_cpu_seconds": row.view,
                "transcript_bytes": row.kept,
                "slopes": dict(row.slopes),
                "met": row.met,
            }
            for row in rows
        ]
        print_json({"schema": "qflsec-bench-growth/1", "command": command_line(), "rows": found})
        return
    typer.echo(render_growth(rows))
