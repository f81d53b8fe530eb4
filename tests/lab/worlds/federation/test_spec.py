"""Every mistake in a specification is one line with the key path, what was got and how to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.base import ConfigError, DataError, QflsecError, UnknownName
from qflsec.lab import build, load_spec, parse_spec, presets
from qflsec.lab.worlds.federation.datasets import check_data
from qflsec.lab.worlds.federation.matrix import build_matrix

MISTAKES = [
    ("seeds = [0, 1]", "seds = [0, 1]", ConfigError, ["seds: unknown key", "did you mean 'seeds'?"]),
    ("seeds = [0, 1]", "seeds = [0, 0]", ConfigError, ["seeds", "twice", "distinct"]),
    ("seeds = [0, 1]", "seeds = []", ConfigError, ["seeds", "at least one"]),
    ("seeds = [0, 1]", 'seeds = ["0"]', ConfigError, ["seeds[0]", "got '0'", "integer"]),
    ("rounds = 2", "roundz = 2", ConfigError, ["pipelines.main.federation.roundz", "did you mean 'rounds'?"]),
    (
        "rounds = 2",
        'rounds = "two"',
        ConfigError,
        ["pipelines.main.federation.rounds", "got 'two'", "integer"],
    ),
    ("rounds = 2", "rounds = 0", ConfigError, ["pipelines.main.federation", "got 0", "at least 1"]),
    (
        "rounds = 2",
        'optimizer = "sdg"',
        ConfigError,
        ["federation.optimizer", "'sgd' or 'adam'", "did you mean 'sgd'?"],
    ),
    (
        "rounds = 2",
        'rounds = 2, schedule = { kind = "step", stepsize = 5 }',
        ConfigError,
        [
            "federation.schedule.stepsize: unknown key",
            "expected one of kind, step_size",
            "did you mean 'step_size'?",
        ],
    ),
    (
        "learning_rate = 0.3 }",
        'learning_rate = 0.3 }\nexecution = { noise = { kind = "bit-flip" } }',
        ConfigError,
        ["pipelines.main.execution.noise.p: missing"],
    ),
    (
        "learning_rate = 0.3 }",
        'learning_rate = 0.3 }\nexecution = { noise = { device = "generic", qbits = 3 } }',
        ConfigError,
        ["pipelines.main.execution.noise.qbits: unknown key"],
    ),
    ("members = 12", "membres = 12", ConfigError, ["pipelines.main.data.membres", "did you mean 'members'?"]),
    (
        '"breast-cancer"',
        '"breast-cancre"',
        UnknownName,
        ["pipelines.main.data.name", "did you mean 'breast-cancer'?"],
    ),
    ('name = "vqc"', 'name = "vqcc"', UnknownName, ["pipelines.main.model", "did you mean 'vqc'?"]),
    ("layers = 1", "layer = 1", ConfigError, ["pipelines.main.model", "did you mean 'layers'?"]),
    ('"client-clip"', '"cilent-clip"', UnknownName, ["stacks.clip[0]", "did you mean 'client-clip'?"]),
    (
        "clip_norm = 0.5",
        "clip = 0.5",
        ConfigError,
        ["stacks.clip[0].clip: unknown key", "did you mean 'clip_norm'?"],
    ),
    ("clip_norm = 0.5", 'clip_norm = "a"', ConfigError, ["stacks.clip[0].clip_norm", "got 'a'", "number"]),
    ("clip_norm = 0.5", "clip_norm = -1.0", ConfigError, ["stacks.clip[0]", "got -1.0"]),
    ('{ name = "aes-gcm-link" }', '{ nam = "aes-gcm-link" }', ConfigError, ["stacks.link[0]", "add name"]),
    ('kind = "nobody"', 'kind = "nobdy"', UnknownName, ["threats.nobody", "did you mean 'nobody'?"]),
    ('kind = "nobody"', 'name = "nobody"', ConfigError, ["threats.nobody", "add kind"]),
    ("n = 1", "m = 1", ConfigError, ["threats.clients.m: unknown key"]),
    ("n = 1", "n = 1\nactive = false", ConfigError, ["attacks[2]", "passive", "active = true"]),
    (
        'name = "scaled-sign-flip"',
        'name = "scaled-signflip"',
        UnknownName,
        ["attacks[2]", "did you mean 'scaled-sign-flip'?"],
    ),
    (
        'name = "scaled-sign-flip"',
        'name = "scaled-sign-flip"\nparams = { scle = 2.0 }',
        ConfigError,
        ["attacks[2].scle", "did you mean 'scale'?"],
    ),
    ('name = "scaled-sign-flip"', 'name = "intercept-resend"', ConfigError, ["attacks[2]", "matrix"]),
    ('label = "withdrawn"\n', "", ConfigError, ["attacks", "same label", "loss-threshold"]),
    (
        'threat = "clients"',
        'threat = "client"',
        ConfigError,
        ["attacks[2].threat", "did you mean 'clients'?"],
    ),
    ('threat = "clients"', 'threat = "server"', ConfigError, ["attacks[2]", "corrupted clients", "server"]),
    ('threat = "clients"', "", ConfigError, ["attacks[2].threat: missing"]),
    ('pipeline = "main"', 'pipeline = "mian"', ConfigError, ["attacks[0].pipeline", "did you mean 'main'?"]),
    ('secrets = "seeded"', 'secrets = "sedeed"', ConfigError, ["secrets", "did you mean 'seeded'?"]),
    (
        'secrets = "seeded"',
        'utility_pipeline = "x"',
        ConfigError,
        ["utility_pipeline", "expected one of main"],
    ),
    (
        'secrets = "seeded"',
        'plugins = ["no_such_module_x"]',
        ConfigError,
        ["plugin 'no_such_module_x'", "ModuleNotFoundError"],
    ),
    ("layers = 1 }", "layers = 1, n_features = 1 }", ConfigError, ["pipelines.main", "n_features"]),
    ('name = "tiny"', "name = tiny", ConfigError, ["not a TOML file", "line 2, column 8"]),
]


@pytest.mark.parametrize(
    ("old", "new", "kind", "words"), MISTAKES, ids=[new[:40] or old[:40] for old, new, _, _ in MISTAKES]
)
def test_a_mistake_is_one_clear_line(
    tiny_text: str, old: str, new: str, kind: type[QflsecError], words: list[str]
) -> None:
    assert old in tiny_text
    with pytest.raises(kind) as caught:
        build_matrix(parse_spec(tiny_text.replace(old, new), base=Path()))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("old", "new", "kind", "words"),
    [
        ("members = 12", "members = 2", DataError, ["pipelines.main.partition", "3 clients"]),
        ("members = 12", "members = 4000", DataError, ["pipelines.main.data", "too few"]),
        ('name = "breast-cancer"', 'name = "wine"', ConfigError, ["pipelines.main", "classes", "3 and 2"]),
        ('name = "breast-cancer"', 'name = "csv", path = "none.csv", label_column = "y"', DataError, ["pipelines.main.data", "none.csv"]),
    ],
)  # fmt: skip
def test_what_only_the_data_can_tell(
    tiny_text: str, old: str, new: str, kind: type[QflsecError], words: list[str]
) -> None:
    matrix = build_matrix(parse_spec(tiny_text.replace(old, new), base=Path()))
    with pytest.raises(kind) as caught:
        check_data(matrix)
    for word in words:
        assert word in str(caught.value)


def test_a_csv_with_nan_is_told_with_its_place(tiny_text: str, tmp_path: Path) -> None:
    rows = "\n".join(f"{i},{i % 5},{i % 2}" for i in range(60))
    (tmp_path / "table.csv").write_text(f"a,b,y\n{rows}\nnan,1,0\n")
    text = tiny_text.replace('"breast-cancer"', '"csv", path = "table.csv", label_column = "y"')
    with pytest.raises(DataError, match="row 62, column 'a'"):
        check_data(build_matrix(parse_spec(text, base=tmp_path)))


def test_files_are_relative_to_the_specification(tiny_text: str, tmp_path: Path) -> None:
    rows = "\n".join(f"{i},{i * i % 7},{i % 2}" for i in range(60))
    (tmp_path / "table.csv").write_text(f"a,b,y\n{rows}\n")
    text = tiny_text.replace('"breast-cancer"', '"csv", path = "table.csv", label_column = "y"')
    file = tmp_path / "mine.toml"
    file.write_text(text)
    check_data(build_matrix(load_spec(file)))


def test_incompatible_layers_are_no_mistake(tiny_text: str) -> None:
    matrix = build_matrix(parse_spec(tiny_text, base=Path()))
    assert "'median' needs individual updates" in matrix.incompatible("main", "bad")
    assert matrix.incompatible("main", "none") == ""


def test_a_layer_may_refuse_a_pipeline(tiny_text: str) -> None:
    text = tiny_text.replace("rounds = 2", "rounds = 2, batch_size = 2").replace("client-clip", "dp-sgd")
    matrix = build_matrix(parse_spec(text, base=Path()))
    assert "fixed" in matrix.incompatible("main", "clip")


def test_unknown_presets_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        load_spec("quikstart")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_spec("no-such-file.toml")


@pytest.mark.parametrize("name", list(presets()))
def test_every_preset_can_be_built(name: str) -> None:
    world = build(load_spec(name))
    assert world.spec.description
    assert world.spec.name == name
    assert len(world.cells) > 1


def test_standard_has_every_family_and_every_kind_of_defense() -> None:
    matrix = build_matrix(load_spec("standard"))
    assert len(matrix.spec.seeds) == 3
    assert {entry.attack.card.family for entry in matrix.attacks} == {
        "membership",
        "inversion",
        "poisoning",
        "backdoor",
    }
    layers = {layer.card.name for stack in matrix.stacks.values() for layer in stack.layers}
    assert {"norm-bound", "median", "nnm", "multi-krum", "flame"} < layers, "robust rules"
    assert {"dp-sgd", "dp-fedavg", "depolarizing-noise", "few-shots"} < layers, "noise"
    assert {"secagg", "he-bfv", "qkd-aes-link"} < layers, "cryptography"
    for pipeline in matrix.pipelines.values():
        assert pipeline.federation.n_clients == 10
        assert pipeline.federation.rounds == 20
        for stack in matrix.stacks.values():
            assert stack.stack is not None
            stack.stack.check(pipeline)  # nothing is incompatible


def test_an_attack_is_adaptive_where_it_can_be_and_knows_the_defenses() -> None:
    """The granted defenses make an attack adaptive that computes against them, and no other."""
    for name, expected in (
        ("poisoning", {"optimised-ipm", "optimised-alie"}),
        ("membership-attacks", set()),  # shadow models without defenses: nobody grants them
    ):
        attacks = build_matrix(load_spec(name)).attacks
        assert {entry.label for entry in attacks if entry.adaptive} == expected
        assert any(entry.attack.card.adaptive for entry in attacks)


def test_quickstart_is_the_promised_matrix() -> None:
    matrix = build_matrix(load_spec("quickstart"))
    assert {entry.attack.card.family for entry in matrix.attacks} == {
        "membership",
        "inversion",
        "poisoning",
        "backdoor",
    }
    assert (len(matrix.stacks), len(matrix.spec.seeds)) == (6, 3)
    for pipeline in matrix.pipelines.values():
        assert pipeline.federation.n_clients == 10
        assert pipeline.data.name == "breast-cancer"


def test_seeds_can_be_replaced_and_shifted(tiny_text: str) -> None:
    spec = parse_spec(tiny_text, base=Path())
    assert spec.with_seeds(offset=10).seeds == (10, 11)
    assert spec.with_seeds(seeds=(4, 5, 6)).seeds == (4, 5, 6)
    assert spec.with_seeds().model_dump() == spec.model_dump()
    with pytest.raises(ConfigError, match="twice"):
        spec.with_seeds(seeds=(1, 1))
