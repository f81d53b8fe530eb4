"""What is behind each cell: trials, metrics and figures; or the numbers of each attack."""

from __future__ import annotations

from qflsec.accounting.predictions import Prediction
from qflsec.accounting.roc import tpr_at_fpr
from qflsec.base import register
from qflsec.lab.worlds.channel import ChannelMatrixResult
from qflsec.lab.worlds.delegation import SessionMatrixResult
from qflsec.lab.worlds.federation.results import Cell, MatrixResult, TrialRow
from qflsec.report.figures import cell_figures
from qflsec.report.html import fill, number, spread, table
from qflsec.report.panel import Panel
from qflsec.report.sides import two_sides

__all__ = ["Cells", "ChannelNumbers", "DelegationNumbers"]


@register("panel", "cells")
class Cells(Panel):
    """Trials, metrics and figures of the cell that is selected."""

    title = "Behind a cell"
    order = 30.0

    def applies(self, result: object) -> bool:
        """For matrices of the federation."""
        return isinstance(result, MatrixResult)

    def render(self, result: MatrixResult) -> str:
        """An article for each cell, shown when its cell is selected."""
        figures = {key: cell_figures(cell) for key, cell in result.cells.items()}
        return fill(
            "panels/cells.html.j2",
            result=result,
            figures=figures,
            unresolved=_unresolved,
            allowed=_allowed,
            proof=_proof,
        )


@register("panel", "channel-numbers")
class ChannelNumbers(Panel):
    """What was detected, claimed and known in the runs of each attack on the channel."""

    title = "Behind the cells"
    order = 30.0

    def applies(self, result: object) -> bool:
        """For matrices of the quantum channel."""
        return isinstance(result, ChannelMatrixResult)

    def render(self, result: ChannelMatrixResult) -> str:
        """A table for each attack."""
        header = (
            "countermeasures", "detected", "by", "key claimed", "false claims", "bits of key claimed",
            "Eve knows, bits per raw bit",
        )  # fmt: skip
        tables = {
            row: table(header, (_channel_row(result, row, column) for column in result.columns), numbers=True)
            for row in result.rows
        }
        return fill("panels/numbers.html.j2", result=result, tables=tables, note="")


@register("panel", "delegation-numbers")
class DelegationNumbers(Panel):
    """What was accepted and learned in the sessions of each attack by the quantum server."""

    title = "Behind the cells"
    order = 30.0

    def applies(self, result: object) -> bool:
        """For matrices of delegated sessions."""
        return isinstance(result, SessionMatrixResult)

    def render(self, result: SessionMatrixResult) -> str:
        """A table for each attack."""
        header = (
            "client", "aborted", "tests failed", "theory", "wrong accepted", "angles learned",
            "outcomes learned", "rounds told apart",
        )  # fmt: skip
        tables = {
            row: table(header, (_session_row(result, row, column) for column in result.columns), numbers=True)
            for row in result.rows
        }
        note = "Learned: 0 for a guess, 1 for certainty."
        return fill("panels/numbers.html.j2", result=result, tables=tables, note=note)


def _unresolved(trial: TrialRow, name: str) -> str:
    """That a true-positive rate is at no false positive, because a single one is more than its budget."""
    label = _rate(name)
    if trial.raw.get(f"resolved_at_{label}_percent", 1.0):
        return ""
    ((_, no),) = two_sides(trial.raw)
    n, whom = len(no), "non-members" if "nonmember_scores" in trial.raw else "others"
    return f", not resolved: one of {n} {whom} is already {100 / n:.3g} %, so this is the rate at no false positive"


def _rate(name: str) -> str:
    """The false-positive budget in the name of a true-positive rate, in percent; empty for other metrics."""
    rate = name.removeprefix("tpr_at_").removesuffix("_percent_fpr")
    return "" if rate == name else rate


def _allowed(trial: TrialRow, name: str) -> str:
    """What the proof allows of a metric, to stand beside what was measured; empty where it says nothing."""
    if not trial.predicted:
        return ""
    proof = Prediction.from_dict(trial.predicted)
    if name == "auc":
        return f", at most {number((1 + proof.advantage) / 2, 3)} by the proof"
    if name == "advantage":
        return f", at most {number(proof.advantage, 3)} by the proof"
    rate = _rate(name)
    found = [tpr_at_fpr(yes, no, float(rate) / 100) for yes, no in two_sides(trial.raw)] if rate else []
    # the threshold's own false-positive rate is not known, and is above the budget as often as not
    return "".join(f", at most {number(proof.tpr(one.fpr_upper), 3)} by the proof" for one in found[:1])


def _proof(cell: Cell) -> str:
    """What proofs say of a cell beforehand: its ceiling, and how many clients sums mix; empty where there are none."""
    parts = [_ceiling(cell), _company(cell)]
    return f"Before anything was scored: {'; '.join(part for part in parts if part)}." if any(parts) else ""


def _company(cell: Cell) -> str:
    stated = next((trial.mixed for trial in cell.per_seed if trial.mixed), None)
    if stated is None:
        return ""
    return (
        f"{stated['layer']} leaves this observer sums of {stated['clients']} or more honest clients, of which no proof says "
        "what they tell"
    )


def _ceiling(cell: Cell) -> str:
    stated = next((trial.predicted for trial in cell.per_seed if trial.predicted), None)
    if stated is None:
        return ""
    proof = Prediction.from_dict(stated)
    if proof.adjacency == "sealed":
        within = f" within {proof.stated:.1e}" if proof.stated else ""
        return (
            f"{proof.layer} keeps {proof.unit} closed{within}, and the attack reads nothing else: it is allowed an advantage "
            f"of {number(proof.advantage, 3)} at most"
        )
    delta = f" and delta {proof.delta:.3g}" if proof.delta else ""
    return (
        f"{proof.layer} proves epsilon {proof.stated:.3g} for each {proof.unit} "
        f"({proof.adjacency}), which is {proof.epsilon:.3g}{delta} for the exchange of two records and allows an "
        f"advantage of {number(proof.advantage, 3)} at most"
    )


def _channel_row(result: ChannelMatrixResult, row: str, column: str) -> tuple[object, ...]:
    cell = result.cells[row, column]
    if cell.reason:
        return (column, cell.reason, *[""] * 5)
    n = len(cell.outcomes)
    return (
        column,
        f"{cell.detected} of {n}",
        ", ".join(cell.detected_by),
        f"{cell.claimed} of {n}",
        f"{cell.false_claims} of {n}",
        spread(cell.key_length, 0),
        spread(cell.eve_information),
    )


def _session_row(result: SessionMatrixResult, row: str, column: str) -> tuple[object, ...]:
    cell = result.cells[row, column]
    if cell.reason:
        return (column, cell.reason, *[""] * 6)
    n = len(cell.outcomes)
    learned = [spread(cell.advantage(what)) for what in ("angles", "outcomes", "rounds")]
    return (
        column,
        f"{cell.aborted} of {n}",
        spread(cell.failure_rate),
        "–" if cell.detection is None else cell.detection,
        f"{cell.wrong} of {n}",
        *learned,
    )
