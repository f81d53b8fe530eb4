"""A matrix's result as text: a table on a terminal, sentences otherwise."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from qflsec.base import Score
    from qflsec.lab import Cell, MatrixResult

__all__ = ["print_json", "print_result"]


def print_json(document: Any) -> None:  # noqa: ANN401 - JSON is heterogeneous
    """One JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def print_result(result: MatrixResult) -> None:
    """The result on stdout."""
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        console.print(_table(result))
    else:
        for cell in result.cells.values():
            typer.echo(f"[{cell.state}] {cell.sentence}")
    for line in _summary_lines(result):
        typer.echo(line)
    for failure in result.failures:
        typer.echo(f"failed: {failure}")


def _summary_lines(result: MatrixResult) -> list[str]:
    lines = []
    for summary in result.summaries.values():
        if summary.incompatible:
            lines.append(f"{summary.stack}: {summary.incompatible}")
            continue
        worst = "no attack with power was scored"
        if summary.worst is not None:
            worst = f"strongest attack {summary.worst[0]} {_short(summary.worst[1])}"
        accuracy = "unknown" if summary.utility is None else _short(summary.utility)
        useless = ", useless" if summary.useless else ""
        lines.append(f"{summary.stack}: {worst}; accuracy {accuracy}{useless}")
    return lines


def _table(result: MatrixResult) -> Table:
    from rich.table import Table

    table = Table(
        title=f"{result.name}: advantage (0 nothing learned or broken, 1 everything), {len(result.seeds)} seeds"
    )
    table.add_column("attack")
    for stack in result.stacks:
        table.add_column(stack.name)
    for attack in result.attacks:
        cells = [result.cells[attack.label, stack.name] for stack in result.stacks]
        table.add_row(attack.label, *(_cell(cell) for cell in cells))
    return table


def _cell(cell: Cell) -> str:
    if cell.advantage is None:
        return cell.state
    text = _short(cell.advantage)
    return text if cell.state == "ok" else f"{text}\n{cell.state}"


def _short(score: Score) -> str:
    from qflsec.lab.worlds.federation.sentences import number

    if math.isnan(score.low):
        return number(score.value)
    return f"{number(score.value)} ({number(score.low)} to {number(score.high)})"
