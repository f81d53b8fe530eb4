"""Verdicts on a pipeline that somebody else wrote: what leaks to whom, which claim holds, which defense is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.audit.check import Bench, Check, NotApplicable
    from qflsec.audit.claim import Claim, Ruling
    from qflsec.audit.claims_file import ClaimsFile, read_claims
    from qflsec.audit.outcome import AuditResult, CheckRun, Finding, Place, Verdict
    from qflsec.audit.supervise import audit
    from qflsec.audit.target import Target, find_target

__all__ = [
    "AuditResult",
    "Bench",
    "Check",
    "CheckRun",
    "Claim",
    "ClaimsFile",
    "Finding",
    "NotApplicable",
    "Place",
    "Ruling",
    "Target",
    "Verdict",
    "audit",
    "find_target",
    "read_claims",
]

__getattr__, __dir__ = lazily(__name__)
