"""The findings of matrices whose cells say what happened rather than how much: channels and delegated sessions."""

from __future__ import annotations

from typing import Any

from qflsec.accounting.statistics import clopper_pearson
from qflsec.lab.worlds.channel import ChannelCell, ChannelMatrixResult
from qflsec.lab.worlds.delegation import SessionMatrixResult
from qflsec.lab.worlds.delegation.cells import SessionCell
from qflsec.lab.worlds.pairs.cells import PairResult
from qflsec.report.findings import Finding
from qflsec.report.html import number
from qflsec.report.words import count, listed, sentence

__all__ = ["pair_findings"]

_BAD = {"false key": "a key is claimed that the adversary knows", "wrong result": "a wrong result is accepted", "leaks": "the server learns something"}  # fmt: skip
_NAMED = 3


def pair_findings(result: ChannelMatrixResult | SessionMatrixResult) -> tuple[Finding, ...]:
    """The three findings, in the order in which they are read."""
    return _worst(result), _stopped(result), _open(result)


def _worst(result: PairResult[Any]) -> Finding:
    question = "What is the worst that happened?"
    bad = [cell for cell in result.cells.values() if cell.state in _BAD]
    made = sum(bool(cell.outcomes) for cell in result.cells.values())
    if not made:
        return Finding(question=question, sentence="No run was made yet.")
    if not bad:
        said = (
            f"nothing of what is looked for, in {count(made, 'cell')}, which proves nothing of other attacks"
        )
        return Finding(question=question, sentence=sentence([said]))
    parts = []
    for state, words in _BAD.items():
        these = [cell for cell in bad if cell.state == state]
        if these:
            names = list(dict.fromkeys(cell.attack for cell in these))
            more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
            parts.append(f"{words} in {count(len(these), 'cell')}, under {listed([*names[:_NAMED], *more])}")
    details = tuple(f"{cell.attack} against {cell.column}: {cell.state}{_how_often(cell)}" for cell in bad)
    return Finding(question=question, sentence=sentence(parts), details=details)


def _how_often(cell: ChannelCell | SessionCell) -> str:
    """How often it happened, with the share that the runs allow at least."""
    n = len(cell.outcomes)
    happened = cell.false_claims if isinstance(cell, ChannelCell) else cell.wrong
    if not happened:
        return ""
    low = clopper_pearson(happened, n).low
    return f", in {happened} of {n} (at least {number(100 * low, 0)} % of such runs)"


def _stopped(result: PairResult[Any]) -> Finding:
    """Columns under which an attack that is bad in the first column is not."""
    question = "What stopped it?"
    first, *others = result.columns
    bad = [row for row in result.rows if result.cells[row, first].state in _BAD]
    if not bad or not others:
        said = f"nothing can be compared: no attack does harm against {first}" if not bad else "nothing can be compared: there is one column"  # fmt: skip
        return Finding(question=question, sentence=sentence([said]))
    saved = [
        (row, column)
        for row in bad
        for column in others
        if (cell := result.cells[row, column]).outcomes
        and cell.state not in {*_BAD, "failed", "pending", "not applicable"}
    ]
    helped = {row for row, _ in saved}
    harmed = f"of {count(len(bad), 'attack')} that did harm against {first}"
    parts = [f"{harmed}, {len(helped)} did none in any run against one other column or more"]
    left = [row for row in bad if row not in helped]
    if left:
        parts.append(f"nothing here stopped {listed(left)}")
    details = tuple(
        f"{row} against {column}: {result.cells[row, column].state} in {count(len(result.cells[row, column].outcomes), 'run')}"
        for row, column in saved
    )
    return Finding(question=question, sentence=sentence(parts), details=details)


def _open(result: PairResult[Any]) -> Finding:
    question = "What cannot be told yet?"
    cells = list(result.cells.values())
    parts = [
        f"{count(len(these), 'cell')} {words}"
        for state, words in (("failed", "failed"), ("pending", "not run to the end"))
        if (these := [cell for cell in cells if cell.state == state])
    ]
    n = len(result.seeds)
    rare = number(100 * clopper_pearson(0, n).high, 0)
    parts.append(
        f"what did not happen in {count(n, 'run')} of a cell can still happen in up to {rare} % of such runs"
    )
    return Finding(question=question, sentence=sentence(parts))
