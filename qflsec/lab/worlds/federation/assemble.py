"""From the store to the result of a matrix: intervals over seeds, states of cells, and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from qflsec.base import Score
from qflsec.lab.grid.failures import Failed, told
from qflsec.lab.grid.results import head_now
from qflsec.lab.grid.units import Row
from qflsec.lab.worlds.federation.frame import Frame, FramedRun, FramedTrial
from qflsec.lab.worlds.federation.results import (
    Abort,
    AttackInfo,
    Cell,
    MatrixResult,
    PipelineSummary,
    RunRow,
    StackInfo,
    StackSummary,
    Strongest,
    TrialRow,
    TrialStatus,
)
from qflsec.lab.worlds.federation.samples import Sample, advantages, interval_of
from qflsec.lab.worlds.federation.sentences import cell_sentence
from qflsec.lab.worlds.federation.states import GOALS, cell_state, shown, strongest
from qflsec.lab.worlds.federation.summaries import summarise_pipeline

__all__ = ["assemble"]

_Found = tuple[tuple[TrialRow, ...], tuple[Sample, Score] | None]


def assemble(frame: Frame, rows: Mapping[str, Row], *, command: str = "") -> MatrixResult:
    """What a store knows of a matrix.

    Args:
        frame: The matrix.
        rows: The rows that count, by unit id.
        command: The command that made it.
    """
    return _Assembly(frame, rows).result(command)


class _Assembly:
    """The rows of a store, looked up by a matrix."""

    def __init__(self, frame: Frame, rows: Mapping[str, Row]) -> None:
        self._frame = frame
        self._rows = rows
        self._none = frame.reference
        self._trials = {(one.label, one.stack, one.seed): one for one in frame.trials}
        self._outside = {(label, stack): why for label, stack, why in frame.outside}
        self._honest_ids = {(one.pipeline, one.stack, one.seed): one for one in frame.runs if not one.label}
        self._ledger_ids = {(run, observer): unit for run, observer, unit in frame.ledgers}
        self._honest_runs = {
            (pipeline, stack): self._summarise(pipeline, stack)
            for pipeline, stack in dict.fromkeys((pipeline, stack) for pipeline, stack, _ in self._honest_ids)
        }

    def result(self, command: str) -> MatrixResult:
        """Everything together."""
        frame, cells = self._frame, self._cells()
        return MatrixResult(
            **{**head_now(frame.head, command), "failures": self._failures(cells)},
            attacks=tuple(attack.info for attack in frame.attacks),
            stacks=frame.stacks,
            cells=cells,
            summaries={stack.name: self._summary(stack, cells) for stack in frame.stacks},
            ledgers=self._ledgers(),
            observers=frame.observers,
            pipelines=frame.pipelines,
            utility_pipeline=frame.utility_pipeline,
            data=self._data(),
            runs=self._run_rows(),
        )

    def _data(self) -> dict[str, Mapping[str, Any]]:
        """What the first stored honest run of each pipeline found of its data."""
        found: dict[str, Mapping[str, Any]] = {}
        for run in self._honest_ids.values():
            row = self._rows.get(run.unit_id)
            if row is not None and "data" in row.content:
                found.setdefault(run.pipeline, row.content["data"])
        return found

    def _cells(self) -> dict[tuple[str, str], Cell]:
        bare: dict[tuple[str, str], _Found] = {}
        for attack in self._frame.attacks:
            for stack in self._frame.stacks:
                rows = self._trial_rows(attack.info.label, stack.name)
                bare[attack.info.label, stack.name] = (rows, advantages(rows, attack))
        return {
            (attack.info.label, stack.name): self._cell(attack.info, stack.name, bare)
            for attack in self._frame.attacks
            for stack in self._frame.stacks
        }

    def _cell(self, attack: AttackInfo, stack: str, bare: Mapping[tuple[str, str], _Found]) -> Cell:
        rows, found = bare[attack.label, stack]
        control = None if self._none is None else bare[attack.label, self._none][1]
        advantage, undefended = (None if part is None else part[1] for part in (found, control))
        summary = self._honest_runs[attack.pipeline, stack]
        n_seeds = len(self._frame.seeds)
        state = cell_state(
            rows,
            n_seeds=n_seeds,
            advantage=advantage,
            undefended=undefended,
            useless=summary.useless,
        )
        needed = _needed(found, control) if state == "too few seeds" else None
        sentence = cell_sentence(
            label=attack.label,
            stack=stack,
            state=state,
            rows=rows,
            advantage=advantage,
            undefended=None if stack == self._none else undefended,
            summary=summary,
            n_seeds=n_seeds,
            seeds_to_decide=needed,
        )
        outside = "" if state == "incompatible" else self._outside.get((attack.label, stack), "")
        if outside:
            sentence = f"{sentence} Outside its guarantee: {outside}."
        return Cell(
            attack=attack.label,
            family=attack.family,
            stack=stack,
            pipeline=attack.pipeline,
            state=state,
            advantage=advantage,
            per_seed=rows,
            sentence=sentence,
            threat=attack.threat,
            seeds_to_decide=needed,
            outside=outside,
        )

    def _trial_rows(self, label: str, stack: str) -> tuple[TrialRow, ...]:
        planned = [self._trials[label, stack, seed] for seed in self._frame.seeds]
        return tuple(
            _trial(trial, self._rows[trial.unit_id]) for trial in planned if trial.unit_id in self._rows
        )

    def _honest(self, pipeline: str, stack: str) -> dict[int, Row]:
        """The completed honest runs by seed."""
        found: dict[int, Row] = {}
        for seed in self._frame.seeds:
            run = self._honest_ids.get((pipeline, stack, seed))
            row = None if run is None else self._rows.get(run.unit_id)
            if row is not None and row.status == "completed" and row.content["accuracy"]:
                found[seed] = row
        return found

    def _summarise(self, pipeline: str, stack: str) -> PipelineSummary:
        reference: dict[int, Row] | None = {} if self._none is None else self._honest(pipeline, self._none)
        return summarise_pipeline(
            pipeline,
            self._honest(pipeline, stack),
            None if stack == self._none else reference,
            n_test=self._frame.pipelines[pipeline]["data"]["test"],
        )

    def _summary(self, stack: StackInfo, cells: Mapping[tuple[str, str], Cell]) -> StackSummary:
        return StackSummary(
            stack=stack.name,
            by_pipeline={
                pipeline: replace(summary, worst=self._worst(summary, stack.name, cells))
                for (pipeline, name), summary in self._honest_runs.items()
                if name == stack.name
            },
            incompatible=stack.incompatible,
        )

    def _worst(
        self, summary: PipelineSummary, stack: str, cells: Mapping[tuple[str, str], Cell]
    ) -> dict[str, Strongest]:
        """The strongest attack by what it is on: cells of one pipeline and one kind of goal can be compared."""
        found = {}
        for protects, goals in GOALS.items():
            mine = [
                attack.info.label
                for attack in self._frame.attacks
                if attack.info.pipeline == summary.pipeline and attack.info.goal in goals
            ]
            silent = {label for label in mine if self._none is not None and _silent(cells[label, self._none])}
            worst = strongest([cells[label, stack] for label in mine], silent=silent, use=summary.open_use)
            if worst is not None:
                found[protects] = worst
        return found

    def _ledgers(self) -> dict[tuple[str, str], tuple[Mapping[str, Any], ...]]:
        """Ledger rows of honest runs; rows that differ between seeds stand one below the other."""
        found: dict[tuple[str, str], list[tuple[dict[str, Any], list[int]]]] = {}
        for stack in self._frame.stacks:
            for observer in self._frame.observers:
                rows = found.setdefault((stack.name, observer), [])
                for pipeline in self._frame.pipelines:
                    for seed, run in self._honest(pipeline, stack.name).items():
                        for row in self._ledger(run.unit_id, observer):
                            _add(rows, {**row, "observer": observer, "pipeline": pipeline}, seed)
        return {
            key: tuple({**row, "seeds": seeds} for row, seeds in rows) for key, rows in found.items() if rows
        }

    def _ledger(self, run_id: str, observer: str) -> list[dict[str, Any]]:
        unit = self._ledger_ids.get((run_id, observer))
        row = None if unit is None else self._rows.get(unit)
        return [] if row is None else list(row.content.get("rows", []))

    def _run_rows(self) -> tuple[RunRow, ...]:
        planned = {(run.unit_id, run.label): run for run in self._frame.runs}
        return tuple(
            _run(run, self._rows[run.unit_id]) for run in planned.values() if run.unit_id in self._rows
        )

    def _failures(self, cells: Mapping[tuple[str, str], Cell]) -> tuple[str, ...]:
        trials = [
            Failed(
                what="trial",
                where=f"{cell.attack} x {cell.stack}",
                seed=row.seed,
                reason=row.reason,
                traceback=row.traceback,
            )
            for cell in cells.values()
            for row in cell.per_seed
            if row.status == "failed"
        ]
        runs = [
            Failed(
                what="run",
                where=f"run of {row.pipeline} x {row.stack}{f', {row.attack}' if row.attack else ''}",
                seed=row.seed,
                reason=row.outcome,
                traceback=self._rows[row.run_id].traceback,
            )
            for row in self._run_rows()
            if row.outcome.startswith("failed")
        ]
        ledgers = [
            Failed(
                what="ledger",
                where=f"ledger against {observer}",
                seed=row.seed,
                reason=row.reason,
                traceback=row.traceback,
            )
            for _, observer, unit in self._frame.ledgers
            if (row := self._rows.get(unit)) is not None and not row.settled
        ]
        return told([*trials, *runs, *ledgers])


def _add(rows: list[tuple[dict[str, Any], list[int]]], row: dict[str, Any], seed: int) -> None:
    """Add a ledger row with its seed, or the seed to an equal one."""
    for known, seeds in rows:
        if known == row:
            seeds.append(seed)
            return
    rows.append((row, [seed]))


def _silent(control: Cell) -> bool:
    """Whether an attack is not shown to be better than guessing without a defense, so that it ranks no defense."""
    return control.advantage is not None and control.state != "lost" and shown(control.advantage) != "better"


def _needed(found: tuple[Sample, Score] | None, control: tuple[Sample, Score] | None) -> int | None:
    """About how many seeds would decide what a cell leaves open: without a defense, or else with it."""
    if control is not None and shown(control[1]) == "open":
        return control[0].seeds_to_decide(control[1])
    assert found is not None
    sample, score = found
    return sample.seeds_to_decide(score, *(() if control is None else (control[1].low,)))


def _trial(planned: FramedTrial, row: Row) -> TrialRow:
    content = row.content
    bare = TrialRow(
        trial_id=row.unit_id,
        run_id=planned.run_id,
        baseline_run_id=planned.baseline_run_id,
        seed=row.seed,
        status=cast("TrialStatus", row.status),
        advantage=content.get("advantage"),
        metrics={name: Score(**score) for name, score in content.get("metrics", {}).items()},
        raw=content.get("raw", {}),
        reason=row.reason,
        traceback=row.traceback,
        seconds=row.seconds,
        aborts=_aborts(row),
        predicted=content.get("predicted", {}),
        mixed=content.get("mixed", {}),
    )
    return replace(bare, interval=interval_of(bare))


def _run(planned: FramedRun, row: Row) -> RunRow:
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
        aborts=_aborts(row),
        clients=content.get("clients", {}),
    )


def _aborts(row: Row) -> tuple[Abort, ...]:
    return tuple(Abort(**part) for part in row.content.get("aborts", ()))
