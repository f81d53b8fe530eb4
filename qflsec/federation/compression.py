"""Compression: layers after which an update can be written down in fewer bits."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch

from qflsec.federation.layers import ShapeLayer
from qflsec.federation.pair_layers import PairLayer
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.stack import Stack
from qflsec.threat import LaneFacts

__all__ = ["CompressionLayer", "coded_costs"]


class CompressionLayer(ShapeLayer):
    """Rounds or drops entries of an update, and knows a code for what is left.

    Runs carry the rounded numbers themselves: an observer reads the same in either form. What the code would take stands
    in a run's costs.
    """

    @abstractmethod
    def coded_bits(self, n_params: int) -> int:
        """The length of the code of an update.

        Units:
            bits
        """

    @abstractmethod
    def encode(self, update: torch.Tensor) -> bytes:
        """The code of an update that :meth:`shape` released: :meth:`coded_bits`, filled up to whole bytes.

        Shapes:
            update: ``(P,)``
        """

    @abstractmethod
    def decode(self, blob: bytes, n_params: int) -> torch.Tensor:
        """The update of a code, up to single precision.

        Shapes:
            returns: ``(P,)``
        """

    @abstractmethod
    def norm_factor(self, n_params: int) -> float:
        """By how much the L2 norm of an update may grow, at most.

        With 1 a clip before it still holds behind it; in no case does an entry grow above the largest entry of the update.
        """


def coded_costs(stack: Stack, pipeline: Pipeline, facts: LaneFacts) -> dict[str, float]:
    """What the updates of a run take in code or in entangled pairs, where that is the last thing that clients do to them.

    Args:
        stack: The stack.
        pipeline: The pipeline.
        facts: Whose updates counted in which round.

    Units:
        bytes, or pairs
    """
    last = stack.shapes[-1] if stack.shapes else None
    uploads = sum(len(members) for members in facts.participants.values())
    if isinstance(last, PairLayer):
        pairs = last.pairs(pipeline.sharing.n_shared)
        return {} if pairs is None else {"entangled_pairs": float(uploads * pairs)}
    if not isinstance(last, CompressionLayer) or stack.aggregation is not None:
        return {}
    return {"coded_update_bytes": float(uploads * math.ceil(last.coded_bits(pipeline.sharing.n_shared) / 8))}
