"""What the gradients of a model determine about records: the gradient-leak certificate, and snapshots."""

from __future__ import annotations

from qflsec.attacks.inversion.leak.certificate import Certificate, CircuitLeak, Unknowns, certify, circuit_of
from qflsec.attacks.inversion.leak.tangent import Tangent

__all__ = ["Certificate", "CircuitLeak", "Tangent", "Unknowns", "certify", "circuit_of"]
