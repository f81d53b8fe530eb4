"""Write the fixtures of the guard anew: ``python tests/guard/regenerate.py --because "..." [preset ...]``.

Use it only where a number of a preset is meant to change: a mended error of arithmetic, another default, another
preset, or other versions of torch, NumPy or SciPy. The reason goes into the fixture, and the commit says which
numbers changed and why. A move or a rename changes no number, and a faster way to the same result at most the last
bits of a few, which the reason counts: never run it to turn another such commit green. A change of ids, sentences, costs or messages needs no new fixture, as none of them is in it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from guarded_lab import PRESETS, made, specification
from guarded_numbers import fingerprint

FOLDER = Path(__file__).parent / "fixtures"


def read(preset: str) -> dict[str, Any]:
    """The fixture of a preset."""
    document: dict[str, Any] = json.loads((FOLDER / f"{preset}.json").read_text(encoding="utf-8"))
    return document


def write(preset: str, document: dict[str, Any]) -> None:
    """Write a fixture with one row on a line, so that a diff names the rows that changed."""
    head = {name: part for name, part in document.items() if name != "rows"}
    tables = (
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(
            f"{json.dumps(key)}: {json.dumps(row, separators=(',', ':'))}" for key, row in table.items()
        )
        + "\n}"
        for name, table in document["rows"].items()
    )
    text = f'{json.dumps(head, indent=1)[:-2]},\n "rows": {{\n' + ",\n".join(tables) + "\n}}\n"
    assert json.loads(text) == document
    (FOLDER / f"{preset}.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Run the presets and write what they gave."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("presets", nargs="*", default=PRESETS)
    parser.add_argument("--because", required=True, help="why the numbers change")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for preset in asked.presets:
        document = {
            "because": asked.because,
            "fingerprint": fingerprint(),
            "rows": made(specification(preset)),
        }
        write(preset, document)


if __name__ == "__main__":
    main()
