"""Quantum secure aggregation: the phases of entangled qubits add up, and no part of the sum can be measured."""

from __future__ import annotations

from qflsec.protocols.ghz.layer import Ghz
from qflsec.protocols.ghz.parties import GhzClient, GhzServer
from qflsec.protocols.ghz.phases import Phases
from qflsec.protocols.ghz.physics import Laboratory, QuantumError, Qubits, measure, rotate, split
from qflsec.protocols.ghz.resource import (
    escape_probability,
    failure_rate,
    ghz_fidelity,
    product_failure_rate,
    rmse,
    rmse_one_quadrature,
    untested_failure_bound,
    visibility,
)
from qflsec.protocols.ghz.round import GhzOutcome, run_ghz_round

__all__ = [
    "Ghz",
    "GhzClient",
    "GhzOutcome",
    "GhzServer",
    "Laboratory",
    "Phases",
    "QuantumError",
    "Qubits",
    "escape_probability",
    "failure_rate",
    "ghz_fidelity",
    "measure",
    "product_failure_rate",
    "rmse",
    "rmse_one_quadrature",
    "rotate",
    "run_ghz_round",
    "split",
    "untested_failure_bound",
    "visibility",
]
