"""Layers that send updates through entangled pairs, which a corrupted network may measure on their way."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import final

import torch

from qflsec.base import ProtocolAbort
from qflsec.federation.layers import ShapeLayer
from qflsec.federation.run_spec import RunSpec
from qflsec.federation.streams import Streams

__all__ = ["PairLayer", "shaped"]


class PairLayer(ShapeLayer):
    """Releases updates through pairs of a source that the network hands out."""

    @abstractmethod
    def through(
        self, update: torch.Tensor, streams: Streams, tapped: Sequence[float]
    ) -> tuple[torch.Tensor, dict[int, ProtocolAbort]]:
        """The updates that arrive, and the runs in which the ends of the pairs find that somebody measured them.

        Args:
            update: The updates.
            streams: The streams of the round.
            tapped: The share of the pairs that is measured on the way, for each run.

        Shapes:
            update: ``(lane, client, P)``; returns: the same
        """

    @abstractmethod
    def pairs(self, n_params: int) -> int | None:
        """The pairs that an update takes, with those that a test uses up; None for no end of them."""

    @final
    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The updates that arrive where nobody touches the pairs.

        Raises:
            ProtocolAbort: A test of the pairs fails.
        """
        released, aborts = self.through(update, streams, [0.0] * len(update))
        for abort in aborts.values():
            raise abort
        return released


def shaped(
    layers: Sequence[ShapeLayer],
    update: torch.Tensor,
    streams: Streams,
    specs: Sequence[RunSpec],
    aborts: dict[int, ProtocolAbort],
) -> torch.Tensor:
    """The updates as the layers release them.

    Args:
        layers: The layers, in order.
        update: The updates.
        streams: The streams of the round.
        specs: The runs, whose corrupted networks may measure pairs.
        aborts: Why runs stopped; it gets those whose pairs fail a test.

    Shapes:
        update: ``(lane, client, P)``; returns: the same
    """
    for layer in layers:
        if not isinstance(layer, PairLayer):
            update = layer.shape(update, streams)
            continue
        update, failed = layer.through(update, streams, [_tapped(spec) for spec in specs])
        for lane, abort in failed.items():
            aborts.setdefault(lane, abort)
    return update


def _tapped(spec: RunSpec) -> float:
    if spec.adversary is None or spec.threat is None or not spec.threat.wire:
        return 0.0
    return spec.adversary.tapped()
