"""The records of the clients of a batch of runs, and which of them each local step uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.federation.config import FederationConfig
from qflsec.federation.streams import RoundStreams

__all__ = ["BatchStep", "ClientData", "plan_batches"]


@dataclass(frozen=True, kw_only=True)
class ClientData:
    """The padded records of the clients of a batch.

    Shapes:
        features: ``(lane, client, N, F)``; labels: ``(lane, client, N)``; mask: ``(lane, client, N)``
    """

    features: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor

    def at(self, lanes: Sequence[int], clients: Sequence[int]) -> ClientData:
        """The records of some clients of some lanes."""
        pick = _pick(lanes, clients)
        return ClientData(features=self.features[pick], labels=self.labels[pick], mask=self.mask[pick])


@dataclass(frozen=True, kw_only=True)
class BatchStep:
    """Which records one local step uses.

    Attributes:
        index: Their positions; None for all.
        mask: 1 for a used record.
        expected: The expected number of used records; 0 where the client makes no step.

    Shapes:
        index: ``(lane, client, B)``; mask: ``(lane, client, B)``; expected: ``(lane, client)``
    """

    index: torch.Tensor | None
    mask: torch.Tensor
    expected: torch.Tensor

    def at(self, lanes: Sequence[int], clients: Sequence[int]) -> BatchStep:
        """The step of some clients of some lanes."""
        pick = _pick(lanes, clients)
        index = None if self.index is None else self.index[pick]
        return BatchStep(index=index, mask=self.mask[pick], expected=self.expected[pick])

    def select(self, data: ClientData) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and labels of the step."""
        if self.index is None:
            return data.features, data.labels
        wide = self.index[..., None].expand(*self.index.shape, data.features.shape[-1])
        return torch.gather(data.features, 2, wide), torch.gather(data.labels, 2, self.index)


def _pick(lanes: Sequence[int], clients: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(list(lanes))[:, None], torch.tensor(list(clients))[None, :]


def plan_batches(data: ClientData, config: FederationConfig, streams: RoundStreams) -> list[BatchStep]:
    """The batches of a round, drawn from each run's own stream.

    Args:
        data: The clients' records.
        config: How batches are drawn.
        streams: The streams of the round.
    """
    counts = data.mask.sum(dim=-1)
    size = config.batch_size or 1
    match config.batches:
        case "full":
            return [BatchStep(index=None, mask=data.mask, expected=counts)] * config.uses
        case "poisson":
            rate = (size / counts).clamp(max=1.0)
            draws = [_draws(data, streams) for _ in range(config.local_steps)]
            masks = [data.mask * (drawn < rate[..., None]) for drawn in draws]
            return [BatchStep(index=None, mask=mask, expected=rate * counts) for mask in masks]
        case "fixed":
            orders = [_order(data, streams) for _ in range(config.local_steps)]
            return [_batch(data, order[..., : min(size, order.shape[-1])]) for order in orders]
    # The number of steps follows from the padded number of records, which is the same for all runs of a batch: clients
    # with fewer records make no step in the last ones, and streams that steps draw from stay in place.
    orders = [_order(data, streams) for _ in range(config.uses)]
    return [_batch(data, part) for order in orders for part in torch.split(order, size, dim=-1)]


def _draws(data: ClientData, streams: RoundStreams) -> torch.Tensor:
    return streams.uniform("batches", data.mask.shape[1:]).to(data.mask.device)


def _order(data: ClientData, streams: RoundStreams) -> torch.Tensor:
    """A random order of each client's records; padding comes last."""
    return torch.argsort(_draws(data, streams) + 2.0 * (1.0 - data.mask), dim=-1, stable=True)


def _batch(data: ClientData, index: torch.Tensor) -> BatchStep:
    mask = torch.gather(data.mask, 2, index)
    return BatchStep(index=index, mask=mask, expected=mask.sum(dim=-1))
