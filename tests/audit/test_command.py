"""``qflsec audit`` as a user gives it, and the examples that the page names."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qflsec.audit import Bench
from qflsec.audit.check import examined
from qflsec.audit.collect import parts_of, source_code
from qflsec.base import ConfigError, find, names
from qflsec.cli.app import app

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "audit"
FOUND = {
    "federation.py": {
        "repeated-pad", "constant-key", "keystream-reuse", "unnoticed-change", "non-finite-updates", "stated-counts",
        "unbounded-influence", "test-records-in-training", "key-without-channel", "statistical-secrets",
    },
    "circuit.py": {"gradients-determine-records", "updates-reveal-records", "updates-tell-shares", "test-records-in-training"},
    "qiskit_circuit.py": {"gradients-determine-records", "updates-tell-shares"},
    "broken_opacus.py": {"per-sample-gradients", "label-from-gradient"},
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_the_examples_have_their_faults_and_no_others(name: str) -> None:
    parts, _ = parts_of(EXAMPLES, name, given={}, wanted="")
    found = set()
    for part in (source_code(EXAMPLES, name), *parts):
        for check in names("check"):
            made = find("check", check)()
            bench = Bench(deadline=time.monotonic() + 1)  # it bounds trainings
            if isinstance(part, made.looks_at) and examined(check, made, part, bench).findings:
                found.add(check)
    assert found == FOUND[name]


PIPE = "import numpy as np\ndef aggregate(u):\n    return np.median([x for x in u if np.isfinite(x).all()], axis=0)\n"


def test_the_command_writes_what_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "pipe.py").write_text(PIPE)
    (tmp_path / "claims.toml").write_text('[[claims]]\nkind = "bounded"\nat_most = 5.0\n')
    (tmp_path / "mine.py").write_text(
        "from qflsec.audit import Check, Finding\nfrom qflsec.audit.parts import Aggregation\n"
        "from qflsec.base import CheckCard, Source, register\n\n"
        '@register("check", "mine")\nclass Mine(Check):\n    looks_at = Aggregation\n'
        '    card = CheckCard(name="mine", idea="I.", source=Source(paper="p", year=2026, where="w"), title="t", severity="warning",\n'
        '        proves="P.", cannot=("C.",), consequence="C.", remedy="R.")\n'
        '    def run(self, part, bench):\n        yield Finding(what="mine was here")\n'
    )
    done = CliRunner().invoke(
        app,
        ["audit", str(tmp_path / "pipe.py"), "--claims", str(tmp_path / "claims.toml"), "--plugins", str(tmp_path / "mine.py"),
         "--report", str(tmp_path / "o/a.html"), "--junit", str(tmp_path / "o/a.xml"), "--sarif", str(tmp_path / "o/a.sarif"),
         "--check", "mine", "--check", "aggregate-shape", "--json", "--budget", "1m"],
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert done.exit_code == document["exit_code"] == 0
    assert [run["state"] for run in document["runs"]] == ["clean", "found"]
    assert document["verdicts"][0]["judgement"] == "not refuted"
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["a.html", "a.sarif", "a.xml"]
    assert "mine was here" in (tmp_path / "o/a.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing.py"], "nothing to audit there"),
        (["pipe.py", "--budget", "soon"], "--budget is no wall time"),
        (["pipe.py", "--budget", "1s"], "--budget is no wall time"),
        (["pipe.py", "--check", "nonsense"], "no such check"),
        (["pipe.py", "--claims", "claims.toml"], "no such kind of claim"),
        (["pipe.py", "--claims", "absent.toml"], "cannot read the claims"),
    ],
)
def test_bad_input_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pipe.py").write_text(PIPE)
    Path("claims.toml").write_text('[[claims]]\nkind = "magic"\n')
    with pytest.raises(ConfigError, match=told):
        CliRunner().invoke(app, ["audit", *arguments], catch_exceptions=False)


def test_all_mistakes_of_a_claims_file_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "pipe.py").write_text(PIPE)
    (tmp_path / "c.toml").write_text(
        '[roles]\nchef = "a"\n[[claims]]\nkind = "bounded"\n[[claims]]\nkind = "accuracy"\nat_least = 2.0\n'
    )
    with pytest.raises(ConfigError) as caught:
        CliRunner().invoke(
            app,
            ["audit", str(tmp_path / "pipe.py"), "--claims", str(tmp_path / "c.toml")],
            catch_exceptions=False,
        )
    assert len(str(caught.value).splitlines()) == 3


def test_an_interrupted_audit_keeps_what_it_found(tmp_path: Path) -> None:
    marker = tmp_path / "began"
    (tmp_path / "pipe.py").write_text(
        "import pathlib, pickle, time\ndef g(b): return pickle.loads(b)\n"
        f"pathlib.Path({str(marker)!r}).touch()\ntime.sleep(600)\n"
    )
    # a shell that runs the tests in the background has them ignore Ctrl-C, and so would the command
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from qflsec.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "audit", "pipe.py"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not marker.exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1, out
    assert "error: pipe.py:2" in out
    assert "ended early: interrupted" in out
