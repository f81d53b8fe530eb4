"""Parties: what each knows when a session opens, what a payload is bound to, and what a party holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from qflsec.threat import Party, Traffic

__all__ = ["Header", "PartyState", "Setup"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every party knows when the session opens.

    Attributes:
        session: A public name of the session, bound into keys.
        clients: The clients.
        server: The server.
        n_params: The number of parameters.
        rounds: The number of rounds.
        max_count: The largest number of examples that a client may have.
        participants: How many clients take part in a round, as everybody knows beforehand; 0 stands for all.
        quantum: The receiving party's own end of the layer's quantum links, as the layer's
            :meth:`SecretLayer.quantum_ends` made it; None where the layer has none.
        traffic: For a link layer, what it gets to carry in the run, at most; None where that cannot be told.
    """

    session: bytes
    clients: tuple[Party, ...]
    server: Party
    n_params: int
    rounds: int
    max_count: int
    participants: int = 0
    quantum: object | None = field(default=None, repr=False)
    traffic: Traffic | None = None


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a sealed payload is bound to.

    Attributes:
        round: The round.
        sender: Who sends it.
        participants: The clients that take part in the round.
    """

    round: int
    sender: Party
    participants: tuple[Party, ...]


class PartyState(ABC):
    """What one party holds for one secret layer of one run."""

    def announce(self) -> bytes:
        """This party's public message of the set-up, signed; empty by default: it has none."""
        return b""

    def learn(self, author: Party, announcement: bytes) -> None:  # noqa: B027 - many have nothing to learn
        """Take in another party's announcement; nothing by default.

        Raises:
            ProtocolAbort: The announcement is not authentic.
        """

    def check_ready(self) -> None:  # noqa: B027 - most parties are
        """Refuse to begin a run that this party could not bring to its end; nothing by default.

        Raises:
            ProtocolAbort: It could not.
        """

    @abstractmethod
    def key_names(self) -> frozenset[str]:
        """The names of the keys that this party holds."""

    def costs(self) -> Mapping[str, float]:
        """What this party has spent so far, by name with the unit at its end; summed over the parties."""
        return {}
