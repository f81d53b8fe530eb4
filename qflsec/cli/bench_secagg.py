"""``qflsec bench secagg``: what each aggregation protocol costs, as ratios to none, in one process."""

from __future__ import annotations

from typing import Annotated

import typer

from qflsec.base.errors import ConfigError
from qflsec.cli.options import AsJson, command_line
from qflsec.cli.render import print_json

__all__ = ["bench_secagg"]


def bench_secagg(
    parameters: Annotated[str, typer.Option(help="Numbers of parameters, with commas.")] = "36,1000,100000",
    clients: Annotated[int, typer.Option(min=9, help="The number of clients; groups need nine.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of each; the cheapest counts.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure a round of every protocol: processor time of a client and of the server, and bytes."""
    from qflsec.protocols.secagg.bench import bench_secagg as measure
    from qflsec.protocols.secagg.bench import targets

    try:
        sizes = tuple(int(part) for part in parameters.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise ConfigError(
            "'--parameters' is not a list of numbers", got=parameters, expected="such as 36,1000"
        )
    rows = measure(sizes=sizes, n_clients=clients, repeats=repeats)
    met = targets(rows)
    if as_json:
        print_json(
            {"schema": "qflsec-bench-secagg/1", "command": command_line(), "rows": rows, "targets": met}
        )
        return
    typer.echo(
        f"{'protocol':<30}{'params':>8}{'client ms':>11}{'server ms':>11}{'sends':>12}{'receives':>12}"
        f"{'client':>9}{'server':>9}{'bytes':>8}"
    )
    for row in rows:
        client_ms = float(row["client_seal_ms"]) + float(row["client_open_ms"])
        typer.echo(
            f"{row['protocol']:<30}{row['parameters']:>8,}{client_ms:>11.3f}{float(row['server_ms']):>11.3f}"
            f"{float(row['up_bytes']):>12,.0f}{float(row['down_bytes']):>12,.0f}"
            f"{float(row['client_time_to_plain']):>9.1f}{float(row['server_time_to_plain']):>9.1f}"
            f"{float(row['up_bytes_to_plain']):>8.3f}"
        )
    typer.echo(
        "The last three columns are ratios to plain. Set-up of a session is not counted; secagg has none."
    )
    for target in met:
        mark = "met" if target["met"] else "MISSED"
        typer.echo(f"[{mark}] {target['what']}: {target['value']:.3f}, at most {target['at_most']:g}")
