"""Scoring: it alone holds the truth, and no attack grades itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.lab.scoring.claims import score_claim
    from qflsec.lab.scoring.clients import score_clients
    from qflsec.lab.scoring.detection import screened
    from qflsec.lab.scoring.evasion import score_evasion
    from qflsec.lab.scoring.inversion import SUCCESS_BELOW, angle_difference, score_inversion
    from qflsec.lab.scoring.manipulation import (
        n_correct,
        score_backdoor,
        score_manipulation,
        score_poisoning,
        trigger_success,
    )
    from qflsec.lab.scoring.membership import score_membership
    from qflsec.lab.scoring.rankings import mean_ranking, ranking
    from qflsec.lab.scoring.trial import (
        LOST,
        ClientTruth,
        EvasionTruth,
        InversionTruth,
        MembershipTruth,
        Raw,
        TrialScore,
        Truth,
    )

__all__ = [
    "LOST",
    "SUCCESS_BELOW",
    "ClientTruth",
    "EvasionTruth",
    "InversionTruth",
    "MembershipTruth",
    "Raw",
    "TrialScore",
    "Truth",
    "angle_difference",
    "mean_ranking",
    "n_correct",
    "ranking",
    "score_backdoor",
    "score_claim",
    "score_clients",
    "score_evasion",
    "score_inversion",
    "score_manipulation",
    "score_membership",
    "score_poisoning",
    "screened",
    "trigger_success",
]

__getattr__, __dir__ = lazily(__name__)
