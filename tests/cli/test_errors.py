"""Each mistake of a user is one clean line on stderr and exit code 2, without a traceback."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import pytest

from qflsec.base import ConfigError
from qflsec.base.notices import forget, notice
from qflsec.lab import Store

CHANGES = {
    "wrong TOML key": ("rounds = 2", "roundz = 2", ["pipelines.main.federation.roundz", "did you mean 'rounds'"]),
    "bad TOML syntax": ('name = "tiny"', 'name = "tiny', ["tiny.toml", "not a TOML file", "line 2"]),
    "unknown attack": ('name = "loss-threshold"', 'name = "loss-treshold"', ["attacks[0]", "did you mean 'loss-threshold'"]),
    "unknown layer": ('"client-clip"', '"client-klip"', ["stacks.clip[0]", "did you mean 'client-clip'"]),
    "unknown threat": ('"corrupted-clients"', '"corrupt-clients"', ["threats.clients", "did you mean 'corrupted-clients'"]),
    "unknown data set": ('"breast-cancer"', '"breast"', ["pipelines.main.data.name", "expected one of"]),
    "unknown model": ('name = "vqc"', 'name = "qvc"', ["pipelines.main.model", "did you mean 'vqc'"]),
    "impossible partition": ("n_clients = 3", "n_clients = 30", ["pipelines.main.partition", "30 clients", "members"]),
    "too many records": ("members = 12", "members = 9999", ["pipelines.main.data", "too few", "at most"]),
    "wrong type": ("rounds = 2", 'rounds = "2"', ["pipelines.main.federation.rounds", "got '2'", "integer"]),
    "unreadable CSV": ('"breast-cancer"', '"csv", path = "none.csv", label_column = "y"', ["none.csv"]),
    "NaN in data": ('"breast-cancer"', '"csv", path = "nan.csv", label_column = "y"', ["nan.csv", "row 3", "'b'", "fill it in"]),
    "no such column": ('"breast-cancer"', '"csv", path = "nan.csv", label_column = "z"', ["nan.csv", "'z'"]),
}  # fmt: skip
pytestmark = pytest.mark.usefixtures("tiny")
Call = Callable[..., Any]


def assert_one_line(answer: Any, *words: str) -> None:
    assert answer.code == 2, answer
    assert answer.out == ""
    lines = answer.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert "Traceback" not in lines[0]
    for word in words:
        assert word in lines[0], lines[0]


@pytest.mark.parametrize("case", list(CHANGES))
def test_mistakes_in_a_specification(case: str, tiny: Path, qflsec: Call) -> None:
    old, new, words = CHANGES[case]
    (tiny.parent / "nan.csv").write_text("a,b,y\n1,2,0\n1,NaN,1\n" + "3,4,0\n5,6,1\n" * 40)
    text = tiny.read_text()
    assert old in text
    tiny.write_text(text.replace(old, new))
    assert_one_line(qflsec("matrix", "run", str(tiny)), *words)
    assert not (tiny.parent / "tiny.sqlite").exists()


def test_unknown_preset(qflsec: Call) -> None:
    assert_one_line(qflsec("matrix", "run", "quikstart"), "did you mean 'quickstart'")


def test_unknown_backend(qflsec: Call) -> None:
    assert_one_line(qflsec("matrix", "run", "tiny.toml", "--backend", "spark"), "local, loky, dask, ray")


def test_seeds_that_are_none(qflsec: Call) -> None:
    assert_one_line(qflsec("matrix", "run", "tiny.toml", "--seeds", "a,b"), "--seeds", "0,1,2")


def test_an_output_folder_that_is_not_there_is_told_before_the_work(qflsec: Call) -> None:
    assert_one_line(qflsec("matrix", "run", "tiny.toml", "--report", "no/such/report.html"), "folder")
    assert not Path("tiny.sqlite").exists()


def test_a_corrupt_store(qflsec: Call) -> None:
    Path("s.sqlite").write_bytes(b"this is no database, it is a note of some length" * 40)
    for command in (
        ("matrix", "run", "tiny.toml", "--store", "s.sqlite"),
        ("matrix", "status", "--store", "s.sqlite"),
        ("matrix", "export", "--store", "s.sqlite"),
        ("matrix", "report", "--store", "s.sqlite", "--out", "r.html"),
        ("matrix", "diff", "s.sqlite", "s.sqlite"),
    ):
        assert_one_line(qflsec(*command), "s.sqlite", "not a store", "move it away")


def test_a_store_of_another_version(qflsec: Call) -> None:
    Store("s.sqlite").close()
    connection = sqlite3.connect("s.sqlite")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    assert_one_line(qflsec("matrix", "status", "--store", "s.sqlite"), "another version", "schema 7")


def test_a_store_that_is_not_there_or_empty(qflsec: Call) -> None:
    assert_one_line(qflsec("matrix", "status", "--store", "none.sqlite"), "no such store")
    Store("s.sqlite").close()
    assert_one_line(qflsec("matrix", "status", "--store", "s.sqlite"), "no matrix was run")


def test_a_document_that_is_no_result(qflsec: Call) -> None:
    Path("r.json").write_text('{"schema": "something"}')
    assert_one_line(qflsec("matrix", "diff", "r.json", "r.json"), "matrix result", "got something")


def test_unknown_names(qflsec: Call) -> None:
    assert_one_line(qflsec("list", "atacks"), "did you mean 'attacks'")
    assert_one_line(qflsec("show", "los-threshold"), "did you mean 'loss-threshold'")


def test_an_unknown_format(qflsec: Call) -> None:
    assert_one_line(qflsec("matrix", "export", "--store", "s.sqlite", "--format", "xml"), "json, csv")


def test_an_unknown_option_is_no_traceback(qflsec: Call) -> None:
    answer = qflsec("matrix", "run", "--no-such-option")
    assert answer.code == 2
    assert "Traceback" not in answer.err


def test_a_bug_keeps_its_traceback(qflsec: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from qflsec import lab

    monkeypatch.setattr(lab, "build", int)  # a library's function, so that no frame is the user's
    with pytest.raises(TypeError, match="int"):
        qflsec("matrix", "run", "tiny.toml")


def test_the_module_exits_like_the_command() -> None:
    """A mistake must fail a script or a CI job, whichever way the command is started."""
    for command, code in ((["matrix", "run", "nowhere.toml"], 2), (["list", "attacks"], 0)):
        done = subprocess.run([sys.executable, "-m", "qflsec", *command], capture_output=True, check=False)
        assert done.returncode == code


def test_all_mistakes_of_a_file_are_told_at_once(tiny: Path, qflsec: Call) -> None:
    text = tiny.read_text()
    for old, new in (
        ("rounds = 2", "roundz = 2, n_klients = 3"),
        ("members = 12, ", 'members = "12", '),
        ("n_qubits = ", "n_qbits = "),
        ("clip_norm = ", "clipnorm = "),
        ("[stacks]", '[stacks]\nklip = [{ name = "client-klip" }]'),
        ('name = "scaled-sign-flip"', 'name = "scaled-sign-flip"\nparams = { scal = 3 }'),
        ('kind = "corrupted-clients"', "strength = 1"),
        ('name = "loss-threshold"', 'name = "loss-threshold"\nparams = { x = 1 }'),
    ):
        assert old in text
        text = text.replace(old, new)
    tiny.write_text(text)
    light = [
        "pipelines.main.data.members: wrong value; got '12'",
        "pipelines.main.model.n_qbits: unknown key; got 'n_qbits'",
        "pipelines.main.federation.roundz: unknown key; got 'roundz'",
        "pipelines.main.federation.n_klients: unknown key; got 'n_klients'",
        "threats.clients: a threat without a kind",
        "stacks.klip[0]: unknown layer",
        "stacks.clip[0].clipnorm: unknown key; got 'clipnorm'; expected one of clip_norm; did you mean 'clip_norm'?",
        "attacks[0].x: unknown key; got 'x'; expected no such key; remove it",
        "attacks[1].scal: unknown key; got 'scal'; expected one of scale; did you mean 'scale'?",
    ]
    check_lines(qflsec("matrix", "run", str(tiny)), light)
    # the same where the tables already say that it is no specification
    tiny.write_text(text.replace("seeds = [0, 1]", "seeds = [0, 0]"))
    check_lines(
        qflsec("matrix", "run", str(tiny)),
        [f"tiny.toml: {line}" for line in ("seeds: a seed is listed twice", *light)],
    )


def check_lines(answer: Any, starts: list[str]) -> None:
    assert (answer.code, answer.out) == (2, "")
    lines = answer.err.splitlines()
    assert len(lines) == len(starts), lines
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(f"error: {start}"), line


def test_all_missing_keys_are_told_at_once(tiny: Path, qflsec: Call) -> None:
    tiny.write_text(
        'sedes = [0]\n[pipelines.p]\n[pipelines.q]\ndata = { name = "irises" }\nmodel = { name = "vqc" }\nmore = 1\n'
        '[stacks]\nnone = []\nother = [3, { name = "medain" }]\n[[attacks]]\nname = "dlgg"\n[[threats]]\nkind = "x"\n'
    )
    lines = qflsec("matrix", "run", str(tiny)).err.splitlines()
    assert "expected one of data, model, partition," in lines[3]
    assert [line.removeprefix("error: tiny.toml: ").partition(";")[0] for line in lines] == [
        "name: missing",
        "pipelines.p.data: missing",
        "pipelines.p.model: missing",
        "pipelines.q.more: unknown key",
        "stacks.other[0]: wrong value",
        "threats: wrong value",
        "attacks[0].pipeline: missing",
        "attacks[0].threat: missing",
        "sedes: unknown key",
        "pipelines.q.data.name: unknown dataset",
        "stacks.other[1]: unknown layer",
        "attacks[0]: unknown attack",
    ]


def test_a_notice_is_one_line_and_warnings_of_others_keep_their_place(
    qflsec: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def speak(_: object) -> Never:
        forget()
        notice("it is slow", about="this")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        raise ConfigError("stop")

    monkeypatch.setattr("qflsec.cli.catalog._everything", speak)
    with pytest.warns(DeprecationWarning, match="old") as others:
        lines = qflsec("show", "dp-sgd").err.splitlines()
    assert lines == ["note: it is slow", "error: stop"]
    assert len(others) == 1


@pytest.mark.parametrize(("name", "fix"), [("models", "'qflsec list models'"), ("xyzzy", "'qflsec list'")])
def test_a_name_of_nothing_says_where_names_are(qflsec: Call, name: str, fix: str) -> None:
    answer = qflsec("show", name)
    assert answer.code == 2
    assert fix in answer.err
