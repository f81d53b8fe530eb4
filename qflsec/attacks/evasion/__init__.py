"""Evasion: records that are moved a little so that the trained model answers wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.attacks.evasion.base import Evasion, projected
    from qflsec.attacks.evasion.gradients import AutoPgd, Fgsm, Pgd
    from qflsec.attacks.evasion.queries import Queries, Transfer
    from qflsec.attacks.evasion.radius import (
        certified_distance,
        certified_moves,
        certified_within,
        empirical_moves,
    )
    from qflsec.attacks.evasion.states import FoolingStates, fooling_states
    from qflsec.attacks.evasion.universal import Universal, universal_move

__all__ = [
    "AutoPgd",
    "Evasion",
    "Fgsm",
    "FoolingStates",
    "Pgd",
    "Queries",
    "Transfer",
    "Universal",
    "certified_distance",
    "certified_moves",
    "certified_within",
    "empirical_moves",
    "fooling_states",
    "projected",
    "universal_move",
]
__getattr__, __dir__ = lazily(__name__)
