"""Quantum differential privacy: exact epsilons of noise, with pairs of states that attain them, and of whole runs."""

from __future__ import annotations

from qflsec.accounting.limits import membership_ceiling
from qflsec.protocols.qdp.accountant import RunAccount, SingleCopy, account_run, single_copy
from qflsec.protocols.qdp.approximate import delta_of_epsilon
from qflsec.protocols.qdp.certificate import certified_kappa
from qflsec.protocols.qdp.channel import (
    Channel,
    from_pennylane,
    from_qiskit,
    from_qiskit_model,
    identity,
    unitary,
)
from qflsec.protocols.qdp.copies import Copies, copies_of
from qflsec.protocols.qdp.derived import (
    Ceiling,
    CertifiedRadius,
    certified_radius,
    run_ceiling,
)
from qflsec.protocols.qdp.encoders import RecordDistance, angle_distance, record_distance, search_distance
from qflsec.protocols.qdp.errors import QdpError
from qflsec.protocols.qdp.kappa import Kappa, kappa_of_effect, kappa_of_effects, search_kappa
from qflsec.protocols.qdp.mechanisms import CircuitNoise, DepolarizingNoise, EncodingNoise, NoisyMeasurement
from qflsec.protocols.qdp.pure import epsilon_of_kappa, kappa_of_epsilon, pure_epsilon
from qflsec.protocols.qdp.results import Adjacency, Delta, PureEpsilon, Witness, trace_distance
from qflsec.protocols.qdp.specification import NamedNoise, measurement_by_name, noise_by_name
from qflsec.protocols.qdp.training import TrainingAccount, account_training

__all__ = [
    "Adjacency",
    "Ceiling",
    "CertifiedRadius",
    "Channel",
    "CircuitNoise",
    "Copies",
    "Delta",
    "DepolarizingNoise",
    "EncodingNoise",
    "Kappa",
    "NamedNoise",
    "NoisyMeasurement",
    "PureEpsilon",
    "QdpError",
    "RecordDistance",
    "RunAccount",
    "SingleCopy",
    "TrainingAccount",
    "Witness",
    "account_run",
    "account_training",
    "angle_distance",
    "certified_kappa",
    "certified_radius",
    "copies_of",
    "delta_of_epsilon",
    "epsilon_of_kappa",
    "from_pennylane",
    "from_qiskit",
    "from_qiskit_model",
    "identity",
    "kappa_of_effect",
    "kappa_of_effects",
    "kappa_of_epsilon",
    "measurement_by_name",
    "membership_ceiling",
    "noise_by_name",
    "pure_epsilon",
    "record_distance",
    "run_ceiling",
    "search_distance",
    "search_kappa",
    "single_copy",
    "trace_distance",
    "unitary",
]
