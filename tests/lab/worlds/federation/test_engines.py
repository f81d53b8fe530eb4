"""Runs through Flower give the rows of the training loop: to the last bit without secrets, else to the grid of sums."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qflsec.base import BackendError, ConfigError
from qflsec.lab import MatrixResult, MatrixSpec, assemble, build, parse_spec, run, run_matrix
from qflsec.lab.grid.spec import GridSpec
from qflsec.lab.specs import with_engine
from qflsec.lab.worlds.federation import engines

HEAD = """
name = "tiny"
seeds = [0]
secrets = "seeded"

[pipelines.main]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 12, nonmembers = 8, auxiliary = 8, test = 20 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 4, rounds = 2, learning_rate = 0.3, declared_corrupted = 1 }

[threats]
server = { kind = "honest-but-curious-server" }
public = { kind = "public-final-model" }
reader = { kind = "corrupted-clients", n = 1, active = false }
wire = { kind = "wire-eavesdropper" }
clients = { kind = "corrupted-clients", n = 2 }
knowing = { kind = "corrupted-clients", n = 1, knows = ["defenses"] }
rushing = { kind = "corrupted-clients", n = 1, rushing = true }
"""
ATTACKS = {
    "loss-threshold": "public",
    "gradient-regression": "server",
    "update-alignment": "server",
    "trajectory": "reader",
    "fgsm": "public",
    "scaled-sign-flip": "clients",
    "label-flip": "clients",
    "distributed-trigger": "clients",
    "withhold": "clients",
    "alie": "clients",
    "optimised-ipm": "knowing",
}
REFUSED = {"participation": "wire", "mimic": "rushing"}
PLAIN = """
[stacks]
none = []
robust = [{ name = "norm-bound", max_norm = 0.2 }, { name = "krum" }]
noisy = [{ name = "local-dp", clip_norm = 0.1, noise_multiplier = 0.3 }, { name = "update-quantization" }, { name = "median" }]
"""
SEALED = """
[stacks]
none = []
link = [{ name = "aes-gcm-link" }]
masked = [{ name = "masked" }]
secagg = [{ name = "secagg" }]
hidden = [{ name = "he-bfv" }]
inside = [{ name = "dp-sgd", clip_norm = 1.0, noise_multiplier = 1.0 }]
"""


def matrix(folder: Path, stacks: str, attacks: dict[str, str], engine: str) -> MatrixResult:
    rows = "".join(
        f'[[attacks]]\nname = "{n}"\npipeline = "main"\nthreat = "{t}"\n' for n, t in attacks.items()
    )
    spec = parse_spec(f'engine = "{engine}"\n{HEAD}{stacks}{rows}', base=folder)
    result = run(spec, folder / f"{engine}.sqlite", jobs=1)
    assert isinstance(result, MatrixResult)
    return result


def without_ids(row: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(row).items()
        if name not in {"trial_id", "run_id", "baseline_run_id", "seconds", "costs"}
    }


def test_rows_are_those_of_the_training_loop_to_the_last_bit(tmp_path: Path) -> None:
    loop, flower = (
        matrix(tmp_path, PLAIN, {**ATTACKS, **REFUSED}, engine) for engine in ("loop", "flower-in-process")
    )
    scored = 0
    for place, cell in flower.cells.items():
        if place[0] in REFUSED:
            assert cell.state == "incompatible"
            continue
        assert [without_ids(row) for row in cell.per_seed] == [
            without_ids(row) for row in loop.cells[place].per_seed
        ]
        scored += cell.per_seed[0].status == "ok"
    assert scored > 20
    assert [without_ids(row) for row in flower.runs] == [without_ids(row) for row in loop.runs]
    for (stack, observer), rows in loop.ledgers.items():
        if observer not in {"wire", "wire-eavesdropper"}:
            assert flower.ledgers[stack, observer] == rows
        else:
            assert "Flower's TLS" in str(flower.ledgers[stack, observer])


def test_rows_under_secrets_are_those_of_the_loop_up_to_the_grid_and_the_rest_says_why_not(
    tmp_path: Path,
) -> None:
    attacks = {
        "update-alignment": "server",  # blocked by sums
        "gradient-regression": "server",
        "scaled-sign-flip": "clients",
    }
    loop, flower = (matrix(tmp_path, SEALED, attacks, engine) for engine in ("loop", "flower-in-process"))
    for (attack, stack), cell in flower.cells.items():
        (row,), (other,) = cell.per_seed, loop.cells[attack, stack].per_seed
        if stack in {"hidden", "inside"}:
            assert row.status == "incompatible"
            assert {"hidden": "only clients open the sums", "inside": "inside training"}[stack] in row.reason
        elif stack in {"none", "link"}:
            assert without_ids(row) == without_ids(other)
        else:
            assert (row.status, row.reason) == (other.status, other.reason)
            assert row.status == ("blocked" if attack == "update-alignment" else "ok")
            assert row.advantage == pytest.approx(other.advantage, abs=1e-5)
    runs = {(run.stack, run.attack): run for run in loop.runs}
    for row in flower.runs:
        if row.stack not in {"hidden", "inside"}:
            assert row.loss == pytest.approx(runs[row.stack, row.attack].loss, abs=1e-5)
            assert row.outcome == runs[row.stack, row.attack].outcome == "completed"
    for (stack, observer), rows in loop.ledgers.items():
        if stack not in {"hidden", "inside"} and observer not in {"wire", "wire-eavesdropper"}:
            assert flower.ledgers[stack, observer] == rows


def test_a_run_of_another_engine_is_another_run(tmp_path: Path) -> None:
    attacks = {"loss-threshold": "public"}
    loop, flower = (
        matrix(tmp_path, "[stacks]\nnone = []\n", attacks, e) for e in ("loop", "flower-in-process")
    )
    assert {run.run_id for run in loop.runs}.isdisjoint(run.run_id for run in flower.runs)
    with pytest.raises(ConfigError, match="engine"):
        parse_spec(
            f'engine = "flowers"\n{HEAD}[stacks]\nnone = []\n[[attacks]]\nname = "fgsm"\n', base=tmp_path
        )


def test_the_engine_can_be_chosen_for_matrices_that_have_one(tmp_path: Path, pairs: GridSpec) -> None:
    text = f'{HEAD}[stacks]\nnone = []\n[[attacks]]\nname = "fgsm"\npipeline = "main"\nthreat = "public"\n'
    spec = parse_spec(text, base=tmp_path)
    assert with_engine(spec, None) is spec
    assert with_engine(spec, "flower-in-process").model_dump()["engine"] == "flower-in-process"
    with pytest.raises(ConfigError, match="has no engine to choose"):
        with_engine(pairs, "flower-in-process")


@pytest.mark.parametrize(
    ("attack", "outcome"),
    [
        ("broken-manipulation", "failed: ZeroDivisionError: a bug of the manipulation"),
        ("wrong-shape", "failed: the updates of an attack have the wrong shape"),
        ("not-finite", "completed"),
    ],
)
def test_runs_end_as_in_the_loop_where_an_adversary_is_faulty_or_sends_nonsense(
    with_attacks: Callable[..., MatrixSpec], tmp_path: Path, attack: str, outcome: str
) -> None:
    spec = with_attacks(f'name = "{attack}"\npipeline = "main"\nthreat = "clients"', seeds="[0]")
    ends = []
    for engine in ("loop", "flower-in-process"):
        result = run(with_engine(spec, engine), tmp_path / f"{engine}.sqlite", jobs=1)
        assert isinstance(result, MatrixResult)
        ends.append([(row.attack, row.outcome) for row in result.runs])
    assert ends[0] == ends[1]
    assert any(how.startswith(outcome) for name, how in ends[1] if name)


ONE = '[[attacks]]\nname = "scaled-sign-flip"\npipeline = "main"\nthreat = "clients"\n'


def test_runs_by_processes_follow_one_another_seed_by_seed(tmp_path: Path) -> None:
    text = HEAD.replace("seeds = [0]", "seeds = [0, 1, 2]") + f"[stacks]\nnone = []\n{ONE}"
    spec = parse_spec(text, base=tmp_path)
    sizes = {}
    for engine in ("loop", "flower"):
        world = build(with_engine(spec, engine))
        sizes[engine] = [len(batch.runs) for stage in world.plan(frozenset()).stages for batch in stage]
    assert sizes == {"loop": [6], "flower": [2, 2, 2]}
    assert any("a round takes seconds" in remark for remark in world.remarks())
    for more in ({"jobs": 2}, {"backend": "loky", "jobs": 3}, {"backend": "dask"}):
        with pytest.raises(BackendError):
            list(run_matrix(world, tmp_path / "none.sqlite", **more))
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.slow
def test_rows_by_processes_are_those_of_the_loop_and_a_stopped_matrix_goes_on(tmp_path: Path) -> None:
    """Three SuperNodes; the matrix is stopped behind its first batch, and Flower's processes end."""
    text = HEAD.replace("n_clients = 4", "n_clients = 3").replace("n = 2 }", "n = 1 }")
    spec = parse_spec(f"{text}[stacks]\nnone = []\nmasked = [{{ name = 'masked' }}]\n{ONE}", base=tmp_path)
    loop = run(spec, tmp_path / "loop.sqlite", jobs=1)
    assert isinstance(loop, MatrixResult)
    world, place = build(with_engine(spec, "flower")), tmp_path / "flower.sqlite"
    steps = run_matrix(world, place)
    while (step := next(steps)).batches_done < 1:
        pass
    steps.close()
    assert not engines._OPEN
    assert (step.done, step.total) == (1, 2)
    *_, last = run_matrix(world, place)
    assert (last.batches_done, last.done) == (1, 2)
    flower = assemble(world, place)
    for stack in ("none", "masked"):
        (row,), (other,) = (one.cells["scaled-sign-flip", stack].per_seed for one in (flower, loop))
        if stack == "none":
            assert without_ids(row) == without_ids(other)
        assert row.advantage == pytest.approx(other.advantage, abs=1e-5)
    for row, other in zip(flower.runs, loop.runs, strict=True):
        assert row.outcome == other.outcome == "completed"
        assert row.loss == pytest.approx(other.loss, abs=1e-5)
        assert row.costs["network_messages"] == 2 * 2 * 3
