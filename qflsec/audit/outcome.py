"""What an audit found: coverage first, then findings, then a verdict on each claim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from qflsec.base import Severity

__all__ = ["AuditResult", "CheckRun", "Finding", "Judgement", "Place", "State", "Verdict"]

State = Literal["clean", "found", "skipped", "failed", "out of time"]
Judgement = Literal["refuted", "not refuted", "proved by check", "not tested"]
Figure = float | int | str
"""What evidence is made of: JSON can hold it."""

_SCHEMA = "qflsec-audit/1"
_REFUTED, _NOT_TESTED = 1, 3


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in the user's code.

    Attributes:
        file: The file, relative to the folder that is audited.
        line: The line, from 1; 0 for the whole file.
    """

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault of a pipeline.

    Attributes:
        what: What was seen, a sentence.
        place: Where; None where no line of the pipeline's is to blame.
        evidence: The numbers that show it.
        reproduction: The smallest way to see it again; empty where the place is enough.
        severity: How bad it is; that of the check's card where None.
    """

    what: str
    place: Place | None = None
    evidence: Mapping[str, Figure] = field(default_factory=dict)
    reproduction: str = ""
    severity: Severity | None = None


@dataclass(frozen=True, kw_only=True)
class CheckRun:
    """One check of one part of the pipeline: a row of the coverage.

    Attributes:
        check: The check's registry name.
        subject: The part that was checked, by the name it has in the pipeline.
        state: How it ended.
        why: Why it was skipped, failed or ran out of time, a sentence.
        findings: What it found; each has a severity.
        measured: Numbers that it took, whether or not they are a fault.
        seconds: Wall time.
    """

    check: str
    subject: str
    state: State
    why: str = ""
    findings: tuple[Finding, ...] = ()
    measured: Mapping[str, Figure] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the audit says of one claim.

    Attributes:
        claim: The claim, a sentence.
        kind: The claim's kind in the claims file.
        judgement: Whether it holds.
        why: What decides it, a sentence.
        ceiling: What the test could have shown at most, a sentence; a claim beyond it cannot be refuted by it.
        evidence: The numbers behind it.
    """

    claim: str
    kind: str
    judgement: Judgement
    why: str
    ceiling: str = ""
    evidence: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """Everything that an audit found.

    Attributes:
        target: What was audited, as the user named it.
        created: UTC time, ISO 8601.
        command: The command that made it.
        seed: The seed of the audit's own draws.
        budget_s: The wall time that it was given.
        seconds: The wall time that it took.
        stopped: Why it ended early; empty where it did not.
        versions: Versions of what was used.
        parts: The parts of the pipeline that were recognised: name and kind.
        notes: What could not be used, and why, a sentence each.
        runs: The coverage.
        verdicts: One for each claim.
    """

    target: str
    created: str
    command: str
    seed: int
    budget_s: float
    seconds: float
    stopped: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    runs: tuple[CheckRun, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def name(self) -> str:
        """The heading of the page."""
        return f"Audit of {self.target}"

    @property
    def description(self) -> str:
        """The sentence under it."""
        return self.summary

    def found(self) -> Iterator[tuple[CheckRun, Finding]]:
        """All findings with the run that made them: errors first, then warnings, then notes."""
        for severity in get_args(Severity):
            for run in self.runs:
                for finding in run.findings:
                    if finding.severity == severity:
                        yield run, finding

    @property
    def summary(self) -> str:
        """The result in one sentence."""
        count = dict.fromkeys(get_args(Severity), 0)
        for _, finding in self.found():
            count[finding.severity or "error"] += 1
        said = ", ".join(f"{n} {word}{'s' * (n != 1)}" for word, n in count.items())
        claims = ", ".join(
            f"{n} {word}"
            for word in get_args(Judgement)
            if (n := sum(verdict.judgement == word for verdict in self.verdicts))
        )
        ran = sum(run.state in {"clean", "found"} for run in self.runs)
        return f"{ran} of {len(self.runs)} checks ran: {said}; claims: {claims or 'none'}"

    @property
    def exit_code(self) -> int:
        """0 only if something was checked, all of it to its end, every claim was tested and nothing failed.

        1: a claim is refuted or a finding is an error. 3: a claim was not tested, a check that applies did not end, or
        no check applied.
        """
        if any(verdict.judgement == "refuted" for verdict in self.verdicts):
            return _REFUTED
        if any(finding.severity == "error" for _, finding in self.found()):
            return _REFUTED
        ran = [run for run in self.runs if run.state in {"clean", "found"}]
        cut = [run for run in self.runs if run.state in {"failed", "out of time"}]
        untested = [verdict for verdict in self.verdicts if verdict.judgement == "not tested"]
        return _NOT_TESTED if self.stopped or cut or untested or not ran else 0

    def to_json(self) -> dict[str, Any]:
        """The result as one document; its keys are documented on the page about audits."""
        return {"schema": _SCHEMA, **asdict(self), "summary": self.summary, "exit_code": self.exit_code}


def run_from_json(document: Mapping[str, Any]) -> CheckRun:
    """A row of the coverage from what the process of the pipeline wrote."""
    return CheckRun(**{**document, "findings": tuple(map(_finding, document["findings"]))})


def verdict_from_json(document: Mapping[str, Any]) -> Verdict:
    """A verdict from what the process of the pipeline wrote."""
    return Verdict(**document)


def _finding(document: Mapping[str, Any]) -> Finding:
    place = document["place"]
    return Finding(**{**document, "place": None if place is None else Place(**place)})


def worst_first(runs: Sequence[CheckRun]) -> list[CheckRun]:
    """The coverage with what was found first, and what was skipped last."""
    order = ("found", "failed", "out of time", "clean", "skipped")
    return sorted(runs, key=lambda run: order.index(run.state))
