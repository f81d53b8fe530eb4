"""Shadow models are trained once, for all attacks and stacks that leave the adversary knowing the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from qflsec.federation import Stack, layer_from_config
from qflsec.federation.shadows import ShadowTrainer
from qflsec.lab import MatrixSpec, Store, build, parse_spec, run_matrix
from qflsec.lab.grid.units import Row
from qflsec.lab.worlds.federation.shadows import SharedTrainer, _digest
from qflsec.threat import Records

SPEC = """
name = "shadows"
seeds = [0, 1]
secrets = "seeded"
[pipelines.main]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 8, nonmembers = 8, auxiliary = 12, test = 12 }
model = { name = "vqc", n_qubits = 2, layers = 2 }
federation = { n_clients = 2, rounds = 2, learning_rate = 0.4 }
[stacks]
none = []
clip = [{ name = "client-clip", clip_norm = 0.01 }]
median = [{ name = "median" }]
[threats.public]
kind = "public-final-model"
[threats.knowing]
kind = "honest-but-curious-server"
knows = ["architecture", "auxiliary", "defenses"]
[threats.poor]
kind = "honest-but-curious-server"
knows = ["architecture"]
"""


def attack(label: str, threat: str = "public", params: str = "", name: str = "lira") -> str:
    params = params or "{ shadows = 4 }"
    return f'[[attacks]]\nlabel = "{label}"\nname = "{name}"\npipeline = "main"\nthreat = "{threat}"\nparams = {params}\n'


TWO = attack("shared") + attack("record", params='{ shadows = 4, variance = "record" }')


def spec(text: str, **change: str) -> MatrixSpec:
    whole = SPEC + text
    for old, new in change.items():
        whole = whole.replace(old, new)
    return parse_spec(whole, base=Path())


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Any]]:
    """The seed and the defenses of every set that was trained, as it happens in this process."""
    calls: list[tuple[int, Any]] = []
    honest = ShadowTrainer.__call__

    def counting(
        self: ShadowTrainer, pool: Records, members: torch.Tensor, defenses: Stack | None = None
    ) -> Any:
        calls.append((self.seed, None if defenses is None else defenses.name))
        return honest(self, pool, members, defenses)

    monkeypatch.setattr(ShadowTrainer, "__call__", counting)
    return calls


def run(matrix: MatrixSpec, store: Path, *, stop_after: int | None = None) -> dict[str, Row]:
    steps = run_matrix(build(matrix), store, jobs=1)
    for index, _ in enumerate(steps, start=1):
        if index == stop_after:
            break
    steps.close()
    with Store(store, create=False) as opened:
        return opened.rows()


def advantages(rows: dict[str, Row]) -> dict[str, float]:
    assert not [row.reason for row in rows.values() if row.status == "failed"]
    return {key: row.content["advantage"] for key, row in rows.items() if row.stage == "trial"}


def test_record_sets_of_whole_clients_make_a_set_of_their_own(
    trained: list[tuple[int, Any]], tmp_path: Path
) -> None:
    """One for the records and one for the clients of each seed, and none again where they are used."""
    rows = run(spec(attack("records") + attack("clients", name="client-lira")), tmp_path / "s.sqlite")
    assert len(advantages(rows)) == 12
    assert sorted(seed for seed, _ in trained) == [0, 0, 1, 1]


def test_two_attacks_and_three_stacks_take_one_set_of_each_seed(
    trained: list[tuple[int, Any]], tmp_path: Path
) -> None:
    rows = run(spec(TWO), tmp_path / "s.sqlite")
    assert sorted(trained) == [(0, None), (1, None)]
    assert len(advantages(rows)) == 2 * 3 * 2
    stored = [row for row in rows.values() if row.stage == "shadows"]
    n_params = build(spec(TWO)).matrix.pipelines["main"].model.n_params
    assert [row.content["shape"] for row in stored] == [[4, n_params]] * 2


def test_the_rows_are_those_of_attacks_that_train_for_themselves(
    trained: list[tuple[int, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TWO + attack("knowing", "knowing") + attack("offline", params="{ shadows = 4, online = false }")
    shared = run(spec(text), tmp_path / "shared.sqlite")
    once = len(trained)
    monkeypatch.setattr("qflsec.lab.worlds.federation.work.stored_models", lambda _row: {})
    alone = run(spec(text), tmp_path / "alone.sqlite")
    assert advantages(shared) == advantages(alone)
    assert once == 2 * 4, "online, offline, and two stacks that are known"
    assert len(trained) - once == once + 3 * 2 * 4, "the stage, and one for each trial"


def test_who_knows_the_defenses_trains_under_them(trained: list[tuple[int, Any]], tmp_path: Path) -> None:
    run(spec(attack("knowing", "knowing") + attack("not")), tmp_path / "s.sqlite")
    expected = [(seed, stack) for seed in (0, 1) for stack in ("clip", "median", "none")]
    assert sorted((seed, stack or "none") for seed, stack in trained) == sorted(expected), (
        "a stack without layers and no knowledge are one"
    )


def test_what_was_granted_separates_sets(trained: list[tuple[int, Any]], tmp_path: Path) -> None:
    """Somebody without auxiliary records trains on the candidates alone, and offline not at all."""
    text = attack("rich") + attack("poor", "poor") + attack("none", "poor", "{ shadows = 4, online = false }")
    rows = run(spec(text), tmp_path / "s.sqlite")
    assert len(trained) == 4
    blocked = {row.reason for row in rows.values() if row.status == "blocked"}
    assert blocked == {"the adversary has no records of its own to train shadow models on"}


def test_a_pipeline_without_auxiliary_records_blocks_what_needs_them(
    trained: list[tuple[int, Any]], tmp_path: Path
) -> None:
    text = attack("online") + attack("offline", params="{ shadows = 4, online = false }")
    none = {"auxiliary = 12": 'auxiliary = 0, preprocessing = "fixed-range", reduction = "first"'}
    rows = run(spec(text, **none), tmp_path / "s.sqlite")
    assert len(trained) == 2
    states = [row.status for row in rows.values() if row.stage == "trial"]
    assert sorted(states) == ["blocked"] * 6 + ["ok"] * 6


def test_a_resume_trains_nothing_again(trained: list[tuple[int, Any]], tmp_path: Path) -> None:
    store = tmp_path / "s.sqlite"
    part = run(spec(TWO), store, stop_after=3)
    assert [row.stage for row in part.values()] == ["shadows", "shadows"], "they come before the batches"
    rows = run(spec(TWO), store)
    assert len(trained) == 2
    wider = {"none = []": 'none = []\nbound = [{ name = "norm-bound" }]'}
    more = run(spec(TWO + attack("third"), **wider), store)
    assert len(trained) == 2, "another stack and another label take what is stored"
    assert advantages(rows).items() <= advantages(more).items()


def test_another_number_is_another_set(trained: list[tuple[int, Any]], tmp_path: Path) -> None:
    run(spec(TWO + attack("six", params="{ shadows = 6 }")), tmp_path / "s.sqlite")
    assert len(trained) == 4


def test_a_set_that_cannot_be_trained_fails_its_trials_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ArithmeticError("no shadow")

    monkeypatch.setattr(ShadowTrainer, "__call__", broken)
    rows = run(spec(TWO + attack("loss", params="{}", name="loss-threshold")), tmp_path / "s.sqlite")
    states = {(row.stage, row.status) for row in rows.values() if row.stage in {"trial", "shadows"}}
    assert states == {("shadows", "failed"), ("trial", "failed"), ("trial", "ok")}
    assert "no shadow" in next(row.reason for row in rows.values() if row.status == "failed")


def test_a_stored_set_answers_to_its_own_question_only() -> None:
    made: list[int] = []

    def trainer(_pool: Records, members: torch.Tensor, _defenses: Any = None) -> torch.Tensor:
        made.append(len(members))
        return torch.zeros(len(members), 3)

    pool = Records(features=torch.rand(6, 2), labels=torch.zeros(6, dtype=torch.long))
    other = Records(features=pool.features + 1, labels=pool.labels)
    members = torch.arange(6)[None, :] < torch.tensor([[2], [3]])
    shared = SharedTrainer(trainer=trainer, stored={})
    known = SharedTrainer(trainer=trainer, stored={_digest(pool, members, None): torch.ones(2, 3)})
    assert not shared(pool, members).any()
    assert known(pool, members).all()
    assert known(pool, members, Stack(name="none")).all(), "a stack without layers is none"
    clip = Stack.from_layers("clip", [layer_from_config({"name": "client-clip", "clip_norm": 1.0})])
    for asked in ((other, members, None), (pool, ~members, None), (pool, members, clip)):
        assert not known(*asked).any()
    assert made == [2, 2, 2, 2]


def test_too_few_records_are_said_before_anything_runs() -> None:
    """Twenty members, eight of them balanced by as many others: half of the candidates and twelve more are needed."""
    few = {", members = 8,": ", members = 20,", "auxiliary = 12": "auxiliary = 11"}
    world = build(
        spec(
            attack("lira") + attack("rmia", name="rmia") + attack("loss", params="{}", name="loss-threshold"),
            **few,
        )
    )
    ready = {row.reason.split(";")[0] for row in world.plan(frozenset()).ready}
    assert ready == {"the adversary has too few records of its own for shadow models of 20 records each"}
    assert len(world.plan(frozenset()).ready) == 2 * 3 * 2, "the loss threshold needs none"
    assert not build(spec(attack("lira"))).plan(frozenset()).ready


def test_models_outside_the_kernel_are_priced_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(2, 2)\n")
    inside = build(spec(attack("lira")))
    assert not [remark for remark in inside.remarks() if "shadow" in remark]
    text = SPEC + attack("lira")
    own = text.replace(
        '{ name = "vqc", n_qubits = 2, layers = 2 }', '{ name = "torch", path = "own.py:make" }'
    )
    (said,) = [remark for remark in build(parse_spec(own, base=tmp_path)).remarks() if "shadow" in remark]
    assert said.startswith(
        "main: 8 shadow models are trained by the model's own code, outside the kernel: about "
    )
