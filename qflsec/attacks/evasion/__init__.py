"""Evasion: records that are moved a little so that the trained model answers wrongly."""

from __future__ import annotations

from qflsec.attacks.evasion.base import Evasion, projected
from qflsec.attacks.evasion.gradients import AutoPgd, Fgsm, Pgd
from qflsec.attacks.evasion.queries import Queries, Transfer

__all__ = ["AutoPgd", "Evasion", "Fgsm", "Pgd", "Queries", "Transfer", "projected"]
