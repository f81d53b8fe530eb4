"""Layers on the gradients of single records, inside local training."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch

from qflsec.federation.layers import ClientLayer
from qflsec.federation.streams import Streams

__all__ = ["Clipping", "ClippingLayer", "GradientLayer"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Clipping:
    """A step that sums clipped gradients and adds noise.

    Attributes:
        norm: The largest L2 norm of a record's gradient.
        noise: What is added to the sum.

    Shapes:
        noise: ``(lane, client, P)``
    """

    norm: float
    noise: torch.Tensor


class GradientLayer(ClientLayer):
    """Acts on per-sample gradients at every local step, inside training."""

    @abstractmethod
    def gradient(
        self, per_sample: torch.Tensor, mask: torch.Tensor, expected: torch.Tensor, streams: Streams
    ) -> torch.Tensor:
        """The gradient of one local step.

        Shapes:
            per_sample: ``(lane, client, B, P)``; rows whose mask is 0 are padding or not sampled.
            mask: ``(lane, client, B)``, 0 or 1.
            expected: ``(lane, client)``, the expected number of sampled records.
            returns: ``(lane, client, P)``
        """


class ClippingLayer(GradientLayer):
    """Its step is a sum of clipped gradients with noise, over the expected number of records.

    It says so, and training is made in one call, without :meth:`gradient` at every step.
    """

    @abstractmethod
    def clipping(self, like: torch.Tensor, streams: Streams) -> Clipping:
        """The step that :meth:`gradient` makes; its draws from ``streams`` are those of :meth:`gradient`.

        Args:
            like: The models.
            streams: The streams of the round.

        Shapes:
            like: ``(lane, client, P)``
        """

    @property
    def keeps_its_word(self) -> bool:
        """Whether :meth:`clipping` is of the class that :meth:`gradient` is, or of one below.

        A class that changes only the gradient of another has not said what its step is.
        """
        first = next(kind for kind in type(self).__mro__ if {"clipping", "gradient"} & vars(kind).keys())
        return "clipping" in vars(first)
