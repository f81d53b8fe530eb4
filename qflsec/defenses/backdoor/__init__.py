"""Defenses beyond aggregation: votes with certificates, validation, detection by measurements, attested circuits."""

from __future__ import annotations

from qflsec.defenses.backdoor.smoothing import ModelSmoothing, RandomisedSmoothing, smoothing_radius
from qflsec.defenses.backdoor.training_certificate import (
    certified_shift,
    certify_training,
    contraction,
    corrupted_share,
    training_votes,
)
from qflsec.defenses.backdoor.votes import Decided, decide, noisy_votes

__all__ = [
    "Decided",
    "ModelSmoothing",
    "RandomisedSmoothing",
    "certified_shift",
    "certify_training",
    "contraction",
    "corrupted_share",
    "decide",
    "noisy_votes",
    "smoothing_radius",
    "training_votes",
]
