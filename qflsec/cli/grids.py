"""The results of every kind of matrix as tables for a screen: attacks against columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from qflsec.cli.grid_table import Grid, GridRow, Line

if TYPE_CHECKING:
    from qflsec.base import Score
    from qflsec.lab import CellDifference, Result
    from qflsec.lab.worlds.channel import ChannelCell, ChannelMatrixResult
    from qflsec.lab.worlds.delegation import SessionCell, SessionMatrixResult
    from qflsec.lab.worlds.federation.results import Cell, MatrixResult, PipelineSummary, Strongest
    from qflsec.lab.worlds.pairs.cells import PairResult

__all__ = [
    "channel_grid",
    "delegation_grid",
    "difference_grid",
    "federation_grid",
    "score_lines",
    "status_grid",
]

_NOTHING = (Line(text="-"),)
_STYLES = {
    "failed": "bold red",
    "lost": "red",
    "FALSE KEY": "bold red",
    "WRONG RESULT": "bold red",
    "leaks": "yellow",
    "useless": "yellow",
    "too few seeds": "yellow",
    "pending": "dim",
    "no power": "dim",
}
_WITH_SCORE = ("ok", "no power", "too few seeds", "useless", "lost")


def score_lines(score: Score, digits: int = 2) -> tuple[Line, ...]:
    """A value and its 95 % interval, a line each; one seed allows no interval."""
    value = Line(text=_number(score.value, digits), style="bold")
    if math.isnan(score.low):
        return (value,)
    return value, Line(text=f"[{_number(score.low, digits)}, {_number(score.high, digits)}]")


def _number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _word(state: str, rest: str = "") -> Line:
    return Line(text=f"{state}{rest}", style=_STYLES.get(state, ""), wraps=True)


def federation_grid(result: MatrixResult) -> Grid:
    """The advantage of every attack, and below them what each pipeline keeps of its use and who does most to it."""
    columns = tuple(stack.name for stack in result.stacks)
    several = len({attack.pipeline for attack in result.attacks}) > 1
    rows = []
    for attack in result.attacks:
        head = [Line(text=attack.label, wraps=True, style="bold")]
        head += [Line(text=f"on {attack.pipeline}", wraps=True, style="dim")] if several else []
        cells = (_face(result.cells[attack.label, name], len(result.seeds)) for name in columns)
        rows.append(GridRow(head=tuple(head), cells=tuple(cells)))
    for pipeline in result.pipelines:
        rows += _summary_rows(result, pipeline, columns, named=several)
    return Grid(corner="attack", columns=columns, rows=tuple(rows))


def _summary_rows(
    result: MatrixResult, pipeline: str, columns: tuple[str, ...], *, named: bool
) -> Iterator[GridRow]:
    """The worst attack by goal, where there are two to choose from, and the accuracy; a rule above the first."""
    from qflsec.lab.worlds.federation.states import DETECTION, GOALS, OWN

    parts = [result.summaries[name].by_pipeline.get(pipeline) for name in columns]
    where = (Line(text=f"on {pipeline}", wraps=True, style="dim"),) if named else ()
    faces: dict[str, tuple[tuple[Line, ...], ...]] = {}
    for protects, goals in GOALS.items():
        attacks = [one for one in result.attacks if one.pipeline == pipeline and one.goal in goals]
        if len(attacks) > 1:
            faces[f"worst attack on {protects}"] = tuple(
                _NOTHING if part is None else _worst(part.worst.get(protects)) for part in parts
            )
    if any(part is not None and part.accuracy is not None for part in parts):
        faces["accuracy without attack"] = tuple(_use(part) for part in parts)
    for name, title in (*DETECTION.items(), *OWN.items()):
        own = [None if part is None else {**part.detection, **part.own}.get(name) for part in parts]
        if any(score is not None for score in own):
            faces[title] = tuple(_NOTHING if score is None else score_lines(score, 3) for score in own)
    for index, (title, cells) in enumerate(faces.items()):
        head = (Line(text=title, wraps=True, style="bold"), *where)
        yield GridRow(head=head, cells=cells, section=index == 0)


def _face(cell: Cell, n_seeds: int) -> tuple[Line, ...]:
    if cell.state in _WITH_SCORE and cell.advantage is not None:
        needed = f": {cell.seeds_to_decide}" if cell.seeds_to_decide else ""
        word = () if cell.state == "ok" else (_word(cell.state, needed),)
        outside = (_word("outside"),) if cell.outside else ()
        return (*score_lines(cell.advantage), *word, *outside)
    if cell.state == "failed":
        failed = sum(status == "failed" for status in cell.statuses.values())
        return (_word("failed", f" {failed}/{n_seeds}"),)
    if cell.state == "pending":
        return (_word("pending", f" {len(cell.per_seed)}/{n_seeds}"),)
    return (_word(cell.state),)


def _worst(found: Strongest | None) -> tuple[Line, ...]:
    if found is None:
        return _NOTHING
    aside = (_word(found.unranked, ": not ranked"),) if found.unranked else ()
    return (Line(text=found.attack, wraps=True), *score_lines(found.advantage), *aside)


def _use(part: PipelineSummary | None) -> tuple[Line, ...]:
    if part is None or part.accuracy is None:
        return _NOTHING
    aside = (_word(part.open_use),) if part.open_use else ()
    return (*score_lines(part.accuracy, 3), *aside)


def channel_grid(result: ChannelMatrixResult) -> Grid:
    """What is claimed of the key, and in how many runs the attack was detected."""

    def face(cell: ChannelCell) -> tuple[Line, ...]:
        knows = cell.eve_information
        lines = [_word("FALSE KEY" if cell.state == "false key" else cell.state)]
        if cell.outcomes:
            lines.append(Line(text=f"detected {cell.detected}/{len(cell.outcomes)}"))
        if knows is not None:
            lines.append(Line(text=f"Eve knows {knows.value:.2f}"))
        return tuple(lines)

    return _pairs(result, "attack on the line", face)


def delegation_grid(result: SessionMatrixResult) -> Grid:
    """What the quantum server learns, and what the client accepts."""

    def face(cell: SessionCell) -> tuple[Line, ...]:
        lines = [_word(cell.state.upper() if cell.state == "wrong result" else cell.state)]
        if cell.outcomes:
            lines.append(Line(text=f"aborts {cell.aborted}/{len(cell.outcomes)}"))
        learned = ((name, cell.advantage(name)) for name in cell.leaking)
        lines += [Line(text=f"{name} {score.value:.2f}") for name, score in learned if score is not None]
        return tuple(lines)

    return _pairs(result, "attack by the server", face)


def _pairs(result: PairResult[Any], corner: str, face: Callable[[Any], tuple[Line, ...]]) -> Grid:
    columns = tuple(result.columns)
    rows = tuple(
        GridRow(
            head=(Line(text=row, wraps=True, style="bold"),),
            cells=tuple(face(result.cells[row, column]) for column in columns),
        )
        for row in result.rows
    )
    return Grid(corner=corner, columns=columns, rows=rows)


def status_grid(result: Result[Any]) -> Grid:
    """How far every cell is: its state, and the trials that are stored."""
    from qflsec.lab.grid.results import cause_words

    columns = tuple(dict.fromkeys(column for _, column in result.cells))
    n_seeds = len(result.seeds)

    def face(cell: Any) -> tuple[Line, ...]:  # noqa: ANN401 - a cell of any kind
        stopped = (Line(text=f"stopped by {cause_words(cell.aborts)}", wraps=True),) if cell.aborts else ()
        return Line(text=f"{len(cell.statuses)}/{n_seeds}", style="bold"), _word(cell.state), *stopped

    rows = tuple(
        GridRow(
            head=(Line(text=attack, wraps=True, style="bold"),),
            cells=tuple(face(result.cells[attack, column]) for column in columns),
        )
        for attack in dict.fromkeys(attack for attack, _ in result.cells)
    )
    return Grid(corner="attack", columns=columns, rows=rows)


def difference_grid(parts: Sequence[CellDifference]) -> Grid:
    """One row for each cell: its states, and the change of each measure, paired by seed."""
    measures = tuple(dict.fromkeys(name for part in parts for name in part.changes))
    rows = []
    for part in parts:
        seeds = max((score.n for score in part.changes.values()), default=0)
        changes = (part.changes.get(name) for name in measures)
        head = Line(text=part.attack, wraps=True, style="bold"), Line(text=f"x {part.column}", wraps=True)
        states = ((_word(part.before or "absent"),), (_word(part.after or "absent"),))
        scores = (_NOTHING if score is None else _change(score) for score in changes)
        rows.append(GridRow(head=head, cells=(*states, (Line(text=str(seeds)),), *scores)))
    headings = (f"{name.replace('_', ' ')}: change" for name in measures)
    columns = ("first", "second", "seeds", *headings)
    return Grid(corner="cell", columns=columns, rows=tuple(rows))


def _change(score: Score) -> tuple[Line, ...]:
    numbers = [part for part in (score.value, score.low, score.high) if math.isfinite(part)]
    value, *interval = score_lines(score, 2 if max(map(abs, numbers)) >= 1 else 3)
    sign = "" if value.text.startswith("-") else "+"
    return Line(text=f"{sign}{value.text}", style="bold"), *interval
