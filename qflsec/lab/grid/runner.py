"""Running a matrix: what is left to do, in parallel, with every finished batch stored at once."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qflsec.base import BackendError
from qflsec.lab.grid.backends import LOCAL, check_backend, default_jobs, results
from qflsec.lab.grid.estimate import refuse
from qflsec.lab.grid.lock import at_work
from qflsec.lab.grid.preview import estimate
from qflsec.lab.grid.store import Store
from qflsec.lab.grid.units import TRIAL, Batch, Place, Plan, Row
from qflsec.lab.grid.work import Task, execute
from qflsec.lab.grid.world import AnyWorld

__all__ = ["Progress", "run_matrix"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a matrix is.

    Attributes:
        done: Trials that are stored.
        total: Trials in all.
        batches_done: Batches finished in this session.
        batches_total: Batches of this session.
        elapsed_seconds: Since the session began.
        eta_seconds: What is left, at the pace of this session; None before the first batch is done.
        statuses: The number of trials written in this session by status.
        cells: For each (attack label, column name): trials stored and trials in all.
        message: What just happened, as a sentence.
    """

    done: int
    total: int
    batches_done: int
    batches_total: int
    elapsed_seconds: float
    eta_seconds: float | None
    statuses: Mapping[str, int] = field(default_factory=dict)
    cells: Mapping[Place, tuple[int, int]] = field(default_factory=dict)
    message: str = ""


def run_matrix(
    world: AnyWorld,
    store_path: str | Path,
    *,
    jobs: int | None = None,
    backend: str = "local",
    address: str | None = None,
    command: str = "",
    long: bool = False,
    on_wait: Callable[[str], None] | None = None,
) -> Generator[Progress, None, None]:
    """Run what is left of a matrix; to resume, or to extend, run it again.

    Failed trials are repeated; their old rows stay in the store as history. Whoever stops early keeps every
    batch that was reported.

    Args:
        world: The matrix.
        store_path: The store; made where it does not exist.
        jobs: The number of workers; as many as there are cores by default.
        backend: ``"local"`` (processes of this machine), ``"loky"`` (joblib's), ``"dask"`` or ``"ray"``.
        address: A running Dask scheduler or Ray cluster.
        command: The command that a report shall name.
        long: Whether a plan is confirmed that would take more than a day.
        on_wait: Told who is at work on the store, before waiting for it; by default that is refused.

    Raises:
        QflsecError: The data, the store or the backend cannot be used, or the plan is beyond the machine.
    """
    check_backend(backend)
    if world.alone:
        _check_alone(jobs, backend)
        jobs = 1
    with at_work(store_path, command=command, on_wait=on_wait), closing(world):
        yield from _run(
            world, store_path, jobs=jobs, backend=backend, address=address, command=command, long=long
        )


def _check_alone(jobs: int | None, backend: str) -> None:
    """Refuse workers for a matrix that has none.

    Raises:
        BackendError: Some were asked for.
    """
    if backend not in LOCAL or (jobs or 1) > 1:
        raise BackendError(
            "the batches of this matrix follow one another, without workers",
            got=f"{jobs or 1} jobs, backend {backend!r}",
            fix="leave out --jobs and --backend",
        )


def _run(
    world: AnyWorld,
    store_path: str | Path,
    *,
    jobs: int | None,
    backend: str,
    address: str | None,
    command: str,
    long: bool,
) -> Generator[Progress, None, None]:
    settled = _settled(store_path)
    plan = world.plan(settled)
    # A cluster's workers have memories of their own, of which nothing is known here.
    refuse(estimate(world, plan, settled), jobs=jobs or default_jobs() if backend in LOCAL else 1, long=long)
    world.check()
    with Store(store_path) as store:
        store.remember(
            kind=world.kind,
            name=world.spec.name,
            command=command,
            spec=world.spec.to_json(),
            frame=world.frame,
        )
        state = _State(world, plan, settled)
        yield state.progress(f"{state.done} of {state.total} trials are in the store already")
        if plan.ready:
            store.append(plan.ready)
            state.note(plan.ready)
            yield state.progress(
                f"{len(plan.ready)} trials cannot be run, for the reasons that the result states"
            )
        circuits = sys.modules.get("qflsec.circuits.executors")  # some matrices have no circuits
        if any(plan.stages) and circuits is not None and circuits.must_compile():
            yield state.progress("the kernel is compiled first, once for each user: some 20 seconds")
        for stage in plan.stages:
            if not stage:
                continue
            tasks = _tasks(world, stage, store)
            workers = min(jobs or default_jobs(), len(tasks))
            finished = results(
                execute, tasks, jobs=workers, backend=backend, address=address, modules=_modules(world)
            )
            with closing(finished):  # type: ignore[type-var]
                for index, rows in finished:
                    store.append(rows)
                    state.note(rows)
                    state.batches_done += 1
                    yield state.progress(_message(stage[index], rows))


def _settled(store_path: str | Path) -> frozenset[str]:
    """What is stored, without making a store: nothing is left behind where the plan or the data are refused."""
    if not Path(store_path).exists():
        return frozenset()
    with Store(store_path) as store:
        return store.settled()


def _modules(world: AnyWorld) -> tuple[str, ...]:
    """What a batch will import: whatever of this package planning needed, and what the matrix says beside that."""
    ours = [name for name in sys.modules if name.startswith("qflsec.") and not name.startswith("qflsec.cli")]
    return (*ours, *world.imports)


def _tasks(world: AnyWorld, stage: tuple[Batch, ...], store: Store) -> tuple[Task, ...]:
    spec, code = world.spec.to_json(), world.code_digest
    stored = store.rows({unit_id for batch in stage for unit_id in batch.needs})
    return tuple(
        Task(
            index=index,
            kind=type(world),
            spec=spec,
            code=code,
            batch=batch,
            given={unit_id: stored[unit_id] for unit_id in batch.needs if unit_id in stored},
        )
        for index, batch in enumerate(stage)
    )


class _State:
    """The bookkeeping behind :class:`Progress`."""

    def __init__(self, world: AnyWorld, plan: Plan[Any], settled: frozenset[str]) -> None:
        self._cells = {place: [unit.unit_id for unit in units] for place, units in world.cells.items()}
        self._trials = frozenset(unit_id for ids in self._cells.values() for unit_id in ids)
        self._stored = set(self._trials & settled)
        self._statuses: Counter[str] = Counter()
        self._begun = time.monotonic()
        self._batches = len(list(plan.batches))
        self.batches_done = 0
        self.total = len(self._trials)

    @property
    def done(self) -> int:
        """Trials that are stored."""
        return len(self._stored)

    def note(self, rows: Iterable[Row]) -> None:
        """Count the trials of a finished batch."""
        trials = [row for row in rows if row.stage == TRIAL]
        self._statuses.update(row.status for row in trials)
        self._stored.update(row.unit_id for row in trials)

    def progress(self, message: str) -> Progress:
        """The present state."""
        elapsed = time.monotonic() - self._begun
        left = self._batches - self.batches_done
        return Progress(
            done=self.done,
            total=self.total,
            batches_done=self.batches_done,
            batches_total=self._batches,
            elapsed_seconds=elapsed,
            eta_seconds=elapsed / self.batches_done * left if self.batches_done else (None if left else 0.0),
            statuses=dict(self._statuses),
            cells={
                place: (sum(unit_id in self._stored for unit_id in ids), len(ids))
                for place, ids in self._cells.items()
            },
            message=message,
        )


def _message(batch: Batch, rows: Iterable[Row]) -> str:
    kept = list(rows)
    counts = Counter(row.status for row in kept if row.stage == TRIAL) or Counter(row.stage for row in kept)
    words = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    return f"{batch.title}: {words}"
