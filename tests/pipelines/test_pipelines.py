"""Shapes of pipelines that people publish, each in a small file of its own, and each run as a tiny matrix."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest

from qflsec.lab import load_spec, run

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_pipeline_runs_as_a_matrix(file: Path, tmp_path: Path) -> None:
    """Every honest run is finished, and every cell is scored or says why it cannot be made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what runs in PennyLane says so
        result = run(load_spec(str(file)), tmp_path / "store.sqlite", jobs=1)
    assert result.failures == ()
    assert result.cells
    for (attack, stack), cell in result.cells.items():
        assert cell.state != "failed", (attack, stack, cell.sentence)
    (honest,) = [row for row in result.runs if row.stack == "none" and not row.attack]
    assert honest.outcome == "completed"
    assert len(honest.train_loss) == 2
    assert all(map(math.isfinite, (*honest.train_loss, *honest.loss)))
