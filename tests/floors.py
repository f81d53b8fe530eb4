"""The lowest versions that ``pyproject.toml`` allows, as constraints for pip: ``python tests/floors.py``.

Without packages of its own, as it runs before any is installed.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def floors(project: dict[str, object]) -> list[str]:
    """``name==version`` for each requirement of the project and its extras."""
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    requirements = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    found = []
    for requirement in requirements:
        read = re.fullmatch(
            r"([\w.-]+)(?:\[[\w,]+\])?(?:>=|==)([\w.]+)(?:,<[\w.]+)?(?:;.*)?", requirement.replace(" ", "")
        )
        assert read is not None, f"no floor: {requirement}"
        found.append(f"{read[1]}=={read[2]}")
    return found


if __name__ == "__main__":
    print("\n".join(floors(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])))
