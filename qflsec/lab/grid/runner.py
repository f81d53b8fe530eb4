"""Running a matrix: what is left to do, in parallel, with every finished batch stored at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from qflsec.lab.grid.backends import check_backend, default_jobs, results
from qflsec.lab.grid.store import Store
from qflsec.lab.worlds.federation.matrix import Matrix, check_data
from qflsec.lab.worlds.federation.plan import Batch, Plan, make_plan
from qflsec.lab.worlds.federation.work import Outcome, execute, trial_row

__all__ = ["Progress", "plan_from_store", "run_matrix"]


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
        cells: For each (attack label, stack): trials stored and trials in all.
        message: What just happened, as a sentence.
    """

    done: int
    total: int
    batches_done: int
    batches_total: int
    elapsed_seconds: float
    eta_seconds: float | None
    statuses: Mapping[str, int] = field(default_factory=dict)
    cells: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    message: str = ""


def plan_from_store(matrix: Matrix, store: Store) -> Plan:
    """What the matrix needs, less what the store has."""
    return make_plan(matrix, settled_trials=store.settled_trials(), settled_runs=store.settled_runs())


def run_matrix(
    matrix: Matrix,
    store_path: str | Path,
    *,
    jobs: int | None = None,
    backend: str = "loky",
    address: str | None = None,
    command: str = "",
) -> Generator[Progress, None, None]:
    """Run what is left of a matrix; to resume, or to extend, run it again.

    Failed trials are repeated; their old rows stay in the store as history. Whoever stops early keeps every
    batch that was reported.

    Args:
        matrix: The matrix.
        store_path: The store; made where it does not exist.
        jobs: The number of workers; as many as there are cores by default.
        backend: ``"loky"``, ``"dask"`` or ``"ray"``.
        address: A running Dask scheduler or Ray cluster.
        command: The command that a report shall name.

    Raises:
        QflsecError: The data, the store or the backend cannot be used.
    """
    check_backend(backend)
    check_data(matrix)
    with Store(store_path) as store:
        store.remember(name=matrix.spec.name, command=command, spec=matrix.spec.model_dump_json())
        plan = plan_from_store(matrix, store)
        state = _State(plan)
        yield state.progress(f"{len(plan.settled)} of {state.total} trials are in the store already")
        if plan.incompatible:
            rows = tuple(trial_row(t, "incompatible", reason=t.incompatible) for t in plan.incompatible)
            store.append(runs=(), trials=rows)
            state.note(Outcome(runs=(), trials=rows))
            yield state.progress(f"{len(rows)} trials have stacks that cannot work")
        if not plan.batches:
            return
        workers = min(jobs or default_jobs(), len(plan.batches))
        finished = results(
            _named, tuple(enumerate(plan.batches)), jobs=workers, backend=backend, address=address
        )
        with closing(finished):  # type: ignore[type-var]
            for index, outcome in finished:
                store.append(runs=outcome.runs, trials=outcome.trials)
                state.note(outcome)
                state.batches_done += 1
                yield state.progress(_message(plan.batches[index], outcome))


def _named(task: tuple[int, Batch], *, parent: int) -> tuple[int, Outcome]:
    index, batch = task
    return index, execute(batch, parent=parent)


class _State:
    """The bookkeeping behind :class:`Progress`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._stored = set(plan.settled)
        self._statuses: Counter[str] = Counter()
        self._begun = time.monotonic()
        self.batches_done = 0
        self.total = len({trial.trial_id for trial in plan.trials.values()})

    def note(self, outcome: Outcome) -> None:
        """Count the trials of a finished batch."""
        self._statuses.update(row["status"] for row in outcome.trials)
        self._stored.update(row["trial_id"] for row in outcome.trials)

    def progress(self, message: str) -> Progress:
        """The present state."""
        elapsed = time.monotonic() - self._begun
        left = len(self._plan.batches) - self.batches_done
        cells: dict[tuple[str, str], tuple[int, int]] = {}
        for (label, stack, _), trial in self._plan.trials.items():
            done, total = cells.get((label, stack), (0, 0))
            cells[label, stack] = (done + (trial.trial_id in self._stored), total + 1)
        return Progress(
            done=len(self._stored),
            total=self.total,
            batches_done=self.batches_done,
            batches_total=len(self._plan.batches),
            elapsed_seconds=elapsed,
            eta_seconds=elapsed / self.batches_done * left if self.batches_done else (None if left else 0.0),
            statuses=dict(self._statuses),
            cells=cells,
            message=message,
        )


def _message(batch: Batch, outcome: Outcome) -> str:
    counts = Counter(row["status"] for row in outcome.trials)
    words = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "honest runs only"
    return f"{batch.pipeline} x {batch.stack}: {words}"
