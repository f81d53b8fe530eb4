"""The server's half of the rounds, over letters."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from flwr.app import ConfigRecord, Message

from qflsec.base import LostRound, ProtocolAbort, stream
from qflsec.base.framing import pack_indices
from qflsec.federation import Header, Pipeline
from qflsec.federation.layers import AggregationLayer
from qflsec.federation.round.opened import Opened, open_plain
from qflsec.federation.round.server import Server
from qflsec.flower.book import RoundNote
from qflsec.flower.codes import coder_of, from_code
from qflsec.flower.conversation import EVALUATE, METRICS, MODEL, OPEN, PUBLISH, TRAIN, UPDATE, sealed_sum
from qflsec.flower.exchange import Exchange, FlowerControl
from qflsec.flower.held import Held
from qflsec.flower.letters import Letter, Part
from qflsec.flower.metrics import mean_metrics
from qflsec.flower.plan import Plan
from qflsec.flower.records import RoundRecord
from qflsec.flower.welcome import Welcome
from qflsec.threat import SERVER, Party, Payload, client
from qflsec.threat.codec import decode, encode

__all__ = ["Rounds"]


class Rounds:
    """The rounds of one run.

    Args:
        plan: The plan.
        held: What the server holds.
        exchange: The letters.
        welcome: The greetings of nodes.
        params: The first model.
        pipeline: What the app is, where the server knows more of it than its arrays.
        watch: Is told what the server saw and made in each round.

    Attributes:
        params: The model; the first one where only clients can read it.
        layout: The arrays of the model.

    Shapes:
        params: ``(P,)``
    """

    def __init__(
        self,
        *,
        plan: Plan,
        held: Held,
        exchange: Exchange,
        welcome: Welcome,
        params: torch.Tensor,
        pipeline: Pipeline | None = None,
        watch: Callable[[RoundNote], None] | None = None,
    ) -> None:
        self.params, self.layout = params, held.layout
        self._plan, self._held, self._exchange, self._welcome = plan, held, exchange, welcome
        # without a seed of the experiment the server's own draws begin with the operating system's
        seed = secrets.randbits(62) if plan.seed is None else plan.seed
        self._seed = seed
        known = plan.pipeline(held.layout) if pipeline is None else pipeline
        self._server = Server(stack=held.stack, pipeline=known, seeds=[seed], lanes=[])
        self._watch = watch
        self._payloads: dict[Party, Payload] = {}
        self._hidden = held.stack.leaves == "nothing"
        self._asked: tuple[Party, ...] = ()
        self._control: FlowerControl | None = None
        self._lost: LostRound | None = None
        self._began = 0.0
        self._started = False

    def ask_to_train(self, index: int, config: ConfigRecord) -> list[Message]:
        """What the clients of a round are sent, after they agreed on what comes before their updates.

        Args:
            index: The round, from 0.
            config: What the app's train functions get to read.

        Raises:
            ProtocolAbort: No client is connected, or the parties could not agree.
        """
        self._began, self._lost, self._control = time.monotonic(), None, None
        if not self._started:
            self._welcome.first()
        self._exchange.begin(index)
        if self._started:
            self._welcome.newcomers()
        self._asked = self._draw(index)
        layer, sealing = self._held.stack.aggregation, frozenset(self._asked)
        model = None if self._hidden and self._started else self.params
        self._started = True
        control = self._control = FlowerControl(
            exchange=self._exchange,
            state=None if layer is None else self._held.state(layer),
            server=SERVER,
            round_index=index,
            participants=self._asked,
            model=model,
        )
        if layer is not None:
            try:
                sealing = layer.prepare(control)
            except LostRound as lost:
                self._lost, sealing = lost, frozenset()
        indices = pack_indices(party.index for party in self._asked)
        parts = {
            party: [*control.model_parts(party), Part(name=TRAIN, body=indices)]
            for party in self._asked
            if party in sealing
        }
        return list(self._exchange.messages(parts, "train", config))

    def collect(self, index: int, replies: Iterable[Message]) -> tuple[RoundRecord, bool]:
        """Open what arrived and move the model.

        Args:
            index: The round, from 0.
            replies: What arrived.

        Returns:
            What happened, and whether there is a next model that the server can read.

        Raises:
            ProtocolAbort: The run cannot go on.
        """
        letters, before = self._exchange.letters(replies, self._asked), self.params
        self._payloads = {}
        try:
            if self._lost is not None:
                raise self._lost
            opened = self._open(index, letters)
        except LostRound as lost:
            self._tell(index, before, lost=lost)
            return self._record(index, Opened(ids=()), letters, lost=str(lost)), False
        if opened.combined is not None:
            self._hand_on(index, opened)
            return self._record(index, opened, letters), False
        step = self._server.step(0, index, opened, self.params)
        self.params = self.params + self._plan.server_learning_rate * step
        record = self._record(index, opened, letters)
        self._tell(index, before, opened=replace(opened, missing=record.missing))
        return record, True

    def _tell(
        self, index: int, before: torch.Tensor, *, opened: Opened | None = None, lost: LostRound | None = None
    ) -> None:
        """Say what the server saw and made in a round to who watches it."""
        if self._watch is None:
            return
        layer = self._held.stack.aggregation
        away = {} if layer is None else layer.turned_away(self._held.state(layer))
        arrived = {party.index: payload for party, payload in self._payloads.items()}
        self._watch(
            RoundNote(
                round=index,
                asked=tuple(party.index for party in self._asked),
                heard=tuple(i for i in arrived if i not in away),
                before=before.clone(),
                after=self.params.clone(),
                payloads=arrived,
                opened=opened,
                lost=lost,
                bytes=self._exchange.bytes,
                messages=self._exchange.messages_sent,
            )
        )

    def _open(self, index: int, letters: Mapping[Party, Letter]) -> Opened:
        """What the server can open of a round.

        Raises:
            LostRound: The round has no result.
            ProtocolAbort: The run cannot go on.
        """
        payloads, malformed = self._payloads, dict[int, str]()
        coder, size = coder_of(self._held.stack) if self._plan.coded else None, self.layout.n_params
        for party, letter in letters.items():
            body = letter.get(UPDATE)
            if body is None:
                continue
            try:
                value = decode(body)
                payloads[party] = value if coder is None else from_code(coder, value, size, self.params)
            except ProtocolAbort as abort:
                malformed[party.index] = f"it sent {abort}"
        layer = self._held.stack.aggregation
        if layer is None:
            opened = open_plain({party.index: value for party, value in payloads.items()}, self.params)
            return replace(opened, malformed={**malformed, **opened.malformed})
        return replace(self._unseal(layer, index, payloads), malformed=malformed)

    def _unseal(self, layer: AggregationLayer, index: int, payloads: Mapping[Party, Payload]) -> Opened:
        assert self._control is not None
        if not payloads:
            raise LostRound(f"no update arrived in round {index}")
        state = self._held.state(layer)
        header = Header(round=index, sender=SERVER, participants=self._asked)
        payloads = layer.conclude(self._control, payloads)
        ids = tuple(party.index for party in payloads)
        combined = layer.combine(state, payloads, header)
        away = layer.turned_away(state)
        missing, proved = {i: str(why) for i, why in away.items()}, tuple(away.values())
        opened = Opened(
            ids=ids,
            missing=missing,
            proved=tuple(abort for abort in proved if abort.caused_by is not None),
            header=header,
        )
        if self._hidden:
            return replace(opened, combined=combined)
        mean, weight = layer.reveal(state, combined, header)
        return replace(opened, mean=mean, weight=weight)

    def _hand_on(self, index: int, opened: Opened) -> None:
        """Have every client open the sum that the server cannot read."""
        assert opened.combined is not None
        body = sealed_sum(index, [party.index for party in self._asked], opened.combined)
        for party in self._plan.clients:
            self._exchange.tell(party, Part(name=OPEN, body=body))

    def published(self) -> torch.Tensor:
        """The final model, where only clients have it: what all of them say it is.

        Shapes:
            returns: ``(P,)``

        Raises:
            ProtocolAbort: Nobody says, or they differ.
        """
        index = self._plan.rounds
        self._exchange.begin(index)
        parts = {party: [Part(name=MODEL), Part(name=PUBLISH)] for party in self._asked}
        said = {
            party: decode(letter.get(PUBLISH) or b"") for party, letter in self._exchange.ask(parts).items()
        }
        models = [model for model in said.values() if isinstance(model, torch.Tensor)]
        if not models:
            raise ProtocolAbort("no client published the final model")
        if any(not torch.equal(models[0], model) for model in models):
            raise ProtocolAbort("clients published different final models")
        self.params = models[0].to(self.params)
        return self.params

    def ask_to_evaluate(self, config: ConfigRecord) -> list[Message]:
        """What the clients of the round are sent to evaluate the new model.

        Args:
            config: What the app's evaluate functions get to read.
        """
        body = encode(self.params)
        parts = {party: [Part(name=EVALUATE, body=body)] for party in self._asked}
        return list(self._exchange.messages(parts, "evaluate", config))

    def evaluations(self, replies: Iterable[Message]) -> dict[str, float]:
        """The mean of what clients evaluated, by their numbers of examples."""
        letters = self._exchange.letters(replies, self._asked)
        return mean_metrics([letter.get(METRICS) for letter in letters.values()])

    def _draw(self, index: int) -> tuple[Party, ...]:
        """Who is asked into a round: as the training loop draws them, or as the operating system does."""
        plan = self._plan
        if plan.seed is None:
            chosen = secrets.SystemRandom().sample(range(plan.n_clients), plan.asked)
        else:
            order = torch.randperm(plan.n_clients, generator=stream(plan.seed, "participation", index))
            chosen = order[: plan.asked].tolist()
        return tuple(client(i) for i in sorted(chosen))

    def _record(
        self, index: int, opened: Opened, letters: Mapping[Party, Letter], *, lost: str = ""
    ) -> RoundRecord:
        counted = {*opened.ids, *opened.malformed}
        why = {**self._exchange.silent, **opened.missing}
        absent = {
            party.index: why.get(party.index, "its update did not arrive")
            for party in self._asked
            if party.index not in counted
        }
        return RoundRecord(
            round=index,
            ids=opened.ids,
            malformed=dict(opened.malformed),
            missing=absent,
            refused=dict(self._welcome.refused),
            lost=lost,
            seconds=time.monotonic() - self._began,
            exchanges=self._exchange.exchanges,
            metrics=mean_metrics([letter.get(METRICS) for letter in letters.values()]),
        )
