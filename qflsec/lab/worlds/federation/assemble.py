"""From the store to the result of a matrix: intervals over seeds, states of cells, and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.base import Score
from qflsec.lab.grid.results import head_of
from qflsec.lab.grid.units import Row
from qflsec.lab.worlds.federation.matrix import AttackEntry, Matrix
from qflsec.lab.worlds.federation.plan import Layout, PlannedRun, PlannedTrial
from qflsec.lab.worlds.federation.results import (
    AttackInfo,
    Cell,
    MatrixResult,
    PipelineUtility,
    RunRow,
    StackInfo,
    StackSummary,
    TrialRow,
    TrialStatus,
)
from qflsec.lab.worlds.federation.sentences import cell_sentence
from qflsec.lab.worlds.federation.states import SCORED, cell_state, strongest

__all__ = ["assemble"]


def assemble(matrix: Matrix, layout: Layout, rows: Mapping[str, Row], *, command: str = "") -> MatrixResult:
    """What a store knows of a matrix.

    Args:
        matrix: The matrix.
        layout: Everything that it consists of.
        rows: The rows that count, by unit id.
        command: The command that made it.
    """
    return _Assembly(matrix, layout, rows).result(command)


def undefended_stack(matrix: Matrix) -> str | None:
    """The name of the reference stack, or of the one without layers; None where there is none."""
    if matrix.spec.reference is not None:
        return matrix.spec.reference
    return next((name for name, column in matrix.stacks.items() if not column.layers), None)


class _Assembly:
    """The rows of a store, looked up by a matrix."""

    def __init__(self, matrix: Matrix, layout: Layout, rows: Mapping[str, Row]) -> None:
        self._matrix = matrix
        self._layout = layout
        self._rows = rows
        self._none = undefended_stack(matrix)
        self._utility = {
            (pipeline, stack): self._pipeline_utility(pipeline, stack)
            for pipeline, stack in dict.fromkeys(
                (run.pipeline, run.stack) for run in self._layout.honest.values()
            )
        }

    def result(self, command: str) -> MatrixResult:
        """Everything together."""
        spec = self._matrix.spec
        cells = self._cells()
        return MatrixResult(
            **head_of(spec, self._matrix.code, command),
            attacks=tuple(_attack_info(entry) for entry in self._matrix.attacks),
            stacks=tuple(self._stack_info(name) for name in self._matrix.stacks),
            cells=cells,
            summaries={stack: self._summary(stack, cells) for stack in self._matrix.stacks},
            ledgers=self._ledgers(),
            observers={threat.name: str(threat) for threat in self._matrix.observers},
            pipelines={name: pipeline.to_config() for name, pipeline in self._matrix.pipelines.items()},
            utility_pipeline=self._matrix.utility_pipeline,
            runs=self._run_rows(),
            failures=self._failures(cells),
        )

    def _cells(self) -> dict[tuple[str, str], Cell]:
        bare: dict[tuple[str, str], tuple[tuple[TrialRow, ...], Score | None]] = {}
        for entry in self._matrix.attacks:
            for stack in self._matrix.stacks:
                rows = self._trial_rows(entry.label, stack)
                bare[entry.label, stack] = (rows, _advantage(rows, entry))
        return {
            (entry.label, stack): self._cell(entry, stack, bare)
            for entry in self._matrix.attacks
            for stack in self._matrix.stacks
        }

    def _cell(
        self,
        entry: AttackEntry,
        stack: str,
        bare: Mapping[tuple[str, str], tuple[tuple[TrialRow, ...], Score | None]],
    ) -> Cell:
        rows, advantage = bare[entry.label, stack]
        undefended = None if self._none is None else bare[entry.label, self._none][1]
        utility = self._utility.get((entry.pipeline, stack))
        n_seeds = len(self._matrix.spec.seeds)
        state = cell_state(
            rows,
            n_seeds=n_seeds,
            undefended=undefended,
            useless=utility is not None and utility.useless,
        )
        sentence = cell_sentence(
            label=entry.label,
            stack=stack,
            state=state,
            rows=rows,
            advantage=advantage,
            undefended=None if stack == self._none else undefended,
            utility=utility,
            n_seeds=n_seeds,
        )
        return Cell(
            attack=entry.label,
            family=entry.attack.card.family,
            stack=stack,
            pipeline=entry.pipeline,
            state=state,
            advantage=advantage,
            per_seed=rows,
            sentence=sentence,
            threat=entry.threat.name,
        )

    def _trial_rows(self, label: str, stack: str) -> tuple[TrialRow, ...]:
        planned = [self._layout.trials[label, stack, seed] for seed in self._matrix.spec.seeds]
        return tuple(
            _trial(trial, self._rows[trial.unit_id]) for trial in planned if trial.unit_id in self._rows
        )

    def _honest(self, pipeline: str, stack: str) -> dict[int, Row]:
        """The completed honest runs by seed."""
        found: dict[int, Row] = {}
        for seed in self._matrix.spec.seeds:
            run = self._layout.honest.get((pipeline, stack, seed))
            row = None if run is None else self._rows.get(run.unit_id)
            if row is not None and row.status == "completed" and row.content["accuracy"]:
                found[seed] = row
        return found

    def _pipeline_utility(self, pipeline: str, stack: str) -> PipelineUtility | None:
        rows = self._honest(pipeline, stack)
        if not rows:
            return None
        accuracy = self._accuracy(pipeline, stack)
        reference = {} if self._none is None else self._honest(pipeline, self._none)
        pairs = [
            reference[seed].content["accuracy"][-1] - rows[seed].content["accuracy"][-1]
            for seed in rows
            if seed in reference
        ]
        loss = _mean(pairs, name="accuracy_loss", baseline=0.0, ideal=0.0) if pairs else None
        undefended_learns = not reference or not _touches(self._accuracy(pipeline, str(self._none)))
        return PipelineUtility(
            pipeline=pipeline,
            accuracy=accuracy,
            loss=loss,
            useless=_touches(accuracy) and undefended_learns and stack != self._none,
        )

    def _accuracy(self, pipeline: str, stack: str) -> Score:
        rows = self._honest(pipeline, stack).values()
        chance = max(float(row.content["chance"]) for row in rows)
        return _mean(
            [row.content["accuracy"][-1] for row in rows], name="accuracy", baseline=chance, ideal=1.0
        )

    def _summary(self, stack: str, cells: Mapping[tuple[str, str], Cell]) -> StackSummary:
        mine = [cell for cell in cells.values() if cell.stack == stack]
        by_pipeline = {
            pipeline: utility
            for (pipeline, name), utility in self._utility.items()
            if name == stack and utility is not None
        }
        main = by_pipeline.get(self._matrix.utility_pipeline)
        return StackSummary(
            stack=stack,
            worst=strongest(mine),
            utility=None if main is None else main.accuracy,
            utility_loss=None if main is None else main.loss,
            useless=main is not None and main.useless,
            by_pipeline=by_pipeline,
            costs=self._costs(stack),
            incompatible=self._stack_info(stack).incompatible,
        )

    def _costs(self, stack: str) -> dict[str, Score]:
        rows = list(self._honest(self._matrix.utility_pipeline, stack).values())
        names = dict.fromkeys(name for row in rows for name in row.content["costs"])
        return {
            name: _mean(
                [row.content["costs"].get(name, 0.0) for row in rows],
                name=name,
                baseline=0.0,
                ideal=0.0,
                unit=name.rpartition("_")[2],
            )
            for name in names
        }

    def _stack_info(self, name: str) -> StackInfo:
        column = self._matrix.stacks[name]
        return StackInfo(
            name=name,
            layers=tuple(layer.to_config() for layer in column.layers),
            claims=tuple(layer.card.claim for layer in column.layers),
            incompatible=column.incompatible,
        )

    def _ledgers(self) -> dict[tuple[str, str], tuple[Mapping[str, Any], ...]]:
        """Ledger rows of honest runs; rows that differ between seeds stand one below the other."""
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for stack in self._matrix.stacks:
            for threat in self._matrix.observers:
                rows = found.setdefault((stack, threat.name), [])
                for pipeline in self._matrix.pipelines:
                    for seed, run in self._honest(pipeline, stack).items():
                        for row in self._ledger(run.unit_id, threat.name):
                            _add(rows, {**row, "observer": threat.name, "pipeline": pipeline}, seed)
        return {key: tuple(rows) for key, rows in found.items() if rows}

    def _ledger(self, run_id: str, observer: str) -> list[dict[str, Any]]:
        unit = self._layout.ledgers.get((run_id, observer))
        row = None if unit is None else self._rows.get(unit.unit_id)
        return [] if row is None else list(row.content.get("rows", []))

    def _run_rows(self) -> tuple[RunRow, ...]:
        attacked = [trial.run for trial in self._layout.trials.values() if trial.run.label]
        planned = {(run.unit_id, run.label): run for run in (*self._layout.honest.values(), *attacked)}
        return tuple(
            _run(run, self._rows[run.unit_id]) for run in planned.values() if run.unit_id in self._rows
        )

    def _failures(self, cells: Mapping[tuple[str, str], Cell]) -> tuple[str, ...]:
        trials = [
            f"{cell.attack} x {cell.stack}, seed {row.seed}: {row.reason}"
            for cell in cells.values()
            for row in cell.per_seed
            if row.status == "failed"
        ]
        runs = [
            f"run of {row.pipeline} x {row.stack}, seed {row.seed}{f', {row.attack}' if row.attack else ''}: "
            f"{row.outcome.removeprefix('failed: ')}"
            for row in self._run_rows()
            if row.outcome.startswith("failed")
        ]
        ledgers = [
            f"ledger against {observer}, seed {row.seed}: {row.reason}"
            for (_, observer), unit in self._layout.ledgers.items()
            if (row := self._rows.get(unit.unit_id)) is not None and not row.settled
        ]
        return (*trials, *runs, *ledgers)


def _add(rows: list[dict[str, Any]], row: dict[str, Any], seed: int) -> None:
    """Add a ledger row, or the seed to an equal one."""
    for known in rows:
        if {key: value for key, value in known.items() if key != "seeds"} == row:
            known["seeds"].append(seed)
            return
    rows.append({**row, "seeds": [seed]})


def _advantage(rows: Sequence[TrialRow], entry: AttackEntry) -> Score | None:
    values = [row.advantage for row in rows if row.status in SCORED and row.advantage is not None]
    card = entry.attack.card
    return _mean(values, name=card.metric, baseline=card.baseline, ideal=card.ideal) if values else None


def _mean(values: Sequence[float], *, name: str, baseline: float, ideal: float, unit: str = "1") -> Score:
    return mean_over_seeds(values).score(name=name, baseline=baseline, ideal=ideal, unit=unit)


def _touches(score: Score) -> bool:
    """Whether an interval exists and does not lie above the baseline."""
    return not math.isnan(score.low) and score.low <= score.baseline


def _attack_info(entry: AttackEntry) -> AttackInfo:
    card = entry.attack.card
    config = entry.attack.to_config()
    return AttackInfo(
        label=entry.label,
        name=card.name,
        family=card.family,
        goal=card.goal,
        idea=card.idea,
        source=f"{card.source.paper} ({card.source.year}), {card.source.where}",
        pipeline=entry.pipeline,
        threat=entry.threat.name,
        threat_sentence=str(entry.threat),
        params={key: value for key, value in config.items() if key != "name"},
    )


def _trial(planned: PlannedTrial, row: Row) -> TrialRow:
    content = row.content
    return TrialRow(
        trial_id=row.unit_id,
        run_id=planned.run.unit_id,
        baseline_run_id=planned.baseline_run_id,
        seed=row.seed,
        status=cast("TrialStatus", row.status),
        advantage=content.get("advantage"),
        metrics={name: Score(**score) for name, score in content.get("metrics", {}).items()},
        raw=content.get("raw", {}),
        reason=row.reason,
        traceback=row.traceback,
        seconds=row.seconds,
    )


def _run(planned: PlannedRun, row: Row) -> RunRow:
    content = row.content
    return RunRow(
        run_id=planned.unit_id,
        pipeline=planned.pipeline,
        stack=planned.stack,
        seed=planned.seed,
        attack=planned.label,
        outcome=f"{row.status}: {row.reason}" if row.reason else row.status,
        accuracy=tuple(content.get("accuracy", ())),
        loss=tuple(content.get("loss", ())),
        train_loss=tuple(content.get("train_loss", ())),
        costs=content.get("costs", {}),
        seeded_secrets=bool(content["seeded_secrets"]),
    )
