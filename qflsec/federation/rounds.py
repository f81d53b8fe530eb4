"""The rounds of a batch of runs, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qflsec.base import ProtocolAbort, QflsecError, stream
from qflsec.federation.delegations import Delegations
from qflsec.federation.evaluation import Curves
from qflsec.federation.executions import executed
from qflsec.federation.lanes import LaneData
from qflsec.federation.local import ClientData, LocalTraining, plan_batches
from qflsec.federation.payloads import Sent
from qflsec.federation.pipeline import FederationConfig, Pipeline
from qflsec.federation.run import RunResult
from qflsec.federation.run_spec import RunSpec
from qflsec.federation.server import Server
from qflsec.federation.session import SecretsMode, Session
from qflsec.federation.stack import Stack
from qflsec.federation.streams import RoundStreams
from qflsec.federation.turns import Turns
from qflsec.federation.updates import Dropped
from qflsec.federation.upload import Opened, Uploads
from qflsec.threat import (
    PUBLIC,
    SERVER,
    Delivery,
    Envelope,
    Granted,
    LaneFacts,
    MessageKind,
    Network,
    Origin,
    Records,
    Slot,
    Trained,
    Transcript,
    Version,
    client,
)

__all__ = ["BatchRun"]


def _version(round_index: int) -> Version:
    """The name of the model at the start of a round."""
    return str(round_index)


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
        self._params = torch.stack([lane.initial for lane in lanes])
        self._before = self._params
        self._keep_honest = grant_honest_updates or any(
            spec.threat is not None and "honest-updates" in spec.threat.knows for spec in specs
        )
        self._session = Session(
            stack,
            self._seeds,
            n_clients=self._config.n_clients,
            n_params=self._model.n_params,
            rounds=self._config.rounds,
            max_count=len(lanes[0].dataset.member_idx),
            mode=secrets,
            participants=self._config.n_participants,
        )
        self._transcript = self._make_transcript(record)
        self._turns = Turns(pipeline=pipeline, specs=specs, transcript=self._transcript)
        self._network = Network(self._transcript, links=self._session.links(), taps=self._turns.taps())
        self._uploads = Uploads(stack=stack, session=self._session, network=self._network)
        self._server = Server(stack=stack, pipeline=pipeline, seeds=self._seeds)
        self._delegations = self._delegate(stack)
        self._training = LocalTraining(
            pipeline=executed(pipeline, stack.executions), layer=stack.gradient, delegations=self._delegations
        )
        self._curves = Curves(pipeline.model, specs, lanes, self._config.rounds)
        self._contributed: list[frozenset[int]] = [frozenset() for _ in specs]
        self._opened: list[Opened | None] = [None for _ in specs]
        self._dropped: list[list[Dropped]] = [[] for _ in specs]

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

    def _make_transcript(self, record: frozenset[MessageKind] | None) -> Transcript:
        aggregation = self._stack.aggregation
        transcript = Transcript(
            record_kinds=record,
            keys=self._session.key_names(),
            derivers=() if aggregation is None else (aggregation.derive,),
        )
        for lane, data in enumerate(self._lanes):
            dataset = data.dataset
            facts = LaneFacts(counts=self._weights(lane))
            facts.versions.add(_version(0), Origin(round=-1))
            transcript.facts[lane] = facts
            transcript.granted[lane] = Granted(
                model=self._model,
                auxiliary=_records(dataset.features, dataset.labels, dataset.auxiliary_idx),
                defenses=self._stack,
                honest_updates={},
                data={
                    client(index): _records(dataset.features, dataset.labels, rows)
                    for index, rows in enumerate(data.clients)
                },
            )
        return transcript

    def _weights(self, lane: int) -> tuple[float, ...]:
        """What each client counts in the mean."""
        aggregation = self._stack.aggregation
        counts = self._counts[lane]
        unweighted = aggregation is not None and not aggregation.weighted
        return tuple((torch.ones_like(counts) if unweighted else counts).tolist())

    @property
    def _hides_model(self) -> bool:
        return self._stack.leaves == "nothing"

    @property
    def _dead(self) -> set[int]:
        return {*self._turns.failures, *self._turns.losses, *self._network.aborts}

    def run(self) -> None:
        """All rounds, then the release of the final model."""
        self._session.handshake(self._network)
        for round_index in range(self._config.rounds):
            self._round(round_index)
        self._release()

    def _round(self, round_index: int) -> None:
        streams = RoundStreams(self._seeds, round_index)
        chosen = self._participants(round_index)
        received, present = self._broadcast(round_index, chosen)
        bases = self._bases(round_index, received)
        plan = plan_batches(self._data, self._config, streams)
        if self._delegations is not None:
            self._delegations.start(round_index, present)
        updates, losses = self._training(received, self._data, plan, streams, range(self._config.n_clients))
        present = present.clone()
        present[sorted(self._dead)] = False  # a run that stopped while it trained sends nothing
        for layer in self._stack.shapes:
            updates = layer.shape(updates, streams)
        present = self._turns.check_honest(round_index, updates, present)
        self._grant(round_index, updates, present)
        self._uploads.start(round_index, present, received, bases)
        early = self._turns.early(present)
        if bool(early.any()):
            self._uploads.send(Sent(updates=updates), self._counts, early)
        sent = self._turns.updates(round_index, received, updates, present, self._data, plan)
        self._uploads.send(sent, self._counts, present & ~early)
        self._aggregate(round_index, chosen.any(dim=1), bases)
        self._curves.note(round_index, self._params, losses, self._turns.honest(present))

    def _participants(self, round_index: int) -> torch.Tensor:
        n, chosen = self._config.n_clients, self._config.n_participants
        present = torch.zeros(len(self._specs), n, dtype=torch.bool)
        for lane, seed in enumerate(self._seeds):
            generator = stream(seed, "participation", round_index)
            if self._config.client_sampling == "poisson":
                present[lane] = torch.rand(n, generator=generator) < self._config.participation
            else:
                present[lane, torch.randperm(n, generator=generator)[:chosen]] = True
        return present

    def _broadcast(self, round_index: int, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Send the model down; whoever cannot read it does not take part."""
        models = self._params[:, None, :].expand(-1, self._config.n_clients, -1).clone()
        models = self._turns.broadcast(round_index, self._params, models)
        delivery = self._send_models(round_index, models, present, self._bases(round_index, models))
        if isinstance(delivery.values, torch.Tensor):
            return delivery.values, present
        received, arrived = models.clone(), present.clone()
        for lane in range(len(self._specs)):
            for index in torch.nonzero(present[lane]).flatten().tolist():
                model = self._read_model(delivery, lane, index)
                if model is None:
                    arrived[lane, index] = False
                else:
                    received[lane, index] = model
        return received, arrived

    def _read_model(self, delivery: Delivery, lane: int, index: int) -> torch.Tensor | None:
        value = delivery.at(lane, index)
        opened = self._opened[lane]
        if value is None or lane in self._dead:
            return None
        if self._hides_model and opened is not None:
            try:
                mean = self._uploads.client_reads(lane, index, value, opened)
            except ProtocolAbort as abort:
                self._network.aborts[lane] = str(abort)
                return None
            return self._before[lane] + self._config.server_learning_rate * mean
        if isinstance(value, torch.Tensor) and value.shape == self._params.shape[-1:]:
            return value
        return None

    def _bases(self, round_index: int, models: torch.Tensor) -> list[list[Version]]:
        """The version that each client has: the round's, or one of its own where somebody altered it on its way.

        Shapes:
            models: ``(lane, client, P)``
        """
        altered = (models != self._params[:, None, :]).any(dim=-1)
        bases = [[_version(round_index)] * self._config.n_clients for _ in self._specs]
        for lane, index in torch.nonzero(altered).tolist():
            name, versions = (
                f"{_version(round_index)} to {client(index)}",
                self._transcript.facts[lane].versions,
            )
            bases[lane][index] = name
            if name not in versions:
                versions.add(name, Origin(round=round_index))
        return bases

    def _send_models(
        self,
        round_index: int,
        models: torch.Tensor,
        present: torch.Tensor,
        versions: Sequence[Sequence[Version]],
    ) -> Delivery:
        n = self._config.n_clients
        lanes = list(range(len(self._specs)))
        envelope, origin = Envelope.plain(models), 0
        alive = present.clone()
        if self._hides_model and any(opened is not None for opened in self._opened):
            # every client must apply every aggregate, since nobody can send it the model
            envelope, origin = envelope.wrap(self._uploads.sealed_aggregate(self._opened, n)), 1
            alive[:] = True
        alive[sorted(self._dead)] = False
        return self._network.send(
            envelope,
            kind="model",
            round_index=round_index,
            lanes=lanes,
            slots=[Slot(SERVER, client(index)) for index in range(n)],
            present=alive.tolist(),
            members=[[self._contributed[lane]] * n for lane in lanes],
            versions=versions,
            origin=origin,
        )

    def _grant(self, round_index: int, updates: torch.Tensor, present: torch.Tensor) -> None:
        if not self._keep_honest:
            return
        for lane in range(len(self._specs)):
            kept = dict(self._transcript.granted[lane].honest_updates)
            for index in torch.nonzero(present[lane]).flatten().tolist():
                kept[round_index, index] = updates[lane, index].clone()
            self._transcript.grant_honest_updates(lane, kept)

    def _aggregate(self, round_index: int, anybody: torch.Tensor, bases: Sequence[Sequence[Version]]) -> None:
        """Open what arrived and move the models; in a round of nobody there is nothing to open."""
        nobody = Opened(
            ids=(), updates=self._params.new_zeros(0, self._params.shape[-1]), counts=torch.zeros(0)
        )
        params = self._params.clone()
        for lane in range(len(self._specs)):
            if lane in self._dead:
                continue
            try:
                opened = self._uploads.open(lane) if anybody[lane] else nobody
                step = self._server.step(lane, round_index, opened, self._params[lane])
            except ProtocolAbort as abort:
                self._network.aborts[lane] = str(abort)
                continue
            except QflsecError as error:
                self._turns.end(lane, error)
                continue
            left_out = {**opened.malformed, **opened.missing}
            self._dropped[lane] += [
                Dropped(round=round_index, client=index, reason=left_out[index]) for index in sorted(left_out)
            ]
            members = frozenset(opened.ids)
            facts = self._transcript.facts[lane]
            facts.participants[round_index] = members
            facts.versions.add(
                _version(round_index + 1),
                Origin(
                    round=round_index,
                    bases={_version(round_index): 1.0},
                    trained=tuple(
                        Trained(client=i, base=bases[lane][i], weight=facts.counts[i])
                        for i in sorted(members)
                    ),
                    rate=self._config.server_learning_rate,
                    linear=self._stack.linear,
                ),
            )
            self._contributed[lane] |= members
            self._opened[lane] = opened
            params[lane] = self._params[lane] + self._config.server_learning_rate * step
        self._before, self._params = self._params, params

    def _release(self) -> None:
        """Publish the final model; where the server cannot read it, a client does."""
        lanes = list(range(len(self._specs)))
        publisher = SERVER
        if self._hides_model:
            publisher = client(0)
            everybody = torch.ones(len(lanes), self._config.n_clients, dtype=torch.bool)
            models = self._params[:, None, :].expand(-1, self._config.n_clients, -1).clone()
            self._send_models(
                self._config.rounds, models, everybody, self._bases(self._config.rounds, models)
            )
        values = self._params[:, None, :].clone()
        self._network.send(
            Envelope.plain(values),
            kind="final-model",
            round_index=self._config.rounds,
            lanes=lanes,
            slots=[Slot(publisher, PUBLIC)],
            present=[[lane not in self._dead] for lane in lanes],
            members=[[self._contributed[lane]] for lane in lanes],
            versions=[[_version(self._config.rounds)] for _ in lanes],
        )

    def results(self, *, cpu_seconds: float) -> list[RunResult]:
        """A result for each run.

        Args:
            cpu_seconds: Each run's share of the batch's CPU time.
        """
        return [self._result(lane, cpu_seconds) for lane in range(len(self._specs))]

    def _result(self, lane: int, cpu_seconds: float) -> RunResult:
        outcome, trace = self._turns.outcome(lane, self._network.aborts.get(lane))
        data, config = self._lanes[lane], self._config
        return RunResult(
            spec=self._specs[lane],
            pipeline=self._pipeline,
            stack=self._stack,
            outcome=outcome,
            traceback=trace,
            initial=data.initial,
            params=self._params[lane].clone(),
            accuracy=tuple(self._curves.accuracy[lane]),
            loss=tuple(self._curves.loss[lane]),
            train_loss=tuple(self._curves.train_loss[lane]),
            dataset=data.dataset,
            clients=data.clients,
            transcript=self._transcript,
            lane=lane,
            costs={
                "network_bytes": float(self._network.bytes_sent.get(lane, 0)),
                "network_messages": float(self._network.messages_sent.get(lane, 0)),
                "record_gradients": _records_used(data, config) * config.rounds * config.local_steps,
                "cpu_seconds": cpu_seconds,
                **self._session.costs(lane),
            },
            seeded_secrets=self._session.seeded and bool(self._transcript.keys),
            delegations={} if self._delegations is None else self._delegations.results(lane),
            memory=self._turns.memory(lane),
            dropped=tuple(self._dropped[lane]),
        )


def _records_used(data: LaneData, config: FederationConfig) -> float:
    """Expected records of one step of all participating clients."""
    counts = data.mask.sum(dim=-1)
    used = counts if config.batch_size is None else counts.clamp(max=float(config.batch_size))
    return float(used.sum()) * config.n_participants / config.n_clients


def _records(features: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor) -> Records:
    return Records(features=features[rows], labels=labels[rows])
