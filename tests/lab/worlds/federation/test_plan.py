"""The plan: honest runs are shared, batches are small, and nothing is done twice."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qflsec.lab import MatrixSpec, build_matrix, parse_spec
from qflsec.lab.worlds.federation.matrix import observer_key
from qflsec.lab.worlds.federation.plan import MAX_RUNS, Plan, make_plan
from qflsec.lab.worlds.federation.work import execute


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


def runs_of(plan: Plan) -> list[str]:
    return [run.run_id for batch in plan.batches for run in batch.runs]


def test_honest_runs_are_shared(tiny: MatrixSpec) -> None:
    plan = make_plan(build_matrix(tiny))
    # three stacks that can run, two seeds, one honest and one manipulated run each; two inferences share it
    assert len(runs_of(plan)) == len(set(runs_of(plan))) == 3 * 2 * 2
    assert sum(len(batch.trials) for batch in plan.batches) == 3 * 2 * 3
    assert len(plan.incompatible) == 2 * 3


def test_a_batch_is_one_pipeline_and_stack(tiny: MatrixSpec) -> None:
    for batch in make_plan(build_matrix(tiny)).batches:
        assert {(run.pipeline, run.stack) for run in batch.runs} == {(batch.pipeline, batch.stack)}


def test_what_is_stored_is_left_out(tiny: MatrixSpec) -> None:
    matrix = build_matrix(tiny)
    everything = make_plan(matrix)
    observers = frozenset(observer_key(threat) for threat in matrix.observers)
    trials = frozenset(trial.trial_id for trial in everything.trials.values())
    runs = {run.run_id: observers for run in everything.honest.values()}
    assert make_plan(matrix, settled_trials=trials, settled_runs=runs).batches == ()
    missing = everything.trials["scaled-sign-flip", "clip", 1]
    plan = make_plan(matrix, settled_trials=trials - {missing.trial_id}, settled_runs=runs)
    (batch,) = plan.batches
    assert [trial.trial_id for trial in batch.trials] == [missing.trial_id]
    assert {run.run_id for run in batch.runs} == {missing.run.run_id, missing.honest.run_id}


def test_a_ledger_for_a_further_observer_repeats_the_honest_run(tiny: MatrixSpec) -> None:
    matrix = build_matrix(tiny)
    everything = make_plan(matrix)
    trials = frozenset(trial.trial_id for trial in everything.trials.values())
    runs = {run.run_id: frozenset({"another observer"}) for run in everything.honest.values()}
    plan = make_plan(matrix, settled_trials=trials, settled_runs=runs)
    assert sum(len(batch.trials) for batch in plan.batches) == 0
    assert len(runs_of(plan)) == 3 * 2


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n_seeds=st.integers(1, 9), n_attacks=st.integers(0, 20))
def test_batches_are_small_and_complete(tiny_text: str, n_seeds: int, n_attacks: int) -> None:
    plan = make_plan(build_matrix(parse_spec(matrix_text(tiny_text, n_seeds, n_attacks), base=Path())))
    assert all(len(batch.runs) <= MAX_RUNS for batch in plan.batches)
    done = [trial.trial_id for batch in plan.batches for trial in batch.trials]
    assert len(done) == len(set(done)) == 3 * n_seeds * (1 + n_attacks)
    for batch in plan.batches:
        here = {run.run_id for run in batch.runs}
        assert len(here) == len(batch.runs)
        for trial in batch.trials:
            assert {trial.run.run_id, trial.honest.run_id} <= here


def test_a_party_that_the_topology_lacks_makes_the_cell_incompatible(tiny_text: str) -> None:
    """Not blocked, which would say that the stack stopped the attack; the honest runs are made all the same."""
    text = tiny_text.replace('kind = "honest-but-curious-server"', 'kind = "honest-but-curious-edge"')
    matrix = build_matrix(parse_spec(text, base=Path()))
    plan = make_plan(matrix)
    lacking = [trial for trial in plan.incompatible if trial.run.stack != "bad"]
    assert {(trial.label, trial.run.stack) for trial in lacking} == {
        ("loss-threshold", stack) for stack in ("none", "clip", "link")
    }
    assert all("corrupts a party that the topology lacks" in trial.incompatible for trial in lacking)
    batch = next(batch for batch in plan.batches if batch.stack == "none")
    outcome = execute(batch)
    # the flips, and the coalition of nobody
    assert {row["status"] for row in outcome.trials} == {"ok", "blocked"}
    ledgers = next(row["ledgers"] for row in outcome.runs if row["ledgers"])
    assert ledgers[observer_key(matrix.threats["server"])] == []
    assert ledgers[observer_key(matrix.threats["clients"])]
