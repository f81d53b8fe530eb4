"""Ten small pipelines in the style of public ones: five with planted faults, and the same five without.

A comment ``# FAULT check`` marks the line that the check must name; the clean ones give no error.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qflsec.audit import Bench, CheckRun
from qflsec.audit.check import examined
from qflsec.audit.collect import parts_of, source_code
from qflsec.base import find, names

PIPELINES = sorted((Path(__file__).parent / "pipelines").glob("*.py"))
PLANTED = [path for path in PIPELINES if "# FAULT" in path.read_text()]


def runs(path: Path) -> list[CheckRun]:
    """All checks on all parts, in this process."""
    parts, notes = parts_of(path.parent, path.name, given={}, wanted="")
    assert not notes
    found = []
    for part in (source_code(path.parent, path.name), *parts):
        for name in names("check"):
            check = find("check", name)()
            if isinstance(part, check.looks_at):
                found.append(examined(name, check, part, Bench()))
    return found


def test_there_are_five_of_each() -> None:
    assert (len(PLANTED), len(PIPELINES)) == (5, 10)


@pytest.mark.parametrize("path", PLANTED, ids=lambda path: path.stem)
def test_planted_faults_are_named_with_their_place(path: Path) -> None:
    made = runs(path)
    assert any(finding.severity == "error" for run in made for finding in run.findings)
    seen = {
        (run.check, finding.place.line)
        for run in made
        for finding in run.findings
        if finding.place is not None and finding.place.file == path.name
    }
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for check in re.findall(r"# FAULT ([a-z0-9-]+)", line):
            assert (check, number) in seen


@pytest.mark.parametrize("path", [one for one in PIPELINES if one not in PLANTED], ids=lambda path: path.stem)
def test_clean_pipelines_give_no_error(path: Path) -> None:
    found = runs(path)
    assert [
        f"{run.check}: {one.what}" for run in found for one in run.findings if one.severity == "error"
    ] == []
    assert sum(run.state == "clean" for run in found) > 5
