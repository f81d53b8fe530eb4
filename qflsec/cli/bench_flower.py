"""``qflsec bench flower``: what a round costs over Flower's messages, as ratios to Flower's FedAvg, in one process."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from qflsec.base.errors import ConfigError
from qflsec.cli.flower import need_flower
from qflsec.cli.options import AsJson, command_line
from qflsec.cli.render import print_json

__all__ = ["bench_flower"]


def bench_flower(
    clients: Annotated[str, typer.Option(help="Numbers of clients, with commas; 3 at least.")] = "10,50",
    parameters: Annotated[int, typer.Option(min=1, help="The number of parameters.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each; greetings are part of them.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Measure a round over Flower: FedAvg, our mod and strategy, and Flower's own secure aggregation."""
    need_flower()
    from qflsec.flower.bench import bench_flower as measure

    try:
        sizes = [int(part) for part in clients.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 3:
        raise ConfigError(
            "'--clients' is not a list of numbers from 3 on", got=clients, expected="such as 10,50"
        )
    found = [measure(n_clients=n, n_params=parameters, rounds=rounds) for n in sizes]
    if as_json:
        rows = [asdict(cost) for costs in found for cost in costs]
        print_json({"schema": "qflsec-bench-flower/1", "command": command_line(), "rows": rows})
        return
    typer.echo(
        f"{'':<20}{'clients':>8}{'up bytes':>11}{'down bytes':>12}{'client ms':>11}{'server ms':>11}"
        f"{'up':>8}{'down':>8}{'client':>8}{'server':>8}{'error':>10}"
    )
    for costs in found:
        base = costs[0]
        for cost in costs:
            ratios = (
                cost.up_bytes / base.up_bytes,
                cost.down_bytes / base.down_bytes,
                cost.client_ms / base.client_ms,
                cost.server_ms / base.server_ms,
            )
            typer.echo(
                f"{cost.name:<20}{cost.clients:>8}{cost.up_bytes:>11,.0f}{cost.down_bytes:>12,.0f}"
                f"{cost.client_ms:>11.2f}{cost.server_ms:>11.2f}"
                + "".join(f"{ratio:>8.1f}" for ratio in ratios)
                + f"{cost.error:>10.1e}"
            )
    typer.echo(
        "The four columns of ratios are to Flower's FedAvg. Bytes are of one client and round; training costs nothing."
    )
