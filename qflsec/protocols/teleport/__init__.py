"""Teleported parameters: states through Werner pairs, and angles estimated from copies."""

from __future__ import annotations

from qflsec.protocols.teleport.formulas import (
    angle_rmse,
    chsh_threshold,
    chsh_value,
    ghz_fidelity,
    haar_fidelity,
    product_fidelity,
)
from qflsec.protocols.teleport.layer import Teleported
from qflsec.protocols.teleport.parties import HalfPairs, PairSource, Qubits, QubitsGone, receive, send

__all__ = [
    "HalfPairs",
    "PairSource",
    "Qubits",
    "QubitsGone",
    "Teleported",
    "angle_rmse",
    "chsh_threshold",
    "chsh_value",
    "ghz_fidelity",
    "haar_fidelity",
    "product_fidelity",
    "receive",
    "send",
]
