"""Results as tables for other programs: CSV of trials, cells and ledgers, LaTeX, and Markdown.

A spreadsheet takes a text that begins with ``=``, ``+``, ``-`` or ``@`` for a formula. Names and reasons come from
users and from errors, so such texts get an apostrophe in front; numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qflsec.base import ConfigError, Score

if TYPE_CHECKING:
    from qflsec.lab.grid.results import Result
    from qflsec.lab.worlds.federation.results import MatrixResult

__all__ = ["cells_csv", "csv_text", "latex", "ledger_csv", "markdown", "marked", "trials_csv"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u2212": "$-$",
    "\u03b5": r"$\varepsilon$",
    "\u202f": r"\,",
    **{sign: f"\\{sign}" for sign in "{}$&#_%"},
}
_MARKS = re.compile(r"([\\`*_\[\]<>|~$&])")


def trials_csv(result: Result[Any]) -> str:
    """One line for each trial; what only some trials have comes last."""
    return csv_text(
        {"matrix": result.name, **record} for cell in result.cells.values() for record in cell.records()
    )


def cells_csv(result: Result[Any]) -> str:
    """One line for each cell: its state, and each measure with its 95 % interval over the seeds."""
    return csv_text(
        {
            "matrix": result.name,
            "attack": cell.attack,
            "column": cell.column,
            "state": cell.state,
            "trials": len(cell.statuses),
            "seeds": len(result.seeds),
            **_flat(_scores(result, cell)),
            "sentence": cell.sentence,
        }
        for cell in result.cells.values()
    )


def ledger_csv(result: Result[Any]) -> str:
    """One line for each statement of a ledger: the observer, the stack, and every field of the row.

    Raises:
        ConfigError: The matrix is of a kind that keeps no ledger.
    """
    if result.kind != "federation":
        raise ConfigError(
            "this matrix has no ledger", got=f"kind {result.kind!r}", expected="kind 'federation'"
        )
    ledgers: Mapping[tuple[str, str], Iterable[Mapping[str, Any]]] = result.ledgers  # type: ignore[attr-defined]
    return csv_text(
        {"stack": stack, "observer": observer, **{name: _plain(part) for name, part in row.items()}}
        for (stack, observer), rows in ledgers.items()
        for row in rows
    )


def _scores(result: Result[Any], cell: Any) -> dict[str, Score]:  # noqa: ANN401 - a cell of any kind
    """What a cell says in numbers: its advantage, or the means of what its trials measured."""
    if result.kind == "federation":
        return {} if cell.advantage is None else {"advantage": cell.advantage}
    from qflsec.accounting.statistics import mean_over_seeds

    return {
        name: mean_over_seeds(tuple(values.values())).score(name=name, baseline=0.0, ideal=0.0)
        for name, values in cell.measures.items()
    }


def _flat(scores: Mapping[str, Score]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, score in scores.items():
        found |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
    return found


def _plain(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def csv_text(records: Iterable[Mapping[str, Any]]) -> str:
    """Records as CSV with the columns of all of them, and no text that a spreadsheet takes for a formula.

    Args:
        records: The lines, by column.
    """
    known = list(records)
    names = list(dict.fromkeys(name for record in known for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writerow({name: _cell(name) for name in names})  # a heading may be the name of a plugin's measure
    writer.writerows({name: _cell(value) for name, value in record.items()} for record in known)
    return text.getvalue()


def _cell(value: object) -> object:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):  # a bare carriage return ends a line for some readers
        text = f"'{value}" if value.startswith(_FORMULA) else value
        return text.replace("\r\n", "\n").replace("\r", "\n")
    return value


def latex(result: Result[Any]) -> str:
    """The matrix as a LaTeX table (booktabs): advantage or state with the interval below; accuracy last."""
    columns, rows, last = _faces(result)

    def line(row: _Row) -> str:
        shown = [
            _stacked(*(f"${one}$" for one in numbers), *map(_escaped, words)) for numbers, words in row.faces
        ]
        return " & ".join([_escaped(row.name), *shown]) + r" \\"

    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escaped(_caption(result))}}}",
            rf"\begin{{tabular}}{{l{'c' * len(columns)}}}",
            r"\toprule",
            " & ".join(["attack", *map(_escaped, columns)]) + r" \\",
            r"\midrule",
            *map(line, rows),
            *([r"\midrule", *map(line, last)] if last else []),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def markdown(result: Result[Any]) -> str:
    """The matrix as a Markdown table: advantage or state with the interval beside it; accuracy last."""
    columns, rows, last = _faces(result)

    def line(row: _Row) -> str:
        shown = [
            " ".join([*numbers, *map(marked, words)]) if words != ["--"] else "\u2013"
            for numbers, words in row.faces
        ]
        return f"| {' | '.join([marked(row.name), *shown])} |"

    head = ["attack", *map(marked, columns)]
    return "\n".join(
        [
            f"**{marked(_caption(result))}**",  # so that no name at its start makes a heading or a list
            "",
            f"| {' | '.join(head)} |",
            f"|{'---|' * len(head)}",
            *map(line, [*rows, *last]),
            "",
        ]
    )


_CAPTIONS = {
    "federation": "advantage of attacks (rows) against stacks of defenses (columns), 0 nothing learned or broken, "
    "1 a perfect attack",
    "channel": "what becomes of the key under attacks on the channel (rows) and countermeasures (columns)",
    "delegation": "what becomes of the result under attacks by the quantum server (rows), for clients (columns)",
}
_SCORED = ("ok", "no power", "too few seeds", "useless", "lost")


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row of the table: its name, and for each column its numbers and its words."""

    name: str
    faces: list[tuple[list[str], list[str]]]


def _faces(result: Result[Any]) -> tuple[tuple[str, ...], list[_Row], list[_Row]]:
    """The columns, the rows of attacks, and the rows of accuracies that come last."""
    columns = tuple(dict.fromkeys(column for _, column in result.cells))
    attacks = dict.fromkeys(attack for attack, _ in result.cells)
    rows = [
        _Row(name=attack, faces=[_face(result, result.cells[attack, column]) for column in columns])
        for attack in attacks
    ]
    return columns, rows, _accuracies(result, columns) if result.kind == "federation" else []  # type: ignore[arg-type]


def _caption(result: Result[Any]) -> str:
    seeds = "1 seed, which allows no interval" if len(result.seeds) == 1 else f"{len(result.seeds)} seeds"
    return f"{result.name}: {_CAPTIONS[result.kind]}; 95\u202f% intervals over {seeds}."


def _face(result: Result[Any], cell: Any) -> tuple[list[str], list[str]]:  # noqa: ANN401 - a cell of any kind
    if result.kind != "federation" or cell.advantage is None or cell.state not in _SCORED:
        return [], [cell.state]
    return _numbers(cell.advantage, 2), [] if cell.state == "ok" else [cell.state]


def _accuracies(result: MatrixResult, columns: tuple[str, ...]) -> list[_Row]:
    rows = []
    for pipeline in result.pipelines:
        found = [result.summaries[name].by_pipeline.get(pipeline) for name in columns]
        faces: list[tuple[list[str], list[str]]] = [
            ([], ["--"])
            if part is None or part.accuracy is None
            else (_numbers(part.accuracy, 3), [part.open_use] if part.open_use else [])
            for part in found
        ]
        rows.append(_Row(name=f"accuracy on {pipeline}", faces=faces))
        for name in dict.fromkeys(name for part in found if part is not None for name in part.detection):
            ranks = [None if part is None else part.detection.get(name) for part in found]
            faces = [([], ["--"]) if rank is None else (_numbers(rank, 3), []) for rank in ranks]
            rows.append(_Row(name=f"{name.upper()} on {pipeline}", faces=faces))
    return rows


def _numbers(score: Score, digits: int) -> list[str]:
    value, low, high = (
        f"{round(part, digits) + 0.0:.{digits}f}" for part in (score.value, score.low, score.high)
    )
    return [value] if math.isnan(score.low) else [value, f"[{low}, {high}]"]


def _stacked(*lines: str) -> str:
    """Lines of a cell, without a package: a table of one column. Braces keep a bracket from being an argument."""
    if len(lines) == 1:
        return lines[0]
    return r"\begin{tabular}{@{}c@{}}" + r"\\".join(f"{{{line}}}" for line in lines) + r"\end{tabular}"


def _escaped(text: str) -> str:
    plain = re.sub(r"[\x00-\x1f\x7f]+", " ", text)
    return "".join(_ESCAPES.get(sign, sign) for sign in plain)


def marked(text: str) -> str:
    """A text on one line in which no sign means anything to Markdown."""
    return _MARKS.sub(r"\\\1", re.sub(r"[\x00-\x1f\x7f]+", " ", text))
