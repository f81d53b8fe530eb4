"""The rounds of a batch of runs, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from qflsec.base import LostRound, ProtocolAbort, QflsecError, stream
from qflsec.federation.executions import executed
from qflsec.federation.payloads import Sent
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.batches import BatchStep, ClientData, plan_batches
from qflsec.federation.round.broadcast import Broadcast
from qflsec.federation.round.collection import Collection
from qflsec.federation.round.delegations import Delegations
from qflsec.federation.round.evaluation import Curves
from qflsec.federation.round.lanes import LaneData, records_used
from qflsec.federation.round.local import LocalTraining
from qflsec.federation.round.losses import Losses
from qflsec.federation.round.norms import Norms
from qflsec.federation.round.opened import Opened
from qflsec.federation.round.rosters import rosters_of
from qflsec.federation.round.server import Server
from qflsec.federation.round.session import SecretsMode, Session
from qflsec.federation.round.training import ClientTraining
from qflsec.federation.round.turns import Turns
from qflsec.federation.round.upload import Uploads
from qflsec.federation.run import RunResult
from qflsec.federation.run_spec import RunSpec
from qflsec.federation.sharing import OwnParts
from qflsec.federation.stack import Stack
from qflsec.federation.statements import Asked
from qflsec.federation.streams import RoundStreams
from qflsec.federation.topology import Turn
from qflsec.threat import (
    SERVER,
    Granted,
    LaneFacts,
    MessageKind,
    Network,
    Origin,
    Party,
    Records,
    Trained,
    Transcript,
    Version,
    client,
)

__all__ = ["BatchRun"]


class BatchRun:
    """A batch of runs of one pipeline and one stack.

    Args:
        pipeline: The pipeline.
        stack: The stack.
        specs: The runs.
        lanes: Their data, all padded alike.
        secrets: Where secrets come from.
        record: The kinds of messages to keep.
        grant_honest_updates: Whether to keep honest updates for threat models that grant them.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        stack: Stack,
        specs: Sequence[RunSpec],
        lanes: Sequence[LaneData],
        secrets: SecretsMode,
        record: frozenset[MessageKind] | None,
        grant_honest_updates: bool,
    ) -> None:
        self._pipeline, self._stack, self._specs, self._lanes = pipeline, stack, list(specs), list(lanes)
        self._config, self._model = pipeline.federation, pipeline.model
        self._seeds = [spec.seed for spec in specs]
        self._data = ClientData(
            features=torch.stack([lane.features for lane in lanes]),
            labels=torch.stack([lane.labels for lane in lanes]),
            mask=torch.stack([lane.mask for lane in lanes]),
        )
        self._counts = self._data.mask.sum(dim=-1)
        self._keep_honest = grant_honest_updates or any(
            spec.threat is not None and "honest-updates" in spec.threat.knows for spec in specs
        )
        self._session = Session(
            stack,
            self._seeds,
            n_clients=self._config.n_clients,
            n_params=pipeline.sharing.n_shared,
            rounds=self._config.rounds,
            max_count=len(lanes[0].dataset.member_idx),
            mode=secrets,
            participants=self._config.n_participants,
        )
        self._transcript = self._make_transcript(record)
        self._turns = Turns(pipeline=pipeline, specs=specs, transcript=self._transcript)
        self._network = Network(self._transcript, links=self._session.links(), taps=self._turns.taps())
        uploads, initial = self._make_uploads(), torch.stack([lane.initial for lane in lanes])
        self._own = OwnParts(pipeline.sharing, initial, self._config.n_clients)
        self._models = Broadcast(
            pipeline=pipeline,
            initial=pipeline.sharing.shared(initial),
            network=self._network,
            transcript=self._transcript,
            turns=self._turns,
            uploads=uploads[SERVER] if stack.leaves == "nothing" else None,
            dead=lambda: self._dead,
        )
        self._collection = Collection(uploads=uploads, network=self._network)
        self._server = Server(stack=stack, pipeline=pipeline, seeds=self._seeds, lanes=lanes)
        self._delegations = self._delegate(stack)
        training = LocalTraining(
            pipeline=executed(pipeline, stack.executions),
            layer=stack.gradient,
            delegations=self._delegations,
            records=stack.records,
        )
        self._training = ClientTraining(training, self._data)
        self._curves = Curves(pipeline.model, specs, lanes, self._config.rounds, stack.serving)
        self._losses = Losses(len(specs), self._config.rounds)
        self._norms = Norms(len(specs), self._config.rounds, self._config.n_clients)
        self._trace = [self._models.params] if any(spec.trace for spec in specs) else []

    def _delegate(self, stack: Stack) -> Delegations | None:
        if stack.delegation is None:
            return None
        return Delegations(
            layer=stack.delegation,
            pipeline=self._pipeline,
            session=self._session,
            network=self._network,
            specs=self._specs,
            failures=self._turns.failures,
            fail=self._turns.fail,
        )

    def _make_uploads(self) -> dict[Party, Uploads]:
        """The upload step of every party, other than a client, that clients send to."""
        heads = {
            head for turn in self._pipeline.topology.turns(self._config.n_clients, 0) for head in turn.groups
        }
        return {
            head: Uploads(stack=self._stack, session=self._session, network=self._network, aggregator=head)
            for head in sorted(heads)
            if head.role != "client"
        }

    def _make_transcript(self, record: frozenset[MessageKind] | None) -> Transcript:
        aggregation = self._stack.aggregation
        transcript = Transcript(
            record_kinds=record,
            keys=self._session.key_names(),
            derivers=() if aggregation is None else (aggregation.derive,),
        )
        rosters = rosters_of(self._pipeline, self._stack)
        if self._keep_honest:
            transcript.honest_updates = {lane: {} for lane in range(len(self._lanes))}
        for lane, data in enumerate(self._lanes):
            dataset = data.dataset
            transcript.facts[lane] = LaneFacts(
                counts=self._stack.weights(self._counts[lane].tolist()), rosters=rosters
            )
            transcript.granted[lane] = Granted(
                # what a client keeps to itself nobody else can evaluate
                model=None if self._pipeline.personal else self._model,
                auxiliary=_records(dataset.features, dataset.labels, dataset.auxiliary_idx),
                defenses=self._stack,
                data={
                    client(index): _records(dataset.features, dataset.labels, rows)
                    for index, rows in enumerate(data.clients)
                },
            )
        return transcript

    @property
    def _dead(self) -> set[int]:
        return {*self._turns.failures, *self._turns.losses, *self._network.aborts}

    def run(self) -> None:
        """All rounds, then the release of the final model."""
        self._session.handshake(self._network)
        for round_index in range(self._config.rounds):
            self._round(round_index)
            if self._trace:
                self._trace.append(self._models.params.clone())
        self._models.publish()

    def _round(self, round_index: int) -> None:
        streams = RoundStreams(self._seeds, round_index)
        chosen = self._participants(round_index)
        plan = plan_batches(self._data, self._config, streams)
        losses, honest = torch.zeros(chosen.shape, dtype=torch.float64), torch.zeros_like(chosen)
        turns = self._pipeline.topology.turns(self._config.n_clients, round_index)
        for place, turn in enumerate(turns):
            last = place == len(turns) - 1
            version = str(round_index + 1) if last else f"{round_index}.{place + 1}"
            first, trained = self._turn(round_index, turn, version, chosen, plan, streams)
            losses = torch.where(trained, first.double(), losses)
            honest |= self._turns.honest(trained)
        self._curves.note(round_index, self._own.models(self._models.params), losses, honest)

    def _turn(
        self,
        round_index: int,
        turn: Turn,
        version: Version,
        chosen: torch.Tensor,
        plan: Sequence[BatchStep],
        streams: RoundStreams,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Clients train side by side and one party makes the next model: the losses before, and who trained."""
        here = torch.zeros_like(chosen)
        here[:, list(turn.trainers)] = chosen[:, list(turn.trainers)]
        received = self._models.to_clients(round_index, turn, here)
        if self._delegations is not None:
            self._delegations.start(round_index, received.present)
        models = self._own.full(received.models)
        trained, losses = self._training(turn.trainers, models, plan, streams, received.present)
        present = received.present.clone()
        present[sorted(self._dead)] = False  # a run that stopped while it trained sends nothing
        updates = self._shape(turn, self._own.release(models, trained, present), streams)
        present = self._turns.check_honest(round_index, updates, present)
        self._grant(round_index, updates, present)
        asked = Asked(agreed=self._model, of=self._turns.stated)
        self._collection.start(round_index, turn, replace(received, present=present), asked)
        early = self._turns.early(present)
        if bool(early.any()):
            self._collection.send(Sent(updates=updates), self._counts, early)
        sent = self._turns.updates(round_index, models, updates, present, self._data, plan, turn.trainers)
        self._norms.note(round_index, sent, present)
        self._collection.send(sent, self._counts, present & ~early)
        self._aggregate(round_index, turn, version, here.any(dim=1), received.bases)
        return losses, present

    def _shape(self, turn: Turn, updates: torch.Tensor, streams: RoundStreams) -> torch.Tensor:
        """The updates as the clients of a turn release them.

        Shapes:
            updates: ``(lane, client, S)``; returns the same
        """
        clients = list(turn.trainers)
        released = updates if self._everybody(turn) else updates[:, clients]
        for layer in self._stack.shapes:
            released = layer.shape(released, streams)
        if self._everybody(turn):
            return released
        updates = updates.clone()
        updates[:, clients] = released
        return updates

    def _everybody(self, turn: Turn) -> bool:
        return len(turn.trainers) == self._config.n_clients

    def _participants(self, round_index: int) -> torch.Tensor:
        """Who takes part in a round, by lane and client; a client without records sits out."""
        n, chosen = self._config.n_clients, self._config.n_participants
        present = torch.zeros(len(self._specs), n, dtype=torch.bool)
        for lane, seed in enumerate(self._seeds):
            generator = stream(seed, "participation", round_index)
            if self._config.client_sampling == "poisson":
                present[lane] = torch.rand(n, generator=generator) < self._config.participation
            else:
                present[lane, torch.randperm(n, generator=generator)[:chosen]] = True
        return present & (self._counts > 0)

    def _grant(self, round_index: int, updates: torch.Tensor, present: torch.Tensor) -> None:
        if not self._keep_honest:
            return
        for lane in range(len(self._specs)):
            kept = self._transcript.honest_updates[lane]
            for index in torch.nonzero(present[lane]).flatten().tolist():
                kept[round_index, index] = updates[lane, index].clone()

    def _aggregate(
        self,
        round_index: int,
        turn: Turn,
        version: Version,
        anybody: torch.Tensor,
        bases: Sequence[Sequence[Version]],
    ) -> None:
        """Open what arrived and move the models; in a turn of nobody there is nothing to open."""
        nobody = Opened(
            ids=(),
            updates=self._models.params.new_zeros(0, self._models.params.shape[-1]),
            counts=torch.zeros(0),
        )
        self._collection.average([lane for lane in range(len(self._specs)) if lane not in self._dead])
        for lane in range(len(self._specs)):
            # a client that does not take part makes no model: whoever holds the last one keeps it
            if lane in self._dead or (turn.root.role == "client" and not anybody[lane]):
                continue
            try:
                opened = self._collection.open(lane) if anybody[lane] else nobody
                step = self._server.step(lane, round_index, opened, self._models.params[lane])
            except ProtocolAbort as abort:
                self._lose(lane, round_index, abort)
                continue
            except QflsecError as error:
                self._turns.end(lane, error)
                continue
            self._losses.note(lane, round_index, opened)
            self._move(lane, round_index, turn, version, opened, step, bases[lane])

    def _lose(self, lane: int, round_index: int, abort: ProtocolAbort) -> None:
        """A round without a result: the model stays, and what was said of a sum stays in the views."""
        facts, heard = self._transcript.facts[lane], frozenset(self._collection.heard(lane))
        facts.participants[round_index] = facts.participants.get(round_index, frozenset()) | heard
        lost = isinstance(abort, LostRound) and not self._losses.lose(lane, round_index, abort)
        # where only clients open sums, nobody could send them the model that they had
        if not lost or self._stack.leaves == "nothing":
            self._network.aborts[lane] = abort

    def _move(
        self,
        lane: int,
        round_index: int,
        turn: Turn,
        version: Version,
        opened: Opened,
        step: torch.Tensor,
        bases: Sequence[Version],
    ) -> None:
        """The next model of a run, and how it came about."""
        facts, members = self._transcript.facts[lane], frozenset(opened.ids)
        facts.participants[round_index] = facts.participants.get(round_index, frozenset()) | members
        origin = Origin(
            round=round_index,
            bases={self._models.version(lane): 1.0},
            trained=tuple(
                Trained(client=index, base=bases[index], weight=facts.counts[index])
                for index in sorted(members)
            ),
            rate=self._config.server_learning_rate,
            linear=self._stack.linear,
            drawn_from=frozenset(turn.trainers),
        )
        params = self._models.params[lane] + self._config.server_learning_rate * step
        self._models.move(lane, turn.root, version, origin, opened, params)

    def results(self, *, cpu_seconds: float) -> list[RunResult]:
        """A result for each run.

        Args:
            cpu_seconds: Each run's share of the batch's CPU time.
        """
        return [self._result(lane, cpu_seconds) for lane in range(len(self._specs))]

    def _result(self, lane: int, cpu_seconds: float) -> RunResult:
        abort = self._network.aborts.get(lane)
        outcome, trace = self._turns.outcome(lane, abort)
        data, config = self._lanes[lane], self._config
        return RunResult(
            spec=self._specs[lane],
            pipeline=self._pipeline,
            stack=self._stack,
            outcome=outcome,
            caused_by=None if abort is None else abort.caused_by,
            traceback=trace,
            initial=data.initial,
            params=self._models.params[lane].clone(),
            models=self._own.models(self._models.params)[lane].clone(),
            accuracy=tuple(self._curves.accuracy[lane]),
            worst_accuracy=tuple(self._curves.worst_accuracy[lane]),
            loss=tuple(self._curves.loss[lane]),
            train_loss=tuple(self._curves.train_loss[lane]),
            norms=self._norms.of(lane),
            dataset=data.dataset,
            clients=data.clients,
            transcript=self._transcript,
            lane=lane,
            costs={
                "network_bytes": float(self._network.bytes_sent.get(lane, 0)),
                "network_messages": float(self._network.messages_sent.get(lane, 0)),
                "record_gradients": records_used(data, config) * config.rounds * config.uses,
                "cpu_seconds": cpu_seconds,
                **self._session.costs(lane),
            },
            seeded_secrets=self._session.seeded and bool(self._transcript.keys),
            delegations={} if self._delegations is None else self._delegations.results(lane),
            memory=self._turns.memory(lane),
            dropped=self._losses.dropped(lane),
            faults=self._losses.faults(lane),
            trace=torch.stack([models[lane] for models in self._trace])
            if self._specs[lane].trace
            else torch.zeros(0, 0),
        )


def _records(features: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor) -> Records:
    return Records(features=features[rows], labels=labels[rows])
