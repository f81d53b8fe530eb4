"""The scripts of ``examples/`` run, and print what they say that they show."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# what each script has to print
SHOWS = {
    "own_circuit.py": [
        r"in the kernel: True",
        r"accuracy: 0\.[6-9]",
        r"functorch: per-sample gradients are right",
    ],
    "quantum_key.py": [
        r"nobody listens: error rate 0\.00",
        r"[\d,]{6} bits, within",
        r"no key: test error rate",
    ],
    "rebuild_records.py": [r"none: advantage (0\.9\d|1\.00)", r"masked: advantage (-|0\.[0-4])"],
    "forget_client.py": [
        r"\ntrained: .* AUC 0\.[89]",
        r"\nretrained: .* AUC 0\.[345]|^retrained: .* AUC 0\.[345]",
        r"\nerased: .* AUC 0\.[345]",
    ],
    "flower_secure_sum.py": [
        r"round 0: the mean of clients \(0, 1, 2, 3, 4\) is \[2\. 2\. 2\.\]",
        r"round 1: the mean of clients \(0, 1, 2, 3\) is \[1\.5 1\.5 1\.5\]",
        r"4: 'no node of it is connected'|4: 'it did not answer",
        r"losses that the server saw: none",
        r"completed: \d+ bytes up",
    ],
    "secure_sum.py": [r"sum of clients \(0, 1, 2, 3, 4\)", r"the server: reads no single", r"left: aborted"],
    "train_and_account.py": [
        r"dp-fedavg: accuracy 0\.[89]",
        r"Client-level DP .* epsilon = \d\.",
        r"Trusted: the",
    ],
}


@pytest.mark.parametrize("name", SHOWS)
def test_an_example_shows_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = capsys.readouterr().out
    for shown in SHOWS[name]:
        assert re.search(shown, printed), (shown, printed)
    assert list(tmp_path.iterdir()) == []


def test_an_attack_of_ones_own_fills_a_matrix(tmp_path: Path) -> None:
    """In a process of its own: what a script registers stays registered."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "own_attack.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    undefended, median = re.findall(r"against (?:none|median): ok, advantage (-?\d+\.\d+)", done.stdout)
    assert float(undefended) > 1.0
    assert float(median) < 0.3
    assert "freeze" in (tmp_path / "own_attack.html").read_text(encoding="utf-8")


def test_every_example_is_tested_and_short() -> None:
    scripts = {path.name: path.read_text(encoding="utf-8").splitlines() for path in EXAMPLES.glob("*.py")}
    assert set(scripts) == {*SHOWS, "own_attack.py"}
    assert all(len(lines) <= 60 for lines in scripts.values())
