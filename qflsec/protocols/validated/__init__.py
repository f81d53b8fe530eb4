"""Validated aggregation: a client proves that its update is short, in zero knowledge, bound to what is summed."""

from __future__ import annotations

from qflsec.protocols.validated.layer import Validated
from qflsec.protocols.validated.prover import Opening, Proof, commit, prove
from qflsec.protocols.validated.statement import Statement
from qflsec.protocols.validated.verifier import opens_to, verify

__all__ = ["Opening", "Proof", "Statement", "Validated", "commit", "opens_to", "prove", "verify"]
