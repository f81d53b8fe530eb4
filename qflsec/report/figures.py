"""The report's figures, as Plotly figures in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from qflsec.base import Score
from qflsec.lab.worlds.federation.results import Cell, MatrixResult, TrialRow
from qflsec.report.tradeoff import StackPoint

__all__ = ["cell_figures", "tradeoff_figure", "training_figure"]

# colour-blind safe (Okabe and Ito), in an order that also differs in lightness
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
_MARKS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")
_MAX_RECORDS = 6


def _as_json(figure: go.Figure, *, title: str, x: str, y: str, height: int = 380) -> dict[str, Any]:
    figure.update_layout(
        template="plotly_white",
        title={"text": title, "font": {"size": 15}},
        xaxis_title=x,
        yaxis_title=y,
        height=height,
        margin={"l": 70, "r": 20, "t": 50, "b": 60},
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": -0.25},
    )
    parsed: dict[str, Any] = json.loads(figure.to_json())
    return parsed


def _mark(position: int) -> str:
    """Where the colours begin again, the marks are shifted, so that no two stacks look alike."""
    return _MARKS[(position + position // len(COLOURS)) % len(_MARKS)]


def _bars(scores: Sequence[Score]) -> dict[str, Any]:
    up = [s.high - s.value if math.isfinite(s.high) else 0.0 for s in scores]
    down = [s.value - s.low if math.isfinite(s.low) else 0.0 for s in scores]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1}


def tradeoff_figure(points: Sequence[StackPoint], protects: str, pipeline: str) -> dict[str, Any]:
    """Strongest attack against accuracy, cost as the marker's size; hollow where a stack is not ranked.

    Args:
        points: The stacks.
        protects: What they protect, for the title.
        pipeline: The pipeline that all figures are of, for the title.
    """
    largest = max((point.cost or 0.0) for point in points) or 1.0
    figure = go.Figure()
    for position, point in enumerate(points):
        colour = COLOURS[position % len(COLOURS)]
        mark, worst = _mark(position), point.worst
        figure.add_trace(
            go.Scatter(
                x=[point.utility.value],
                y=[worst.advantage.value],
                error_x={**_bars([point.utility]), "color": colour},
                error_y={**_bars([worst.advantage]), "color": colour},
                mode="markers",
                name=_label(point),
                marker={
                    "color": colour,
                    "symbol": f"{mark}-open" if point.worst.unranked else mark,
                    "size": 10 + 16 * math.sqrt((point.cost or 0.0) / largest),
                    "line": {"width": 3, "color": "#222"}
                    if point.non_dominated
                    else {"width": 2 if point.worst.unranked else 0},
                    "opacity": 0.85,
                },
                hovertemplate=(
                    f"{point.stack}<br>accuracy %{{x:.3f}}<br>strongest attack: {worst.attack}, "
                    f"advantage %{{y:.3f}}<br>{_bytes(point.cost)}<extra></extra>"
                ),
            )
        )
    return _as_json(
        figure,
        title=f"{protects.capitalize()}, utility and cost on pipeline {pipeline!r} "
        f"(95 % intervals over {points[0].worst.advantage.n} seeds; size: bytes sent)",
        x="test accuracy without an attack",
        y=f"strongest attack on {protects} (advantage)",
        height=460,
    )


def _label(point: StackPoint) -> str:
    if point.worst.unranked:
        return f"{point.stack} ({point.worst.unranked})"
    return f"{point.stack} ★" if point.non_dominated else point.stack


def _bytes(cost: float | None) -> str:
    return "cost unknown" if cost is None else f"{cost / 1000:.1f} kB on the network"


def training_figure(result: MatrixResult) -> dict[str, Any] | None:
    """Accuracy over the rounds of the honest runs on the utility pipeline: mean and range over the seeds."""
    runs = [
        run
        for run in result.runs
        if run.pipeline == result.utility_pipeline
        and not run.attack
        and run.outcome == "completed"
        and run.accuracy
    ]
    if not runs:
        return None
    figure = go.Figure()
    for position, stack in enumerate(result.stacks):
        curves = [run.accuracy for run in runs if run.stack == stack.name]
        if not curves:
            continue
        rounds = list(range(1, min(map(len, curves)) + 1))
        columns = [[curve[index - 1] for curve in curves] for index in rounds]
        mean = [sum(column) / len(column) for column in columns]
        figure.add_trace(
            go.Scatter(
                x=rounds,
                y=mean,
                mode="lines+markers",
                name=stack.name,
                line={"color": COLOURS[position % len(COLOURS)]},
                marker={"symbol": _mark(position), "size": 7},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [max(c) - m for c, m in zip(columns, mean, strict=True)],
                    "arrayminus": [m - min(c) for c, m in zip(columns, mean, strict=True)],
                    "thickness": 0.6,
                    "width": 2,
                },
            )
        )
    return _as_json(
        figure,
        title=f"Training without an attack on pipeline {result.utility_pipeline!r} (mean and range over the seeds)",
        x="round",
        y="test accuracy",
    )


def cell_figures(cell: Cell) -> list[dict[str, Any]]:
    """The figures of a cell's drill-down: advantage per seed, and what its family has to show."""
    scored = [trial for trial in cell.per_seed if trial.status == "ok"]
    counted = [trial for trial in cell.per_seed if trial.advantage is not None]
    if not counted:
        return []
    figures = [_seeds(cell, counted)]
    if not scored:
        return figures
    if all("member_scores" in trial.raw for trial in scored):
        figures.append(_roc(scored))
    if all("originals" in trial.raw for trial in scored):
        figures.append(_records(scored[0]))
    if all("accuracy_by_round" in trial.raw for trial in scored):
        figures.append(_attacked_training(scored))
    if all("successes" in trial.raw for trial in scored):
        figures.append(_successes(scored))
    return figures


def _seeds(cell: Cell, trials: Sequence[TrialRow]) -> dict[str, Any]:
    figure = go.Figure(
        go.Scatter(
            x=[f"seed {trial.seed}" for trial in trials],
            y=[trial.advantage for trial in trials],
            mode="markers",
            marker={"size": 11, "color": COLOURS[0]},
            name="one seed",
        )
    )
    if cell.advantage is not None:
        figure.add_trace(
            go.Scatter(
                x=["mean"],
                y=[cell.advantage.value],
                error_y=_bars([cell.advantage]),
                mode="markers",
                marker={"size": 13, "symbol": "diamond", "color": COLOURS[1]},
                name="mean, 95 % interval",
            )
        )
    figure.add_hline(y=0, line={"width": 1, "dash": "dot"})
    return _as_json(
        figure,
        title="Advantage (0: nothing learned or done, 1: perfect attack)",
        x="",
        y="advantage",
        height=320,
    )


def _roc(trials: Sequence[TrialRow]) -> dict[str, Any]:
    figure = go.Figure()
    floor = 1.0
    for position, trial in enumerate(trials):
        rates = _roc_points(trial.raw)
        floor = min(floor, 0.5 / max(len(trial.raw["nonmember_scores"]), 1))
        figure.add_trace(
            go.Scatter(
                x=[max(x, floor) for x, _ in rates],
                y=[max(y, floor) for _, y in rates],
                mode="lines",
                line={"shape": "hv", "color": COLOURS[position % len(COLOURS)]},
                name=f"seed {trial.seed}",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=[floor, 1], y=[floor, 1], mode="lines", line={"dash": "dot", "color": "#777"}, name="guessing"
        )
    )
    figure.update_xaxes(type="log", range=[math.log10(floor), 0], dtick=1)
    figure.update_yaxes(type="log", range=[math.log10(floor), 0.02], dtick=1)
    return _as_json(
        figure, title="ROC curve on logarithmic axes", x="false-positive rate", y="true-positive rate"
    )


def _roc_points(raw: Mapping[str, Any]) -> list[tuple[float, float]]:
    members, others = sorted(raw["member_scores"]), sorted(raw["nonmember_scores"])
    thresholds = sorted({*members, *others}, reverse=True)
    points = [(0.0, 0.0)]
    for threshold in thresholds:
        false = sum(score >= threshold for score in others) / len(others)
        true = sum(score >= threshold for score in members) / len(members)
        points.append((false, true))
    return points


def _records(trial: TrialRow) -> dict[str, Any]:
    """Originals and their reconstructions side by side."""
    originals, found = trial.raw["originals"], trial.raw["reconstructions"]
    figure = go.Figure()
    for index, (original, guess) in enumerate(zip(originals, found, strict=True)):
        if index == _MAX_RECORDS:
            break
        labels = [f"record {index + 1}, feature {k + 1}" for k in range(len(original))]
        figure.add_trace(
            go.Scatter(
                x=labels,
                y=original,
                mode="markers",
                name="original" if index == 0 else None,
                showlegend=index == 0,
                marker={"symbol": "circle-open", "size": 14, "color": COLOURS[0], "line": {"width": 3}},
            )
        )
        figure.add_trace(
            go.Scatter(
                x=labels,
                y=[value % (2 * math.pi) for value in guess],
                mode="markers",
                name="reconstruction" if index == 0 else None,
                showlegend=index == 0,
                marker={"symbol": "x", "size": 9, "color": COLOURS[1]},
            )
        )
    return _as_json(
        figure,
        title=f"Records and their reconstructions (seed {trial.seed})",
        x="",
        y="feature (rad, mod 2 pi)",
    )


def _attacked_training(trials: Sequence[TrialRow]) -> dict[str, Any]:
    figure = go.Figure()
    for position, trial in enumerate(trials):
        colour = COLOURS[position % len(COLOURS)]
        for key, dash, word in (
            ("honest_accuracy_by_round", "dot", "honest"),
            ("accuracy_by_round", "solid", "attacked"),
        ):
            values = trial.raw[key]
            figure.add_trace(
                go.Scatter(
                    x=list(range(1, len(values) + 1)),
                    y=values,
                    mode="lines",
                    line={"dash": dash, "color": colour},
                    name=f"seed {trial.seed}, {word}",
                )
            )
    return _as_json(figure, title="Accuracy with and without the attack", x="round", y="test accuracy")


def _successes(trials: Sequence[TrialRow]) -> dict[str, Any]:
    figure = go.Figure()
    for position, (key, word) in enumerate(
        (("success_without_attack", "without the attack"), ("success", "attacked"))
    ):
        scores = [trial.metrics[key] for trial in trials]
        figure.add_trace(
            go.Bar(
                x=[f"seed {trial.seed}" for trial in trials],
                y=[score.value for score in scores],
                error_y=_bars(scores),
                name=word,
                marker={"color": COLOURS[5 if position == 0 else 1]},
            )
        )
    figure.update_layout(barmode="group")
    figure.update_yaxes(range=[0, 1.05])
    return _as_json(
        figure,
        title="Triggered records that get the target class (95 % Clopper-Pearson intervals)",
        x="",
        y="share of records",
    )
