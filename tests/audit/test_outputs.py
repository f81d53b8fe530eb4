"""Exit codes and documents: text, JSON, HTML, JUnit, SARIF."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from qflsec.audit.outcome import AuditResult, CheckRun, Finding, Place, Verdict, run_from_json
from qflsec.audit.outputs.junit import junit_xml
from qflsec.audit.outputs.page import audit_page
from qflsec.audit.outputs.sarif import sarif_json
from qflsec.audit.outputs.text import audit_lines

FINDING = Finding(
    what="<b>seen & told</b>",
    place=Place(file="a/b.py", line=7),
    severity="error",
    evidence={"moved": math.inf},
    reproduction="f(x)",
)
FOUND = CheckRun(check="unpickling", subject="b.py", state="found", findings=(FINDING,), seconds=0.25)
CLEAN = CheckRun(check="no-noise", subject="privatise", state="clean", measured={"length": 1.5})
SKIPPED = CheckRun(check="no-clients", subject="", state="skipped", why="no rule")
LATE = CheckRun(check="decryption", subject="encrypt", state="out of time", why="it\x07 took long")
CLAIM = Verdict(
    claim="all is well", kind="disjoint", judgement="not refuted", why="it was looked at", ceiling="not far"
)
RESULT = AuditResult(
    target="b.py", created="2026-12-02T00:00:00+00:00", command="qflsec audit b.py", seed=0, budget_s=5.0, seconds=1.0,
    runs=(FOUND, CLEAN, SKIPPED), verdicts=(CLAIM,),
)  # fmt: skip
NOTE = replace(FOUND, findings=(replace(FINDING, severity="warning"),))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, 1),
        ({"runs": (NOTE, CLEAN, SKIPPED)}, 0),
        ({"runs": (CLEAN,), "verdicts": ()}, 0),
        ({"runs": (SKIPPED,), "verdicts": ()}, 3),
        ({"runs": (), "verdicts": ()}, 3),
        ({"runs": (CLEAN, LATE)}, 3),
        ({"runs": (CLEAN,), "stopped": "interrupted"}, 3),
        ({"runs": (CLEAN,), "verdicts": (replace(CLAIM, judgement="not tested"),)}, 3),
        ({"runs": (CLEAN,), "verdicts": (replace(CLAIM, judgement="refuted"),)}, 1),
        ({"runs": (CLEAN, LATE), "verdicts": (replace(CLAIM, judgement="refuted"),)}, 1),
        ({"runs": (CLEAN,), "verdicts": (replace(CLAIM, judgement="proved by check"),)}, 0),
    ],
)
def test_exit_codes(change: dict[str, object], code: int) -> None:
    assert replace(RESULT, **change).exit_code == code  # type: ignore[arg-type]


def test_runs_survive_json() -> None:
    document = json.loads(json.dumps(RESULT.to_json()))
    assert [run_from_json(run) for run in document["runs"]] == list(RESULT.runs)
    assert document["schema"] == "qflsec-audit/1"
    assert document["exit_code"] == 1


def test_junit_counts_what_a_ci_system_shows() -> None:
    root = ET.fromstring(
        junit_xml(
            replace(
                RESULT,
                runs=(FOUND, CLEAN, SKIPPED, LATE, NOTE),
                verdicts=(CLAIM, replace(CLAIM, judgement="refuted")),
            )
        )
    )
    checks, claims = root.findall("testsuite")
    assert {key: checks.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    assert (claims.get("failures"), claims.get("errors")) == ("1", "0")


def test_sarif_points_at_lines_and_holds_no_infinities() -> None:
    document = json.loads(sarif_json(replace(RESULT, verdicts=(replace(CLAIM, judgement="refuted"),))))
    (run,) = document["runs"]
    first, claim = run["results"]
    assert run["tool"]["driver"]["rules"][first["ruleIndex"]]["id"] == first["ruleId"] == "unpickling"
    place = first["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("a/b.py", 7)
    assert first["properties"]["evidence"] == {"moved": "inf"}
    assert claim["message"]["text"].startswith("Refuted")
    assert not json.loads(sarif_json(replace(RESULT, runs=(LATE,))))["runs"][0]["invocations"][0][
        "executionSuccessful"
    ]


def test_the_page_escapes_what_it_shows() -> None:
    page = audit_page(RESULT)
    assert "<b>seen" not in page
    assert "&lt;b&gt;seen &amp; told" in page
    assert "to see it" in page


def test_the_text_says_what_was_not_done() -> None:
    text = "\n".join(audit_lines(replace(RESULT, runs=(FOUND, CLEAN, SKIPPED, LATE), stopped="interrupted")))
    for part in (
        "error: a/b.py:7",
        "no-clients: no rule",
        "out of time  decryption",
        "not refuted",
        "not far",
        "interrupted",
        "exit code 1",
    ):
        assert part in text
