"""Attacks: they see what a stated adversary would see, and never grade themselves."""

from __future__ import annotations

from qflsec.attacks.base import (
    ActiveInference,
    Attack,
    BackdoorManipulation,
    Inference,
    Manipulation,
    attack_from_config,
)
from qflsec.attacks.challenges import (
    Blocked,
    Challenge,
    Claim,
    ClientChallenge,
    ClientClaim,
    ClientMembershipChallenge,
    CohortChallenge,
    DeviceChallenge,
    EvasionChallenge,
    EvasionClaim,
    HoldingsChallenge,
    InversionChallenge,
    InversionClaim,
    LabelSkewChallenge,
    MembershipChallenge,
    MembershipClaim,
    ParticipationChallenge,
    PropertyChallenge,
)
from qflsec.attacks.shadows import Shadows, missing_shadows, train_shadows
from qflsec.attacks.trainer import OneByOne, ShadowRequest, TracingTrainer, Trainer

__all__ = [
    "ActiveInference",
    "Attack",
    "BackdoorManipulation",
    "Blocked",
    "Challenge",
    "Claim",
    "ClientChallenge",
    "ClientClaim",
    "ClientMembershipChallenge",
    "CohortChallenge",
    "DeviceChallenge",
    "EvasionChallenge",
    "EvasionClaim",
    "HoldingsChallenge",
    "Inference",
    "InversionChallenge",
    "InversionClaim",
    "LabelSkewChallenge",
    "Manipulation",
    "MembershipChallenge",
    "MembershipClaim",
    "OneByOne",
    "ParticipationChallenge",
    "PropertyChallenge",
    "ShadowRequest",
    "Shadows",
    "TracingTrainer",
    "Trainer",
    "attack_from_config",
    "missing_shadows",
    "train_shadows",
]
