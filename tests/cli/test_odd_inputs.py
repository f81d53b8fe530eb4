"""Odd inputs: each is one clean line that names what is wrong, before any work and before a store is made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
DATA = 'data = { name = "breast-cancer", n_features = 2, balanced = true, members = 12, nonmembers = 8, auxiliary = 8, test = 20 }'
MODEL = 'model = { name = "vqc", n_qubits = 2, layers = 1 }'
SECOND = f"[pipelines.Main]\n{DATA}\n{MODEL}\n[stacks]"
SERVER = '[threats.server]\nkind = "honest-but-curious-server"'

# what is changed in the file, into what, and what the line must name
CHANGES: dict[str, tuple[str, str, list[str]]] = {
    "a negative seed": ("seeds = [0, 1]", "seeds = [0, -1]", ["seeds: out of range", "got -1", "2^63 - 1"]),
    "a seed beyond 63 bits": ("seeds = [0, 1]", f"seeds = [{2**63}]", ["seeds: out of range", str(2**63)]),
    "a seed of forty digits": ("seeds = [0, 1]", f"seeds = [{10**39}]", ["seeds: out of range"]),
    "too many seeds": ("seeds = [0, 1]", f"seeds = {list(range(100_001))}", ["seeds: too many", "100,001", "100,000"]),
    "no seeds": ("seeds = [0, 1]", "seeds = []", ["seeds", "got []", "at least one entry"]),
    "seeds that are text": ("seeds = [0, 1]", 'seeds = "0-9"', ["seeds", "got '0-9'", "a list"]),
    "a seed that is half": ("seeds = [0, 1]", "seeds = [0.5]", ["seeds[0]", "got 0.5", "integer"]),
    "all clients corrupted": ("n = 1", "n = 3", ["attacks[1].threat", "no honest client", "3 of 3", "n_clients"]),
    "clients that do not exist": ("n = 1", "n = 9", ["attacks[1].threat", "9 of 3 clients"]),
    "fewer than no clients": ("n = 1", "n = -1", ["threats.clients", "'n' is negative", "got -1"]),
    "corrupted by an index": ("n = 1", "indices = [7]", ["threats.clients.indices", "unknown key", "one of n"]),
    "a file of a QNode": (MODEL, 'model = { name = "qnode", path = "no/q.py:f", n_params = 4 }', ["main.model", "no/q.py"]),
    "a file of a module": (MODEL, 'model = { name = "torch", path = "no/q.py:f" }', ["pipelines.main.model", "no/q.py"]),
    "a file of records": ('"breast-cancer"', '"csv", path = "no/d.csv", label_column = "y"', ["main.data", "no/d.csv"]),
    "a file of a plugin": ("seeds =", 'plugins = ["no/p.py"]\nseeds =', ["plugin", "no/p.py", "p.py cannot be read"]),
    "NaN": ("learning_rate = 0.3", "learning_rate = nan", ["main.federation.learning_rate", "got nan", "finite"]),
    "infinity": ("learning_rate = 0.3", "learning_rate = inf", ["main.federation.learning_rate", "got inf"]),
    "less than infinity": ("clip_norm = 0.5", "clip_norm = -inf", ["stacks.clip[0].clip_norm", "got -inf"]),
    "NaN where none is allowed too": ("rounds = 2", "rounds = 2, batch_size = nan", ["federation.batch_size", "got nan"]),
    "NaN in a list": ("n_features = 2,", "n_features = 2, feature_range = [nan, 1.0],", ["feature_range[0]", "got nan"]),
    "NaN for a name": ('name = "tiny"', "name = nan", ["name", "got nan"]),
    "a date for a name": ('name = "tiny"', "name = 2026-01-01", ["name", "got 2026-01-01", "quotes"]),
    "no attacks": ("seeds = [0, 1]", "seeds = [0, 1]\nattacks = []", ["attacks"]),
    "a stack that is text": ("none = []", 'none = "none"', ["stacks.none", "got 'none'", "a list"]),
    "a layer that is a number": ("none = []", "none = [3]", ["stacks.none[0]", "got 3", "a table"]),
    "a layer without a name": ("none = []", "none = [{ clip_norm = 1.0 }]", ["stacks.none[0]", 'add name = "..."']),
    "data that are a number": (DATA, "data = 3", ["pipelines.main.data", "got 3", "a table"]),
    "a model that is a list": (MODEL, 'model = ["vqc"]', ["pipelines.main.model", "got ['vqc']", "a table"]),
    "a model without a name": (MODEL, "model = {}", ["pipelines.main.model", "name"]),
    "pipelines that are a list": ("[pipelines.main]", "[[pipelines]]", ["pipelines", "a table", "..."]),
    "a threat that is text": (SERVER, '[threats]\nserver = "x"', ["threats.server", "got 'x'", "a table"]),
    "parameters that are a list": ('name = "loss-threshold"', 'name = "loss-threshold"\nparams = [1]', ["attacks[0].params"]),
    "an execution of nobody": (DATA, f"client_executions = {{ 9 = {{ shots = 3 }} }}\n{DATA}", ["main", "[9]"]),
    "a topology that is a number": (DATA, f"topology = {{ name = 3 }}\n{DATA}", ["pipelines.main.topology", "name"]),
    "a partition of a number": (DATA, f"partition = {{ kind = 3 }}\n{DATA}", ["main.partition.kind", "got 3"]),
    "pipelines that differ in case": ("[stacks]", SECOND, ["pipelines", "'main' and 'Main'", "only in case"]),
    "stacks that differ in case": ("none = []", "none = []\nNone = []", ["stacks", "'none' and 'None'"]),
    "a stack in another script": ("none = []", '"größe" = []', ["stacks.größe", "got 'größe'", "letters a to z"]),
    "a stack without a name": ("none = []", '"" = []', ["stacks", "got ''", "letter or digit"]),
    "a matrix in another script": ('name = "tiny"', 'name = "マトリ"', ["name", "got 'マトリ'", "letters a to z"]),
    "a key twice": ('name = "tiny"', 'name = "tiny"\nname = "b"', ["not a TOML file", "line 3"]),
    "more rounds than memory": ("rounds = 2", f"rounds = {10**30}", ["pipelines.main", "does not fit", "rounds"]),
    "fewer than no rounds": ("rounds = 2", "rounds = -2", ["pipelines.main.federation", "'rounds'", "got -2"]),
}  # fmt: skip

# what is written into the file, and what the line must name
CONTENTS: dict[str, tuple[bytes, list[str]]] = {
    "an empty file": (b"", ["says nothing", "qflsec show"]),
    "a file of comments": (b"# nothing\n", ["says nothing"]),
    "another encoding": ("tüny = 1".encode("latin-1"), ["UTF-8"]),
    "two bytes a letter": ("tiny = 1".encode("utf-16"), ["UTF-8"]),
    "zeros": (b"\0\0", ["not a TOML file"]),
    "a JSON document": (b'{"name": "tiny"}', ["not a TOML file", "line 1"]),
}

# the words of a command, and what the line must name; files.d is a folder, empty.sqlite an empty file
COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "a specification that is a folder": (["matrix", "run", "files.d"], ["it is a folder", "'files.d'"]),
    "a specification that is nowhere": (["matrix", "run", "nowhere.toml"], ["'nowhere.toml'", "No such file"]),
    "an offset beyond 63 bits": (["matrix", "run", "tiny.toml", "--seed", str(2**63 - 1)], ["seeds: out of range"]),
    "an offset below 0": (["matrix", "run", "tiny.toml", "--seed", "-5"], ["seeds: out of range", "got -5"]),
    "seeds that count down": (["matrix", "run", "tiny.toml", "--seeds", "9-0"], ["--seeds", "counts down", "0-9"]),
    "more seeds than anybody runs": (["matrix", "run", "tiny.toml", "--seeds", "0-999999"], ["--seeds", "100,000"]),
    "seeds of nothing": (["matrix", "run", "tiny.toml", "--seeds", ""], ["--seeds", "0-9"]),
    "a million workers": (["matrix", "run", "tiny.toml", "--jobs", "1000000"], ["--jobs", "1 to 1,024"]),
    "no worker": (["matrix", "run", "tiny.toml", "--jobs", "0", "--dry-run"], ["--jobs", "got 0"]),
    "an address for nobody": (["matrix", "run", "tiny.toml", "--address", "x:1"], ["--address", "--backend dask"]),
    "a store that is a folder": (["matrix", "run", "tiny.toml", "--store", "files.d"], ["store is a folder"]),
    "a store in no folder": (["matrix", "run", "tiny.toml", "--store", "no/s.sqlite"], ["folder of the store"]),
    "a store that is empty": (["matrix", "status", "--store", "empty.sqlite"], ["empty.sqlite is empty"]),
    "a store that is a text": (["matrix", "status", "--store", "tiny.toml"], ["tiny.toml", "not a store"]),
    "a document that is cut short": (["matrix", "status", "--store", "cut.json"], ["not a JSON document"]),
    "a document of another version": (["matrix", "status", "--store", "old.json"], ["got qflsec-matrix-result/1"]),
    "a report in no folder": (["matrix", "run", "tiny.toml", "--report", "no/r.html"], ["folder of the output"]),
    "a report that is a folder": (["matrix", "run", "tiny.toml", "--report", "files.d"], ["output is a folder"]),
    "an export that is a folder": (["matrix", "export", "--store", "s", "--out", "files.d"], ["output is a folder"]),
}  # fmt: skip

# each command in its folder; what computes takes seconds to import, so that no mistake may wait for it
PROGRAM = """
import os, sys
from qflsec.cli import main
for folder in sys.argv[1:]:
    os.chdir(folder)
    sys.argv = ["qflsec", "matrix", "run", "tiny.toml"]
    try:
        main()
    except SystemExit:
        pass
    assert not {"torch", "scipy", "sklearn", "pennylane"} & set(sys.modules), folder
"""


def assert_one_line(answer: Any, words: list[str]) -> None:
    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.err.strip().splitlines()
    assert line.startswith("error: ")
    assert len(line) < 400
    for word in words:
        assert word in line, line
    assert not list(Path().glob("*.sqlite-*"))
    assert not list(Path().glob("*.lock"))
    assert not Path("tiny.sqlite").exists()


def changed(case: str, text: str) -> str:
    old, new, _ = CHANGES[case]
    if case == "no attacks":
        text = text[: text.index("[[attacks]]")]
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize("case", list(CHANGES))
def test_what_a_specification_says(case: str, tiny: Path, qflsec: Call) -> None:
    tiny.write_text(changed(case, tiny.read_text(encoding="utf-8")), encoding="utf-8")
    assert_one_line(qflsec("matrix", "run", "tiny.toml"), CHANGES[case][2])


def test_no_mistake_waits_for_what_computes(tiny: Path) -> None:
    text, folders = tiny.read_text(encoding="utf-8"), []
    for number, case in enumerate(CHANGES):
        folders.append(tiny.parent / f"{number}")
        folders[-1].mkdir()
        (folders[-1] / "tiny.toml").write_text(changed(case, text), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *folders], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert done.stderr.count("error: ") == len(CHANGES)


@pytest.mark.parametrize("case", list(CONTENTS))
def test_what_is_no_specification(case: str, tiny: Path, qflsec: Call) -> None:
    content, words = CONTENTS[case]
    tiny.write_bytes(content)
    assert_one_line(qflsec("matrix", "run", "tiny.toml"), ["tiny.toml", *words])


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("case", list(COMMANDS))
def test_what_a_command_is_given(case: str, qflsec: Call) -> None:
    Path("files.d").mkdir()
    Path("empty.sqlite").touch()
    Path("cut.json").write_text('{"schema": ')
    Path("old.json").write_text(json.dumps({"schema": "qflsec-matrix-result/1"}))
    command, words = COMMANDS[case]
    assert_one_line(qflsec(*command), words)
    assert Path("empty.sqlite").stat().st_size == 0, "reading writes nothing"


def test_a_mark_of_byte_order_is_read_over(tiny: Path, qflsec: Call) -> None:
    tiny.write_bytes(b"\xef\xbb\xbf" + tiny.read_bytes())
    assert qflsec("matrix", "run", "tiny.toml", "--dry-run").code == 0
