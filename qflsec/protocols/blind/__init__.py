"""Blind and verified quantum computation on a server that sees neither data, parameters nor results."""

from __future__ import annotations

from qflsec.protocols.blind.angles import AngleGrid, angle_jacobian, node_angles
from qflsec.protocols.blind.brickwork import brickwork_nodes, brickwork_pattern
from qflsec.protocols.blind.client import BlindClient, RoundPlan, plan_order
from qflsec.protocols.blind.compiler import Delegation, compile_pattern, compile_patterns
from qflsec.protocols.blind.courier import Courier, SeenDelegation, seen_delegations
from qflsec.protocols.blind.delegate import (
    Evaluated,
    blind_evaluate,
    blind_expectations,
    blind_gradients,
    shift_rows,
)
from qflsec.protocols.blind.errors import BlindError, QubitError
from qflsec.protocols.blind.estimate import BiasBound, bias_bound
from qflsec.protocols.blind.execute import BlindConfig, Exact, RoundsResult, Shots
from qflsec.protocols.blind.graph import Graph
from qflsec.protocols.blind.layer import Blind, Delegated
from qflsec.protocols.blind.ledger import blind_rows, composed_soundness
from qflsec.protocols.blind.opened import OpenClient
from qflsec.protocols.blind.pattern import NodeAngle, Pattern, Readout
from qflsec.protocols.blind.pulses import Line, PulsedSource
from qflsec.protocols.blind.qline import LineClient, LineOwner, Qline, QlineClients
from qflsec.protocols.blind.qubits import QuantumChannel, Qubits
from qflsec.protocols.blind.server import QuantumServer
from qflsec.protocols.blind.session import Costs, Transcript, play
from qflsec.protocols.blind.soundness import (
    RoundCounts,
    acceptance,
    accepted_harm,
    completeness,
    harmless_rounds,
    plan_rounds,
    plan_tests,
    soundness_error,
)

__all__ = [
    "AngleGrid",
    "BiasBound",
    "Blind",
    "BlindClient",
    "BlindConfig",
    "BlindError",
    "Costs",
    "Courier",
    "Delegated",
    "Delegation",
    "Evaluated",
    "Exact",
    "Graph",
    "Line",
    "LineClient",
    "LineOwner",
    "NodeAngle",
    "OpenClient",
    "Pattern",
    "PulsedSource",
    "Qline",
    "QlineClients",
    "QuantumChannel",
    "QuantumServer",
    "QubitError",
    "Qubits",
    "Readout",
    "RoundCounts",
    "RoundPlan",
    "RoundsResult",
    "SeenDelegation",
    "Shots",
    "Transcript",
    "acceptance",
    "accepted_harm",
    "angle_jacobian",
    "bias_bound",
    "blind_evaluate",
    "blind_expectations",
    "blind_gradients",
    "blind_rows",
    "brickwork_nodes",
    "brickwork_pattern",
    "compile_pattern",
    "compile_patterns",
    "completeness",
    "composed_soundness",
    "harmless_rounds",
    "node_angles",
    "plan_order",
    "plan_rounds",
    "plan_tests",
    "play",
    "seen_delegations",
    "shift_rows",
    "soundness_error",
]
