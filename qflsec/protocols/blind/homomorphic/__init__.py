"""Quantum homomorphic encryption at small scale: padded qubits, encrypted keys, and a gadget for each phase.

Not compact: what the client does at the end grows with the number of gadgets.
"""

from __future__ import annotations

from qflsec.protocols.blind.homomorphic.encoding import angle_values, product_state
from qflsec.protocols.blind.homomorphic.encrypted_keys import EvaluationKeys, KeyVault
from qflsec.protocols.blind.homomorphic.key_forms import KeyForms, key_forms
from qflsec.protocols.blind.homomorphic.laboratory import Laboratory
from qflsec.protocols.blind.homomorphic.parties import PadClient, PadServer
from qflsec.protocols.blind.homomorphic.run import (
    Homomorphic,
    HomomorphicCosts,
    HomomorphicView,
    gadget_angles,
    homomorphic_expectations,
)
from qflsec.protocols.blind.homomorphic.steps import PaddedCircuit, PadStep, padded_circuit

__all__ = [
    "EvaluationKeys",
    "Homomorphic",
    "HomomorphicCosts",
    "HomomorphicView",
    "KeyForms",
    "KeyVault",
    "Laboratory",
    "PadClient",
    "PadServer",
    "PadStep",
    "PaddedCircuit",
    "angle_values",
    "gadget_angles",
    "homomorphic_expectations",
    "key_forms",
    "padded_circuit",
    "product_state",
]
