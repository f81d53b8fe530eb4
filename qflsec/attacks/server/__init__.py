"""Attacks by the quantum server to which circuits are delegated."""

from __future__ import annotations

from qflsec.attacks.server.base import Reading, ServerAttack, ServerInference, ServerManipulation
from qflsec.attacks.server.flip_outcomes import FlipOutcomes
from qflsec.attacks.server.guess_rounds import GuessRounds
from qflsec.attacks.server.random_answers import RandomAnswers
from qflsec.attacks.server.read_delta import ReadDelta
from qflsec.attacks.server.skip_entanglement import SkipEntanglement
from qflsec.attacks.server.weak_coherent import (
    WeakCoherent,
    copies_advantage,
    covariant_advantage,
    weak_coherent_advantage,
)
from qflsec.attacks.server.wrong_angles import WrongAngles

__all__ = [
    "FlipOutcomes",
    "GuessRounds",
    "RandomAnswers",
    "ReadDelta",
    "Reading",
    "ServerAttack",
    "ServerInference",
    "ServerManipulation",
    "SkipEntanglement",
    "WeakCoherent",
    "WrongAngles",
    "copies_advantage",
    "covariant_advantage",
    "weak_coherent_advantage",
]
