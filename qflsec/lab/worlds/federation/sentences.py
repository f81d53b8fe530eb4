"""What a cell says, as one plain sentence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from qflsec.accounting.statistics import MOST_SEEDS
from qflsec.base import Score
from qflsec.lab.scoring.reasons import FOUND
from qflsec.lab.worlds.federation.results import CellState, PipelineSummary, TrialRow
from qflsec.lab.worlds.federation.states import shown

__all__ = ["cell_sentence", "figures", "number"]


_WITHOUT_SCORE = ("pending", "failed", "incompatible", "blocked", "aborted")


def figures(score: Score) -> str:
    """A score with its interval, in words."""
    if math.isnan(score.low):
        return f"{number(score.value)} (one seed, which allows no interval)"
    return (
        f"{number(score.value)} (95 % interval {number(score.low)} to {number(score.high)}, {score.n} seeds)"
    )


def number(value: float) -> str:
    """Two decimals, without a minus sign before zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def cell_sentence(
    *,
    label: str,
    stack: str,
    state: CellState,
    rows: Sequence[TrialRow],
    advantage: Score | None,
    undefended: Score | None,
    summary: PipelineSummary,
    n_seeds: int,
    seeds_to_decide: int | None = None,
) -> str:
    """One sentence for a cell.

    Args:
        label: The attack's label.
        stack: The stack's name.
        state: The cell's state.
        rows: Its trials.
        advantage: Their mean advantage.
        undefended: The advantage on the stack without layers; None on that stack itself.
        summary: The stack on the cell's pipeline.
        n_seeds: The number of seeds.
        seeds_to_decide: About how many seeds would decide, where they are too few.
    """
    if advantage is None or state in _WITHOUT_SCORE:
        return _without_score(label, stack, state, rows, n_seeds)
    statuses = Counter(row.status for row in rows)
    rest = [f"{count} {name}" for name, count in statuses.items() if name != "ok"]
    aside = f"; of {n_seeds} seeds {' and '.join(rest)}" if rest else ""
    more = f"{_dropped(rows)}{_why(rows)}{_of_sums(rows)}{_of_readers(rows)}"
    found = f"{label} has advantage {figures(advantage)} against {stack}{aside}{more}"
    if state == "lost":
        reason = next(row.reason for row in rows if row.status == "lost")
        return f"{found}; a run that corrupted parties can end counts as 1: {reason}."
    control = advantage if undefended is None else undefended
    if state == "no power":
        without = "" if undefended is None else f", {figures(control)}"
        end = "" if undefended is None else f" and says nothing of {stack}"
        worse = "is worse than guessing" if control.high < control.baseline else "is no better than guessing"
        return f"{found}; without a defense it {worse}{without}, so it has no power{end}."
    if state == "too few seeds":
        return f"{found}; {_open(stack, control, seeds_to_decide)}."
    accuracy = summary.accuracy
    if state == "useless" and accuracy is not None:
        return f"{found}; but the model is useless: accuracy {figures(accuracy)}, chance {number(accuracy.baseline)}."
    without = "" if undefended is None else f"; without defense it has {number(undefended.value)}"
    if summary.undecided and accuracy is not None:
        needed = _needed(summary.seeds_to_decide, accuracy.n)
        without += f"; whether the model is of any use is open, accuracy {figures(accuracy)}: {needed}"
    return f"{found}{without}."


def _open(stack: str, control: Score, seeds_to_decide: int | None) -> str:
    """What too few seeds leave open, and how many would decide."""
    without = "whether the attack is better than guessing without a defense"
    what = without if shown(control) == "open" else f"what {stack} does to the attack"
    return f"the seeds are too few to tell {what}: {_needed(seeds_to_decide, control.n)}"


def _needed(seeds: int | None, n: int) -> str:
    if n == 1:
        return "two are the fewest that show a spread"
    return f"more than {MOST_SEEDS:,} would be needed" if seeds is None else f"about {seeds:,} would decide"


def _dropped(rows: Sequence[TrialRow]) -> str:
    """How many updates of the attacked runs did not count, and why the first of them did not."""
    reasons = [reason for row in rows for reason in row.raw.get("dropped_because", ())]
    if not reasons:
        return ""
    updates = "update of an attacked run does" if len(reasons) == 1 else "updates of attacked runs do"
    return f"; {len(reasons)} {updates} not count: {reasons[0]}"


def _why(rows: Sequence[TrialRow]) -> str:
    """Why records were not reconstructed, where an inversion's trials say so: a failed one is never privacy by itself."""
    reasons = Counter(text.partition(":")[0] for row in rows for text in row.raw.get("why", ()))
    failed = {reason: count for reason, count in reasons.items() if reason != FOUND}
    if not failed:
        return ""
    told = " and ".join(f"in {count} {reason.partition(' (')[0]}" for reason, count in failed.items())
    return f"; where not every record was found, {told}"


def _of_sums(rows: Sequence[TrialRow]) -> str:
    """What exact sums would leave of a question about clients, and how many clients hide each."""
    told = [row.metrics["sums_advantage"].value for row in rows if "sums_advantage" in row.metrics]
    sizes = [row.metrics["anonymity_set"].value for row in rows if "anonymity_set" in row.metrics]
    if not told or not sizes:
        return ""
    k = sum(sizes) / len(sizes)
    whose = "single updates" if k == 1 else f"sums of {k:.3g} clients"
    return f"; whoever read it exactly off {whose} would have {number(sum(told) / len(told))}"


def _of_readers(rows: Sequence[TrialRow]) -> str:
    """How accurate the models are that honest clients read, and the worst of them, on average over the seeds."""
    found = [row.metrics for row in rows if {"accuracy", "worst_accuracy"} <= set(row.metrics)]
    if not found:
        return ""
    mean, worst = (
        sum(metrics[name].value for metrics in found) / len(found) for name in ("accuracy", "worst_accuracy")
    )
    return f"; an accuracy of {number(mean)} is left to honest readers, {number(worst)} to the worst of them"


def _without_score(label: str, stack: str, state: CellState, rows: Sequence[TrialRow], n_seeds: int) -> str:
    status = state if state in _WITHOUT_SCORE else "undefined"
    reason = next((row.reason for row in rows if row.status == status and row.reason), "no reason was given")
    failed = sum(row.status == "failed" for row in rows)
    nothing = f"the advantage of {label} against {stack} is not defined: {reason}"
    words = {
        "pending": f"{label} against {stack}: {n_seeds - len(rows)} of {n_seeds} trials have not been run",
        "failed": f"{label} against {stack} failed in {failed} of {n_seeds} seeds: {reason}",
        "incompatible": f"{label} against {stack} cannot run here: {reason}",
        "blocked": f"{label} is blocked under {stack}: {reason}",
        "aborted": f"the protocol of {stack} stopped under {label}: {reason}",
    }.get(state, nothing)
    return words if words.endswith(".") else f"{words}."
