"""What attacks on clients learn, against among how many updates each client's hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qflsec.base import Score, register
from qflsec.lab.worlds.federation.results import Cell, MatrixResult
from qflsec.report.chart import Axis, Chart, Series
from qflsec.report.html import figure
from qflsec.report.panel import Panel

__all__ = ["Leakage", "leakage_chart"]

_FEWEST = 3
"""Two points are no curve."""


@dataclass(frozen=True, kw_only=True)
class _Point:
    """One cell of a curve.

    Attributes:
        k: The anonymity set, on average over clients and seeds.
        advantage: What the attack got.
        exact: What exact sums would have told, on average over the seeds.
        label: The attack's label.
    """

    k: float
    advantage: Score
    exact: float
    label: str


def leakage_chart(result: MatrixResult) -> Chart | None:
    """Advantage over the anonymity set; None where no attack was made at three of its sizes.

    Args:
        result: A matrix.
    """
    names = {attack.label: attack.name for attack in result.attacks}
    curves: dict[tuple[str, str], list[_Point]] = {}
    for cell in result.cells.values():
        point = _point(cell)
        if point is not None:
            curves.setdefault((names[cell.attack], cell.stack), []).append(point)
    series: list[Series] = []
    for (attack, stack), points in curves.items():
        points.sort(key=lambda point: point.k)
        if len({point.k for point in points}) < _FEWEST:
            continue
        ks, looks = [point.k for point in points], len(series) // 2
        series += [
            Series(
                name=f"exact sums, {stack}",
                x=ks,
                y=[point.exact for point in points],
                kind="line",
                dashed=True,
                muted=True,
            ),
            Series(
                name=f"{attack}, {stack}",
                x=ks,
                y=[point.advantage.value for point in points],
                y_intervals=[(point.advantage.low, point.advantage.high) for point in points],
                kind="marked line",
                look=looks,
                hints=[_hint(point) for point in points],
            ),
        ]
    if not series:
        return None
    return Chart(
        title="Advantage against the anonymity set (95 % intervals over the seeds; dashed: what exact sums would tell)",
        x=Axis(label="honest clients among whose updates each one hides, k"),
        y=Axis(label="advantage"),
        series=series,
        levels=(0.0, 1.0),
    )


def _point(cell: Cell) -> _Point | None:
    ks = _values(cell, "anonymity_set")
    exact = _values(cell, "sums_advantage")
    if cell.advantage is None or not ks or not exact:
        return None
    return _Point(
        k=sum(ks) / len(ks), advantage=cell.advantage, exact=sum(exact) / len(exact), label=cell.attack
    )


def _values(cell: Cell, metric: str) -> Sequence[float]:
    return [row.metrics[metric].value for row in cell.per_seed if metric in row.metrics]


def _hint(point: _Point) -> str:
    return f"{point.label}: k = {point.k:.3g}, advantage {point.advantage.value:.2f}, exact sums {point.exact:.2f}"


@register("panel", "leakage")
class Leakage(Panel):
    """What attacks on clients learn, against among how many updates each client's hides."""

    title = "Leakage against the anonymity set"
    order = 35.0

    def applies(self, result: object) -> bool:
        """Where an attack was made at three sizes of the anonymity set."""
        return isinstance(result, MatrixResult) and leakage_chart(result) is not None

    def render(self, result: MatrixResult) -> str:
        """The figure."""
        chart = leakage_chart(result)
        assert chart is not None  # applies() said so
        return figure(chart, "Advantage over the number of honest clients among whose updates each one hides")
