"""``qflsec bench engine``: the kernels against each other and against PennyLane, as ratios in one process."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from qflsec.cli.options import AsJson, command_line
from qflsec.cli.render import print_json

__all__ = ["bench_engine"]


def bench_engine(
    qubits: Annotated[str, typer.Option(help="Numbers of qubits, with commas.")] = "4,6,8,10,12",
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each engine; the best counts.")] = 12,
    fast: Annotated[
        bool, typer.Option("--fast", help="Leave out the slow baselines, the memory and the first compile.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a training step in processor time of one process, as ratios to the torch kernel's and to PennyLane's."""
    from qflsec.base import ConfigError
    from qflsec.circuits.bench import bench, render
    from qflsec.circuits.bench_compiled import bench_compiled, first_compile, gradient_memory, render_kernels
    from qflsec.circuits.executors import executor_name
    from qflsec.lab.bench_training import bench_training
    from qflsec.models.bench_fallback import bench_fallback

    try:
        sizes = [int(part) for part in qubits.split(",")]
    except ValueError:
        raise ConfigError(
            "'--qubits' is not a list of numbers", got=qubits, expected="such as 4,6,8"
        ) from None
    if min(sizes) < 2 or max(sizes) > 16:
        raise ConfigError("'--qubits' is out of range", got=qubits, expected="2 to 16")
    memory, compiling = (None, None) if fast else (gradient_memory(), first_compile())
    kernels = [*bench_compiled(qubits=sizes, repeats=repeats), *bench_training(repeats=repeats)]
    kernels += [memory] if memory else []
    kernel = executor_name("auto")
    rows = bench(qubits=sizes, repeats=repeats, slow_baselines=not fast)
    fallback = bench_fallback(repeats=repeats)
    if as_json:
        found = [{**asdict(row), "ratios": dict(row.ratios), "met": row.met} for row in rows]
        print_json(
            {
                "schema": "qflsec-bench-engine/4",
                "command": command_line(),
                "kernel": kernel,
                "first_compile": compiling.to_json() if compiling else None,
                "kernels": [row.to_json() for row in kernels],
                "rows": found,
                "fallback": [{**asdict(row), "met": row.met} for row in fallback],
            }
        )
        return
    if compiling:
        typer.echo(f"{compiling}\n")
    if kernels:
        typer.echo(render_kernels(kernels) + "\n")
    else:
        typer.echo("numba is not installed: there is no compiled kernel to measure.\n")
    typer.echo(f"The kernel below is the {kernel} kernel.\n\n" + render(rows))
    typer.echo("\n" + "\n".join(map(str, fallback)))
