"""A matrix's result as text: a table, and the few sentences that it cannot say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from qflsec.cli.grid_table import Grid
    from qflsec.lab import Result
    from qflsec.lab.worlds.federation.results import MatrixResult, PipelineSummary

__all__ = ["print_json", "print_result"]

_TITLES = {
    "federation": "advantage of attacks (0 nothing learned or broken, 1 a perfect attack), 95 % intervals",
    "channel": "what is claimed of the key, in how many runs the attack was detected, and what Eve knows of a raw bit",
    "delegation": "what the quantum server learns (0 guess, 1 certainty), and what the client accepts",
}
_LEGENDS = {
    "channel": "FALSE KEY: more key is claimed secure than the adversary left. Keys here are simulated and seeded.",
    "delegation": "WRONG RESULT: accepted, and off by more than shot noise and the tests' bound. aborted: too many "
    "tests failed, nothing was released. Pads here are seeded.",
}


def print_json(document: Any) -> None:  # noqa: ANN401 - JSON is heterogeneous
    """One JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def print_result(result: Result[Any], *, sentences: bool = False) -> None:
    """The result on stdout.

    Args:
        result: Of any kind.
        sentences: Whether to say every cell as a sentence too.
    """
    from qflsec.cli.grid_table import print_grid
    from qflsec.cli.remarks import remarks

    seeds = "1 seed" if len(result.seeds) == 1 else f"{len(result.seeds)} seeds"
    typer.echo(f"{result.name}: {_TITLES[result.kind]}, {seeds}")
    print_grid(_grid(result))
    if result.kind in _LEGENDS:
        typer.echo(_LEGENDS[result.kind])
    failed = (f"failed: {failure}" for failure in result.failures)
    lines = (*_sentences(result), *failed) if sentences else remarks(result)
    for line in lines:
        typer.echo(line)


def _grid(result: Any) -> Grid:  # noqa: ANN401 - its kind says which
    from qflsec.cli import grids

    if result.kind == "federation":
        return grids.federation_grid(result)
    return grids.channel_grid(result) if result.kind == "channel" else grids.delegation_grid(result)


def _sentences(result: Any) -> Iterator[str]:  # noqa: ANN401 - its kind says which
    for cell in result.cells.values():
        yield f"[{cell.state}] {cell.sentence}"
    if result.kind == "federation":
        yield from _summary_sentences(result)


def _summary_sentences(result: MatrixResult) -> Iterator[str]:
    for stack in result.summaries.values():
        if stack.incompatible:
            yield f"{stack.stack}: {stack.incompatible}"
            continue
        for name, summary in stack.by_pipeline.items():
            yield f"{stack.stack} on {name}: {_summary(summary)}"


def _summary(summary: PipelineSummary) -> str:
    from qflsec.lab.worlds.federation.sentences import figures

    worst = [
        f"strongest attack on {protects} {found.attack}, {figures(found.advantage)}"
        f"{f', not ranked: {found.unranked}' if found.unranked else ''}"
        for protects, found in summary.worst.items()
    ]
    accuracy = "unknown" if summary.accuracy is None else figures(summary.accuracy)
    use = ", useless" if summary.useless else ", too few seeds to tell its use" if summary.undecided else ""
    return "; ".join([*(worst or ["no attack with power was scored"]), f"accuracy {accuracy}{use}"])
