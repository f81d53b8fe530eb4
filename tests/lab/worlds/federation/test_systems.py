"""Layers that belong to a pipeline: they stand behind a stack's own, and are no defense of any column."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qflsec.base import QflsecError
from qflsec.federation.stack import in_order
from qflsec.lab import load_spec, parse_spec, run
from qflsec.lab.matrices import build
from qflsec.lab.reading import to_dict
from qflsec.lab.specs import look
from qflsec.lab.worlds.federation.matrix import Matrix, build_matrix
from qflsec.lab.worlds.federation.spec import MatrixSpec

SPEC = """
name = "systems"
seeds = [0]
secrets = "seeded"
[pipelines.main]
data = {{ name = "breast-cancer", n_features = 2, members = 12, nonmembers = 0, auxiliary = 8, test = 20 }}
model = {{ name = "vqc", n_qubits = 2, layers = 1 }}
federation = {{ n_clients = 3, rounds = 2 }}
layers = {own}
[stacks]
none = []
column = {stack}
[threats.t]
kind = "corrupted-clients"
n = 1
[[attacks]]
name = "sign-flip"
pipeline = "main"
threat = "t"
"""
CLIP, MASKED = '{ name = "client-clip", clip_norm = 0.1 }', '{ name = "masked" }'
TERNARY, MEDIAN, SOFTMIN = '{ name = "ternary" }', '{ name = "median" }', '{ name = "softmin" }'


def read(own: str = "", stack: str = "") -> MatrixSpec:
    spec = parse_spec(SPEC.format(own=f"[{own}]", stack=f"[{stack}]"), base=Path())
    assert isinstance(spec, MatrixSpec)
    return spec


def made(own: str = "", stack: str = "") -> Matrix:
    spec = read(own, stack)
    look(spec)
    return build_matrix(spec)


@pytest.mark.parametrize(
    ("own", "stack", "together"),
    [
        (TERNARY, f"{CLIP}, {MASKED}", f"{CLIP}, {TERNARY}, {MASKED}"),
        (TERNARY, CLIP, f"{CLIP}, {TERNARY}"),
        (SOFTMIN, CLIP, f"{CLIP}, {SOFTMIN}"),
        (MASKED, CLIP, f"{CLIP}, {MASKED}"),
    ],
)
def test_a_run_is_that_of_one_stack_with_both(own: str, stack: str, together: str) -> None:
    """The ids are equal, and an id is a digest of all that makes a run."""
    apart, joined = made(own, stack), made("", together)
    for entry in (None, apart.attacks[0]):
        assert apart.run_identity("main", "column", 0, entry) == joined.run_identity(
            "main", "column", 0, entry
        )
    assert apart.run_identity("main", "none", 0, None) == made("", own).run_identity(
        "main", "column", 0, None
    )
    assert apart.run_identity("main", "none", 0, None) != made().run_identity("main", "none", 0, None)


def test_what_excludes_each_other_says_so() -> None:
    matrix = made(SOFTMIN, MEDIAN)
    assert matrix.incompatible("main", "none") == ""
    assert (
        matrix.incompatible("main", "column") == "a stack can hold one rule, but has 'median' and 'softmin'"
    )
    assert "leaves only their sum" in made(SOFTMIN, MASKED).incompatible("main", "column")
    misplaced = made(TERNARY, f"{MASKED}, {CLIP}").incompatible("main", "column")
    assert "'client-clip'" in misplaced, "a stack that is wrong by itself is not put right"


def test_mistakes_name_their_place() -> None:
    with pytest.raises(QflsecError, match=re.escape("pipelines.main.layers[0]")):
        made('{ name = "softmax" }')
    with pytest.raises(QflsecError, match=re.escape("pipelines.main.layers[0].betta")):
        made('{ name = "softmin", betta = 1.0 }')


def test_the_result_shows_the_layers_of_a_pipeline(tmp_path: Path) -> None:
    result = run(read(SOFTMIN, MEDIAN), tmp_path / "s.sqlite", jobs=1)
    document = to_dict(result)
    assert [layer["name"] for layer in document["pipelines"]["main"]["layers"]] == ["softmin"]
    assert {cell.stack: cell.state for cell in result.cells.values()}["column"] == "incompatible"
    plain = run(read("", SOFTMIN), tmp_path / "p.sqlite", jobs=1)
    assert "layers" not in plain.pipelines["main"]
    mine, theirs = (
        next(row.accuracy for row in one.runs if not row.attack and row.stack == stack)
        for one, stack in ((result, "none"), (plain, "column"))
    )
    assert mine == theirs


def test_layers_act_in_the_order_of_a_round() -> None:
    layers = made("", f"{CLIP}, {MASKED}").stacks["column"].layers
    assert in_order(tuple(reversed(layers))) == layers


def test_the_survey_asks_every_system_the_same() -> None:
    spec = load_spec("survey")
    assert isinstance(spec, MatrixSpec)
    asked = {
        name: {
            (one.name, str(one.params) * (one.name != "dlg")) for one in spec.attacks if one.pipeline == name
        }
        for name in spec.pipelines
    }
    assert len(asked) >= 20
    assert all(found == asked["star"] and len(found) == 6 for found in asked.values())
    assert {(part.data["members"], str(part.partition)) for part in spec.pipelines.values()} == {
        (40, str(spec.pipelines["star"].partition))
    }
    world = build(spec)
    whole = {trial.label for trial in world.layout.trials.values() if not trial.incompatible}
    assert whole == {one.label for one in spec.attacks} - UNDEFENDED_TOO


UNDEFENDED_TOO = {
    *(f"backdoor, {name}" for name in ("hierarchy", "clusters", "gossip-ring", "gossip-pairs", "local-head")),
    *(f"{what}, local-head" for what in ("membership", "inversion", "label skew")),
}
"""What cannot be asked whatever the stack: there is no one model to attack and to judge by."""
