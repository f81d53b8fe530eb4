"""``qflsec bench matrix``: processor time, its shares and ratios, and what it refuses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qflsec.base import ConfigError
from qflsec.cli.app import app
from qflsec.lab import bench


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Commands that take times as written here, and leave a store as a matrix does."""
    asked: list[tuple[str, str]] = []

    def timed(words: Sequence[str], root: Path, folder: Path) -> float:
        asked.append((root.name, " ".join(words[1:4])))
        if words[:4] != ("-m", "qflsec", "matrix", "run"):
            known = {"import numpy": 0.1, "qflsec matrix status": 1.0, "qflsec matrix report": 3.0}
            return known.get(" ".join(words[1:4]), 2.0)
        with sqlite3.connect(folder / "store.sqlite") as store:
            store.execute("CREATE TABLE units (stage, content, seconds)")
            runs = json.dumps({"costs": {"cpu_seconds": 2.5}})
            rows = [("run", runs, None), ("run", runs, None), ("trial", "{}", 3.0), ("ledger", "{}", None)]
            store.executemany("INSERT INTO units VALUES (?, ?, ?)", rows)
        store.close()
        runs_so_far = sum(words == "qflsec matrix run" for _, words in asked)
        return (40.0 if root.name == "other" else 20.0) + 10.0 / runs_so_far

    monkeypatch.setattr(bench, "_timed", timed)
    return asked


def test_versions_are_measured_in_alternation_and_shares_add_up(
    calls: list[tuple[str, str]], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    (other / "qflsec").mkdir(parents=True)
    (other / "qflsec" / "__main__.py").touch()
    command = [
        "bench",
        "matrix",
        "privacy",
        "--against",
        str(other),
        "--repeats",
        "2",
        "--seeds",
        "0",
        "--json",
    ]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.output
    (row,) = json.loads(answer.stdout)["rows"]
    runs = [root for root, words in calls if words == "qflsec matrix run"]
    assert runs[::2] == ["other", "other"]
    assert len(runs) == 4
    assert "other" not in runs[1::2]
    assert row["seconds"] == 22.5, "the least"
    assert row["against_seconds"] == pytest.approx(40 + 10 / 3)
    assert row["ratio"] == pytest.approx(22.5 / (40 + 10 / 3))
    assert row["numpy"] == pytest.approx(225)
    assert sum(row["shares"].values()) == pytest.approx(1)
    seconds = {part: share * 22.5 for part, share in row["shares"].items()}
    assert seconds == pytest.approx(
        {"runs": 5, "attacks and scores": 3, "report": 2, "starting": 2, "the rest": 10.5}
    )
    assert row["trials"] == 1


def test_the_text_names_shares_and_no_ratio_without_another_version(calls: list[tuple[str, str]]) -> None:
    text = CliRunner().invoke(app, ["bench", "matrix"]).stdout
    assert text.startswith("quickstart: 30.0 s of processor time for 1 trials, 300 times")
    assert "attacks and scores   10.0 %" in text
    assert "ratio" not in text
    assert len(calls) == 3 + 1 + 1 + 2


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkout to compare with"):
        bench.bench_matrices(["quickstart"], against=tmp_path)


def test_children_count_and_a_command_that_fails_is_told(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.2: pass"
    inside = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}], check=True)"
    assert 0.2 <= bench._timed(("-c", inside), tmp_path, tmp_path) < 2
    with pytest.raises(ConfigError, match="cannot be measured"):
        bench._timed(("-c", "raise SystemExit('no')"), tmp_path, tmp_path)
