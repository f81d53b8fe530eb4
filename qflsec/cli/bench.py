"""``qflsec bench``: measurements of speed."""

from __future__ import annotations

import typer

from qflsec.cli.bench_aggregation import bench_aggregation
from qflsec.cli.bench_attacks import bench_attacks
from qflsec.cli.bench_bb84 import bench_bb84
from qflsec.cli.bench_blind import bench_blind
from qflsec.cli.bench_cli import bench_cli
from qflsec.cli.bench_engine import bench_engine
from qflsec.cli.bench_flower import bench_flower
from qflsec.cli.bench_growth import bench_growth
from qflsec.cli.bench_matrix import bench_matrix
from qflsec.cli.bench_noise import bench_noise
from qflsec.cli.bench_secagg import bench_secagg

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Measurements of speed.")
app.command("aggregation")(bench_aggregation)
app.command("attacks")(bench_attacks)
app.command("bb84")(bench_bb84)
app.command("blind")(bench_blind)
app.command("cli")(bench_cli)
app.command("engine")(bench_engine)
app.command("flower")(bench_flower)
app.command("growth")(bench_growth)
app.command("matrix")(bench_matrix)
app.command("noise")(bench_noise)
app.command("secagg")(bench_secagg)
