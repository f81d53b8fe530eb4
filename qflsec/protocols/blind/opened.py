"""Delegation in the clear: the control, in which the pads are missing and nothing is tested.

The same patterns run on the same server, but every pad is 0 and the rounds are in the order of the rows. So
the server reads every angle and every outcome, and can change results unnoticed.
"""

from __future__ import annotations

import numpy as np

from qflsec.base import Secrets
from qflsec.protocols.blind.client import BlindClient, RoundPlan
from qflsec.protocols.blind.pads import Pads

__all__ = ["OpenClient", "open_order"]


class OpenClient(BlindClient):
    """A client without pads: what it tells are the angles themselves, what it hears the outcomes."""

    def _draw(self, nodes: int, rounds: int) -> Pads:
        nothing = np.zeros((nodes, rounds), dtype=np.uint8)
        return Pads(theta=nothing.astype(np.uint64), r=nothing, dummy=nothing)


def open_order(_secrets: Secrets, *, rows: int, shots: int, **_tests: int) -> RoundPlan:
    """Every row ``shots`` times, row after row, and no test, where ``plan_order`` has a secret order."""
    which = np.repeat(np.arange(rows), shots)
    return RoundPlan(rows=which, colours=np.full(len(which), -1))
