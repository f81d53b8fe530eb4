"""How the cost of runs grows: with clients, rounds, records and runs, in processor time and in what is kept.

A run is one of the lab's own, on random records: 4 qubits, three strongly entangling layers, plain steps, no layers. The
records say nothing, and cost what others cost. Beside the run stands the view of a server that is curious: what an attack
and a ledger begin with.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch

from qflsec.base import stream
from qflsec.circuits.bench import one_thread
from qflsec.data import DataSpec, load
from qflsec.data.loading import as_long
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Stack
from qflsec.federation.loop import run_batch
from qflsec.federation.round.lanes import lane_of
from qflsec.models import build_model
from qflsec.threat import honest_but_curious_server

__all__ = ["AXES", "LINEAR", "GrowthRow", "bench_growth", "grown", "kept_bytes", "render_growth", "slope"]

AXES: Mapping[str, tuple[int, ...]] = {
    "clients": (10, 100, 1000),
    "rounds": (10, 100, 1000),
    "records": (8, 80, 800),
    "runs": (16, 64, 256),
    "rounds-of-1000": (10, 100),
}
"""What grows, and the sizes that are measured: records are those of each client, runs stand in batches of 16, and the last
are rounds of 1,000 clients."""
_BASE = {"clients": 10, "rounds": 5, "records": 2, "runs": 1}
LINEAR = 1.25
"""The largest slope that counts as linear growth: what no longer fits into caches costs more, and quadratic growth is 2."""
_TEST = 20


@dataclass(frozen=True, kw_only=True)
class GrowthRow:
    """What runs of one size cost.

    Attributes:
        axis: What grows.
        size: How much of it there is.
        run: Processor time of the runs.
        view: Processor time of the server's view of the first run.
        kept: What the transcripts of the runs hold.
        slopes: The growth from the size before, of each cost by its name: its logarithm over that of the size; empty
            for the first size.

    Units:
        run, view: seconds; kept: bytes
    """

    axis: str
    size: int
    run: float
    view: float
    kept: int
    slopes: Mapping[str, float]

    @property
    def met(self) -> bool:
        """Whether everything grows as the size does, or less."""
        return all(value <= LINEAR for value in self.slopes.values())


def bench_growth(axes: Iterable[str] = tuple(AXES), *, repeats: int = 3) -> tuple[GrowthRow, ...]:
    """Measure runs of each size of each axis.

    Args:
        axes: Names of :data:`AXES`.
        repeats: How often each size is measured; the least counts.
    """
    rows: list[GrowthRow] = []
    with one_thread():
        grown()()  # what a process loads once
        for axis in axes:
            before: GrowthRow | None = None
            for size in AXES[axis]:
                before = _row(axis, size, before, repeats)
                rows.append(before)
    return tuple(rows)


def _row(axis: str, size: int, before: GrowthRow | None, repeats: int) -> GrowthRow:
    sizes = {"rounds": size, "clients": 1000} if axis == "rounds-of-1000" else {axis: size}
    make, runs, views = grown(**sizes), [], []
    for _ in range(repeats):
        made, seconds = _timed(make)
        runs.append(seconds)
        views.append(_timed(lambda: made[0].view(honest_but_curious_server()))[1])  # noqa: B023 - called at once
    costs = {"run": min(runs), "view": min(views), "kept": kept_bytes([run.transcript for run in made])}
    slopes = (
        {}
        if before is None
        else {name: slope((before.size, size), (getattr(before, name), cost)) for name, cost in costs.items()}
    )
    return GrowthRow(
        axis=axis, size=size, run=costs["run"], view=costs["view"], kept=int(costs["kept"]), slopes=slopes
    )


def _timed(make: Callable[[], Any]) -> tuple[Any, float]:
    gc.collect()
    started = time.process_time()
    made = make()
    return made, time.process_time() - started


def grown(**sizes: int) -> Callable[[], list[RunResult]]:
    """What makes runs of a size; data and first models are there before.

    Args:
        sizes: Of the axes that differ from the smallest run: 10 clients of two records, 5 rounds, 1 run.
    """
    size = {**_BASE, **sizes}
    spec = DataSpec(name="breast-cancer", n_features=4, members=20, nonmembers=0, auxiliary=20, test=_TEST)
    pipeline = Pipeline(
        data=spec,
        model=build_model({"name": "vqc", "n_features": 4, "n_qubits": 4, "layers": 3}),
        federation=FederationConfig(n_clients=size["clients"], rounds=size["rounds"], learning_rate=0.1),
    )
    members = size["clients"] * size["records"]
    n, none = members + _TEST, as_long(np.zeros(0, dtype=np.int64))
    features = torch.rand(n, 4, generator=stream(0, "growth")) * math.pi
    dataset = replace(
        load(spec, 0),
        features=features,
        labels=as_long((features.sum(dim=1) > 2 * math.pi).numpy()),
        member_idx=as_long(np.arange(members)),
        nonmember_idx=none,
        auxiliary_idx=none,
        test_idx=as_long(np.arange(members, n)),
        source_rows=as_long(np.arange(n)),
    )
    seeds = range(size["runs"])
    lanes = [lane_of(pipeline, dataset, seed) for seed in seeds]
    specs = [RunSpec(seed=seed) for seed in seeds]
    return lambda: run_batch(pipeline, Stack(name="none"), specs, lanes=lanes)


def slope(sizes: tuple[float, float], costs: tuple[float, float]) -> float:
    """The power of the size by which a cost grows between two sizes."""
    return math.log(costs[1] / costs[0]) / math.log(sizes[1] / sizes[0])


def kept_bytes(roots: Sequence[object]) -> int:
    """What objects hold in memory with everything that they refer to: Python's own, arrays and tensors, each once.

    Units:
        bytes
    """
    seen: set[int] = set()
    storages: dict[int, int] = {}
    pending, total = [*roots], 0
    while pending:
        one = pending.pop()
        if id(one) in seen or isinstance(one, (type, ModuleType)) or callable(one):
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            storage = one.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            continue
        total += sys.getsizeof(one)
        pending.extend(gc.get_referents(one))
    return total + sum(storages.values())


def render_growth(rows: Iterable[GrowthRow]) -> str:
    """The rows as a Markdown table; a slope of 1 is linear growth."""
    lines = [["grows", "size", "runs", "slope", "view", "slope", "transcripts", "slope", f"at most {LINEAR}"]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        slopes = [f"{row.slopes[name]:.2f}" if row.slopes else "" for name in ("run", "view", "kept")]
        met = "" if not row.slopes else "met" if row.met else "MISSED"
        costs = [f"{row.run:.3g} s", f"{row.view:.3g} s", f"{row.kept / 1e6:.3g} MB"]
        pairs = [part for pair in zip(costs, slopes, strict=True) for part in pair]
        lines.append([row.axis, f"{row.size:,}", *pairs, met])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
