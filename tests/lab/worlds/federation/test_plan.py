"""The plan: honest runs are shared, batches are small, and nothing is done twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qflsec.federation import RunResult
from qflsec.lab import MatrixSpec, parse_spec
from qflsec.lab.grid.units import Plan
from qflsec.lab.worlds.federation.plan import MAX_RUNS, RunBatch
from qflsec.lab.worlds.federation.world import FederationWorld
from qflsec.threat import ThreatModel, View

NOTHING: frozenset[str] = frozenset()


def matrix_text(tiny_text: str, n_seeds: int, n_attacks: int) -> str:
    head = tiny_text.split("[[attacks]]", maxsplit=1)[0].replace(
        "seeds = [0, 1]", f"seeds = {list(range(n_seeds))}"
    )
    scales = "\n".join(
        f'[[attacks]]\nlabel = "a{i}"\nname = "scaled-sign-flip"\npipeline = "main"\nthreat = "clients"\n'
        f"params = {{ scale = {2.0 + i} }}"
        for i in range(n_attacks)
    )
    look = '[[attacks]]\nname = "loss-threshold"\npipeline = "main"\nthreat = "server"\n'
    return f"{head}\n{look}\n{scales}"


def runs_of(plan: Plan[RunBatch]) -> list[str]:
    return [run.unit_id for batch in plan.batches for run in batch.runs]


def everything(world: FederationWorld) -> frozenset[str]:
    """The ids of all trials, honest runs and ledgers."""
    parts = (world.layout.trials, world.layout.honest, world.layout.ledgers)
    return frozenset(unit.unit_id for part in parts for unit in part.values())


def test_honest_runs_are_shared(tiny: MatrixSpec) -> None:
    plan = FederationWorld.make(tiny).plan(NOTHING)
    # three stacks that can run, two seeds, one honest and one manipulated run each; two inferences share it
    assert len(runs_of(plan)) == len(set(runs_of(plan))) == 3 * 2 * 2
    assert sum(len(batch.trials) for batch in plan.batches) == 3 * 2 * 3
    assert len(plan.ready) == 2 * 3


def test_a_batch_is_one_pipeline_and_stack(tiny: MatrixSpec) -> None:
    for batch in FederationWorld.make(tiny).plan(NOTHING).batches:
        assert {(run.pipeline, run.stack) for run in batch.runs} == {(batch.pipeline, batch.stack)}


def test_what_is_stored_is_left_out(tiny: MatrixSpec) -> None:
    world = FederationWorld.make(tiny)
    settled = everything(world)
    assert list(world.plan(settled).batches) == []
    missing = world.layout.trials["scaled-sign-flip", "clip", 1]
    (batch,) = world.plan(settled - {missing.unit_id}).batches
    assert [trial.unit_id for trial in batch.trials] == [missing.unit_id]
    assert {run.unit_id for run in batch.runs} == {missing.run.unit_id, missing.honest.unit_id}
    assert batch.units == (missing,), "the honest run is made for the trial's sake and is stored already"


def test_a_missing_ledger_repeats_its_honest_run_alone(tiny: MatrixSpec) -> None:
    world = FederationWorld.make(tiny)
    run = world.layout.honest["main", "link", 1]
    ledger = world.layout.ledgers[run.unit_id, "server"]
    (batch,) = world.plan(everything(world) - {ledger.unit_id}).batches
    assert (batch.trials, batch.runs, batch.units) == ((), (run,), (run,))


def test_a_ledger_does_not_depend_on_the_name_of_its_observer(tiny_text: str) -> None:
    renamed = tiny_text.replace("[threats.server]", "[threats.other]").replace('"server"', '"other"')
    first, second = (FederationWorld.make(parse_spec(text, base=Path())) for text in (tiny_text, renamed))
    run = first.layout.honest["main", "none", 0].unit_id
    assert first.layout.ledgers[run, "server"].unit_id == second.layout.ledgers[run, "other"].unit_id


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n_seeds=st.integers(1, 9), n_attacks=st.integers(0, 20))
def test_batches_are_small_and_complete(tiny_text: str, n_seeds: int, n_attacks: int) -> None:
    world = FederationWorld.make(parse_spec(matrix_text(tiny_text, n_seeds, n_attacks), base=Path()))
    plan = world.plan(NOTHING)
    assert all(len(batch.runs) <= MAX_RUNS for batch in plan.batches)
    done = [trial.unit_id for batch in plan.batches for trial in batch.trials]
    assert len(done) == len(set(done)) == 3 * n_seeds * (1 + n_attacks)
    for batch in plan.batches:
        here = {run.unit_id for run in batch.runs}
        assert len(here) == len(batch.runs)
        for trial in batch.trials:
            assert {trial.run.unit_id, trial.honest.unit_id} <= here


def test_a_view_serves_the_ledger_and_the_attack(tiny: MatrixSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch's attacks on what one observer holds of a run begin where the run's ledgers end."""
    views, view = [], RunResult.view

    def counted(run: RunResult, threat: ThreatModel) -> View:
        views.append((id(run), threat.name))
        return view(run, threat)

    monkeypatch.setattr(RunResult, "view", counted)
    world = FederationWorld.make(tiny)
    batch = next(batch for batch in world.plan(NOTHING).batches if batch.stack == "none")
    rows = {row.unit_id: row for row in world.execute(batch, {})}
    assert "ok" in {rows[trial.unit_id].status for trial in batch.trials}
    again = len(views) - len(set(views))
    observers = {(trial.run.unit_id, world.matrix.entry(trial.label).threat.name) for trial in batch.trials}
    assert again == len(observers) - len({run for run, _ in observers}), "but the first of each run's"


def test_a_party_that_the_topology_lacks_makes_the_cell_incompatible(tiny_text: str) -> None:
    """Not blocked, which would say that the stack stopped the attack; the honest runs are made all the same."""
    text = tiny_text.replace('kind = "honest-but-curious-server"', 'kind = "honest-but-curious-edge"')
    world = FederationWorld.make(parse_spec(text, base=Path()))
    plan, trials = world.plan(NOTHING), {trial.unit_id: trial for trial in world.layout.trials.values()}
    lacking = [row for row in plan.ready if trials[row.unit_id].run.stack != "bad"]
    assert {(trials[row.unit_id].label, trials[row.unit_id].run.stack) for row in lacking} == {
        ("loss-threshold", stack) for stack in ("none", "clip", "link")
    }
    assert all("corrupts a party that the topology lacks" in row.reason for row in lacking)
    batch = next(batch for batch in plan.batches if batch.stack == "none")
    rows = {row.unit_id: row for row in world.execute(batch, {})}
    # the flips, and the coalition of nobody
    assert {rows[trial.unit_id].status for trial in batch.trials} == {"ok", "blocked"}
    honest = world.layout.honest["main", "none", 0]
    assert rows[honest.ledger(world.matrix.threats["server"]).unit_id].content == {"rows": []}
    assert rows[honest.ledger(world.matrix.threats["clients"]).unit_id].content["rows"]
