"""Quantum differential privacy: exact epsilons of noise, with pairs of states that attain them."""

from __future__ import annotations

from qflsec.protocols.qdp.approximate import delta_of_epsilon
from qflsec.protocols.qdp.certificate import certified_kappa
from qflsec.protocols.qdp.channel import Channel, from_pennylane, from_qiskit, identity, unitary
from qflsec.protocols.qdp.errors import QdpError
from qflsec.protocols.qdp.kappa import Kappa, kappa_of_effect, kappa_of_effects, search_kappa
from qflsec.protocols.qdp.pure import epsilon_of_kappa, kappa_of_epsilon, pure_epsilon
from qflsec.protocols.qdp.results import Adjacency, Delta, PureEpsilon, Witness, trace_distance

__all__ = [
    "Adjacency",
    "Channel",
    "Delta",
    "Kappa",
    "PureEpsilon",
    "QdpError",
    "Witness",
    "certified_kappa",
    "delta_of_epsilon",
    "epsilon_of_kappa",
    "from_pennylane",
    "from_qiskit",
    "identity",
    "kappa_of_effect",
    "kappa_of_effects",
    "kappa_of_epsilon",
    "pure_epsilon",
    "search_kappa",
    "trace_distance",
    "unitary",
]
