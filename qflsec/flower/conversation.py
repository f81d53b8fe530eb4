"""A client's answers to the parts of a letter, in their order."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from flwr.app import ConfigRecord, Message, RecordDict

from qflsec.base import ProtocolAbort
from qflsec.base.framing import cut, pack_fields, pack_indices, unpack_indices, unpack_named
from qflsec.federation import AggregationLayer, Header
from qflsec.federation.control import Question
from qflsec.federation.payloads import sent_raw
from qflsec.flower.codes import coder_of, to_code
from qflsec.flower.held import Held, announced_by
from qflsec.flower.letters import Letter, Part
from qflsec.flower.plan import Plan
from qflsec.flower.release import Release
from qflsec.threat import Payload, client
from qflsec.threat.codec import decode, encode

__all__ = [
    "ASK",
    "EVALUATE",
    "HELLO",
    "LEARN",
    "METRICS",
    "MODEL",
    "OPEN",
    "PUBLISH",
    "REFUSED",
    "TRAIN",
    "UPDATE",
    "Conversation",
    "hello_context",
    "sealed_sum",
]

HELLO, LEARN, MODEL, TRAIN, EVALUATE = "hello", "learn", "model", "train", "evaluate"
OPEN, PUBLISH = "open", "publish"
UPDATE, METRICS, REFUSED = "update", "metrics", "refused"
ASK = "ask:"


def hello_context(session: bytes, node: int) -> bytes:
    """What a client's signature in its greeting is bound to: one session, and one node of Flower's."""
    return pack_fields("qflsec/flower/hello/1", session, node)


@dataclass(kw_only=True, eq=False)
class Conversation:
    """One client's side of one message.

    Attributes:
        held: What the client holds.
        plan: The plan.
        release: How it makes what it sends.
        call: The app.
    """

    held: Held
    plan: Plan
    release: Release
    call: Callable[[Message], Message]

    def answer(self, letter: Letter, message: Message) -> Iterator[Part]:
        """The parts of the reply.

        Raises:
            ProtocolAbort: The client refuses.
        """
        for part in letter.parts:
            before = {
                MODEL: self._receive,
                LEARN: self._learn,
                OPEN: self._open,
            }.get(part.name)
            if before is not None:
                before(letter.round, part.body)
            elif part.name == EVALUATE:
                if not self.plan.evaluate:
                    raise ProtocolAbort(f"{self.held.party} evaluates no models under this plan")
                yield Part(name=METRICS, body=_metrics(self._call(message, self._read(part.body))))
            else:
                yield from self._of_the_round(letter.round, part, message)

    def _of_the_round(self, index: int, part: Part, message: Message) -> Iterator[Part]:
        """What is asked of a client in the round that it is in."""
        if index != self.held.round:
            raise ProtocolAbort(
                f"{self.held.party} was asked of another round than the one it is in", got=index
            )
        if part.name == TRAIN:
            yield from self._train(index, part.body, message)
        elif part.name == PUBLISH:
            yield Part(name=PUBLISH, body=encode(self._model))
        elif part.name.startswith(ASK):
            yield self._ask(index, part)
        else:
            raise ProtocolAbort(f"{self.held.party} was sent a part that it does not know", got=part.name)

    def _learn(self, _: int, body: bytes) -> None:
        """Take in everybody's announcements, once."""
        if not self.held.learned:
            self.held.learn(announced_by(unpack_named(body)), self.plan)

    @property
    def _model(self) -> torch.Tensor:
        if self.held.model is None:
            raise ProtocolAbort(f"{self.held.party} has no model yet")
        return self.held.model

    @property
    def _layer(self) -> AggregationLayer:
        layer = self.held.stack.aggregation
        if layer is None:
            raise ProtocolAbort(f"{self.held.party} follows no protocol that has such a step")
        return layer

    def _receive(self, index: int, body: bytes) -> None:
        """Take in the model of a round; empty where the client made it itself, from what only clients open."""
        if index <= self.held.round:
            raise ProtocolAbort(f"{self.held.party} was asked into a round twice", got=index)
        self.held.model = self._read(body) if body else self._model
        self.held.round, self.held.trained = index, False

    def _read(self, body: bytes) -> torch.Tensor:
        """A model out of a part.

        Raises:
            ProtocolAbort: It is none.
        """
        model = decode(body)
        if not isinstance(model, torch.Tensor) or model.shape != (self.held.layout.n_params,):
            raise ProtocolAbort(f"{self.held.party} was sent something else than a model")
        return model.to(self.held.layout.dtype)

    def _ask(self, index: int, part: Part) -> Part:
        layer, step = self._layer, part.name.removeprefix(ASK)
        asked = Question(step=step, body=part.body, round=index, model=self.held.model)
        return Part(name=part.name, body=layer.answer(self.held.state(layer), asked))

    def _train(self, index: int, body: bytes, message: Message) -> Iterator[Part]:
        if self.held.trained:
            raise ProtocolAbort(f"{self.held.party} was asked to train twice in one round", got=index)
        self.held.trained = True
        indices, _ = unpack_indices(body)
        model = self._model
        answered = self._call(message, model)
        made = self.release.update(self.held.layout, model, answered)
        count = self.held.stack.weights([self.release.count(answered)])[0]
        sent = self.release.shaped(self.held, index, model, made)
        if self.held.stack.aggregation is None and self.plan.metrics:
            yield Part(name=METRICS, body=_metrics(answered))
        if sent is not None:
            header = Header(round=index, sender=self.held.party, participants=tuple(map(client, indices)))
            yield Part(name=UPDATE, body=encode(self._payload(sent, made, count, header)))

    def _payload(
        self, sent: torch.Tensor | bytes, made: torch.Tensor, count: float, header: Header
    ) -> Payload:
        """What is sent of an update; what is none goes out as it is, with the count behind numbers that nothing seals."""
        layer = self.held.stack.aggregation
        if not isinstance(sent, torch.Tensor) or sent.shape != made.shape or not sent.is_floating_point():
            raw = sent_raw(sent)
            behind = layer is None and isinstance(raw, torch.Tensor)
            return torch.cat([raw, raw.new_tensor([count])]) if behind else raw  # type: ignore[list-item, union-attr]
        if layer is not None:
            bound = self.release.bound(self.held)
            return layer.seal(self.held.state(layer), sent, count, header, checked=bound)[0]
        coder = coder_of(self.held.stack) if self.plan.coded else None
        return torch.cat([sent, sent.new_tensor([count])]) if coder is None else to_code(coder, sent, count)

    def _call(self, message: Message, model: torch.Tensor) -> RecordDict:
        """What the app's own function makes of a model.

        Raises:
            ProtocolAbort: It answered with an error.
        """
        records = dict(message.content.config_records)
        config = records.get("config", ConfigRecord())
        asked = copy(message)
        asked.content = RecordDict({"arrays": self.held.layout.record(model), "config": config})
        reply = self.call(asked)
        if not reply.has_content():
            raise ProtocolAbort(f"the app of {self.held.party} failed")
        return reply.content

    def _open(self, _: int, body: bytes) -> None:
        """Move the own model by a sum that only clients open."""
        index, names, combined = _opened(body)
        if index <= self.held.opened:
            raise ProtocolAbort(f"{self.held.party} was asked to open a sum twice", got=index)
        self.held.opened = index
        header = Header(round=index, sender=self.held.party, participants=tuple(map(client, names)))
        layer = self._layer
        mean, _weight = layer.reveal(self.held.state(layer), combined, header)
        step: torch.Tensor = self.plan.server_learning_rate * mean.to(self._model)
        self.held.model = self._model + step


def sealed_sum(index: int, participants: Sequence[int], combined: Payload) -> bytes:
    """A sum that only clients open, as a part carries it.

    Args:
        index: The round that it is of.
        participants: Who took part in it.
        combined: The sum.
    """
    return struct.pack("<i", index) + pack_indices(participants) + encode(combined)


def _opened(body: bytes) -> tuple[int, tuple[int, ...], Payload]:
    head, rest = cut(body, 4)
    indices, rest = unpack_indices(rest)
    return int(struct.unpack("<i", head)[0]), indices, decode(rest)


def _metrics(content: RecordDict) -> bytes:
    """The numbers of all metric records, by name."""
    found = {
        name: value
        for record in content.metric_records.values()
        for name, value in record.items()
        if isinstance(value, int | float)
    }
    return json.dumps(found).encode()
