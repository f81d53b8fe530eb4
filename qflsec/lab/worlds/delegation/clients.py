"""Clients of a scored session: the protocol's own, and controls that leave a pad out.

They remember what only the client knows, for the scorer. The protocol's steps are those of
:class:`~qflsec.protocols.blind.client.BlindClient` in all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from qflsec.base import ConfigError
from qflsec.protocols.blind import BlindClient
from qflsec.protocols.blind.angles import Angles
from qflsec.protocols.blind.pads import Pads
from qflsec.protocols.blind.qubits import Bits

__all__ = ["PADS", "PadSet", "ScoredClient"]

PadSet = Literal["all", "none", "no-angle-pads", "no-outcome-pads", "fixed-dummies"]
PADS: tuple[PadSet, ...] = get_args(PadSet)


class ScoredClient(BlindClient):
    """A client that remembers its secrets for the scorer.

    Args:
        pads: ``"all"`` is the protocol; ``"none"`` is delegation in the clear; the others leave out one
            kind of pad, as controls.
        arguments: As for the client.
    """

    def __init__(self, *, pads: PadSet = "all", **arguments: Any) -> None:  # noqa: ANN401 - the client's own
        if pads not in PADS:
            raise ConfigError("unknown pads", got=repr(pads), expected=f"one of {', '.join(PADS)}")
        super().__init__(**arguments)
        self._left = pads
        self._bases: list[dict[int, Angles]] = []
        self._heard: list[dict[int, Bits]] = []

    def _draw(self, nodes: int, rounds: int) -> Pads:
        pads = super()._draw(nodes, rounds)
        if self._left in ("none", "no-angle-pads"):
            pads = replace(pads, theta=np.zeros_like(pads.theta))
        if self._left in ("none", "no-outcome-pads"):
            pads = replace(pads, r=np.zeros_like(pads.r))
        if self._left in ("none", "fixed-dummies"):
            pads = replace(pads, dummy=np.zeros_like(pads.dummy))
        self._bases.append({})
        self._heard.append({})
        return pads

    def delta(self, node: int) -> Angles:
        """The padded angle; remembers it without its pads, modulo pi."""
        told = super().delta(node)
        self._bases[-1][node] = (told - self._secret.theta[node]) & (self._grid.half - np.uint64(1))
        return told

    def hear(self, node: int, reply: Bits) -> None:
        """Take an outcome; remembers it without its pad."""
        super().hear(node, reply)
        self._heard[-1][node] = self._signals[node].copy()

    @property
    def tests(self) -> npt.NDArray[np.bool_]:
        """Which rounds are tests."""
        return self._plan.colours >= 0

    def bases(self, node: int) -> Angles:
        """A node's angle modulo pi in every round, without pads."""
        return np.concatenate([batch[node] for batch in self._bases])

    def signals(self, node: int) -> Bits:
        """A node's outcome in every round, without its pad."""
        return np.concatenate([batch[node] for batch in self._heard])
