"""``qflsec bench blind``: cost of a blind shot, in processor time of one process."""

from __future__ import annotations

from typing import Annotated

import typer

from qflsec.cli.options import AsJson, command_line
from qflsec.cli.render import print_json

__all__ = ["bench_blind"]


def bench_blind(
    shots: Annotated[int, typer.Option(min=1000, help="Rounds of each measurement.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of nature.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure blind shots with qubits, layers, tests and batch, and against PennyLane."""
    from qflsec.protocols.blind import bench

    found = bench.bench_blind(shots=shots, seed=seed)
    if as_json:
        print_json({"schema": "qflsec-bench-blind/1", "command": command_line(), **found})
        return
    for name, value in found.items():
        words = name.replace("_", " ")
        if name.startswith("seconds"):
            typer.echo(f"{words.replace('seconds', 'microseconds', 1):<58}{1e6 * value:>12,.4f}")
        else:
            typer.echo(f"{words:<58}{value:>12,.4g}")
