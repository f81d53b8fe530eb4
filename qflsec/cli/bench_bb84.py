"""``qflsec bench bb84``: speed of BB84, as ratios in one process."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from qflsec.cli.options import AsJson, command_line
from qflsec.cli.render import print_json

__all__ = ["bench_bb84"]


def bench_bb84(
    runs: Annotated[int, typer.Option(min=1, help="Runs of Cascade for each schedule and error rate.")] = 20,
    largest: Annotated[int, typer.Option(min=100_000, help="Longest key for hashing, in bits.")] = 10_000_000,
    seed: Annotated[int, typer.Option(help="Of the physics.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure the quantum phase, Cascade and hashing in processor time of one process."""
    from qflsec.protocols.bb84.bench import bench_quantum
    from qflsec.protocols.bb84.bench_post import bench_post

    quantum: dict[str, Any] = dict(bench_quantum(seed=seed))
    post: dict[str, Any] = dict(bench_post(runs=runs, largest=largest))
    if as_json:
        print_json({"schema": "qflsec-bench-bb84/1", "command": command_line(), "quantum": quantum, **post})
        return
    for name, value in quantum.items():
        typer.echo(f"{name.replace('_', ' '):<34}{value:>16,.0f}")
    for row in post.pop("cascade"):
        published = "" if row["published_f_ec"] is None else f" (published {row['published_f_ec']:.3f})"
        typer.echo(
            f"Cascade {row['schedule']:<9} Q = {100 * row['qber']:.0f} %, {row['bits']:,} bits: "
            f"f_EC {row['f_ec']:.3f}{published}, both parties {row['f_ec_both_parties']:.3f}, "
            f"{row['rounds']:.0f} rounds, {row['mbit_per_s']:.2f} Mbit/s, {row['failures']} failures"
        )
    for row in post.pop("toeplitz"):
        typer.echo(
            f"Toeplitz {row['bits']:,} bits: {row['seconds']:.3f} s, {row['mbit_per_s']:.2f} Mbit/s, "
            f"time per n log n {row['growth']:.2f}"
        )
    for name, value in post.items():
        typer.echo(f"{name.replace('_', ' ')}: {value:,.1f}")
