"""The code of docs/adding/attack.md does what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "adding" / "attack.md").read_text(encoding="utf-8")


def block(title: str) -> str:
    found = re.search(rf"<!-- tested: {re.escape(title)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, title
    return found.group(1)


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_two_files_make_rows(tmp_path: Path) -> None:
    """The attacks are one file, and the matrix another."""
    (tmp_path / "mine.py").write_text(
        "\n".join(block(t) for t in ("inference", "manipulation", "state", "shadows"))
    )
    more = '[[attacks]]\nname = "{}"\npipeline = "small"\nthreat = "{}"\n'
    (tmp_path / "mine.toml").write_text(
        block("matrix") + more.format("freeze-out", "one") + more.format("surer-than-shadows", "public")
    )
    assert "mine.py" in block("matrix")
    assert "--report" in run("-m", "qflsec", "matrix", "run", "--help", cwd=tmp_path)
    out = run("-m", "qflsec", "matrix", "run", "mine.toml", "--jobs", "1", "--json", cwd=tmp_path)
    for name in ("margin", "steady-drift", "freeze-out", "surer-than-shadows"):
        assert f'"{name}"' in out
    assert '"failed"' not in out


def test_the_attacks_pass_the_check_that_the_page_names(tmp_path: Path) -> None:
    assert "qflsec plugin check mine.py" in PAGE
    (tmp_path / "mine.py").write_text("\n".join(block(t) for t in ("inference", "manipulation", "state")))
    out = run("-m", "qflsec", "plugin", "check", "mine.py", cwd=tmp_path)
    assert out.endswith("0 of 18 checks failed.\n")
    assert "not checked" not in out
