"""Attacks on the quantum channel of BB84."""

from __future__ import annotations

from qflsec.attacks.channel.base import ChannelAttack, ChannelEve, KeyGuess
from qflsec.attacks.channel.blinding import DetectorBlinding
from qflsec.attacks.channel.countermeasures import COUNTERMEASURES, Countermeasure, equip, leakage_term
from qflsec.attacks.channel.intercept_resend import InterceptResend, intercept_resend_qber
from qflsec.attacks.channel.man_in_the_middle import ManInTheMiddle
from qflsec.attacks.channel.photon_number_splitting import PhotonNumberSplitting
from qflsec.attacks.channel.time_shift import TimeShift
from qflsec.attacks.channel.trojan_horse import TrojanHorse, leaky_phase_error

__all__ = [
    "COUNTERMEASURES",
    "ChannelAttack",
    "ChannelEve",
    "Countermeasure",
    "DetectorBlinding",
    "InterceptResend",
    "KeyGuess",
    "ManInTheMiddle",
    "PhotonNumberSplitting",
    "TimeShift",
    "TrojanHorse",
    "equip",
    "intercept_resend_qber",
    "leakage_term",
    "leaky_phase_error",
]
