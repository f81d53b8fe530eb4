"""Weighing: clients that try the models which others send them, and weigh them by their loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qflsec.base import stream
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.batches import ClientData
from qflsec.federation.topology import Preference, preferences

__all__ = ["Weighing", "held_back"]


def held_back(mask: torch.Tensor, share: float) -> torch.Tensor:
    """Which records each client holds back: evenly spaced ones, the first among them.

    Partitions may sort a client's records by class, so that its last ones would be of one class. A client with one record
    holds none back.

    Args:
        mask: 1 for a record, 0 for padding.
        share: The share of a client's records, rounded up.

    Shapes:
        mask: ``(..., N)``; returns the same
    """
    place = mask.double().cumsum(dim=-1)
    # rounded, as the product of a share and a number may miss a whole number by an ulp
    reached = torch.ceil((place * share).round(decimals=9))
    starts = torch.diff(reached, dim=-1, prepend=torch.zeros_like(reached[..., :1])) > 0
    return torch.where(mask.sum(dim=-1, keepdim=True) > 1, mask * starts, torch.zeros_like(mask))


class Weighing:
    """The weights that the clients of a batch give to the models that they hold.

    Args:
        pipeline: The pipeline; where its topology has no clients that weigh, nothing is done.
        data: The records of all clients.
        seeds: The seed of each run.
    """

    def __init__(self, pipeline: Pipeline, data: ClientData, seeds: Sequence[int]) -> None:
        self._pipeline, self._data, self._seeds = pipeline, data, tuple(seeds)
        topology = pipeline.topology
        self._topology = topology if isinstance(topology, Preference) else None
        share = 0.0 if self._topology is None else self._topology.held_back
        self._tried = held_back(data.mask, share) if share else data.mask
        self.training = data
        if share:
            self.training = ClientData(
                features=data.features, labels=data.labels, mask=data.mask - self._tried
            )
        self._started = torch.zeros(0)

    def start(self, models: torch.Tensor) -> None:
        """Note what the clients of a round train from.

        Shapes:
            models: ``(lane, client, P)``
        """
        self._started = models

    def __call__(
        self,
        lane: int,
        round_index: int,
        client: int,
        shares: Sequence[float],
        models: Sequence[torch.Tensor],
    ) -> list[float] | None:
        """What a client gives to each model; None where it leaves the weights as they are.

        Args:
            lane: The run.
            round_index: The round.
            client: The client.
            shares: The weights of the models before they are tried.
            models: The models, the client's own among them.

        Returns:
            Weights that add up to 1, or are all 0 where no model gains anything.
        """
        rule, mask = self._topology, self._tried[lane, client] > 0
        if rule is None or not bool(mask.any()):
            return None
        started = self._started[lane, client]
        held = torch.stack([*models, started])
        losses = self._losses(lane, round_index, client, held, mask)
        moved = (held[:-1] - started).double().norm(dim=-1)
        found: list[float] = preferences(
            losses[:-1],
            torch.tensor(shares, dtype=torch.float64),
            rule=rule.rule,
            beta=rule.beta,
            before=losses[-1],
            moved=moved,
        ).tolist()
        return found

    def _losses(
        self, lane: int, round_index: int, client: int, models: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """The mean loss of each model on what a client tries models on.

        Shapes:
            models: ``(k, P)``; mask: ``(N,)``; returns: ``(k,)``, double
        """
        model, labels = self._pipeline.model, self._data.labels[lane, client, mask]
        with torch.no_grad():
            logits = model(
                models[:, None, :],
                self._data.features[lane, client, mask],
                execution=self._pipeline.execution_of(client),
                generator=stream(self._seeds[lane], "weighing", round_index, client),
            )
            each = model.loss.per_sample(logits, labels.expand(len(models), -1))
        return each.double().mean(dim=-1)
