"""The few sentences that a table cannot say: what failed, what cannot be, and what the seeds leave open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qflsec.lab import Result
    from qflsec.lab.worlds.federation.results import MatrixResult

__all__ = ["remarks"]

_MOST_PLACES = 4
_MOST_REASONS = 6
_EXPLAINED = ("incompatible", "blocked", "aborted", "lost", "not applicable")


def remarks(result: Result[Any]) -> Iterator[str]:
    """What has to be said below the table of a result of any kind."""
    yield from (f"failed: {failure}" for failure in result.failures)
    left = sum(len(result.seeds) - len(cell.statuses) for cell in result.cells.values())
    if left:
        yield f"pending: {left} of {len(result.cells) * len(result.seeds)} trials have not been run."
    reasons = list(_reasons(result))
    yield from reasons[:_MOST_REASONS]
    if len(reasons) > _MOST_REASONS:
        yield f"{len(reasons) - _MOST_REASONS} more reasons are among the sentences: add --sentences."
    if result.kind == "federation":
        outside = {key: ("outside", cell.outside) for key, cell in result.cells.items() if cell.outside}
        yield from _together(result, outside)
        yield from _decided(result)  # type: ignore[arg-type]


def _reasons(result: Result[Any]) -> Iterator[str]:
    """Why cells have no figure: cells with one reason together."""
    told = {
        key: (cell.state, reason)
        for key, cell in result.cells.items()
        if cell.state in _EXPLAINED and (reason := _reason(cell))
    }
    yield from _together(result, told)


def _together(result: Result[Any], told: Mapping[tuple[str, str], tuple[str, str]]) -> Iterator[str]:
    """What is to be said of cells, those of which the same is said together."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for place, said in told.items():
        found.setdefault(said, []).append(place)
    everyone = {attack for attack, _ in result.cells}
    for (state, reason), cells in found.items():
        attacks, columns = (list(dict.fromkeys(part)) for part in zip(*cells, strict=True))
        if len(attacks) * len(columns) != len(cells):
            where = _listed(f"{attack} x {column}" for attack, column in cells)
        else:
            who = "every attack" if set(attacks) == everyone and len(attacks) > 1 else _listed(attacks)
            where = f"{who} x {_listed(columns)}"
        yield f"{state}: {where}: {reason.rstrip('.')}."


def _reason(cell: Any) -> str:  # noqa: ANN401 - a cell of any kind
    trials = getattr(cell, "per_seed", None)
    if trials is None:
        return str(cell.reason)
    return next((trial.reason for trial in trials if trial.status == cell.state and trial.reason), "")


def _decided(result: MatrixResult) -> Iterator[str]:
    cells = result.cells.values()
    silent = [
        attack.label
        for attack in result.attacks
        if any(cell.attack == attack.label and cell.state == "no power" for cell in cells)
    ]
    if silent:
        yield (
            f"no power: {_listed(silent)}: shown to be no better than guessing without a defense, so "
            f"{'its row says' if len(silent) == 1 else 'their rows say'} nothing of any defense."
        )
    few = [cell for cell in cells if cell.state == "too few seeds"]
    if not few:
        return
    n = len(result.seeds)
    start = f"too few seeds: {len(few)} of {len(result.cells)} cells are open with {n} seed{'' if n == 1 else 's'}"
    known = sorted(cell.seeds_to_decide for cell in few if cell.seeds_to_decide)
    if not known:
        yield f"{start}; nobody can say how many would decide{': one shows no spread' if n == 1 else ''}."
        return
    half = known[(len(known) - 1) // 2]
    most = (
        f", about {known[-1]:,} {'all' if len(known) == len(few) else f'{len(known)}'} of them"
        if known[-1] > half
        else ""
    )
    yield f"{start}; about {half:,} would decide {(sum(k <= half for k in known))}{most}."


def _listed(parts: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    found = list(parts)
    rest = len(found) - _MOST_PLACES
    return ", ".join(found) if rest <= 1 else f"{', '.join(found[:_MOST_PLACES])} and {rest} more"
