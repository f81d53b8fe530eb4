"""docs/matrix.md is what the classes say today."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "matrix.md"


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """In a process of its own: other tests register things."""
    command = "from qflsec.cli.reference import reference_lines; print('\\n'.join(reference_lines()))"
    return subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_the_page_is_not_stale(lines: list[str]) -> None:
    kept = PAGE.read_text(encoding="utf-8").splitlines()
    differing = [pair for pair in zip(kept, lines, strict=False) if pair[0] != pair[1]][:2]
    assert kept == lines, f"stale; run: qflsec reference --out docs/matrix.md; first: {differing}"


def test_every_key_has_a_type_and_a_sentence(lines: list[str]) -> None:
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| `")]
    assert len(rows) > 250
    for key, takes, _, _, about in rows:
        assert takes.strip(), key
        assert re.match(r" [A-Z0-9`].*[.] $", about), (key, about)


def test_all_kinds_and_plugins_are_there(lines: list[str]) -> None:
    text = "\n".join(lines)
    for heading in (
        "## Models",
        "### `vqc`",
        "### `secagg`",
        "### `dlg`",
        "### `iris`",
        "### `dirichlet`",
        "### `ring`",
    ):
        assert f"\n{heading}\n" in text, heading
    assert "| `weight_shapes` | table |" in text
    assert "| `isolation_db` | number | `40.0` | dB |" in text
    assert "In matrices of kind channel." in text
    assert "| `evaluator` |" not in text, "it is bound to a run"
