"""Running a session matrix: every attack by the quantum server against every client, for every seed."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks.server import ServerAttack
from qflsec.base import Score
from qflsec.lab.grid.backends import default_jobs, results
from qflsec.lab.grid.ids import versions
from qflsec.lab.worlds.delegation.session import DEVIATIONS, SessionOutcome, run_session
from qflsec.lab.worlds.delegation.spec import SessionMatrixSpec, session_circuit, session_inputs

__all__ = [
    "CellState",
    "SessionCell",
    "SessionMatrixResult",
    "SessionProgress",
    "assemble_session_matrix",
    "run_session_matrix",
]

CellState = Literal["wrong result", "leaks", "aborted", "within bound", "holds"]
Key = tuple[str, str, int]
_Z = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class SessionProgress:
    """One session is finished.

    Attributes:
        done: Sessions finished.
        total: Sessions of the matrix.
        elapsed_seconds: Since the start.
        label: The attack.
        column: The client.
        seed: The seed.
        outcome: What it came to.
    """

    done: int
    total: int
    elapsed_seconds: float
    label: str
    column: str
    seed: int
    outcome: SessionOutcome


@dataclass(frozen=True, kw_only=True)
class SessionCell:
    """One attack against one client, over all seeds.

    Attributes:
        attack: The row's label.
        column: The column's name.
        seeds: The seeds.
        outcomes: One for each seed.
    """

    attack: str
    column: str
    seeds: tuple[int, ...]
    outcomes: tuple[SessionOutcome, ...]

    @property
    def aborted(self) -> int:
        """Sessions whose tests failed too often: no result was released."""
        return sum(not outcome.accepted for outcome in self.outcomes)

    @property
    def wrong(self) -> int:
        """Sessions whose result was accepted and is off by more than noise and bound allow."""
        return sum(outcome.wrong for outcome in self.outcomes)

    @property
    def leaking(self) -> tuple[str, ...]:
        """What the server learned, in any session, with one false alarm in 100,000 for each."""
        return tuple(
            sorted(
                {
                    name
                    for outcome in self.outcomes
                    for name, score in outcome.scores.items()
                    if score.value > DEVIATIONS / _Z * (score.high - score.value)
                }
            )
        )

    @property
    def state(self) -> CellState:
        """The worst that happened in any session."""
        if self.wrong:
            return "wrong result"
        if self.leaking:
            return "leaks"
        if self.aborted:
            return "aborted"
        return "within bound" if any(outcome.noticeable for outcome in self.outcomes) else "holds"

    def advantage(self, name: str) -> Score | None:
        """What the server learned of ``angles``, ``outcomes`` or ``rounds``: the mean over the seeds."""
        values = [outcome.scores[name].value for outcome in self.outcomes if name in outcome.scores]
        return _mean(values, name=f"{name}_advantage", ideal=1.0)

    @property
    def failure_rate(self) -> Score | None:
        """The share of failed tests: the mean over the seeds; None without tests."""
        values = [one.failures / one.counts.tests for one in self.outcomes if one.counts.tests]
        return _mean(values, name="failure_rate", ideal=1.0)

    @property
    def sentence(self) -> str:
        """The cell in one plain sentence."""
        n = len(self.outcomes)
        where = f"{self.attack} against {self.column}"
        tested = self.outcomes[0].counts.tests > 0
        parts = [f"the client aborts in {self.aborted} of {n} sessions" if tested else "nothing is tested"]
        if (rate := self.failure_rate) is not None:
            theory = self.outcomes[0].detection
            said = "" if theory is None else f" (theory {theory:.3f})"
            parts.append(f"{rate.value:.3f} of the tests fail{said}")
        if self.wrong:
            parts.append(f"a wrong result is accepted in {self.wrong} of {n}")
        learned = [
            f"{score.value:.2f} of the {name}"
            for name in ("angles", "outcomes", "rounds")
            if (score := self.advantage(name)) is not None and name in self.leaking
        ]
        if learned:
            parts.append(f"the server learns {' and '.join(learned)}")
        return f"{where}: {'; '.join(parts)}."

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "attack": self.attack,
            "client": self.column,
            "state": self.state,
            "sessions": len(self.outcomes),
            "sessions_aborted": self.aborted,
            "sessions_wrong_accepted": self.wrong,
            "leaks": list(self.leaking),
            **{f"{name}_advantage": _score(self.advantage(name)) for name in ("angles", "outcomes", "rounds")},
            "test_failure_rate": _score(self.failure_rate),
            "test_failure_rate_theory": self.outcomes[0].detection,
            "sentence": self.sentence,
            "per_seed": [
                {
                    "seed": seed,
                    "tests": one.counts.tests,
                    "tests_failed": one.failures,
                    "accepted": one.accepted,
                    "error": one.error,
                    "bias_bound": one.bound.bias,
                    "qubits_exposed_fraction": one.exposed,
                    **{name: score.value for name, score in one.scores.items()},
                }
                for seed, one in zip(self.seeds, self.outcomes, strict=True)
            ],
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SessionMatrixResult:
    """What a session matrix found.

    Attributes:
        name: The matrix's name.
        description: What it is for.
        command: The command that made it.
        created: UTC time, ISO 8601.
        versions: Versions of the packages that can change a number.
        seeds: The seeds.
        rows: The labels of the attacks, the honest server first.
        ideas: Each attack's idea and source, by label.
        columns: The clients.
        cells: By row and column.
        spec: The specification.
    """

    name: str
    description: str
    command: str
    created: str
    versions: Mapping[str, str]
    seeds: tuple[int, ...]
    rows: tuple[str, ...]
    ideas: Mapping[str, str]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], SessionCell]
    spec: Mapping[str, Any] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """One document, ready for JSON."""
        return {
            "schema": "qflsec-blind-matrix/1",
            "name": self.name,
            "description": self.description,
            "command": self.command,
            "created": self.created,
            "versions": dict(self.versions),
            "seeds": list(self.seeds),
            "simulated": True,
            "seeded_secrets": True,
            "attacks": [{"label": row, "idea": self.ideas[row]} for row in self.rows],
            "clients": list(self.columns),
            "cells": [cell.to_dict() for cell in self.cells.values()],
            "specification": dict(self.spec),
        }


@dataclass(frozen=True, kw_only=True)
class _Task:
    spec: SessionMatrixSpec
    attack: ServerAttack | None
    key: Key


def run_session_matrix(spec: SessionMatrixSpec, *, jobs: int | None = None) -> Iterator[SessionProgress]:
    """Run a matrix; every session has seeded secrets, so that it can be repeated and protects nothing.

    Args:
        spec: The specification.
        jobs: Worker processes; one for each core by default.
    """
    tasks = [
        _Task(spec=spec, attack=attack, key=(label, column, seed))
        for label, attack in spec.rows().items()
        for column in spec.clients
        for seed in spec.seeds
    ]
    start = time.monotonic()
    workers = default_jobs() if jobs is None else jobs
    for done, (key, outcome) in enumerate(results(_run, tasks, jobs=workers, backend="loky"), start=1):
        yield SessionProgress(
            done=done,
            total=len(tasks),
            elapsed_seconds=time.monotonic() - start,
            label=key[0],
            column=key[1],
            seed=key[2],
            outcome=outcome,
        )


def _run(task: _Task, *, parent: int) -> tuple[Key, SessionOutcome]:
    """One session; a worker leaves the handling of Ctrl-C to the process that asked."""
    if parent != os.getpid():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    spec, (_, column, seed) = task.spec, task.key
    circuit = session_circuit(spec.qubits, spec.layers)
    weights, features = session_inputs(circuit, seed)
    outcome = run_session(
        task.attack,
        spec.device(column),
        circuit=circuit,
        weights=weights,
        features=features,
        counts=spec.counts(column),
        seed=seed,
        seeded=True,
    )
    return task.key, replace(outcome, deltas=np.empty(0))


def assemble_session_matrix(
    spec: SessionMatrixSpec, steps: Sequence[SessionProgress], *, command: str = ""
) -> SessionMatrixResult:
    """Put the sessions of a matrix together.

    Args:
        spec: The specification.
        steps: All steps of :func:`run_session_matrix`, in any order.
        command: The command that made it, for the record.
    """
    found = {(step.label, step.column, step.seed): step.outcome for step in steps}
    rows = spec.rows()
    cells = {
        (label, column): SessionCell(
            attack=label,
            column=column,
            seeds=spec.seeds,
            outcomes=tuple(found[label, column, seed] for seed in spec.seeds),
        )
        for label in rows
        for column in spec.clients
    }
    return SessionMatrixResult(
        name=spec.name,
        description=spec.description,
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        seeds=spec.seeds,
        rows=tuple(rows),
        ideas={label: _idea(attack) for label, attack in rows.items()},
        columns=tuple(spec.clients),
        cells=cells,
        spec=spec.model_dump(mode="json", exclude_none=True),
    )


def _idea(attack: ServerAttack | None) -> str:
    if attack is None:
        return "a server that follows the protocol"
    source = attack.card.source
    return f"{attack.card.idea} ({source.paper}, {source.year})"


def _mean(values: Sequence[float], *, name: str, ideal: float) -> Score | None:
    if not values:
        return None
    return mean_over_seeds(values).score(name=name, baseline=0.0, ideal=ideal, unit="1")


def _score(score: Score | None) -> dict[str, Any] | None:
    """A score with null where one seed allows no interval."""
    if score is None:
        return None
    known = math.isfinite(score.low) and math.isfinite(score.high)
    return {
        "mean": score.value,
        "low": score.low if known else None,
        "high": score.high if known else None,
        "n_seeds": score.n,
    }
