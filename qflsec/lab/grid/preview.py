"""What a command would do: the plan, what is stored of it, and what the rest costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qflsec.lab.grid.estimate import Estimate
from qflsec.lab.grid.ids import canonical
from qflsec.lab.grid.store import Store
from qflsec.lab.grid.units import TRIAL, Plan, Row, Unit
from qflsec.lab.grid.world import AnyWorld

__all__ = ["estimate", "preview"]


def preview(world: AnyWorld, store_path: str | Path, *, measure: bool = True) -> Estimate:
    """The estimate of what is left to do of a matrix; nothing is written.

    Args:
        world: The matrix.
        store_path: The store that it would be run into; it need not exist.
        measure: Whether to time short runs, rather than to follow the cost model alone.

    Raises:
        QflsecError: The data or the store cannot be used.
    """
    rows: Mapping[str, Row] = {}
    if Path(store_path).exists():
        with Store(store_path, create=False) as store:
            rows = store.rows()
    settled = frozenset(unit_id for unit_id, row in rows.items() if row.settled)
    plan = world.plan(settled)
    if measure:
        world.check()
    return estimate(world, plan, settled, rows=rows.values(), measure=measure)


def estimate(
    world: AnyWorld,
    plan: Plan[Any],
    settled: frozenset[str],
    *,
    rows: Iterable[Row] = (),
    measure: bool = False,
) -> Estimate:
    """The estimate of a plan.

    Args:
        world: The matrix.
        plan: What is left to do of it.
        settled: Ids of units that are stored.
        rows: Stored rows, whose attacks' times are taken for those that are left.
        measure: Whether to time short runs.
    """
    units = [unit for cell in world.cells.values() for unit in cell]
    ready = {row.unit_id for row in plan.ready}
    left = [unit for unit in units if unit.unit_id not in settled and unit.unit_id not in ready]
    return Estimate(
        trials=len(units),
        stored=sum(unit.unit_id in settled for unit in units),
        parts=world.parts(plan, measure=measure),
        attack_seconds=_attack_seconds(left, rows),
        incompatible=dict(Counter(row.reason for row in plan.ready)),
        remarks=world.remarks(),
    )


def _attack_seconds(left: Iterable[Unit], rows: Iterable[Row]) -> float | None:
    """What the attacks took in the store, for as many trials as are left; None where one was never made."""
    known: dict[str, list[float]] = {}
    for row in rows:
        if row.stage == TRIAL and row.settled:
            known.setdefault(_attack(row.identity), []).append(row.seconds)
    total = 0.0
    for unit in left:
        times = known.get(_attack(unit.identity))
        if not times:
            return None
        total += sum(times) / len(times)
    return total


def _attack(identity: Mapping[str, Any]) -> str:
    return canonical(identity.get("attack"))
