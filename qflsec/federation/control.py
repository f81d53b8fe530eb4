"""Control messages: what an aggregation layer with several phases says besides the updates themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from qflsec.federation.parties import PartyState
from qflsec.threat import SERVER, Envelope, Network, Party, Slot

__all__ = ["Control"]


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
