"""Lanes: the runs of a batch side by side, with their data padded.

A run's padding depends on that run alone, and only runs of equal padding share a batch. Sums over records
then have the same length whether a run is computed alone or beside others, which is what makes a batch
equal to single runs bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.base import stream
from qflsec.data import Dataset, load, partition
from qflsec.federation.config import FederationConfig
from qflsec.federation.pipeline import Pipeline
from qflsec.models import Model

__all__ = ["LaneData", "chunks", "lane_of", "lanes_per_batch", "prepare_lane", "records_used"]

_PADDING = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class LaneData:
    """The data and the first model of one run.

    Attributes:
        dataset: The data with its splits.
        clients: The record indices of each client.
        features: Clients' records, padded with zeros; with a record of the client's own where the model is a module or
            a QNode of the user's that is called as it is.
        labels: Clients' labels, padded with zeros.
        mask: 1 for a record, 0 for padding.
        initial: The first model.

    Shapes:
        features: ``(C, N, F)``; labels: ``(C, N)``; mask: ``(C, N)``; initial: ``(P,)``
    """

    dataset: Dataset
    clients: tuple[torch.Tensor, ...]
    features: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor
    initial: torch.Tensor

    @property
    def padded(self) -> int:
        """The padded number of records of a client, N."""
        return int(self.mask.shape[1])


def prepare_lane(pipeline: Pipeline, seed: int) -> LaneData:
    """Load and split the data of one run, and make its lane.

    Args:
        pipeline: The pipeline.
        seed: The run's seed.
    """
    return lane_of(pipeline, load(pipeline.data, seed), seed)


def lane_of(pipeline: Pipeline, dataset: Dataset, seed: int) -> LaneData:
    """Partition and pad the members of a data set, and draw the first model.

    Args:
        pipeline: The pipeline; its own data play no part.
        dataset: The data with their splits.
        seed: The seed of the partition and the first model.
    """
    clients = partition(dataset, pipeline.partition, pipeline.federation.n_clients, seed)
    longest = max(len(rows) for rows in clients)
    padded = longest if longest <= 2 else -(-longest // _PADDING) * _PADDING
    features = torch.zeros(len(clients), padded, dataset.features.shape[1])
    labels = torch.zeros(len(clients), padded, dtype=torch.long)
    mask = torch.zeros(len(clients), padded)
    for index, rows in enumerate(clients):
        features[index, : len(rows)] = dataset.features[rows]
        if len(rows) and getattr(pipeline.model, "circuit", None) is None:
            # a user's code may divide by the norm of a record: NaN times the mask's 0 is NaN
            features[index, len(rows) :] = dataset.features[rows[0]]
        labels[index, : len(rows)] = dataset.labels[rows]
        mask[index, : len(rows)] = 1.0
    return LaneData(
        dataset=dataset,
        clients=clients,
        features=features,
        labels=labels,
        mask=mask,
        initial=pipeline.model.initial(stream(seed, "initial")),
    )


def lanes_per_batch(model: Model) -> int:
    """How many runs share a batch: more lanes stop paying as the statevector grows."""
    circuit = getattr(model, "circuit", None)
    n_qubits = 0 if circuit is None else int(circuit.n_qubits)
    if n_qubits <= 5:
        return 16
    return 4 if n_qubits <= 7 else 1


def chunks(padded: Sequence[int], limit: int) -> list[list[int]]:
    """Positions of runs that share a batch: equal padding, at most ``limit`` of them, in order."""
    groups: dict[int, list[int]] = {}
    for position, size in enumerate(padded):
        groups.setdefault(size, []).append(position)
    return [
        group[start : start + limit] for group in groups.values() for start in range(0, len(group), limit)
    ]


def records_used(counts: torch.Tensor, config: FederationConfig) -> float:
    """Expected records of all participating clients in one step, or in one epoch.

    Args:
        counts: How many records each client trains on.
        config: How they train.

    Shapes:
        counts: ``(client,)``
    """
    drawn = config.batches in {"fixed", "poisson"}
    used = counts.clamp(max=float(config.batch_size or 1)) if drawn else counts
    return float(used.sum()) * config.n_participants / config.n_clients
