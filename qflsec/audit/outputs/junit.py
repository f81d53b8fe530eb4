"""JUnit XML, so that a CI system shows checks and claims as tests."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from qflsec.audit.outcome import AuditResult, CheckRun, Verdict

__all__ = ["junit_xml"]

_FORBIDDEN = {code: "\N{REPLACEMENT CHARACTER}" for code in range(32) if code not in (9, 10, 13)}
"""Control characters that XML 1.0 cannot hold."""


def junit_xml(result: AuditResult) -> str:
    """The result as one document of test suites: the checks and the claims.

    A finding of severity error and a refuted claim are failures; what did not run to its end is an error; warnings and notes
    stand in the output of a test that passed.
    """
    root = ET.Element("testsuites", name=f"qflsec audit {result.target}", time=f"{result.seconds:.3f}")
    checks = ET.SubElement(root, "testsuite", name="checks", timestamp=result.created[:19])
    for run in result.runs:
        _check(checks, run)
    claims = ET.SubElement(root, "testsuite", name="claims", timestamp=result.created[:19])
    for verdict in result.verdicts:
        _claim(claims, verdict)
    for suite in (checks, claims):
        cases = suite.findall("testcase")
        suite.set("tests", str(len(cases)))
        for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            suite.set(name, str(sum(case.find(kind) is not None for case in cases)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _check(suite: ET.Element, run: CheckRun) -> None:
    name = f"{run.check} on {run.subject}" if run.subject else run.check
    case = _element(suite, "testcase", classname=f"checks.{run.check}", name=name, time=f"{run.seconds:.3f}")
    said = [f"{finding.place or run.subject}: {finding.what}" for finding in run.findings]
    if any(finding.severity == "error" for finding in run.findings):
        _element(case, "failure", message=said[0]).text = _clean("\n".join(said))
    elif said:
        _element(case, "system-out").text = _clean("\n".join(said))
    if run.state == "skipped":
        _element(case, "skipped", message=run.why)
    elif run.state in {"failed", "out of time"}:
        _element(case, "error", message=f"{run.state}: {run.why}")


def _claim(suite: ET.Element, verdict: Verdict) -> None:
    case = _element(suite, "testcase", classname=f"claims.{verdict.kind}", name=verdict.claim)
    message = f"{verdict.judgement}: {verdict.why}"
    if verdict.judgement == "refuted":
        _element(case, "failure", message=message)
    elif verdict.judgement == "not tested":
        _element(case, "error", message=message)
    else:
        _element(case, "system-out").text = _clean(f"{message} {verdict.ceiling}".strip())


def _element(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, {name: _clean(value) for name, value in attributes.items()})


def _clean(text: str) -> str:
    return text.translate(_FORBIDDEN)
