"""The ring: one model visits the clients in order."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.base import ConfigError, register
from qflsec.federation.topology.base import Topology, Turn
from qflsec.threat import Party, client

__all__ = ["Ring"]


@register("topology", "ring")
@dataclass(frozen=True, kw_only=True)
class Ring(Topology):
    """Each client trains the model that it got from the one before it, and hands it on to the next.

    There is no server and no average. Client 0 holds the initial model, which is in the view of nobody whom it was
    not sent to; who knows it otherwise computes the first client's first update. A client that does not take part
    in a round is left out, and its neighbours are neighbours of each other.
    """

    name = "ring"
    words = "a ring"

    def check(self, n_clients: int) -> None:
        """Refuse a ring of one.

        Raises:
            ConfigError: There is only one client.
        """
        if n_clients < 2:
            raise ConfigError(
                "a ring needs clients that hand the model on", got=n_clients, expected="at least 2"
            )

    def start(self, n_clients: int) -> Party:
        """The first client."""
        return client(0)

    def turns(self, n_clients: int, round_index: int) -> tuple[Turn, ...]:
        """A turn for each client, in order."""
        return tuple(Turn(root=client(i), groups={client(i): (i,)}) for i in range(n_clients))
