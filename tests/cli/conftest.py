"""The command line in this process and in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qflsec.cli import main

TINY = """
name = "tiny"
description = "Two attacks on three stacks."
seeds = [0, 1]
secrets = "seeded"

[pipelines.main]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 12, nonmembers = 8, auxiliary = 8, test = 20 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 3, rounds = 2, learning_rate = 0.3 }

[stacks]
none = []
clip = [{ name = "client-clip", clip_norm = 0.5 }]
bad = [{ name = "masked" }, { name = "median" }]

[threats.server]
kind = "honest-but-curious-server"

[threats.clients]
kind = "corrupted-clients"
n = 1

[[attacks]]
name = "loss-threshold"
pipeline = "main"
threat = "server"

[[attacks]]
name = "scaled-sign-flip"
pipeline = "main"
threat = "clients"
"""
# A shell that runs the tests in the background has them ignore Ctrl-C, and so would the command.
PROGRAM = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from qflsec.cli import main; sys.exit(main())"
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The document on stdout."""
        return json.loads(self.out)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a tiny matrix, in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def qflsec(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Run a command in this process."""

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["qflsec", *arguments])
        capsys.readouterr()
        try:
            code: Any = main()
        except SystemExit as leave:
            code = leave.code
        out, err = capsys.readouterr()
        return Answer(code=int(code or 0), out=out, err=err)

    return call


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start a command in a process group of its own."""

    def launch(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return launch
