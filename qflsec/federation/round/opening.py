"""What is known of a batch of runs before anybody trains: the transcript, who takes part, and who reads whose model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.base import stream
from qflsec.federation.config import FederationConfig
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.batches import ClientData
from qflsec.federation.round.lanes import LaneData
from qflsec.federation.round.rosters import rosters_of
from qflsec.federation.round.session import Session
from qflsec.federation.run_spec import RunSpec
from qflsec.federation.stack import Stack
from qflsec.threat import Granted, LaneFacts, MessageKind, Records, Transcript, client

__all__ = ["Readers", "make_transcript", "participants", "records_of"]


def make_transcript(
    *,
    pipeline: Pipeline,
    stack: Stack,
    lanes: Sequence[LaneData],
    session: Session,
    record: frozenset[MessageKind] | None,
    keep_honest: bool,
) -> Transcript:
    """An empty transcript, with all that is known besides the messages.

    Args:
        pipeline: The pipeline.
        stack: The stack.
        lanes: The data of the runs.
        session: The parties, for the names of their keys.
        record: The kinds of messages to keep.
        keep_honest: Whether honest updates are kept for threat models that grant them.
    """
    transcript = Transcript(
        record_kinds=record,
        keys=session.key_names(),
        derivers=() if stack.aggregation is None else (stack.aggregation.derive,),
    )
    rosters = rosters_of(pipeline, stack)
    if keep_honest:
        transcript.honest_updates = {lane: {} for lane in range(len(lanes))}
    for lane, data in enumerate(lanes):
        dataset, counts = data.dataset, data.mask.sum(dim=-1).tolist()
        transcript.facts[lane] = LaneFacts(
            counts=stack.weights(counts), rosters=rosters, beside=pipeline.workload.beside
        )
        transcript.granted[lane] = Granted(
            # what a client keeps to itself nobody else can evaluate
            model=None if pipeline.personal else pipeline.model,
            auxiliary=_records(dataset.features, dataset.labels, dataset.auxiliary_idx),
            defenses=stack,
            data={
                client(index): _records(dataset.features, dataset.labels, rows)
                for index, rows in enumerate(data.clients)
            },
        )
    return transcript


@dataclass(frozen=True, kw_only=True)
class Readers:
    """Who reads which model of the runs of a batch.

    Attributes:
        models: For each run, which of its models the honest clients read, one entry for each of them. One model is read
            by everybody alike; of several, what corrupted clients hold is read by nobody who counts.
        unread: For each run, the corrupted clients whose models honest ones try before they go on from them.
    """

    models: list[list[int]]
    unread: list[frozenset[int]]

    @classmethod
    def of(cls, pipeline: Pipeline, stack: Stack, specs: Sequence[RunSpec]) -> Readers:
        """The readers of these runs."""
        n_clients = pipeline.federation.n_clients
        reads = tuple(range(n_clients)) if pipeline.kept else pipeline.topology.reads(n_clients)
        corrupted = [
            frozenset(spec.threat.clients if spec.threat is not None and spec.adversary is not None else ())
            for spec in specs
        ]
        found = []
        for acting in corrupted:
            honest = [model for index, model in enumerate(reads) if index not in acting]
            found.append([reads[0]] if len(set(reads)) == 1 else honest or list(reads))
        unread = corrupted if stack.audit is not None else [frozenset[int]() for _ in specs]
        return cls(models=found, unread=unread)


def participants(
    config: FederationConfig, seeds: Sequence[int], counts: torch.Tensor, round_index: int
) -> torch.Tensor:
    """Who takes part in a round, by run and client; a client without records sits out.

    Args:
        config: How clients are drawn.
        seeds: The seed of each run.
        counts: The number of records of each client.
        round_index: The round.

    Shapes:
        counts: ``(lane, client)``; returns the same, boolean
    """
    n = config.n_clients
    present = torch.zeros(len(seeds), n, dtype=torch.bool)
    for lane, seed in enumerate(seeds):
        generator = stream(seed, "participation", round_index)
        if config.client_sampling == "poisson":
            present[lane] = torch.rand(n, generator=generator) < config.participation
        else:
            present[lane, torch.randperm(n, generator=generator)[: config.n_participants]] = True
    return present & (counts > 0)


def records_of(lanes: Sequence[LaneData]) -> ClientData:
    """The clients' records of all runs of a batch.

    Args:
        lanes: The data of the runs, all padded alike.
    """
    return ClientData(
        features=torch.stack([lane.features for lane in lanes]),
        labels=torch.stack([lane.labels for lane in lanes]),
        mask=torch.stack([lane.mask for lane in lanes]),
    )


def _records(features: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor) -> Records:
    return Records(features=features[rows], labels=labels[rows])
