"""docs/audit_checks.md is what the cards say today."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "audit_checks.md"


def test_the_page_is_not_stale() -> None:
    """In a process of its own: other tests register things."""
    command = "from qflsec.cli.reference_audit import audit_reference_lines; print('\\n'.join(audit_reference_lines()))"
    made = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert PAGE.read_text(encoding="utf-8").splitlines() == made, (
        "stale: qflsec reference --of audit --out docs/audit_checks.md"
    )


def test_the_table_of_faults_names_checks_and_claims_that_there_are() -> None:
    known = set(re.findall(r"^### `([a-z0-9-]+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    named = set(
        re.findall(r"audit_checks\.md#([a-z0-9-]+)\)", PAGE.with_name("audit.md").read_text(encoding="utf-8"))
    )
    assert len(named) > 40
    assert named <= known
