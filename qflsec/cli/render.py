"""A matrix's result as text: a table on a terminal, sentences otherwise."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from qflsec.base import Score
    from qflsec.lab import Result
    from qflsec.lab.worlds.federation.results import Cell, MatrixResult, PipelineSummary

__all__ = ["print_json", "print_result"]


def print_json(document: Any) -> None:  # noqa: ANN401 - JSON is heterogeneous
    """One JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def print_result(result: Result[Any]) -> None:
    """The result on stdout."""
    from qflsec.lab.worlds.channel import ChannelMatrixResult
    from qflsec.lab.worlds.delegation import SessionMatrixResult
    from qflsec.lab.worlds.federation.results import MatrixResult

    if isinstance(result, MatrixResult):
        _print_federation(result)
    elif isinstance(result, ChannelMatrixResult):
        from qflsec.cli.bb84_text import matrix_lines

        _print_lines(matrix_lines(result))
    elif isinstance(result, SessionMatrixResult):
        from qflsec.cli.blind_text import matrix_lines as session_matrix_lines

        _print_lines(session_matrix_lines(result))
    for failure in result.failures:
        typer.echo(f"failed: {failure}")


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def _print_federation(result: MatrixResult) -> None:
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        console.print(_table(result))
    else:
        for cell in result.cells.values():
            typer.echo(f"[{cell.state}] {cell.sentence}")
    _print_lines(_summary_lines(result))


def _summary_lines(result: MatrixResult) -> list[str]:
    lines = []
    for stack in result.summaries.values():
        if stack.incompatible:
            lines.append(f"{stack.stack}: {stack.incompatible}")
            continue
        lines += [
            f"{stack.stack} on {name}: {_summary(summary)}" for name, summary in stack.by_pipeline.items()
        ]
    return lines


def _summary(summary: PipelineSummary) -> str:
    worst = [
        f"strongest attack on {protects} {found.attack} {_short(found.advantage)}"
        f"{f', not ranked: {found.unranked}' if found.unranked else ''}"
        for protects, found in summary.worst.items()
    ]
    accuracy = "unknown" if summary.accuracy is None else _short(summary.accuracy)
    use = ", useless" if summary.useless else ", too few seeds to tell its use" if summary.undecided else ""
    return "; ".join([*(worst or ["no attack with power was scored"]), f"accuracy {accuracy}{use}"])


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
    needed = f": {cell.seeds_to_decide}" if cell.seeds_to_decide else ""
    return text if cell.state == "ok" else f"{text}\n{cell.state}{needed}"


def _short(score: Score) -> str:
    from qflsec.lab.worlds.federation.sentences import number

    if math.isnan(score.low):
        return number(score.value)
    return f"{number(score.value)} ({number(score.low)} to {number(score.high)})"
