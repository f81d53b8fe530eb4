"""The page of an audit, of the family of the matrices' report."""

from __future__ import annotations

import math
from collections.abc import Iterator

from markupsafe import Markup

from qflsec.audit.outcome import AuditResult, CheckRun, Finding, worst_first
from qflsec.base import find
from qflsec.report.html import number, table
from qflsec.report.page import render_sections

__all__ = ["audit_page"]


def audit_page(result: AuditResult) -> str:
    """One HTML file that opens without a network: coverage, findings, verdicts, how it was made."""
    sections = {
        "Coverage": _coverage(result),
        "Findings": _findings(result),
        "Claims": _claims(result),
        "How this was made": _made(result),
    }
    return render_sections(result, {title: str(content) for title, content in sections.items()})


def _coverage(result: AuditResult) -> Markup:
    ran = [run for run in worst_first(result.runs) if run.state != "skipped"]
    skipped = [run for run in result.runs if run.state == "skipped"]
    parts = ", ".join(f"{name} ({kind})" for name, kind in result.parts) or "nothing was run"
    rows = [
        (
            run.check,
            run.subject,
            f"{run.state}: {run.why}" if run.why else run.state,
            _measured(run),
            f"{run.seconds:.1f} s",
        )
        for run in ran
    ]
    whys = dict.fromkeys(run.why for run in skipped)
    reasons = [(why, ", ".join(run.check for run in skipped if run.why == why)) for why in whys]
    notes = Markup("").join(Markup("<li>{}</li>").format(note) for note in result.notes)
    return Markup("").join(
        [
            Markup("<p>{}.</p><p>Recognised: {}.</p>").format(result.summary, parts),
            Markup("<ul>{}</ul>").format(notes) if result.notes else Markup(""),
            table(("check", "on", "result", "measured", "time"), rows, label="Checks that ran"),
            Markup("<h3>Skipped</h3>") if skipped else Markup(""),
            table(("why", "checks"), reasons, label="Checks that were skipped") if skipped else Markup(""),
        ]
    )


def _measured(run: CheckRun) -> str:
    return "; ".join(f"{name}: {_figure(value)}" for name, value in run.measured.items())


def _figure(value: object) -> str:
    if isinstance(value, float):
        return number(value, 3) if math.isfinite(value) else str(value)
    return str(value)


def _findings(result: AuditResult) -> Markup:
    found = list(result.found())
    if not found:
        return Markup(
            "<p>Nothing was found. What the checks cannot show stands on the page about audits.</p>"
        )
    return Markup("").join(Markup("").join(_finding(run, finding)) for run, finding in found)


def _finding(run: CheckRun, finding: Finding) -> Iterator[Markup]:
    card = find("check", run.check).card
    yield Markup("<h3>{}: {}</h3>").format(str(finding.severity).capitalize(), card.title)
    rows = [
        ("where", finding.place or run.subject),
        ("seen", finding.what),
        *(
            ("to see it", Markup("<code>{}</code>").format(finding.reproduction))
            for _ in [0]
            if finding.reproduction
        ),
        *(
            ("numbers", "; ".join(f"{name} = {_figure(value)}" for name, value in finding.evidence.items()))
            for _ in [0]
            if finding.evidence
        ),
        ("what it proves", card.proves),
        ("what it says", card.consequence),
        ("to mend it", card.remedy),
        ("check", run.check),
    ]
    yield table(("", ""), rows, label=f"{card.title}, {finding.place or run.subject}")


def _claims(result: AuditResult) -> Markup:
    if not result.verdicts:
        return Markup("<p>No claims were given: write them into a file and name it with --claims.</p>")
    rows = [(one.claim, one.judgement, one.why, one.ceiling) for one in result.verdicts]
    return table(("claim", "verdict", "why", "what the test could show at most"), rows, label="Claims")


def _made(result: AuditResult) -> Markup:
    rows = [
        ("command", Markup("<code>{}</code>").format(result.command)),
        ("seed", str(result.seed)),
        ("budget", f"{result.budget_s:g} s, of which {result.seconds:.1f} s were used"),
        *((name, version) for name, version in result.versions.items()),
        ("exit code", str(result.exit_code)),
        *(("ended early", result.stopped) for _ in [0] if result.stopped),
    ]
    return table(("", ""), rows, label="How this was made")
