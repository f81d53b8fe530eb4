"""``qflsec bench matrix``: what whole matrices cost, and against another version."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from qflsec.cli.options import AsJson, Jobs, Seeds, command_line
from qflsec.cli.render import print_json

__all__ = ["bench_matrix"]


def bench_matrix(
    names: Annotated[
        list[str] | None, typer.Argument(help="Presets or TOML files; quickstart by default.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="The root of another checkout, to be measured in alternation."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each matrix; the least time counts.")] = 1,
    seeds: Seeds = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Run matrices in processes of their own: processor time in all of them, its shares, and the ratio to another version."""
    from qflsec.lab.bench import bench_matrices

    rows = bench_matrices(names or ["quickstart"], seeds=seeds, jobs=jobs, repeats=repeats, against=against)
    if as_json:
        found = [{**asdict(row), "ratio": row.ratio} for row in rows]
        print_json({"schema": "qflsec-bench-matrix/1", "command": command_line(), "rows": found})
        return
    for row in rows:
        typer.echo(
            f"{row.name}: {row.seconds:.1f} s of processor time for {row.trials} trials, "
            f"{row.numpy:.0f} times that of importing NumPy"
        )
        for part, share in row.shares.items():
            typer.echo(f"  {part:<20}{100 * share:5.1f} %")
        if row.ratio is not None:
            typer.echo(f"  against {against}: {row.against_seconds:.1f} s, ratio {row.ratio:.2f}")
