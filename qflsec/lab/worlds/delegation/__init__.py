"""Blind computation in the lab: attacks by the quantum server in scored sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.lab.worlds.delegation.cells import SessionCell, SessionMatrixResult, SessionRow
    from qflsec.lab.worlds.delegation.clients import PADS, PadSet, ScoredClient
    from qflsec.lab.worlds.delegation.document import SessionReport, server_attack_from_text
    from qflsec.lab.worlds.delegation.inputs import session_circuit, session_inputs
    from qflsec.lab.worlds.delegation.session import Device, SessionOutcome, run_session
    from qflsec.lab.worlds.delegation.spec import SessionMatrixSpec
    from qflsec.lab.worlds.delegation.world import DelegationWorld

__all__ = [
    "PADS",
    "DelegationWorld",
    "Device",
    "PadSet",
    "ScoredClient",
    "SessionCell",
    "SessionMatrixResult",
    "SessionMatrixSpec",
    "SessionOutcome",
    "SessionReport",
    "SessionRow",
    "run_session",
    "server_attack_from_text",
    "session_circuit",
    "session_inputs",
]

__getattr__, __dir__ = lazily(__name__)
