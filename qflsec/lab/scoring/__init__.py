"""Scoring: it alone holds the truth, and no attack grades itself."""

from __future__ import annotations

from qflsec.attacks import Claim, InversionClaim, MembershipClaim
from qflsec.lab.scoring.inversion import SUCCESS_BELOW, angle_difference, score_inversion
from qflsec.lab.scoring.manipulation import (
    n_correct,
    score_backdoor,
    score_manipulation,
    score_poisoning,
)
from qflsec.lab.scoring.membership import score_membership
from qflsec.lab.scoring.trial import LOST, InversionTruth, MembershipTruth, Raw, TrialScore, Truth

__all__ = [
    "LOST",
    "SUCCESS_BELOW",
    "InversionTruth",
    "MembershipTruth",
    "Raw",
    "TrialScore",
    "Truth",
    "angle_difference",
    "n_correct",
    "score_backdoor",
    "score_claim",
    "score_inversion",
    "score_manipulation",
    "score_membership",
    "score_poisoning",
]


def score_claim(claim: Claim, truth: Truth) -> TrialScore:
    """The score of a claim.

    Raises:
        TypeError: The truth belongs to another kind of claim.
    """
    if isinstance(claim, MembershipClaim) and isinstance(truth, MembershipTruth):
        return score_membership(claim, truth)
    if isinstance(claim, InversionClaim) and isinstance(truth, InversionTruth):
        return score_inversion(claim, truth)
    msg = f"a {type(claim).__name__} cannot be scored against a {type(truth).__name__}"
    raise TypeError(msg)
