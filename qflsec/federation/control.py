"""Control messages: what an aggregation layer with several phases says besides the updates themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch

from qflsec.federation.parties import PartyState
from qflsec.threat import SERVER, Envelope, Network, Party, Slot

__all__ = ["Answer", "Control", "Question"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a client is asked in one step of a protocol.

    Attributes:
        step: The step's name.
        body: The server's message; empty where the client speaks first.
        round: The round, as the client counts.
        model: The model that the client received in this round; None where it takes no part in it.

    Shapes:
        model: ``(P,)``
    """

    step: str
    body: bytes = field(repr=False)
    round: int
    model: torch.Tensor | None = field(repr=False)


Answer = Callable[[PartyState, Question], bytes]
"""A client's half of a step, with the client's own state; empty where the step has no answer."""


class Control:
    """One round of one run: the parties' states, and a way for them to talk over the network.

    Args:
        states: What each party holds for the layer.
        network: The network.
        lane: The run.
        round_index: The round.
        participants: The clients that take part.
        models: The model that each of them received.
    """

    def __init__(
        self,
        *,
        states: Callable[[Party], PartyState],
        network: Network,
        lane: int,
        round_index: int,
        participants: tuple[Party, ...],
        models: Mapping[Party, torch.Tensor],
    ) -> None:
        self.round, self.participants, self.models = round_index, participants, models
        self._states, self._network, self._lane = states, network, lane

    def among(self, participants: tuple[Party, ...], own: Mapping[Party, PartyState]) -> Control:
        """The same round among some of its participants.

        Args:
            participants: They.
            own: States that parties keep for these participants alone.
        """
        return Control(
            states=lambda party: own[party] if party in own else self._states(party),
            network=self._network,
            lane=self._lane,
            round_index=self.round,
            participants=participants,
            models={party: self.models[party] for party in participants},
        )

    def state(self, party: Party) -> PartyState:
        """What one party holds for this layer; what one state says may reach another by a message only."""
        return self._states(party)

    def ask(self, step: str, messages: Mapping[Party, bytes], answer: Answer) -> dict[Party, bytes]:
        """Carry messages of the server to clients, and what they answer back.

        Args:
            step: The step's name.
            messages: The messages, by receiver.
            answer: A client's half.

        Returns:
            The answers that arrived, by client: whoever is missing dropped out.

        Raises:
            ProtocolAbort: A client refuses, or a link's check failed.
        """
        arrived = self.to_clients(messages)
        return self.to_server(
            {p: answer(self.state(p), self._question(step, p, arrived[p])) for p in arrived}
        )

    def hear(self, step: str, parties: Iterable[Party], answer: Answer) -> dict[Party, bytes]:
        """Carry to the server what clients say in a step that it knows they are at, as :meth:`ask` does.

        Raises:
            ProtocolAbort: A client refuses, or a link's check failed.
        """
        return self.to_server({p: answer(self.state(p), self._question(step, p, b"")) for p in parties})

    def tell(self, step: str, messages: Mapping[Party, bytes], answer: Answer) -> frozenset[Party]:
        """Carry messages of the server that need no answer.

        Returns:
            Whom they reached, as far as can be known before these clients speak again.

        Raises:
            ProtocolAbort: A client refuses, or a link's check failed.
        """
        arrived = self.to_clients(messages)
        for party, message in arrived.items():
            answer(self.state(party), self._question(step, party, message))
        return frozenset(arrived)

    def _question(self, step: str, party: Party, body: bytes) -> Question:
        return Question(step=step, body=body, round=self.round, model=self.models.get(party))

    def to_server(self, messages: Mapping[Party, bytes]) -> dict[Party, bytes]:
        """Carry messages of clients to the server.

        Returns:
            What arrived, by sender: whoever is missing dropped out.

        Raises:
            ProtocolAbort: A link's check failed.
        """
        return self._carry({party: Slot(party, SERVER) for party in messages}, messages)

    def to_clients(self, messages: Mapping[Party, bytes]) -> dict[Party, bytes]:
        """Carry messages of the server to clients.

        Returns:
            What arrived, by receiver.

        Raises:
            ProtocolAbort: A link's check failed.
        """
        return self._carry({party: Slot(SERVER, party) for party in messages}, messages)

    def _carry(self, slots: Mapping[Party, Slot], messages: Mapping[Party, bytes]) -> dict[Party, bytes]:
        if not messages:
            return {}
        n = len(messages)
        delivery = self._network.send(
            Envelope.plain([list(messages.values())]),
            kind="control",
            round_index=self.round,
            lanes=[self._lane],
            slots=list(slots.values()),
            present=[[True] * n],
            members=[[frozenset()] * n],
        )
        if self._lane in self._network.aborts:
            raise self._network.aborts[self._lane]
        arrived = {party: delivery.at(0, place) for place, party in enumerate(slots)}
        return {party: blob for party, blob in arrived.items() if isinstance(blob, bytes)}
