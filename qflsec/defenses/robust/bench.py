"""The benchmark of robust rules: what one aggregation costs, as a ratio to plain torch code in the same process.

A fifth of the clients is declared corrupted, and the updates are float32. Costs are CPU time of this process with one torch
thread, measured in turn, of which the least counts. Both results are compared first: they are the same but for Bulyan's last
picks, where two rows may have the same score and the plain code takes the first. The plain geometric median makes a fixed number
of steps, and ours as many as its tolerance needs. Beside a rule that is made of products of matrices stands its floor: these products
alone, in the precision in which the rule takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.circuits.bench import least_costs, one_thread
from qflsec.defenses.robust.adaptive_clipping import adaptive_clipping
from qflsec.defenses.robust.bench_plain import PLAIN
from qflsec.defenses.robust.bulyan import bulyan
from qflsec.defenses.robust.centred_clipping import centred_clipping
from qflsec.defenses.robust.divide_and_conquer import divide_and_conquer
from qflsec.defenses.robust.fltrust import fltrust
from qflsec.defenses.robust.geometric_median import geometric_median
from qflsec.defenses.robust.krum import krum, multi_krum
from qflsec.defenses.robust.mean_around_median import mean_around_median
from qflsec.defenses.robust.median import coordinate_median
from qflsec.defenses.robust.minimum_diameter import EXACT_ROWS, minimum_diameter
from qflsec.defenses.robust.mixing import nearest_neighbour_mixing
from qflsec.defenses.robust.trimmed_mean import trimmed_mean
from qflsec.defenses.robust.weak_dp import weak_dp

__all__ = ["RuleRow", "bench_aggregation", "render_aggregation"]

OURS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "trimmed-mean": lambda updates, f: trimmed_mean(updates, f=f),
    "median": lambda updates, f: coordinate_median(updates, f=f),
    "mean-around-median": lambda updates, f: mean_around_median(updates, f=f),
    "geometric-median": lambda updates, f: geometric_median(updates, f=f),
    "krum": lambda updates, f: krum(updates, f=f),
    "multi-krum": lambda updates, f: multi_krum(updates, f=f),
    "minimum-diameter": lambda updates, f: minimum_diameter(updates, f=f),
    "centred-clipping": lambda updates, f: centred_clipping(updates, f=f, iterations=3),
    "bulyan": lambda updates, f: bulyan(updates, f=f),
    "dnc": lambda updates, f: divide_and_conquer(updates, f=f),
    "nnm": lambda updates, f: nearest_neighbour_mixing(updates, f=f),
    "arc": lambda updates, f: adaptive_clipping(updates, f=f),
    "weak-dp": lambda updates, f: weak_dp(updates, f=f, noise_std=0.0),
    "fltrust": lambda updates, f: fltrust(updates, f=f, trusted=updates[0]),
}
TARGETS = {
    ("nnm", 100, 1000): 25.0,
    ("geometric-median", 100, 1000): 11.0,
    ("trimmed-mean", 100, 1000): 50.0,
}
"""The smallest speed-ups that are wanted."""
FLOORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "krum": lambda _, double: double @ double.T,
    "multi-krum": lambda _, double: double @ double.T,
    "nnm": lambda updates, _: updates @ updates.T,
}
"""The products that a rule cannot do without: all scalar products, for Krum in double precision and for NNM in the updates' own."""
_ALL_SUBSETS = 12
"""Beyond so many clients the plain search through all subsets takes minutes."""


@dataclass(frozen=True, kw_only=True)
class RuleRow:
    """One rule at one size.

    Attributes:
        rule: Its name.
        n: The number of clients.
        d: The number of parameters.
        microseconds: Its cost.
        plain_microseconds: The cost of the plain code; None where that would take minutes.
        floor_microseconds: The cost of its products of matrices alone; None for a rule that is not made of them.
        difference: The largest difference between both results; None where there is one only.
        target: The smallest speed-up that is wanted, if there is one.
    """

    rule: str
    n: int
    d: int
    microseconds: float
    plain_microseconds: float | None
    floor_microseconds: float | None
    difference: float | None
    target: float | None = None

    @property
    def speed_up(self) -> float | None:
        """The plain code's cost over ours; None where that was not measured."""
        return None if self.plain_microseconds is None else self.plain_microseconds / self.microseconds

    @property
    def met(self) -> bool:
        """Whether the target, if there is one, is met."""
        return self.target is None or (self.speed_up is not None and self.speed_up >= self.target)


def bench_aggregation(
    *,
    clients: Iterable[int] = (10, 30, 100),
    parameters: Sequence[int] = (36, 1000, 10_000),
    repeats: int = 5,
) -> tuple[RuleRow, ...]:
    """Measure every rule at every size; the exact search for the smallest diameter to 30 clients.

    Args:
        clients: Numbers of clients.
        parameters: Numbers of parameters.
        repeats: How often each rule is measured.
    """
    with one_thread():
        return tuple(
            _row(rule, n, d, repeats)
            for n in clients
            for d in parameters
            for rule in OURS
            if rule != "minimum-diameter" or n <= EXACT_ROWS
        )


def _row(rule: str, n: int, d: int, repeats: int) -> RuleRow:
    updates, f = torch.randn(n, d, generator=torch.Generator().manual_seed(n + d)), n // 5
    ours, plain = OURS[rule], PLAIN[rule]
    steps = {"ours": lambda: (ours(updates, f),)}
    difference = None
    if rule != "minimum-diameter" or n <= _ALL_SUBSETS:
        steps["plain"] = lambda: (plain(updates, f),)
        difference = float((ours(updates, f) - plain(updates, f)).abs().max())
    if rule in FLOORS:
        double = updates.double()
        steps["floor"] = lambda: (FLOORS[rule](updates, double),)
    costs = least_costs(steps, repeats)
    return RuleRow(
        rule=rule,
        n=n,
        d=d,
        microseconds=costs["ours"] * 1e6,
        plain_microseconds=costs["plain"] * 1e6 if "plain" in costs else None,
        floor_microseconds=costs["floor"] * 1e6 if "floor" in costs else None,
        difference=difference,
        target=TARGETS.get((rule, n, d)),
    )


def render_aggregation(rows: Iterable[RuleRow]) -> str:
    """The rows as a Markdown table; a larger speed-up is better."""
    lines = [
        ["rule", "clients", "parameters", "µs", "plain µs", "speed-up", "target", "floor µs", "difference"]
    ]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        target = "" if row.target is None else f"{row.target:g} ({'met' if row.met else 'MISSED'})"
        floor = "" if row.floor_microseconds is None else f"{row.floor_microseconds:.0f}"
        cells = [row.rule, str(row.n), str(row.d), f"{row.microseconds:.0f}", "", "", target, floor, ""]
        if row.plain_microseconds is not None:
            cells[4:6] = f"{row.plain_microseconds:.0f}", f"{row.speed_up:.1f}"
            cells[8] = f"{row.difference:.0e}"
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
