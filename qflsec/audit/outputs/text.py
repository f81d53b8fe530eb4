"""An audit's result on a terminal: coverage, findings, verdicts."""

from __future__ import annotations

from collections.abc import Iterator

from qflsec.audit.outcome import AuditResult, Finding, worst_first
from qflsec.base import find

__all__ = ["audit_lines", "print_audit"]


def print_audit(result: AuditResult) -> None:
    """The result on stdout."""
    import typer

    for line in audit_lines(result):
        typer.echo(line)


def audit_lines(result: AuditResult) -> Iterator[str]:
    """The result, a line each."""
    yield f"audit of {result.target}: {', '.join(f'{name} ({kind})' for name, kind in result.parts) or 'nothing was run'}"
    for note in result.notes:
        yield f"note: {note}"
    yield ""
    yield "coverage"
    for run in worst_first(result.runs):
        if run.state in {"found", "failed", "out of time"}:
            yield f"  {run.state:<12} {run.check} on {run.subject}{f': {run.why}' if run.why else ''}"
    for subject in dict.fromkeys(run.subject for run in result.runs if run.state == "clean"):
        clean = [run.check for run in result.runs if run.state == "clean" and run.subject == subject]
        yield f"  clean        {subject}: {', '.join(clean)}"
    skipped = [run for run in result.runs if run.state == "skipped"]
    for why in dict.fromkeys(run.why for run in skipped):
        yield f"  skipped      {', '.join(run.check for run in skipped if run.why == why)}: {why}"
    for run, finding in result.found():
        yield ""
        yield from _finding(run.check, finding)
    if result.verdicts:
        yield ""
        yield "claims"
    for verdict in result.verdicts:
        yield f"  {verdict.judgement:<16} {verdict.claim}: {verdict.why}"
        if verdict.ceiling:
            yield f"  {'':<16} {verdict.ceiling}"
    yield ""
    yield f"{result.summary}; exit code {result.exit_code}{f'; ended early: {result.stopped}' if result.stopped else ''}"


def _finding(check: str, finding: Finding) -> Iterator[str]:
    card = find("check", check).card
    where = f"{finding.place}: " if finding.place else ""
    yield f"{finding.severity}: {where}{card.title} [{check}]"
    yield f"  seen         {finding.what}"
    if finding.reproduction:
        yield f"  to see it    {finding.reproduction}"
    yield f"  what it says {card.consequence}"
    yield f"  to mend it   {card.remedy}"
