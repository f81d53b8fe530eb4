"""The server's way to talk: letters to clients by name, what they answer, and who is silent and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from qflsec.base import ProtocolAbort
from qflsec.federation import Control, PartyState
from qflsec.federation.control import Answer
from qflsec.flower.conversation import ASK, LEARN, MODEL, OPEN, REFUSED
from qflsec.flower.grid import content_bytes
from qflsec.flower.letters import Letter, Part, read_letter, write_letter
from qflsec.protocols.keystore import KmeError
from qflsec.threat import Party
from qflsec.threat.codec import encode

__all__ = ["Exchange", "FlowerControl", "Sealer"]


_LASTING = frozenset({LEARN, OPEN})
"""What a client needs, in whatever round it is reached."""


class Sealer(Protocol):
    """The server's ends of its links."""

    def seal(self, receiver: Party, round_index: int, body: bytes) -> bytes:
        """A letter as it goes over the links."""

    def unseal(self, sender: Party, round_index: int, body: bytes) -> bytes:
        """A letter as it came over the links."""


class Exchange:
    """Letters over a grid.

    Args:
        grid: Flower's grid.
        held: The server's ends of its links.
        patience: How long it waits for the answers of one exchange.

    Attributes:
        nodes: The node of each client.
        silent: Why a client did not answer, since the last :meth:`begin`.
        exchanges: How often the server waited for answers.
        bytes: Of all messages after the greetings, both ways.
        messages_sent: How many these were, both ways.

    Units:
        patience: seconds
    """

    def __init__(self, grid: Grid, held: Sealer, patience: float) -> None:
        self.grid, self._held, self._patience = grid, held, patience
        self.nodes: dict[Party, int] = {}
        self.silent: dict[int, str] = {}
        self.exchanges = self.bytes = self.messages_sent = 0
        self._pending: dict[Party, list[Part]] = {}
        self._round = -1

    def begin(self, round_index: int) -> None:
        """Begin a round; what was to be told to clients in the last one is out of date, but for keys and sums."""
        self._round, self.silent = round_index, {}
        kept = {
            party: [part for part in parts if part.name in _LASTING] for party, parts in self._pending.items()
        }
        self._pending = kept

    def tell(self, party: Party, part: Part) -> None:
        """Put a part in front of the next letter to a client."""
        self._pending.setdefault(party, []).append(part)

    def messages(
        self, parts: Mapping[Party, Sequence[Part]], kind: str, config: ConfigRecord
    ) -> Iterator[Message]:
        """Messages to the clients that are connected.

        Args:
            parts: What each is sent, behind what was to be told.
            kind: Flower's kind of message: ``"train"`` or ``"evaluate"``.
            config: What the app's own functions get to read.
        """
        for party, own in parts.items():
            if party not in self.nodes:
                self.silent[party.index] = "no node of it is connected"
                continue
            letter = Letter(round=self._round, parts=(*self._pending.pop(party, []), *own))
            try:
                content = write_letter(letter, lambda body, to=party: self._held.seal(to, self._round, body))  # type: ignore[misc]
            except (ProtocolAbort, KmeError) as lack:
                self.silent[party.index] = f"nothing could be sealed for it: {lack}"
                continue
            content["config"] = config
            self._count(content)
            yield Message(content, self.nodes[party], kind)

    def ask(self, parts: Mapping[Party, Sequence[Part]], *, kind: str = "train") -> dict[Party, Letter]:
        """What clients answer within the patience.

        Args:
            parts: What each is sent.
            kind: Flower's kind of message.
        """
        self.exchanges += 1
        sent = list(self.messages(parts, kind, ConfigRecord()))
        replies = self.grid.send_and_receive(sent, timeout=self._patience) if sent else []
        return self.letters(replies, parts)

    def letters(self, replies: Iterable[Message], asked: Iterable[Party]) -> dict[Party, Letter]:
        """The letters in replies, by client. Whoever sent none is noted with the reason.

        Args:
            replies: What arrived.
            asked: Who was asked.
        """
        owners = {self.nodes[party]: party for party in asked if party in self.nodes}
        found: dict[Party, Letter] = {}
        for reply in replies:
            party = owners.get(reply.metadata.src_node_id)
            if party is None:
                continue
            try:
                found[party] = self._read(party, reply)
            except (ProtocolAbort, KmeError) as refusal:
                self.silent[party.index] = str(refusal)
        for party in owners.values():
            if party not in found:
                self.silent.setdefault(party.index, f"it did not answer within {self._patience:g} s")
        return {party: found[party] for party in sorted(found)}

    def _count(self, content: RecordDict) -> None:
        self.bytes += content_bytes(content)
        self.messages_sent += 1

    def _read(self, party: Party, reply: Message) -> Letter:
        """The letter in one reply.

        Raises:
            ProtocolAbort: There is none, or it is of another round, or the client refuses.
        """
        if not reply.has_content():
            reason = " ".join((reply.error.reason or "no reason given").split())
            raise ProtocolAbort(f"its app failed: {reason}")
        self._count(reply.content)
        letter = read_letter(reply.content, lambda index, body: self._unsealed(party, index, body))
        if letter is None:
            raise ProtocolAbort("it answered without a letter")
        refused = letter.get(REFUSED)
        if refused is not None:
            raise ProtocolAbort(f"it refused: {refused.decode(errors='replace')}")
        if letter.round != self._round:
            raise ProtocolAbort(f"it sent a letter of round {letter.round} in round {self._round}")
        return letter

    def _unsealed(self, party: Party, index: int, body: bytes) -> bytes:
        return self._held.unseal(party, index, body)


class FlowerControl(Control):
    """A round's way to talk, over Flower's messages: clients are other processes, and their states are theirs.

    Args:
        exchange: The letters.
        state: What the server holds for the layer; None where no layer aggregates.
        server: The server.
        round_index: The round.
        participants: The clients that are asked.
        model: The model that each of them is sent; None where they have it already.
    """

    def __init__(
        self,
        *,
        exchange: Exchange,
        state: PartyState | None,
        server: Party,
        round_index: int,
        participants: tuple[Party, ...],
        model: torch.Tensor | None,
    ) -> None:
        self.round, self.participants = round_index, participants
        self.models = {} if model is None else dict.fromkeys(participants, model)
        self._exchange, self._state, self._server = exchange, state, server
        self._fresh = set(participants)

    def state(self, party: Party) -> PartyState:
        """The server's own state.

        Raises:
            ProtocolAbort: A client's state was asked for.
        """
        if party != self._server or self._state is None:
            raise ProtocolAbort(f"the state of {party} is in its own process")
        return self._state

    def model_parts(self, party: Party) -> list[Part]:
        """The model for a client that did not get it in this round yet."""
        if party not in self._fresh:
            return []
        self._fresh.discard(party)
        model = self.models.get(party)
        return [Part(name=MODEL, body=b"" if model is None else encode(model))]

    def ask(self, step: str, messages: Mapping[Party, bytes], answer: Answer) -> dict[Party, bytes]:
        """Letters with one step, and what clients answer in time."""
        parts = {
            party: [*self.model_parts(party), Part(name=ASK + step, body=body)]
            for party, body in messages.items()
        }
        letters = self._exchange.ask(parts)
        said = {party: letter.get(ASK + step) for party, letter in letters.items()}
        return {party: body for party, body in said.items() if body is not None}

    def hear(self, step: str, parties: Iterable[Party], answer: Answer) -> dict[Party, bytes]:
        """Letters that bid clients to speak first."""
        return self.ask(step, dict.fromkeys(parties, b""), answer)

    def tell(self, step: str, messages: Mapping[Party, bytes], answer: Answer) -> frozenset[Party]:
        """A part in front of the next letter; who did not get it will not answer that letter rightly."""
        for party, body in messages.items():
            for part in (*self.model_parts(party), Part(name=ASK + step, body=body)):
                self._exchange.tell(party, part)
        return frozenset(messages)
