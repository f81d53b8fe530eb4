"""The report's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qflsec.accounting.predictions import Prediction
from qflsec.base import Score
from qflsec.lab.worlds.federation.results import Cell, MatrixResult, RunRow, TrialRow
from qflsec.report.chart import Axis, Chart, Interval, Series
from qflsec.report.sides import two_sides
from qflsec.report.tradeoff import StackPoint

__all__ = ["cell_figures", "honest_runs", "tradeoff_figure", "training_figure"]

_MAX_RECORDS = 6


def _ends(scores: Sequence[Score]) -> list[Interval]:
    return [(score.low, score.high) for score in scores]


def tradeoff_figure(
    points: Sequence[StackPoint], protects: str, pipeline: str, looks: Mapping[str, int]
) -> Chart:
    """Strongest attack against accuracy, cost as the marker's size; hollow where a stack is not ranked.

    Args:
        points: The stacks.
        protects: What they protect, for the title.
        pipeline: The pipeline that all figures are of, for the title.
        looks: Each stack's colour and marker, the same in all figures.
    """
    largest = max((point.cost or 0.0) for point in points) or 1.0
    series = [
        Series(
            name=_label(point),
            x=[point.utility.value],
            y=[point.worst.advantage.value],
            x_intervals=_ends([point.utility]),
            y_intervals=_ends([point.worst.advantage]),
            look=looks[point.stack],
            hollow=bool(point.worst.unranked),
            rim=point.non_dominated,
            size=10 + 12 * math.sqrt((point.cost or 0.0) / largest),
            hints=[_hint(point)],
        )
        for point in points
    ]
    return Chart(
        title=f"{protects.capitalize()}, utility and cost on pipeline “{pipeline}” "
        f"(95 % intervals over {points[0].worst.advantage.n} seeds; size: bytes sent)",
        x=Axis(label="test accuracy without an attack"),
        y=Axis(label=f"strongest attack on {protects} (advantage)"),
        series=series,
        levels=(0.0, 1.0),
        height=360,
    )


def _hint(point: StackPoint) -> str:
    return (
        f"{point.stack}: accuracy {point.utility.value:.3f}; strongest attack {point.worst.attack}, "
        f"advantage {point.worst.advantage.value:.3f}; {_bytes(point.cost)}"
    )


def _label(point: StackPoint) -> str:
    if point.worst.unranked:
        return f"{point.stack} ({point.worst.unranked})"
    return f"{point.stack} ★" if point.non_dominated else point.stack


def _bytes(cost: float | None) -> str:
    return "cost unknown" if cost is None else f"{cost / 1000:.1f} kB on the network"


def training_figure(result: MatrixResult) -> Chart:
    """Accuracy over the rounds of the honest runs on the utility pipeline: mean and range over the seeds."""
    series = []
    for position, stack in enumerate(result.stacks):
        curves = [run.accuracy for run in honest_runs(result) if run.stack == stack.name]
        if not curves:
            continue
        rounds = range(min(map(len, curves)))
        columns = [[curve[index] for curve in curves] for index in rounds]
        series.append(
            Series(
                name=stack.name,
                x=[index + 1 for index in rounds],
                y=[sum(column) / len(column) for column in columns],
                y_intervals=[(min(column), max(column)) for column in columns],
                kind="marked line",
                look=position,
                size=7,
            )
        )
    return Chart(
        title=f"Training without an attack on pipeline “{result.utility_pipeline}” "
        "(mean and range over the seeds)",
        x=Axis(label="round"),
        y=Axis(label="test accuracy"),
        series=series,
    )


def honest_runs(result: MatrixResult) -> list[RunRow]:
    """The completed runs without an attack on the utility pipeline."""
    return [
        run
        for run in result.runs
        if run.pipeline == result.utility_pipeline
        and not run.attack
        and run.outcome == "completed"
        and run.accuracy
    ]


def cell_figures(cell: Cell) -> list[Chart]:
    """The figures of a cell's drill-down: advantage per seed, and what its family has to show."""
    scored = [trial for trial in cell.per_seed if trial.status == "ok"]
    counted = [trial for trial in cell.per_seed if trial.advantage is not None]
    if not counted:
        return []
    figures = [_seeds(cell, counted)]
    if not scored:
        return figures
    if all(two_sides(trial.raw) for trial in scored):
        figures.append(_roc(scored))
    if all("originals" in trial.raw for trial in scored):
        figures.append(_records(scored[0]))
    if all("accuracy_by_round" in trial.raw for trial in scored):
        figures.append(_attacked_training(scored))
    if all("successes" in trial.raw for trial in scored):
        figures.append(_successes(scored))
    return figures


def _seeds(cell: Cell, trials: Sequence[TrialRow]) -> Chart:
    series = [
        Series(
            name="one seed",
            x=[f"seed {trial.seed}" for trial in trials],
            y=[float(trial.advantage or 0.0) for trial in trials],
        )
    ]
    if cell.advantage is not None:
        mean = Series(
            name="mean, 95 % interval",
            x=["mean"],
            y=[cell.advantage.value],
            y_intervals=_ends([cell.advantage]),
            look=2,
            size=11,
        )
        series.append(mean)
    return Chart(
        title="Advantage (0: nothing learned or done, 1: perfect attack)",
        x=Axis(),
        y=Axis(label="advantage"),
        series=series,
        levels=(0.0, 1.0),
        height=260,
    )


def _roc(trials: Sequence[TrialRow]) -> Chart:
    curves = [(trial, _roc_points(trial.raw)) for trial in trials]
    floor = min(0.5 / len(no) for trial in trials for _, no in two_sides(trial.raw))
    lines = [
        Series(
            name=f"seed {trial.seed}",
            x=[max(x, floor) for x, _ in rates],
            y=[max(y, floor) for _, y in rates],
            kind="steps",
            look=position,
            dashed=bool(position % 2),
        )
        for position, (trial, rates) in enumerate(curves)
    ]
    guessing = Series(name="guessing", x=[floor, 1], y=[floor, 1], kind="line", muted=True, dashed=True)
    proof = next((trial.predicted for trial in trials if trial.predicted), None)
    limits = [] if proof is None else [_ceiling(Prediction.from_dict(proof), floor)]
    return Chart(
        title="ROC curve on logarithmic axes",
        x=Axis(label="false-positive rate", log=True, low=floor, high=1.0),
        y=Axis(label="true-positive rate", log=True, low=floor, high=1.05),
        series=[guessing, *limits, *lines],
    )


def _ceiling(proof: Prediction, floor: float) -> Series:
    """The largest true-positive rates that a proof allows."""
    rates = [floor ** (1 - step / 60) for step in range(61)]
    return Series(
        name="allowed by the proof",
        x=rates,
        y=[max(floor, proof.tpr(rate)) for rate in rates],
        kind="line",
        muted=True,
    )


def _roc_points(raw: Mapping[str, Any]) -> list[tuple[float, float]]:
    ((members, others),) = two_sides(raw)
    thresholds = sorted({*members, *others}, reverse=True)
    points = [(0.0, 0.0)]
    for threshold in thresholds:
        false = sum(score >= threshold for score in others) / len(others)
        true = sum(score >= threshold for score in members) / len(members)
        points.append((false, true))
    return points


def _records(trial: TrialRow) -> Chart:
    """Originals and their reconstructions side by side."""
    pairs = list(zip(trial.raw["originals"], trial.raw["reconstructions"], strict=True))[:_MAX_RECORDS]
    labels = [f"{row + 1}.{k + 1}" for row, (original, _) in enumerate(pairs) for k in range(len(original))]
    return Chart(
        title=f"Records and their reconstructions (seed {trial.seed})",
        x=Axis(label="record.feature"),
        y=Axis(label="feature (rad, mod 2 pi)"),
        series=[
            Series(
                name="original",
                x=labels,
                y=[value for original, _ in pairs for value in original],
                hollow=True,
                size=13,
            ),
            Series(
                name="reconstruction",
                x=labels,
                y=[value % (2 * math.pi) for _, guess in pairs for value in guess],
                look=5,
                size=8,
            ),
        ],
    )


def _attacked_training(trials: Sequence[TrialRow]) -> Chart:
    words = (("honest_accuracy_by_round", "honest"), ("accuracy_by_round", "attacked"))
    return Chart(
        title="Accuracy with and without the attack",
        x=Axis(label="round"),
        y=Axis(label="test accuracy"),
        series=[
            Series(
                name=f"seed {trial.seed}, {word}",
                x=[index + 1 for index in range(len(trial.raw[key]))],
                y=trial.raw[key],
                kind="line",
                look=position,
                dashed=word == "honest",
            )
            for position, trial in enumerate(trials)
            for key, word in words
        ],
    )


def _successes(trials: Sequence[TrialRow]) -> Chart:
    words = (("success_without_attack", "without the attack"), ("success", "attacked"))
    return Chart(
        title="Triggered records that get the target class (95 % Clopper-Pearson intervals)",
        x=Axis(),
        y=Axis(label="share of records", low=0.0, high=1.05),
        series=[
            Series(
                name=word,
                x=[f"seed {trial.seed}" for trial in trials],
                y=[trial.metrics[key].value for trial in trials],
                y_intervals=_ends([trial.metrics[key] for trial in trials]),
                kind="bars",
                look=look,
            )
            for (key, word), look in zip(words, (5, 1), strict=True)
        ],
        height=280,
    )
