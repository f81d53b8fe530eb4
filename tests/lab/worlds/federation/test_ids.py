"""Ids hold every parameter, and nothing that does not change a result."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from qflsec.lab import MatrixSpec, parse_spec
from qflsec.lab.worlds.federation import ids
from qflsec.lab.worlds.federation.plan import PlannedTrial
from qflsec.lab.worlds.federation.world import FederationWorld


def planned(
    text: str, base: Path = Path(), label: str = "scaled-sign-flip", stack: str = "clip"
) -> PlannedTrial:
    return FederationWorld.make(parse_spec(text, base=base)).layout.trials[label, stack, 0]


def test_the_documented_texts_and_hashes_are_exact() -> None:
    result = doctest.testmod(ids)
    assert result.attempted >= 4
    assert result.failed == 0


CHANGES = [
    ("rounds = 2", "rounds = 3"),
    ("learning_rate = 0.3", "learning_rate = 0.31"),
    ("learning_rate = 0.3", "learning_rate = 0.3, epochs = 2"),
    ("learning_rate = 0.3", "learning_rate = 0.3, momentum = 0.5"),
    ("learning_rate = 0.3", "learning_rate = 0.3, proximal = 0.1"),
    ("learning_rate = 0.3", 'learning_rate = 0.3, schedule = { kind = "cosine" }'),
    ("n_clients = 3", "n_clients = 4"),
    ("members = 12", "members = 14"),
    ("test = 20", "test = 22"),
    ("layers = 1", "layers = 2"),
    ("clip_norm = 0.5", "clip_norm = 0.6"),
    ("n = 1", "n = 2"),
    ("n = 1", 'n = 1\nknows = ["architecture", "auxiliary", "defenses"]'),
    ("n = 1", "n = 1\nrushing = true"),
    ('name = "scaled-sign-flip"', 'name = "sign-flip"\nlabel = "scaled-sign-flip"'),
    ('name = "scaled-sign-flip"', 'name = "scaled-sign-flip"\nparams = { scale = 4.0 }'),
    ('secrets = "seeded"', 'secrets = "os"'),
    ("pipelines.main]", "pipelines.main]\nexecution = { shots = 50 }"),
    ("pipelines.main]", 'pipelines.main]\npartition = { kind = "dirichlet" }'),
    ("pipelines.main]", "pipelines.main]\nclient_executions = { 1 = { shots = 50 } }"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), CHANGES, ids=[new for _, new in CHANGES])
def test_changing_any_parameter_changes_the_id(tiny_text: str, old: str, new: str) -> None:
    assert old in tiny_text
    before, after = planned(tiny_text), planned(tiny_text.replace(old, new))
    assert before.run.unit_id != after.run.unit_id
    assert before.unit_id != after.unit_id


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "tiny"', 'name = "other"'),
        ('name = "tiny"', 'name = "tiny"\ndescription = "words"'),
        ("rounds = 2", "rounds = 2, local_steps = 1"),  # a default, written out
        ("rounds = 2", 'rounds = 2, schedule = { kind = "constant" }'),
        ("clip_norm = 0.5", "clip_norm = 5e-1"),
        ("seeds = [0, 1]", "seeds = [0, 7]"),
    ],
)
def test_what_changes_no_result_changes_no_id(tiny_text: str, old: str, new: str) -> None:
    assert planned(tiny_text).unit_id == planned(tiny_text.replace(old, new)).unit_id


def test_names_are_not_part_of_an_id(tiny_text: str) -> None:
    renamed = tiny_text.replace("[threats.clients]", "[threats.some]").replace('"clients"', '"some"')
    renamed = renamed.replace("clip = [", "shorten = [")
    assert planned(tiny_text).unit_id == planned(renamed, stack="shorten").unit_id


def test_the_adaptive_adversary_is_another_one(tiny_text: str) -> None:
    """Without knowledge in the id, adaptive and non-adaptive runs would collide."""
    adaptive = tiny_text.replace("n = 1", 'n = 1\nknows = ["architecture", "defenses"]')
    assert planned(tiny_text).run.unit_id != planned(adaptive).run.unit_id
    assert planned(tiny_text).honest.unit_id == planned(adaptive).honest.unit_id


def test_an_inference_under_another_threat_is_another_trial_on_the_same_run(tiny: MatrixSpec) -> None:
    trials = FederationWorld.make(tiny).layout.trials
    first, second = (trials[label, "none", 0] for label in ("loss-threshold", "withdrawn"))
    assert first.run.unit_id == second.run.unit_id
    assert first.unit_id != second.unit_id


def test_the_content_of_a_file_is_part_of_an_id_and_its_place_is_not(tiny_text: str, tmp_path: Path) -> None:
    text = tiny_text.replace('"breast-cancer"', '"csv", path = "table.csv", label_column = "y"')
    found = []
    for folder, last in (("a", "0,1,0"), ("b", "0,1,0"), ("c", "0,2,0")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "table.csv").write_text(f"a,b,y\n1,1,1\n{last}\n")
        found.append(planned(text, base=tmp_path / folder).run.unit_id)
    assert found[0] == found[1] != found[2]


def test_the_code_of_a_plugin_is_part_of_an_id(tiny_text: str, plugin: Path) -> None:
    text = f'plugins = ["{plugin}"]\n' + tiny_text.replace("scaled-sign-flip", "not-finite")
    content = plugin.read_text()
    before = planned(text, label="not-finite")
    plugin.write_text(content + "\n# another version\n")
    try:
        after = planned(text, label="not-finite")
    finally:
        plugin.write_text(content)
    assert before.run.unit_id != after.run.unit_id
    assert before.honest.unit_id == after.honest.unit_id
    assert planned(text, label="not-finite").run.unit_id == before.run.unit_id
