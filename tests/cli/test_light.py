"""Commands that look something up import no simulator and no learning library; the index that lets them is never stale."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qflsec.cli import index

Call = Callable[..., Any]
HEAVY = {"torch", "pennylane", "qiskit", "sklearn", "opacus", "tenseal"}
KEPT = {*HEAVY, "scipy"}
"""What nothing imports that finds the result in the store: even its page computes no interval."""
COMMANDS = [
    ["--version"],
    ["--help"],
    ["list"],
    ["list", "attacks"],
    ["show", "dlg"],
    ["show", "secagg", "--json"],
    ["matrix", "status", "--store", "tiny.sqlite"],
    ["matrix", "diff", "tiny.sqlite", "tiny.sqlite"],
    ["matrix", "export", "--store", "tiny.sqlite", "--out", "x.json"],
    ["matrix", "report", "--store", "tiny.sqlite", "--out", "x.html"],
    ["matrix", "run", "odd.toml"],
    ["init", "mine"],
]
PROGRAM = f"""
import sys
from qflsec.cli import main
heavy = set(sys.argv[1:])
for command in {COMMANDS!r}:
    sys.argv = ["qflsec", *command]
    try:
        main()
    except SystemExit:
        pass
    found = sorted(heavy & set(sys.modules))
    assert not found, (command, found)
"""
ODD_DATA = """
name = "odd"
seeds = [0]
threats.server = { kind = "honest-but-curious-server" }
stacks.masked = [{ name = "masked" }]

[pipelines.main]
data = { name = "csv", path = "mine.csv", label_column = "y", n_features = 2, reduction = "none" }
model = { name = "vqc", n_qubits = 2, layers = 1 }

[[attacks]]
name = "loss-threshold"
pipeline = "main"
threat = "server"
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("cache")
def test_what_looks_something_up_is_light(
    tiny: Path, qflsec: Call, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert qflsec("matrix", "run", "tiny.toml", "--jobs", "1").code == 0
    # an index of its own: another test, whose processes look into other places, may replace the user's at any time
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    assert qflsec("list", "attacks").code == 0  # makes the index
    (tiny.parent / "odd.toml").write_text("seeds = []")
    # the first time from what the store keeps, then from its rows
    for heavy in (KEPT, HEAVY):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *heavy],
            cwd=tiny.parent,
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "trials are done" in done.stdout
        assert "odd.toml: " in done.stderr
        shutil.rmtree(tiny.parent / "mine")
        import sqlite3

        with sqlite3.connect(tiny.parent / "tiny.sqlite") as connection:
            connection.execute("DELETE FROM results")
    assert "tiny" in Path("x.html").read_text(encoding="utf-8")


def test_what_workers_begin_with_holds_nothing_that_no_cell_names() -> None:
    program = (
        "import sys\nimport qflsec.lab.worlds.federation.world\nfrom qflsec.base import find\n"
        "from qflsec.base.registry import _entries\nfind('layer', 'client-clip')\nfind('attack', 'dlg')\n"
        "print(*_entries['layer'], *_entries['attack'], *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert {"client-clip", "dlg"} <= found
    assert not found & (KEPT - {"torch"} | {"dp-sgd", "masked", "secagg", "median", "lira", "numba", "sympy"})
    ours = (
        "models.torch_calls",
        "circuits.tapes",
        "circuits.from_pennylane",
        "protocols.qdp",
        "protocols.bb84",
    )
    assert not found & {f"qflsec.{name}" for name in ours}


def test_the_end_of_a_command_looks_for_no_garbage() -> None:
    program = (
        "import atexit, gc, sys\natexit.register(lambda: print(gc.get_freeze_count()))\n"
        "from qflsec.cli import main\nsys.argv = ['qflsec', '--version']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) > 1000


def test_a_mistake_in_the_data_is_told_before_anything_computes(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("a;b;y\n1;2;u\n2;3;v\n")
    (tmp_path / "odd.toml").write_text(ODD_DATA)
    program = (
        "import sys, qflsec.cli as cli\n"
        "try: cli.main()\n"
        "finally: print(*sorted(set(sys.modules) & set('torch scipy sklearn pennylane opacus tenseal qiskit'.split())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "matrix", "run", "odd.toml", "--dry-run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "set separator" in done.stderr
    assert done.stdout.split() == []


def test_the_index_is_made_again_when_anything_changed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make() -> index.Index:
        made.append(1)
        return {"attack": {"dlg": {"idea": f"{len(made)}"}}}

    assert index.indexed(make) == index.indexed(make)
    assert len(made) == 1
    (path,) = cache.rglob("*.json")
    path.write_text(path.read_text()[:-20])
    assert index.indexed(make)["attack"]["dlg"]["idea"] == "2"
    monkeypatch.setattr(index, "installation_digest", lambda: "another")
    assert index.indexed(make)["attack"]["dlg"]["idea"] == "3"
    monkeypatch.setattr(index, "third_parties", lambda: True)
    monkeypatch.setattr(index, "installation_digest", lambda: "with plugins of others")
    assert index.indexed(make)["attack"]["dlg"]["idea"] == "4"
    assert index.indexed(make)["attack"]["dlg"]["idea"] == "5", "plugins of others are never kept"


def test_a_cache_that_cannot_be_written_changes_nothing(cache: Path) -> None:
    cache.write_text("a file where a folder should be")
    assert index.indexed(lambda: {"attack": {}}) == {"attack": {}}


def test_the_digest_sees_every_byte_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qflsec.base import installation

    monkeypatch.setattr(installation, "PACKAGE", tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n")
    digest = installation.installation_digest.__wrapped__
    before = digest()
    assert digest() == before
    stamp = (tmp_path / "a.py").stat()
    (tmp_path / "a.py").write_text("x = 2\n")
    os.utime(tmp_path / "a.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert digest() != before


@pytest.mark.slow
def test_commands_answer_within_six_imports_of_numpy(qflsec: Call) -> None:
    document = qflsec("bench", "cli", "--repeats", "5", "--json").json()
    assert [row["command"] for row in document["rows"] if not row["met"]] == []
    assert json.dumps(document["schema"]) == '"qflsec-bench-cli/1"'
