"""``qflsec bench aggregation``: robust rules against plain code, as ratios in one process."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from qflsec.cli.options import AsJson, command_line
from qflsec.cli.render import print_json

__all__ = ["bench_aggregation"]


def bench_aggregation(
    clients: Annotated[str, typer.Option(help="Numbers of clients, with commas.")] = "10,30,100",
    parameters: Annotated[str, typer.Option(help="Numbers of parameters, with commas.")] = "36,1000,10000",
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each rule; the best counts.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure robust rules in processor time of one process, as ratios to plain torch code."""
    from qflsec.defenses.robust.bench import bench_aggregation as measure
    from qflsec.defenses.robust.bench import render_aggregation

    sizes = {
        name: _numbers(name, given) for name, given in (("clients", clients), ("parameters", parameters))
    }
    rows = measure(clients=sizes["clients"], parameters=sizes["parameters"], repeats=repeats)
    if as_json:
        found = [{**asdict(row), "speed_up": row.speed_up, "met": row.met} for row in rows]
        print_json({"schema": "qflsec-bench-aggregation/1", "command": command_line(), "rows": found})
        return
    typer.echo(render_aggregation(rows))


def _numbers(name: str, given: str) -> list[int]:
    from qflsec.base import ConfigError

    smallest, largest = {"clients": (5, 200), "parameters": (1, 100_000)}[name]
    try:
        found = [int(part) for part in given.split(",")]
    except ValueError:
        raise ConfigError(
            f"'--{name}' is not a list of numbers", got=given, expected="such as 10,30"
        ) from None
    if min(found) < smallest or max(found) > largest:
        raise ConfigError(f"'--{name}' is out of range", got=given, expected=f"{smallest} to {largest}")
    return found
