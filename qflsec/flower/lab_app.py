"""One run of the lab as a Flower app: the clients of a pipeline, some of them corrupted, under a stack."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from flwr.app import Context, Message
from flwr.serverapp import Grid

from qflsec.base import IncompatibleStack, QflsecError, UpdateError
from qflsec.federation import Pipeline, RunSpec, Stack, calibrate_stack
from qflsec.federation.payloads import Sent, SentPayload
from qflsec.federation.round.batches import plan_batches
from qflsec.federation.round.opening import make_transcript, participants, records_of
from qflsec.federation.round.session import Session
from qflsec.federation.round.turns import Turns
from qflsec.federation.streams import RoundStreams
from qflsec.flower.book import Book, ClientNote, EndNote
from qflsec.flower.boxes import Boxes
from qflsec.flower.client import ClientSide
from qflsec.flower.held import Held
from qflsec.flower.pipeline_app import PipelineApp
from qflsec.flower.plan import Plan
from qflsec.flower.strategy import ServerSide
from qflsec.flower.streams import LabStreams
from qflsec.threat import Transcript

__all__ = ["LabApp"]

_PATIENCE = 600.0


@dataclass(kw_only=True, eq=False)
class LabApp:
    """One run as an app.

    Attributes:
        pipeline: The pipeline.
        stack: The stack, as it was asked for.
        spec: The run; its adversary may corrupt clients alone.
        book: Where its parties write down what they did.
        secrets: Where keys come from.

    Raises:
        IncompatibleStack: A client has no records; Flower's server would ask it all the same.
    """

    pipeline: Pipeline
    stack: Stack
    spec: RunSpec
    book: Book
    secrets: Literal["os", "seeded"] = "os"
    _losses: dict[int, tuple[float, float]] = field(default_factory=dict)
    _trained_here: float = 0.0

    def __post_init__(self) -> None:
        empty = [index for index, rows in enumerate(self.app.lane.clients) if not len(rows)]
        if empty:
            raise IncompatibleStack(
                "clients without records take part in no round, but a Flower app asks them too", got=empty
            )
        if idle := self.pipeline.idle:
            raise IncompatibleStack(
                "clients whose devices are too noisy for a step sit out, but a Flower app asks them too",
                got=list(idle),
                fix="leave out 'threshold' of 'sporadic'",
            )

    @cached_property
    def app(self) -> PipelineApp:
        """The pipeline as an app."""
        return PipelineApp(pipeline=self.pipeline, seed=self.spec.seed)

    @cached_property
    def plan(self) -> Plan:
        """What both sides follow."""
        config, lane = self.pipeline.federation, self.app.lane
        counts = [len(rows) for rows in lane.clients]
        return Plan(
            stack=calibrate_stack(self.stack, self.pipeline, counts),
            n_clients=config.n_clients,
            rounds=config.rounds,
            participants=config.n_participants,
            max_count=len(lane.dataset.member_idx),
            declared_corrupted=config.declared_corrupted,
            server_learning_rate=config.server_learning_rate,
            replies="update",
            patience=_PATIENCE,
            seed=self.spec.seed,
            seeded_secrets=self.secrets == "seeded",
        )

    @property
    def corrupted(self) -> frozenset[int]:
        """The corrupted clients."""
        return frozenset(() if self.spec.threat is None else self.spec.threat.clients)

    def answer(self, message: Message, context: Context, boxes: Boxes | None = None) -> Message:
        """What a node answers.

        Args:
            message: What it was sent.
            context: The node's and the run's configuration.
            boxes: Where its states are kept; in its home by default.
        """
        side = ClientSide(self.plan, forge=self, boxes=boxes)
        return self.app.client(side, told=self._told)(message, context)

    def _told(self, index: int, loss: float, seconds: float) -> None:
        self._losses[index] = loss, seconds
        self._trained_here += seconds

    def serve(self, grid: Grid, home: Path | None = None) -> None:
        """The server's part; how it ends is in the book.

        Args:
            grid: Flower's grid.
            home: The folder of the server's keys, where they are not seeded.
        """
        began, side = time.process_time(), self._side(home)
        error = ""
        try:
            side.start(grid, self.app.arrays, num_rounds=self.plan.rounds, timeout=_PATIENCE)
        except QflsecError as mistake:  # such as a step that leaves no finite model
            error = str(mistake)
        self.book.note_end(
            EndNote(abort=side.abort, error=error, seconds=time.process_time() - began - self._trained_here)
        )

    def _side(self, home: Path | None) -> ServerSide:
        return ServerSide(self.plan, home=home, pipeline=self.pipeline, watch=self.book.note_round)

    def honest(self, index: int) -> bool:
        """Whether a client sends what its layers made of its update."""
        return index not in self.corrupted

    def __call__(self, held: Held, index: int, model: torch.Tensor, honest: torch.Tensor) -> SentPayload:
        """What a client sends, which is written down.

        Raises:
            UpdateError: An honest client's update is not finite.
        """
        me, sent, failure = held.party.index, honest, None
        loss, seconds = self._losses.get(me, (0.0, 0.0))
        odd: SentPayload = None
        regular = True
        if not self.honest(me):
            moved, turns = self._moved(held, index, model, honest)
            regular = (0, me) not in moved.irregular
            sent, odd = moved.updates[0, me], moved.irregular.get((0, me))
            failure, held.memory = turns.failures.get(0), turns.memory(0)
        payload = sent if regular else odd
        note = ClientNote(
            loss=loss, honest=honest, sent=payload, failure=failure, memory=held.memory, seconds=seconds
        )
        self.book.note_client(index, me, note)
        if self.honest(me) and not bool(torch.isfinite(honest).all()):
            raise UpdateError("the trained model is not finite", fix="lower the learning rate")
        return payload

    def _moved(self, held: Held, index: int, model: torch.Tensor, honest: torch.Tensor) -> tuple[Sent, Turns]:
        """The move of all corrupted clients, of which each sends its own part: colluders know each other's records."""
        config, me = self.pipeline.federation, held.party.index
        data = records_of([self.app.lane])
        counts = data.mask.sum(dim=-1)
        updates = torch.zeros(1, config.n_clients, len(model))
        for other in sorted(self.corrupted):
            updates[0, other] = honest if other == me else self._honest(model, other, index)
        turns = Turns(pipeline=self.pipeline, specs=[self.spec], transcript=self.transcript())
        if held.memory is not None:
            turns.remember(0, held.memory)
        sent = turns.updates(
            index,
            model.expand(1, config.n_clients, -1),
            Sent(updates=updates),
            participants(config, [self.spec.seed], counts, index),
            data,
            plan_batches(data, config, RoundStreams([self.spec.seed], index)),
            range(config.n_clients),
        )
        return sent, turns

    def _honest(self, model: torch.Tensor, index: int, round_index: int) -> torch.Tensor:
        """What a client would release, as that client makes it."""
        made, _, _ = self.app.update(model, index, round_index)
        streams = LabStreams(self.spec.seed, round_index, index, self.pipeline.federation.n_clients)
        released = made[None, None]
        for layer in self.plan.stack.shapes:
            released = layer.shape(released, streams)
        return released[0, 0]

    def transcript(self, *, keep_honest: bool = False) -> Transcript:
        """An empty transcript of the run, with what is known and may be granted beside the messages.

        Args:
            keep_honest: Whether honest updates are kept for threat models that grant them.
        """
        return make_transcript(
            pipeline=self.pipeline,
            stack=self.plan.stack,
            lanes=[self.app.lane],
            session=_no_session(self.plan),
            record=None,
            keep_honest=keep_honest,
        )


def _no_session(plan: Plan) -> Session:
    """Nobody's keys: what parties hold is in their own processes."""
    return Session(
        Stack(name="none"),
        [0],
        n_clients=plan.n_clients,
        n_params=1,
        rounds=plan.rounds,
        max_count=plan.max_count,
        mode="seeded",
    )
