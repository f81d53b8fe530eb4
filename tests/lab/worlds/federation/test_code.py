"""A result belongs to the code that made it, with every helper; through the runner and the store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qflsec.base import ConfigError
from qflsec.lab import MatrixResult, build, load_spec, parse_spec, run
from qflsec.lab.grid.work import Task, execute
from qflsec.lab.worlds.federation.world import FederationWorld


def rows(modulus: int) -> str:
    return "".join(f"{i},{(i * i) % modulus},{i % 2}\n" for i in range(80))


PUSH = """
from __future__ import annotations

from dataclasses import dataclass

from qflsec.attacks import Manipulation
from qflsec.base import AttackCard, Source, register

SOURCE = Source(paper="test stand-in", year=2026, where="test_code.py")


@register("attack", "push")
@dataclass(frozen=True, kw_only=True)
class Push(Manipulation):
    card = AttackCard(name="push", idea="Pushes.", source=SOURCE, family="poisoning", goal="availability", needs=())

    def run(self, hands):
        from helper_c import strength

        return hands.honest * strength()
"""
FILES = {
    "push.py": PUSH,
    "helper_c.py": "from deeper_c import FACTOR\n\n\ndef strength():\n    return FACTOR\n",
    "deeper_c.py": "FACTOR = -90.0\n",
    "unused_c.py": "FACTOR = 1.0\n",
    "table.csv": "a,b,y\n" + rows(61),
    "data_c.py": '''
from qflsec.base import register
from qflsec.data.sources import csv
from shift_c import SHIFT


@register("dataset", "shifted")
def shifted(spec):
    """The table, shifted."""
    raw = csv(spec)
    raw.features[:, 0] += SHIFT * raw.labels
    return raw
''',
    "shift_c.py": "SHIFT = 90.0\n",
    "circuit.py": """
import pennylane as qml
from layers_c import entangle


@qml.qnode(qml.device("default.qubit", wires=2))
def circuit(features, weights):
    qml.AngleEmbedding(features, wires=[0, 1])
    qml.RY(weights[0], wires=0)
    qml.RY(weights[1], wires=1)
    entangle()
    return qml.expval(qml.PauliZ(0))
""",
    "layers_c.py": "import pennylane as qml\n\n\ndef entangle():\n    qml.CNOT(wires=[0, 1])\n",
    "matrix.toml": """
name = "code"
seeds = [0]
plugins = ["push.py", "data_c.py"]
[pipelines.main]
data = { name = "shifted", path = "table.csv", label_column = "y", n_features = 2, members = 20, nonmembers = 10, auxiliary = 10, test = 20 }
model = { name = "qnode", path = "circuit.py:circuit", n_params = 2 }
federation = { n_clients = 3, rounds = 1, learning_rate = 0.5 }
[stacks]
none = []
[threats.one]
kind = "corrupted-clients"
n = 1
[threats.server]
kind = "honest-but-curious-server"
[[attacks]]
name = "push"
pipeline = "main"
threat = "one"
[[attacks]]
name = "loss-threshold"
pipeline = "main"
threat = "server"
""",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    for name, text in FILES.items():
        (place / name).write_text(text)
    return place


def made(folder: Path, store: Path) -> tuple[MatrixResult, int]:
    """The result, and how many trials were run for it."""
    todo: list[int] = []
    result = run(
        load_spec(folder / "matrix.toml"),
        store,
        jobs=1,
        on_progress=lambda step: todo.append(step.done),
    )
    return result, todo[-1] - todo[0]


def advantage(result: MatrixResult) -> float:
    (trial,) = result.cells["push", "none"].per_seed
    assert trial.status == "ok", trial.reason
    assert trial.advantage is not None
    return trial.advantage


def test_a_changed_helper_of_a_helper_recomputes(folder: Path) -> None:
    store = folder / "s.sqlite"
    result, count = made(folder, store)
    before = advantage(result)
    assert count == 2
    assert abs(before) > 0.05, "the control: the attack does something"
    (folder / "deeper_c.py").write_text("FACTOR = 1.0\n")
    result, count = made(folder, store)
    assert advantage(result) == 0.0, "a corrupted client that sends what an honest one would"
    assert count == 1, "the honest run and its trial are those of before"
    (folder / "deeper_c.py").write_text("FACTOR = -90.0\n")
    result, count = made(folder, store)
    assert (advantage(result), count) == (before, 0)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("shift_c.py", "SHIFT = 0.0\n"),
        ("layers_c.py", "import pennylane as qml\n\n\ndef entangle():\n    qml.RY(0.5, wires=0)\n"),
        ("table.csv", "a,b,y\n" + rows(53)),
    ],
    ids=["data function", "circuit", "table"],
)
def test_what_data_and_model_import_recomputes_everything(folder: Path, file: str, text: str) -> None:
    store = folder / "s.sqlite"
    before, _ = made(folder, store)
    (folder / file).write_text(text)
    after, count = made(folder, store)
    assert count == 2
    assert before.runs[0].run_id != after.runs[0].run_id
    assert before.runs[0].loss != after.runs[0].loss, "what ran is what stands in the file"


def test_what_is_not_imported_recomputes_nothing(folder: Path) -> None:
    store = folder / "s.sqlite"
    made(folder, store)
    (folder / "unused_c.py").write_text("FACTOR = 2.0\n")
    assert made(folder, store)[1] == 0


def test_another_folder_with_the_same_content_recomputes_nothing(folder: Path) -> None:
    store = folder.parent / "s.sqlite"
    before, _ = made(folder, store)
    moved = folder.parent / "elsewhere" / "renamed"
    shutil.copytree(folder, moved)
    shutil.rmtree(folder)
    after, count = made(moved, store)
    assert count == 0
    assert advantage(after) == advantage(before)


def test_a_changed_inference_is_another_trial_on_the_same_run(tiny_text: str, plugin: Path) -> None:
    text = f'plugins = ["{plugin}"]\n' + tiny_text.replace(
        'name = "loss-threshold"', 'name = "broken-inference"', 1
    )
    content = plugin.read_text()
    found = []
    try:
        for tail in ("", "\n# another version\n"):
            plugin.write_text(content + tail)
            trials = FederationWorld.make(parse_spec(text, base=Path())).layout.trials
            found.append(trials["broken-inference", "none", 0])
    finally:
        plugin.write_text(content)
    assert found[0].run.unit_id == found[1].run.unit_id
    assert found[0].unit_id != found[1].unit_id


def test_a_file_that_a_parameter_names_is_covered_by_its_content(folder: Path) -> None:
    push = PUSH.replace("class Push(Manipulation):", "class Push(Manipulation):\n    table: str").replace(
        "from helper_c import strength", "from pathlib import Path"
    )
    push = push.replace("strength()", "float(Path(self.table).read_text())")
    (folder / "push.py").write_text(push)
    text = (folder / "matrix.toml").read_text()
    (folder / "matrix.toml").write_text(
        text.replace('name = "push"', 'name = "push"\nparams = { table = "strength.csv" }')
    )
    (folder / "strength.csv").write_text("-90.0")
    store = folder.parent / "s.sqlite"
    result, _ = made(folder, store)
    before = advantage(result)
    (folder / "strength.csv").write_text("1.0")
    result, count = made(folder, store)
    assert (advantage(result), count) == (0.0, 1)
    (folder / "strength.csv").write_text("-90.0")
    moved = folder.parent / "moved"
    shutil.move(folder, moved)
    result, count = made(moved, store)
    assert (advantage(result), count) == (before, 0)


@pytest.mark.parametrize(
    "wrong", ["stacks = 3", "attacks = 3", "stacks = [1]", 'attacks = ["a"]', "stacks = { a = 1 }"]
)
def test_a_table_of_another_shape_is_told_plainly(wrong: str) -> None:
    with pytest.raises(ConfigError):
        parse_spec(
            f'name = "x"\nseeds = [0]\n{wrong}\n[pipelines.p]\ndata = {{}}\nmodel = {{}}\n', base=Path()
        )


def test_the_result_names_what_the_ids_cover(folder: Path) -> None:
    with (folder / "helper_c.py").open("a") as file:
        file.write("\n\nLATE = __import__(strength.__name__) if False else None\n")
    result, _ = made(folder, folder / "s.sqlite")
    covered = {entry.part: entry for entry in result.code}
    assert covered["attack push"].files == ("push.py", "deeper_c", "helper_c")
    assert covered["dataset shifted"].files == ("data_c.py", "shift_c")
    assert covered["model of pipeline main"].files == ("circuit.py", "layers_c")
    (installed,) = covered["model of pipeline main"].installed
    assert installed.startswith("pennylane 0.")
    assert covered["attack push"].not_covered[0].startswith("helper_c.py, line 8: __import__(")


def test_workers_with_other_code_refuse(folder: Path) -> None:
    world = build(load_spec(folder / "matrix.toml"))
    (batch, *_) = world.plan(frozenset()).batches
    task = Task(index=0, kind=type(world), spec=world.spec.to_json(), code=world.code_digest, batch=batch)
    (folder / "deeper_c.py").write_text("FACTOR = 1.0\n")
    index, rows = execute(task)
    assert (index, len(rows)) == (0, len(batch.units))
    assert {row.status for row in rows} == {"failed"}
    assert all("differs from what the matrix was planned with" in row.reason for row in rows)


def test_files_of_one_name_for_two_parts_are_refused(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (folder / "data_c.py").rename(other / "data_c.py")
    (folder / "shift_c.py").rename(other / "shift_c.py")
    with (other / "data_c.py").open("a") as file:
        file.write("import helper_c\n")
    (other / "helper_c.py").write_text("# another\n")
    text = (folder / "matrix.toml").read_text().replace('"data_c.py"', '"other/data_c.py"')
    (folder / "matrix.toml").write_text(text)
    with pytest.raises(ConfigError, match="two different files would be imported as 'helper_c'"):
        build(load_spec(folder / "matrix.toml"))
