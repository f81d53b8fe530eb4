"""Blind computation in the lab: attacks by the quantum server in scored sessions."""

from __future__ import annotations

from qflsec.lab.worlds.delegation.clients import PADS, PadSet, ScoredClient
from qflsec.lab.worlds.delegation.document import SessionReport, server_attack_from_text
from qflsec.lab.worlds.delegation.matrix import (
    SessionCell,
    SessionMatrixResult,
    SessionProgress,
    assemble_session_matrix,
    run_session_matrix,
)
from qflsec.lab.worlds.delegation.session import Device, SessionOutcome, run_session
from qflsec.lab.worlds.delegation.spec import (
    SessionMatrixSpec,
    load_session_spec,
    session_circuit,
    session_inputs,
    session_presets,
)

__all__ = [
    "PADS",
    "Device",
    "PadSet",
    "ScoredClient",
    "SessionCell",
    "SessionMatrixResult",
    "SessionMatrixSpec",
    "SessionOutcome",
    "SessionProgress",
    "SessionReport",
    "assemble_session_matrix",
    "load_session_spec",
    "run_session",
    "run_session_matrix",
    "server_attack_from_text",
    "session_circuit",
    "session_inputs",
    "session_presets",
]
