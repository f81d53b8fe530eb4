"""Attacks in pairs: by how much one is stronger than another on the same runs, seed by seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

from qflsec.accounting.statistics import Estimate, mean_over_seeds
from qflsec.base import ConfigError
from qflsec.lab.tables import csv_text, marked

if TYPE_CHECKING:
    from qflsec.lab.grid.results import Result
    from qflsec.lab.worlds.federation.results import AttackInfo, Cell, MatrixResult

__all__ = ["difference", "pairs_csv", "pairs_markdown"]


def difference(stronger: Cell, other: Cell) -> Estimate | None:
    """The mean advantage of one cell less that of another, paired by seed; None where they have no seed in common.

    Two attacks on the same seeds meet the same runs, so that what makes a run easy to attack falls out of their difference.
    """
    one, two = (cell.measures["advantage"] for cell in (stronger, other))
    pairs = [one[seed] - two[seed] for seed in one if seed in two]
    return mean_over_seeds(pairs, within=(-2.0, 2.0)) if pairs else None


def pairs_csv(result: Result[Any]) -> str:
    """One line for each two attacks of a family on a pipeline and stack: the second's advantage less the first's.

    Raises:
        ConfigError: The matrix is of a kind without advantages.
    """
    return csv_text(
        {
            "matrix": matrix.name,
            "family": attacks[0].family,
            "pipeline": attacks[0].pipeline,
            "stack": stack,
            "attack": second.label,
            "less": first.label,
            "seeds": found.n,
            "difference": found.value,
            "difference_low": found.low,
            "difference_high": found.high,
        }
        for matrix in (_federation(result),)
        for attacks, stack in _groups(matrix)
        for first, second in combinations(attacks, 2)
        if (found := difference(matrix.cells[second.label, stack], matrix.cells[first.label, stack]))
    )


def pairs_markdown(result: Result[Any]) -> str:
    """For each family, pipeline and stack a table of its attacks: the advantage, and what it is beyond the first one's.

    Raises:
        ConfigError: The matrix is of a kind without advantages.
    """
    matrix = _federation(result)
    head = (
        f"{marked(matrix.name)}: advantages of attacks on the same runs, and their differences paired by seed; "
        f"95\u202f% intervals, each by itself, over {len(matrix.seeds)} seeds."
    )
    lines = [f"**{head}**", ""]
    for attacks, stack in _groups(matrix):
        first = matrix.cells[attacks[0].label, stack]
        where = f"{attacks[0].family} on {attacks[0].pipeline}, stack {stack}"
        lines += [
            f"| {marked(where)} | advantage | less {marked(attacks[0].label)} |",
            "|---|---|---|",
        ]
        for attack in attacks:
            cell = matrix.cells[attack.label, stack]
            own = cell.advantage
            shown = marked(cell.state) if own is None else _spread(own.value, own.low, own.high)
            found = None if attack is attacks[0] else difference(cell, first)
            beyond = "\u2013" if found is None else _spread(found.value, found.low, found.high)
            lines.append(f"| {marked(attack.label)} | {shown} | {beyond} |")
        lines.append("")
    return "\n".join(lines)


def _federation(result: Result[Any]) -> MatrixResult:
    if result.kind != "federation":
        raise ConfigError(
            "this matrix has no advantages to compare",
            got=f"kind {result.kind!r}",
            expected="kind 'federation'",
        )
    return result  # type: ignore[return-value]


def _groups(result: MatrixResult) -> Iterator[tuple[list[AttackInfo], str]]:
    """Attacks of one family on one pipeline, in the order of the matrix, with each stack; those without company left out."""
    places = dict.fromkeys((attack.family, attack.pipeline) for attack in result.attacks)
    for place in places:
        attacks = [attack for attack in result.attacks if (attack.family, attack.pipeline) == place]
        if len(attacks) > 1:
            for stack in result.stacks:
                yield attacks, stack.name


def _spread(value: float, low: float, high: float) -> str:
    return f"{value + 0.0:.2f} [{low + 0.0:.2f}, {high + 0.0:.2f}]"
