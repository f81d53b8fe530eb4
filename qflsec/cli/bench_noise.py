"""``qflsec bench noise``: the noisy kernel against the torch kernel and ``default.mixed``, in one process."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from qflsec.cli.options import AsJson, command_line
from qflsec.cli.render import print_json

__all__ = ["bench_noise"]


def bench_noise(
    qubits: Annotated[str, typer.Option(help="Numbers of qubits, with commas.")] = "2,4,6",
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each engine; the best counts.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure a noisy training step in processor time of one process, against the torch kernel and default.mixed."""
    from qflsec.base import ConfigError
    from qflsec.circuits.bench_noise import bench_noise as measure
    from qflsec.circuits.bench_noise import render_noise

    try:
        sizes = [int(part) for part in qubits.split(",")]
    except ValueError:
        raise ConfigError(
            "'--qubits' is not a list of numbers", got=qubits, expected="such as 2,4,6"
        ) from None
    if min(sizes) < 2 or max(sizes) > 8:
        raise ConfigError("'--qubits' is out of range", got=qubits, expected="2 to 8")
    rows = measure(qubits=sizes, repeats=repeats)
    if as_json:
        found = [{**asdict(row), "met": row.met} for row in rows]
        print_json({"schema": "qflsec-bench-noise/2", "command": command_line(), "rows": found})
        return
    typer.echo(render_noise(rows))
