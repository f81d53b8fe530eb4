"""A claim against the truth, whatever kind of claim it is."""

from __future__ import annotations

from qflsec.attacks import Claim, ClientClaim, EvasionClaim, InversionClaim, MembershipClaim
from qflsec.lab.scoring.clients import score_clients
from qflsec.lab.scoring.evasion import score_evasion
from qflsec.lab.scoring.inversion import score_inversion
from qflsec.lab.scoring.membership import score_membership
from qflsec.lab.scoring.trial import (
    ClientTruth,
    EvasionTruth,
    InversionTruth,
    MembershipTruth,
    TrialScore,
    Truth,
)

__all__ = ["score_claim"]


def score_claim(claim: Claim, truth: Truth) -> TrialScore:
    """The score of a claim.

    Raises:
        TypeError: The truth belongs to another kind of claim.
    """
    if isinstance(claim, MembershipClaim) and isinstance(truth, MembershipTruth):
        return score_membership(claim, truth)
    if isinstance(claim, InversionClaim) and isinstance(truth, InversionTruth):
        return score_inversion(claim, truth)
    if isinstance(claim, EvasionClaim) and isinstance(truth, EvasionTruth):
        return score_evasion(claim, truth)
    if isinstance(claim, ClientClaim) and isinstance(truth, ClientTruth):
        return score_clients(claim, truth)
    msg = f"a {type(claim).__name__} cannot be scored against a {type(truth).__name__}"
    raise TypeError(msg)
