"""The rounds of a batch of runs, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from qflsec.base import LostRound, ProtocolAbort, QflsecError
from qflsec.federation.compression import coded_costs
from qflsec.federation.executions import executed
from qflsec.federation.pair_layers import shaped
from qflsec.federation.payloads import Sent
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.audits import Audits
from qflsec.federation.round.batches import BatchStep, plan_batches
from qflsec.federation.round.broadcast import Broadcast, Received
from qflsec.federation.round.choosing import schedule_of
from qflsec.federation.round.collection import Collection, uploads_of
from qflsec.federation.round.delegations import Delegations
from qflsec.federation.round.evaluation import Curves
from qflsec.federation.round.lanes import LaneData, records_used
from qflsec.federation.round.late import Late, Work
from qflsec.federation.round.local import LocalTraining
from qflsec.federation.round.losses import Losses
from qflsec.federation.round.mixing import Mixing
from qflsec.federation.round.norms import Norms
from qflsec.federation.round.opened import Opened
from qflsec.federation.round.opening import Readers, make_transcript, records_of
from qflsec.federation.round.own import own_of
from qflsec.federation.round.parts import RoundParts
from qflsec.federation.round.server import Server
from qflsec.federation.round.session import SecretsMode, Session
from qflsec.federation.round.training import ClientTraining
from qflsec.federation.round.turns import Turns
from qflsec.federation.round.weighing import Weighing
from qflsec.federation.run import RunResult
from qflsec.federation.run_spec import RunSpec
from qflsec.federation.stack import Stack
from qflsec.federation.statements import Asked
from qflsec.federation.streams import RoundStreams
from qflsec.federation.topology import Turn, side_by_side
from qflsec.threat import SERVER, MessageKind, Network, Origin, Trained, Version

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
        self._weighing = Weighing(pipeline, records_of(lanes), self._seeds)
        self._data = self._weighing.training
        self._counts = self._data.mask.sum(dim=-1)
        keep = grant_honest_updates or any(
            spec.threat is not None and "honest-updates" in spec.threat.knows for spec in specs
        )
        session = self._session = Session(
            stack,
            self._seeds,
            n_clients=self._config.n_clients,
            n_params=pipeline.workload.n_params,
            rounds=self._config.rounds,
            max_count=len(lanes[0].dataset.member_idx),
            mode=secrets,
            participants=self._config.n_participants,
            checked_once=True,
        )
        self._transcript = make_transcript(
            pipeline=pipeline, stack=stack, lanes=lanes, session=session, record=record, keep_honest=keep
        )
        self._turns = Turns(pipeline=pipeline, specs=specs, transcript=self._transcript)
        self._network = Network(self._transcript, links=self._session.links(), taps=self._turns.taps())
        uploads = uploads_of(pipeline, stack=stack, session=self._session, network=self._network)
        initial = torch.stack([lane.initial for lane in lanes])
        self._own = own_of(pipeline, stack, initial, self._data)
        self._models = Broadcast(
            pipeline=pipeline,
            initial=pipeline.sharing.shared(initial),
            network=self._network,
            transcript=self._transcript,
            turns=self._turns,
            uploads=uploads[SERVER] if stack.leaves == "nothing" else None,
            dead=lambda: self._dead,
        )
        self._audits = Audits(stack.audit, pipeline.model, self._data, specs)
        self._mixing = Mixing(
            models=self._models, network=self._network, audits=self._audits, weighing=self._weighing
        )
        self._silent: set[tuple[int, int]] = set()
        self._collection = Collection(uploads=uploads, network=self._network, moves=self._turns)
        self._server = Server(stack=stack, pipeline=pipeline, seeds=self._seeds, lanes=lanes)
        self._delegations = Delegations.of(
            stack.delegation,
            pipeline=pipeline,
            session=session,
            network=self._network,
            specs=specs,
            failures=self._turns.failures,
            fail=self._turns.fail,
        )
        run = executed(pipeline, stack.executions)
        self._parts, self._late = RoundParts(run, specs, self._turns), Late(pipeline.parts, len(specs))
        training = LocalTraining(
            pipeline=run,
            layer=stack.gradient,
            delegations=self._delegations,
            records=stack.records,
        )
        self._training = ClientTraining(training, self._data)
        self._reads = pipeline.topology.reads(self._config.n_clients)
        self._readers = Readers.of(pipeline, stack, specs)
        self._schedule = schedule_of(
            pipeline, specs, self._models, self._network, self._turns, self._data, self._readers
        )
        self._curves = Curves(pipeline.model, specs, lanes, self._config.rounds, self._readers, stack.serving)
        self._losses = Losses(len(specs), self._config.rounds)
        self._norms = Norms(len(specs), self._config.rounds, self._config.n_clients)
        self._trace = [self._firsts] if any(spec.trace for spec in specs) else []

    @property
    def _dead(self) -> set[int]:
        return {*self._turns.failures, *self._turns.losses, *self._network.aborts}

    def run(self) -> None:
        """All rounds, then the release of the final model."""
        self._session.handshake(self._network)
        for round_index in range(self._config.rounds):
            self._round(round_index)
            if self._trace:
                self._trace.append(self._firsts)
        self._models.publish()

    def _round(self, round_index: int) -> None:
        streams = RoundStreams(self._seeds, round_index)
        chosen = self._parts.participants(round_index, self._counts)
        plan = plan_batches(self._data, self._config, streams)
        losses, honest = torch.zeros(chosen.shape, dtype=torch.float64), torch.zeros_like(chosen)
        self._silent.clear()
        steps = side_by_side(self._schedule(round_index, chosen))
        for place, turns in enumerate(steps):
            last = place == len(steps) - 1 and self._models.params.shape[1] == 1
            version = str(round_index + 1) if last else f"{round_index}.{place + 1}"
            first, trained = self._turn(round_index, turns, version, chosen, plan, streams)
            losses = torch.where(trained, first.double(), losses)
            honest |= self._turns.honest(trained)
            if len(steps) > 1:
                models = self._own.models(self._models.params, self._reads)
                self._curves.visit(round_index, turns[0].root.index, models, trained.any(dim=1))
        self._mix(round_index, chosen)
        self._curves.note(round_index, self._own.models(self._models.params, self._reads), losses, honest)

    def _turn(
        self,
        round_index: int,
        turns: Sequence[Turn],
        version: Version,
        chosen: torch.Tensor,
        plan: Sequence[BatchStep],
        streams: RoundStreams,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Clients train side by side and the next models are made: the losses before, and who trained."""
        trainers = tuple(sorted(index for turn in turns for index in turn.trainers))
        here = torch.zeros_like(chosen)
        here[:, list(trainers)] = chosen[:, list(trainers)]
        received = self._models.to_clients(round_index, turns, self._late.free(round_index, here))
        if self._models.params.shape[1] == 1:
            received = self._audits.of_ring(received, trainers)
        if self._delegations is not None:
            self._delegations.start(round_index, received.present)
        self._weighing.start(received.models)
        models = self._own.full(received.models)
        trained, losses = self._training(trainers, models, plan, streams, received.present)
        self._own.follow(models, trainers, plan, streams, received.present)
        present = received.present.clone()
        present[sorted(self._dead)] = False  # a run that stopped while it trained sends nothing
        updates = self._shape(trainers, self._own.release(models, trained, present), streams)
        present = self._turns.check_honest(round_index, updates, present)
        here[sorted(self._dead)] = False
        begun = replace(received, present=present)
        work = Work(received=begun, models=models, updates=updates, losses=losses)
        work = self._late.swap(round_index, work, here)
        self._exchange(round_index, turns, work, plan)
        self._collection.average([lane for lane in range(len(self._specs)) if lane not in self._dead])
        for turn in turns:
            self._aggregate(round_index, turn, version, here, work.received)
        return losses, present

    def _exchange(
        self, round_index: int, turns: Sequence[Turn], work: Work, plan: Sequence[BatchStep]
    ) -> None:
        """Send what clients release, where corrupted ones have had their turn."""
        trainers, present = sorted(index for turn in turns for index in turn.trainers), work.received.present
        updates = self._parts.cut(work.updates, present)
        said = self._stack.reported(work.losses, self._pipeline)
        honest = Sent(updates=updates, reports=said, metrics=self._training.metrics(work.models))
        self._transcript.grant(round_index, honest.released, present)
        asked = Asked(agreed=self._model, of=self._turns.stated)
        self._collection.start(round_index, turns, work.received, asked)
        early = self._turns.early(present)
        if bool(early.any()):
            self._collection.send(honest, self._counts, early)
        sent = self._turns.updates(round_index, work.models, honest, present, self._data, plan, trainers)
        self._norms.note(round_index, sent, present)
        self._collection.send(sent, self._counts, present & ~early)

    def _mix(self, round_index: int, chosen: torch.Tensor) -> None:
        """Mix the models of runs that have several."""
        if self._models.params.shape[1] == 1:
            return
        topology, n_clients = self._pipeline.topology, self._config.n_clients
        mixes = {
            lane: topology.mixing_of(
                n_clients,
                round_index,
                present=torch.nonzero(chosen[lane]).flatten().tolist(),
                counts=self._counts[lane].tolist(),
                seed=self._seeds[lane],
                models=self._models.params[lane],
            )
            for lane in range(len(self._specs))
            if lane not in self._dead
        }
        self._mixing(round_index, mixes, self._silent | self._models.away(self._reads))

    def _shape(self, trainers: Sequence[int], updates: torch.Tensor, streams: RoundStreams) -> torch.Tensor:
        """The updates as those who train release them.

        Shapes:
            updates: ``(lane, client, S)``; returns the same
        """
        whole, places = len(trainers) == self._config.n_clients, torch.tensor(trainers)
        released = updates if whole else updates[:, places]
        released = shaped(self._stack.shapes, released, streams, self._specs, self._network.aborts)
        return released if whole else updates.index_copy(1, places, released)

    def _aggregate(
        self, round_index: int, turn: Turn, version: Version, here: torch.Tensor, received: Received
    ) -> None:
        """Open what arrived and move the models; in a turn of nobody there is nothing to open."""
        empty = self._models.params.new_zeros(0, self._models.params.shape[-1])
        nobody = Opened(ids=(), updates=empty, counts=empty[:, 0])
        anybody = here[:, list(turn.trainers)].any(dim=1)
        for lane in range(len(self._specs)):
            # a client that does not take part makes no model: whoever holds the last one keeps it
            if lane in self._dead or (turn.root.role == "client" and not anybody[lane]):
                continue
            try:
                found = self._collection.open(lane, turn) if anybody[lane] else nobody
                opened = self._late.discounted(lane, self._parts.opened(lane, found))
                base, before = self._models.before(lane, turn, received)
                step = self._server.step(lane, round_index, opened, before, turn.node)
            except ProtocolAbort as abort:
                self._lose(lane, round_index, turn, abort)
                continue
            except QflsecError as error:
                self._turns.end(lane, error)
                continue
            self._losses.note(lane, round_index, opened)
            if turn.root.role == "client" and not opened.ids:
                self._silent.add((lane, turn.node))
                continue
            told = self._turns.edge(round_index, lane, turn.root, step)
            after = before + self._config.server_learning_rate * told
            honest = bool(torch.equal(told, step))
            self._move(lane, round_index, turn, version, opened, after, base, received.bases[lane], honest)

    def _lose(self, lane: int, round_index: int, turn: Turn, abort: ProtocolAbort) -> None:
        """A round without a result: the model stays, and what was said of a sum stays in the views."""
        facts, heard = self._transcript.facts[lane], frozenset(self._collection.heard(lane, turn))
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
        params: torch.Tensor,
        base: Version,
        bases: Sequence[Version],
        honest: bool,
    ) -> None:
        """The next model of a node, and how it came about: from what base, and from what bases its clients trained."""
        facts, members = self._transcript.facts[lane], frozenset(opened.ids)
        facts.participants[round_index] = facts.participants.get(round_index, frozenset()) | members
        trained = tuple(
            Trained(client=i, base=bases[i], weight=facts.counts[i], scale=self._late.factor(lane, i))
            for i in sorted(members)
        )
        origin = Origin(
            round=round_index,
            bases={base: 1.0},
            trained=trained,
            rate=self._config.server_learning_rate,
            linear=self._stack.linear and honest and opened.sent is None and opened.metrics is None,
            parts=self._parts.of_step(opened) if self._stack.linear and honest else (),
            drawn_from=frozenset(turn.trainers),
        )
        self._models.move(
            lane,
            (turn.node,),
            turn.root,
            version if self._models.params.shape[1] == 1 else f"{version}@{turn.node}",
            origin,
            params,
            members=self._models.members(lane, turn.node) | members,
            opened=opened,
        )
        if turn.root.role == "client":
            self._audits.keep(lane, turn.root.index, self._models.version(lane, turn.node), params)

    def results(self, *, cpu_seconds: float) -> list[RunResult]:
        """A result for each run.

        Args:
            cpu_seconds: Each run's share of the batch's CPU time.
        """
        return [self._result(lane, cpu_seconds) for lane in range(len(self._specs))]

    @property
    def _firsts(self) -> torch.Tensor:
        """The shared part of the model of each run's first reader."""
        first = [places[0] for places in self._readers.models]
        nodes = [self._reads[place] for place in first] if self._pipeline.kept else first
        return self._models.params[range(len(nodes)), nodes]

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
            params=self._firsts[lane].clone(),
            models=self._own.models(self._models.params, self._reads)[lane].clone(),
            accuracy=tuple(self._curves.accuracy[lane]),
            worst_accuracy=tuple(self._curves.worst_accuracy[lane]),
            readers=tuple(self._readers.models[lane]),
            visits=tuple(self._curves.visits[lane]),
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
                "record_gradients": records_used(self._counts[lane], config) * config.rounds * config.uses,
                "cpu_seconds": cpu_seconds,
                **self._session.costs(lane),
                **coded_costs(self._stack, self._pipeline, self._transcript.facts[lane]),
                **({"sent_parameters": self._parts.numbers[lane]} if self._pipeline.parts else {}),
                **({"refused_models": float(self._audits.refused[lane])} if self._audits.active else {}),
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
