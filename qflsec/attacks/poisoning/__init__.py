"""Poisoning: corrupted clients that spoil the model."""

from __future__ import annotations

from qflsec.attacks.poisoning.constant import Constant, Withhold
from qflsec.attacks.poisoning.label_flip import LabelFlip
from qflsec.attacks.poisoning.sign_flip import ScaledSignFlip, SignFlip

__all__ = ["Constant", "LabelFlip", "ScaledSignFlip", "SignFlip", "Withhold"]
