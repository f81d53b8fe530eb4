"""SARIF 2.1.0, so that a code host shows findings at their lines."""

from __future__ import annotations

import json
from typing import Any

from qflsec.audit.outcome import AuditResult, CheckRun, Finding, Verdict
from qflsec.base import find
from qflsec.version import __version__

__all__ = ["sarif_json"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "note": "note"}
_CLAIMS = "claim"


def sarif_json(result: AuditResult) -> str:
    """The result as one run of a tool: a rule for each check that found something, a result for each finding."""
    found = [(run, finding) for run, finding in result.found()]
    refuted = [verdict for verdict in result.verdicts if verdict.judgement == "refuted"]
    rules = [_rule(name) for name in dict.fromkeys(run.check for run, _ in found)]
    if refuted:
        rules.append(
            {"id": _CLAIMS, "shortDescription": {"text": "a claim of the pipeline's author is refuted"}}
        )
    order = {rule["id"]: index for index, rule in enumerate(rules)}
    cut = [run for run in result.runs if run.state in {"failed", "out of time"}]
    document = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "qflsec audit", "version": __version__, "rules": rules}},
                "invocations": [
                    {
                        "executionSuccessful": not cut and not result.stopped,
                        "toolExecutionNotifications": [_notification(run) for run in cut],
                    }
                ],
                "columnKind": "unicodeCodePoints",
                "results": [
                    *(_result(run, finding, order[run.check]) for run, finding in found),
                    *(_refuted(verdict, order[_CLAIMS], result) for verdict in refuted),
                ],
            }
        ],
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _rule(name: str) -> dict[str, Any]:
    card = find("check", name).card
    return {
        "id": name,
        "shortDescription": {"text": card.title},
        "fullDescription": {"text": card.idea},
        "help": {"text": f"{card.consequence} {card.remedy}"},
        "defaultConfiguration": {"level": _LEVELS[card.severity]},
    }


def _result(run: CheckRun, finding: Finding, rule: int) -> dict[str, Any]:
    place = finding.place
    region = {"region": {"startLine": place.line}} if place and place.line else {}
    where = (
        [{"physicalLocation": {"artifactLocation": {"uri": place.file.replace("\\", "/")}, **region}}]
        if place
        else []
    )
    return {
        "ruleId": run.check,
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity or "error"],
        "message": {"text": f"{finding.what}." if finding.what[-1:] not in ".!?" else finding.what},
        "locations": where,
        "properties": {
            "subject": run.subject,
            "evidence": _finite(finding.evidence),
            "toSeeIt": finding.reproduction,
        },
    }


def _refuted(verdict: Verdict, rule: int, result: AuditResult) -> dict[str, Any]:
    return {
        "ruleId": _CLAIMS,
        "ruleIndex": rule,
        "level": "error",
        "message": {"text": f"Refuted: {verdict.claim}. {verdict.why}"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": result.target.partition(":")[0]}}}],
        "properties": {"evidence": _finite(verdict.evidence)},
    }


def _notification(run: CheckRun) -> dict[str, Any]:
    return {"level": "error", "message": {"text": f"{run.check} on {run.subject}: {run.state}: {run.why}"}}


def _finite(evidence: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Numbers that JSON can hold; infinities and NaN as words."""
    return {
        key: value if not isinstance(value, float) or value - value == 0 else str(value)
        for key, value in dict(evidence).items()
    }
