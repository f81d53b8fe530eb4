"""Notebooks: paired, executed, with stored static figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_pair_holds_the_same_cells(path: Path) -> None:
    jupytext = pytest.importorskip("jupytext")
    notebook, script = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in script.cells
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_and_figures_are_static(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert "image/png" in kinds
    assert not [kind for kind in kinds if "javascript" in kind or "plotly" in kind]
    assert not [output for output in outputs if output.output_type == "error"]
    assert "Threat model" in notebook.cells[0].source
    assert "**After it you can**" in notebook.cells[0].source
    assert "**Time:**" in notebook.cells[0].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_three_exercises_each_with_a_check_that_asks_for_an_answer_first(path: Path) -> None:
    cells = pytest.importorskip("nbformat").read(path, as_version=4).cells
    places = [n for n, cell in enumerate(cells) if "answer" in cell.metadata.get("tags", [])]
    assert len(places) == 3
    for number, place in enumerate(places, 1):
        assert cells[place].source.startswith(f"answer_{number} = ")
        assert cells[place + 1].metadata["tags"] == ["check"]
        assert f'assert answer_{number} is not ..., "set answer_{number} first"' in cells[place + 1].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_student_edition_is_the_notebook_without_outputs_and_answers(path: Path) -> None:
    """'make notebooks' makes it."""
    nbformat = pytest.importorskip("nbformat")
    whole = nbformat.read(path, as_version=4)
    student = nbformat.read(path.parent / "student" / path.name, as_version=4)
    assert len(student.cells) == len(whole.cells)
    for mine, theirs in zip(whole.cells, student.cells, strict=True):
        assert not theirs.get("outputs")
        left_open = re.sub(r"^(answer_\d) = .*", r"\1 = ...", mine.source)
        assert theirs.source == (left_open if "answer" in mine.metadata.get("tags", []) else mine.source)


LONG = {"05_quantum_dp", "06_membership", "07_gradient_inversion"}  # half a minute and more each
MARKED = [pytest.param(path, marks=[pytest.mark.slow] if path.stem in LONG else []) for path in NOTEBOOKS]


@pytest.mark.parametrize("path", MARKED, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
