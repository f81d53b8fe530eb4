"""Running a channel matrix: every attack against every set of countermeasures, for every seed."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks.channel import ChannelAttack
from qflsec.base import ConfigError, Score
from qflsec.lab.grid.backends import default_jobs, results
from qflsec.lab.grid.ids import versions
from qflsec.lab.scoring.channel import ChannelOutcome, ChannelRules, channel_outcome
from qflsec.lab.worlds.channel.spec import ChannelMatrixSpec
from qflsec.protocols.bb84 import QuantumConfig

__all__ = [
    "CellState",
    "ChannelCell",
    "ChannelMatrixResult",
    "ChannelProgress",
    "assemble_channel_matrix",
    "run_channel_matrix",
]

CellState = Literal["false key", "key holds", "no key", "not applicable"]
_NOT_NOTICED = "no-key-left"
Key = tuple[str, str, int]


@dataclass(frozen=True, kw_only=True)
class _Task:
    attack: ChannelAttack | None
    label: str
    column: str
    countermeasures: tuple[str, ...]
    config: QuantumConfig
    rules: ChannelRules
    seed: int


@dataclass(frozen=True, kw_only=True)
class ChannelProgress:
    """One run is finished.

    Attributes:
        done: Runs finished.
        total: Runs of the matrix.
        elapsed_seconds: Since the start.
        label: The attack.
        column: The set of countermeasures.
        seed: The seed.
        outcome: What the run came to; a sentence where the attack cannot be made there.
    """

    done: int
    total: int
    elapsed_seconds: float
    label: str
    column: str
    seed: int
    outcome: ChannelOutcome | str


@dataclass(frozen=True, kw_only=True)
class ChannelCell:
    """One attack against one set of countermeasures, over all seeds.

    Attributes:
        attack: The row's label.
        column: The column's name.
        seeds: The seeds.
        outcomes: One for each seed.
        reason: Why the attack cannot be made there; empty otherwise.
    """

    attack: str
    column: str
    seeds: tuple[int, ...]
    outcomes: tuple[ChannelOutcome, ...]
    reason: str = ""

    @property
    def detected(self) -> int:
        """Runs in which a check fired; that no key is left is no such check."""
        return sum(bool(set(outcome.detected_by) - {_NOT_NOTICED}) for outcome in self.outcomes)

    @property
    def detected_by(self) -> tuple[str, ...]:
        """The checks that fired in any run."""
        return tuple(sorted({name for outcome in self.outcomes for name in outcome.detected_by}))

    @property
    def claimed(self) -> int:
        """Runs in which a key is still claimed secure."""
        return sum(outcome.key_claimed for outcome in self.outcomes)

    @property
    def false_claims(self) -> int:
        """Runs in which more key is claimed than the adversary left."""
        return sum(not outcome.claim_holds for outcome in self.outcomes)

    @property
    def state(self) -> CellState:
        """The worst that happened in any run."""
        if self.reason:
            return "not applicable"
        if self.false_claims:
            return "false key"
        return "key holds" if self.claimed else "no key"

    @property
    def eve_information(self) -> Score | None:
        """What the adversary knows of each raw-key bit: the mean over the seeds."""
        values = [outcome.eve_information for outcome in self.outcomes]
        return _mean(values, name="eve_information", ideal=1.0)

    @property
    def key_length(self) -> Score | None:
        """Bits of key claimed: the mean over the seeds."""
        return _mean([float(outcome.key_length) for outcome in self.outcomes], name="key_length", ideal=0.0)

    @property
    def sentence(self) -> str:
        """The cell in one plain sentence."""
        where = f"{self.attack} against {self.column}"
        if self.reason:
            return f"{where}: {self.reason}."
        n = len(self.outcomes)
        noticed = f"detected in {self.detected} of {n} runs"
        if self.detected:
            noticed += f" by {', '.join(name for name in self.detected_by if name != _NOT_NOTICED)}"
        if self.state == "false key":
            claim = f"a key is claimed secure that is not in {self.false_claims} of {n}"
        elif self.state == "key holds":
            claim = f"a key is claimed in {self.claimed} of {n}, and no more than the adversary left"
        else:
            claim = "no key is claimed"
        score = self.eve_information
        knows = "" if score is None else f"; Eve knows {score.value:.2f} of each raw-key bit"
        return f"{where}: {noticed}; {claim}{knows}."

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "attack": self.attack,
            "countermeasures": self.column,
            "state": self.state,
            "runs": len(self.outcomes),
            "runs_detected": self.detected,
            "detected_by": list(self.detected_by),
            "runs_key_claimed": self.claimed,
            "runs_false_claim": self.false_claims,
            "eve_information_bits_per_raw_bit": _score(self.eve_information),
            "key_length_bits": _score(self.key_length),
            "sentence": self.sentence,
            "per_seed": [
                {"seed": seed, **asdict(outcome), "claim_holds": outcome.claim_holds}
                for seed, outcome in zip(self.seeds, self.outcomes, strict=False)
            ],
        }


@dataclass(frozen=True, kw_only=True)
class ChannelMatrixResult:
    """What a channel matrix found.

    Attributes:
        name: The matrix's name.
        description: What it is for.
        command: The command that made it.
        created: UTC time, ISO 8601.
        versions: Versions of the packages that can change a number.
        seeds: The seeds.
        rows: The labels of the attacks, the honest line first.
        ideas: Each attack's idea and source, by label.
        columns: The countermeasures of each column.
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
    columns: Mapping[str, tuple[str, ...]]
    cells: Mapping[tuple[str, str], ChannelCell]
    spec: Mapping[str, Any] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """One document, ready for JSON, with units in the names."""
        return {
            "schema": "qflsec-bb84-matrix/1",
            "name": self.name,
            "description": self.description,
            "command": self.command,
            "created": self.created,
            "versions": dict(self.versions),
            "seeds": list(self.seeds),
            "simulated": True,
            "seeded_secrets": True,
            "attacks": [{"label": row, "idea": self.ideas[row]} for row in self.rows],
            "countermeasures": {name: list(names) for name, names in self.columns.items()},
            "cells": [cell.to_dict() for cell in self.cells.values()],
            "specification": dict(self.spec),
        }


def run_channel_matrix(spec: ChannelMatrixSpec, *, jobs: int | None = None) -> Iterator[ChannelProgress]:
    """Run a matrix; every run has seeded secrets, so that it can be repeated and protects nothing.

    Args:
        spec: The specification.
        jobs: Worker processes; one for each core by default.
    """
    config, rules = spec.config(), spec.judging()
    tasks = [
        _Task(
            attack=attack, label=label, column=column, countermeasures=names, config=config, rules=rules, seed=seed
        )
        for label, attack in spec.rows().items()
        for column, names in spec.countermeasures.items()
        for seed in spec.seeds
    ]  # fmt: skip
    start = time.monotonic()
    workers = default_jobs() if jobs is None else jobs
    for done, (key, outcome) in enumerate(results(_run, tasks, jobs=workers, backend="loky"), start=1):
        label, column, seed = key
        yield ChannelProgress(
            done=done,
            total=len(tasks),
            elapsed_seconds=time.monotonic() - start,
            label=label,
            column=column,
            seed=seed,
            outcome=outcome,
        )


def assemble_channel_matrix(
    spec: ChannelMatrixSpec, steps: Sequence[ChannelProgress], *, command: str = ""
) -> ChannelMatrixResult:
    """Put the runs of a matrix together.

    Args:
        spec: The specification.
        steps: All steps of :func:`run_channel_matrix`, in any order.
        command: The command that made it, for the record.
    """
    found = {(step.label, step.column, step.seed): step.outcome for step in steps}
    rows = spec.rows()
    cells = {
        (label, column): _cell(label, column, spec.seeds, [found[label, column, seed] for seed in spec.seeds])
        for label in rows
        for column in spec.countermeasures
    }
    return ChannelMatrixResult(
        name=spec.name,
        description=spec.description,
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        seeds=spec.seeds,
        rows=tuple(rows),
        ideas={label: _idea(attack) for label, attack in rows.items()},
        columns=dict(spec.countermeasures),
        cells=cells,
        spec=spec.model_dump(mode="json"),
    )


def _run(task: _Task, *, parent: int) -> tuple[Key, ChannelOutcome | str]:
    """One run; a worker leaves the handling of Ctrl-C to the process that asked."""
    if parent != os.getpid():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    key = (task.label, task.column, task.seed)
    try:
        outcome = channel_outcome(
            task.attack,
            task.countermeasures,
            config=task.config,
            seed=task.seed,
            rules=task.rules,
            seeded=True,
        )
    except ConfigError as error:
        return key, str(error)
    return key, outcome


def _cell(
    label: str, column: str, seeds: tuple[int, ...], found: Sequence[ChannelOutcome | str]
) -> ChannelCell:
    outcomes = tuple(each for each in found if not isinstance(each, str))
    reasons = [each for each in found if isinstance(each, str)]
    return ChannelCell(
        attack=label, column=column, seeds=seeds, outcomes=outcomes, reason=reasons[0] if reasons else ""
    )


def _idea(attack: ChannelAttack | None) -> str:
    if attack is None:
        return "the honest line"
    source = attack.card.source
    return f"{attack.card.idea} ({source.paper}, {source.year})"


def _mean(values: Sequence[float], *, name: str, ideal: float) -> Score | None:
    if not values:
        return None
    return mean_over_seeds(values).score(name=name, baseline=0.0, ideal=ideal, unit="bit")


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
