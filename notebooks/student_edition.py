"""The student edition of the notebooks: ``python notebooks/student_edition.py``, which ``make notebooks`` runs last.

Every notebook becomes one in ``notebooks/student/`` without outputs and without answers: in a cell with the tag ``answer`` each
assignment to a name that begins with ``answer`` is left open (``answer = ...``), and a cell with the tag ``solution`` is left out.
The cell after it checks the answer by a property, never by comparing it with the right one.
"""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).resolve().parent
OPEN = re.compile(r"^(answer\w*) = .*$", re.MULTILINE)


def student(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook as a student gets it."""
    cells = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "solution" in tags:
            continue
        source = OPEN.sub(r"\1 = ...", cell.source) if "answer" in tags else cell.source
        make = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        # ids that depend on the place alone, so that the same notebook gives the same file
        cells.append(make(source, metadata={"tags": tags} if tags else {}, id=f"cell-{len(cells)}"))
    kernel = {key: notebook.metadata[key] for key in ("kernelspec",) if key in notebook.metadata}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def main() -> None:
    """Write all of them."""
    (HERE / "student").mkdir(exist_ok=True)
    for script in sorted(HERE.glob("[0-9]*.py")):
        made = student(jupytext.read(script))
        nbformat.write(made, HERE / "student" / f"{script.stem}.ipynb")


if __name__ == "__main__":
    main()
