"""A run of the lab that went through Flower, as the result that attacks are judged by.

Models, updates and sums are those of the app: nothing is trained or aggregated again here. What the server sent and got
is put on the transcript by the code of the training loop, so that an observer's view is made of it as of any run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from qflsec.base import LostRound, ProtocolAbort, UpdateError
from qflsec.federation import RunResult
from qflsec.federation.compression import coded_costs
from qflsec.federation.layers import SecretLayer
from qflsec.federation.payloads import Irregular, Sent
from qflsec.federation.round.broadcast import Broadcast, Received
from qflsec.federation.round.evaluation import Curves
from qflsec.federation.round.lanes import records_used
from qflsec.federation.round.losses import Losses
from qflsec.federation.round.norms import Norms
from qflsec.federation.round.opened import Opened
from qflsec.federation.round.opening import Readers
from qflsec.federation.round.turns import Turns
from qflsec.flower.book import ClientNote, EndNote, RoundNote
from qflsec.flower.lab_app import LabApp
from qflsec.threat import (
    SERVER,
    Envelope,
    Item,
    LaneFacts,
    MessageLayer,
    Network,
    Origin,
    Party,
    Payload,
    Slot,
    Trained,
    client,
)

__all__ = ["result_of"]

_NOBODY = frozenset[str]()


def result_of(app: LabApp, *, keep_honest: bool = False) -> RunResult:
    """The result of a run whose parties have written down what they did.

    Args:
        app: The run.
        keep_honest: Whether honest updates are kept for threat models that grant them.

    Returns:
        What the training loop gives, but for costs: bytes and messages are Flower's, after the greetings, and processor
        time is that of training and of the server.
    """
    return _Followed(app, keep_honest=keep_honest).result()


@dataclass(frozen=True, kw_only=True)
class _Sent:
    """What the clients noted of a round, as tensors of one lane."""

    honest: torch.Tensor
    sent: Sent
    losses: torch.Tensor
    present: torch.Tensor


class _Followed:
    """A run that is put together round by round.

    Args:
        app: The run.
        keep_honest: Whether honest updates are kept.
    """

    def __init__(self, app: LabApp, *, keep_honest: bool) -> None:
        self._app, self._pipeline, self._stack = app, app.pipeline, app.plan.stack
        self._config, lane, specs = app.pipeline.federation, app.app.lane, [app.spec]
        self._transcript = app.transcript(keep_honest=keep_honest)
        # what is said about keys stays with the nodes: of a sum, the server has told what it opened
        self._transcript.derivers = (self._derive,)
        self._sums: dict[int, Opened] = {}
        self._keep_honest = keep_honest
        self._network = Network(self._transcript)
        self._turns = Turns(pipeline=self._pipeline, specs=specs, transcript=self._transcript)
        self._models = Broadcast(
            pipeline=self._pipeline,
            initial=lane.initial[None],
            network=self._network,
            transcript=self._transcript,
            turns=self._turns,
            uploads=None,
            dead=lambda: self._dead,
        )
        self._readers = Readers.of(self._pipeline, self._stack, specs)
        rounds, n = self._config.rounds, self._config.n_clients
        self._curves = Curves(self._pipeline.model, specs, [lane], rounds, self._readers, self._stack.serving)
        self._losses, self._norms = Losses(1, rounds), Norms(1, rounds, n)
        self._trace = [self._model]
        self._seconds = 0.0
        self._last: RoundNote | None = None

    @property
    def _dead(self) -> set[int]:
        return {*self._turns.failures, *self._turns.losses, *self._network.aborts}

    @property
    def _model(self) -> torch.Tensor:
        return self._models.params[0, 0].clone()

    def result(self) -> RunResult:
        """All rounds, and how the run ended."""
        end = self._app.book.end() or EndNote(error="the run did not come to its end")
        for index in range(self._config.rounds):
            note = self._app.book.round(index)
            notes = self._app.book.clients(index, self._config.n_clients)
            if not self._dead and (note is not None or notes):
                self._round(index, note, notes)
            else:
                nobody = torch.zeros(1, self._config.n_clients)
                self._curves.note(index, self._models.params, nobody, nobody.bool())
            self._trace.append(self._model)
            if note is None and not self._dead:
                self._end(end)
        self._models.publish()
        return self._result(end)

    def _end(self, end: EndNote) -> None:
        """No further round was made: why not."""
        if end.abort is not None:
            self._network.aborts[0] = end.abort
        else:
            self._turns.end(0, UpdateError(end.error or "the run did not come to its end"))

    def _round(self, index: int, note: RoundNote | None, notes: Mapping[int, ClientNote]) -> None:
        told = self._told(notes)
        asked = told.present.clone()
        if note is not None:
            asked[:] = False
            asked[0, list(note.asked)] = True
        turns = self._pipeline.topology.turns(self._config.n_clients, index)
        received = self._models.to_clients(index, turns, asked)
        present = self._turns.check_honest(index, told.honest, told.present)
        self._grant(index, told, present)
        self._note_moves(told, notes)
        self._norms.note(index, told.sent, present)
        if note is not None:
            self._last = note
            self._send(index, note, received)
            if not self._dead:
                self._move(index, note, received)
        honest = self._turns.honest(present)
        self._curves.note(index, self._models.params, told.losses, honest)

    def _told(self, notes: Mapping[int, ClientNote]) -> _Sent:
        n, like = self._config.n_clients, self._models.params[0]
        honest, losses = like.new_zeros(1, n, like.shape[-1]), torch.zeros(1, n, dtype=torch.float64)
        rows, present = honest.clone(), torch.zeros(1, n, dtype=torch.bool)
        irregular: Irregular = {}
        for index, note in notes.items():
            present[0, index], losses[0, index], honest[0, index] = True, note.loss, note.honest
            sent = note.sent
            if isinstance(sent, torch.Tensor) and sent.shape == like.shape[1:] and sent.is_floating_point():
                rows[0, index] = sent.to(like.dtype)
            else:
                irregular[0, index] = sent
            self._seconds += note.seconds
        return _Sent(
            honest=honest, sent=Sent(updates=rows, irregular=irregular), losses=losses, present=present
        )

    def _grant(self, index: int, told: _Sent, present: torch.Tensor) -> None:
        if self._keep_honest:
            for one in torch.nonzero(present[0]).flatten().tolist():
                self._transcript.honest_updates[0][index, one] = told.honest[0, one].clone()

    def _note_moves(self, told: _Sent, notes: Mapping[int, ClientNote]) -> None:
        """What corrupted clients did: the first who acts says what their adversary keeps."""
        for index in sorted(self._app.corrupted & set(notes)):
            note = notes[index]
            if note.failure is not None:
                self._turns.failures[0] = note.failure
            payload = told.sent.irregular.get((0, index), told.sent.updates[0, index])
            self._turns.note(0, index, payload, told.honest[0, index])
            self._turns.remember(0, note.memory)

    def _send(self, index: int, note: RoundNote, received: Received) -> None:
        """The updates on the transcript, in the form in which the server got them."""
        n, layer = self._config.n_clients, self._stack.aggregation
        values: list[list[Payload]] = [[note.payloads.get(i, b"") for i in range(n)]]
        form = MessageLayer(
            form="plain" if layer is None else str(layer.gives), value=values, keys=[[_NOBODY] * n]
        )
        self._network.send(
            Envelope(layers=(form,)),
            kind="update",
            round_index=index,
            lanes=[0],
            slots=[Slot(client(i), SERVER) for i in range(n)],
            present=[[i in note.payloads for i in range(n)]],
            members=[[frozenset({i}) for i in range(n)]],
            versions=received.bases,
        )

    def _move(self, index: int, note: RoundNote, received: Received) -> None:
        facts = self._transcript.facts[0]
        if note.lost is not None or note.opened is None:
            facts.participants[index] = frozenset(note.heard)
            self._lose(index, note.lost or LostRound("the round has no result"))
            return
        self._losses.note(0, index, note.opened)
        if note.opened.mean is not None:
            self._sums[index] = note.opened
        members = facts.participants[index] = frozenset(note.opened.ids)
        base, bases = self._models.version(0, 0), received.bases[0]
        origin = Origin(
            round=index,
            bases={base: 1.0},
            trained=tuple(Trained(client=i, base=bases[i], weight=facts.counts[i]) for i in sorted(members)),
            rate=self._config.server_learning_rate,
            linear=self._stack.linear,
            drawn_from=frozenset(range(self._config.n_clients)),
        )
        self._models.move(
            0,
            (0,),
            SERVER,
            str(index + 1),
            origin,
            note.after,
            members=self._models.members(0, 0) | members,
            opened=note.opened,
        )

    def _derive(
        self, items: Sequence[Item], facts: LaneFacts, parties: frozenset[Party], held: frozenset[str]
    ) -> Sequence[Item]:
        """The sums that the server opened, for whoever is with it."""
        if SERVER not in parties:
            return ()
        return [
            Item(
                round=index,
                kind="aggregate",
                form="plain",
                value=opened.mean.to(self._model),
                weight=opened.weight,
                about=frozenset(opened.ids),
                sender=client(max(opened.ids)),
                receiver=SERVER,
                derived=True,
            )
            for index, opened in self._sums.items()
            if opened.mean is not None
        ]

    def _lose(self, index: int, lost: LostRound) -> None:
        if self._losses.lose(0, index, lost):
            self._network.aborts[0] = lost

    def _result(self, end: EndNote) -> RunResult:
        abort: ProtocolAbort | None = self._network.aborts.get(0)
        outcome, trace = self._turns.outcome(0, abort)
        lane, spec, last = self._app.app.lane, self._app.spec, self._last
        return RunResult(
            spec=spec,
            pipeline=self._pipeline,
            stack=self._stack,
            outcome=outcome,
            caused_by=None if abort is None else abort.caused_by,
            traceback=trace,
            initial=lane.initial,
            params=self._model,
            models=self._models.params[0].clone(),
            accuracy=tuple(self._curves.accuracy[0]),
            worst_accuracy=tuple(self._curves.worst_accuracy[0]),
            readers=tuple(self._readers.models[0]),
            visits=(),
            loss=tuple(self._curves.loss[0]),
            train_loss=tuple(self._curves.train_loss[0]),
            norms=self._norms.of(0),
            dataset=lane.dataset,
            clients=lane.clients,
            transcript=self._transcript,
            lane=0,
            costs={
                "network_bytes": math.nan if last is None else float(last.bytes),
                "network_messages": math.nan if last is None else float(last.messages),
                "record_gradients": records_used(lane.mask.sum(dim=-1), self._config)
                * self._config.rounds
                * self._config.uses,
                "cpu_seconds": self._seconds + end.seconds,
                **coded_costs(self._stack, self._pipeline, self._transcript.facts[0]),
            },
            seeded_secrets=self._app.plan.seeded_secrets and any(map(_secret, self._stack.client)),
            memory=self._turns.memory(0),
            dropped=self._losses.dropped(0),
            faults=self._losses.faults(0),
            trace=torch.stack(self._trace) if spec.trace else torch.zeros(0, 0),
        )


def _secret(layer: object) -> bool:
    return isinstance(layer, SecretLayer)
