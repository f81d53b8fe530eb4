"""Defenses beyond aggregation: votes with certificates, validation, detection by measurements, pruning, attested circuits."""

from __future__ import annotations

from qflsec.defenses.backdoor.attestation import CircuitAttestation, CircuitSigner, circuit_of
from qflsec.defenses.backdoor.certified_training import TrainingCertificate, certified_training
from qflsec.defenses.backdoor.erasure import Erasure, History, calibrated
from qflsec.defenses.backdoor.fine_pruning import FinePruning, dormant_units, fine_pruned, pruned
from qflsec.defenses.backdoor.measurement_clustering import (
    Cluster,
    measured,
    measurement_clusters,
    suspects,
)
from qflsec.defenses.backdoor.smoothing import ModelSmoothing, RandomisedSmoothing, smoothing_radius
from qflsec.defenses.backdoor.training_certificate import (
    certified_shift,
    certify_training,
    contraction,
    corrupted_share,
    training_votes,
)
from qflsec.defenses.backdoor.trigger_alarm import TriggerAlarm, clean_models, trigger_sizes
from qflsec.defenses.backdoor.trigger_search import (
    FoundTrigger,
    anomaly,
    search_triggers,
    suspected_targets,
)
from qflsec.defenses.backdoor.validation_gate import ValidationGate
from qflsec.defenses.backdoor.votes import Decided, decide, noisy_votes

__all__ = [
    "CircuitAttestation",
    "CircuitSigner",
    "Cluster",
    "Decided",
    "Erasure",
    "FinePruning",
    "FoundTrigger",
    "History",
    "ModelSmoothing",
    "RandomisedSmoothing",
    "TrainingCertificate",
    "TriggerAlarm",
    "ValidationGate",
    "anomaly",
    "calibrated",
    "certified_shift",
    "certified_training",
    "certify_training",
    "circuit_of",
    "clean_models",
    "contraction",
    "corrupted_share",
    "decide",
    "dormant_units",
    "fine_pruned",
    "measured",
    "measurement_clusters",
    "noisy_votes",
    "pruned",
    "search_triggers",
    "smoothing_radius",
    "suspected_targets",
    "suspects",
    "training_votes",
    "trigger_sizes",
]
