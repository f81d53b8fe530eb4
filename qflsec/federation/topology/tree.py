"""The tree: edge servers between the server and the clients."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.base import ConfigError, register
from qflsec.federation.topology.base import Topology, Turn
from qflsec.threat import SERVER, Party, edge

__all__ = ["Tree"]


@register("topology", "tree")
@dataclass(frozen=True, kw_only=True)
class Tree(Topology):
    """Each edge server averages its clients' updates, and the server averages what the edge servers send.

    Client i belongs to edge server ``i % edges``. Averages are weighted by numbers of examples at both levels, so
    the model is that of a star; who sees what is not.

    Args:
        edges: The number of edge servers.

    Raises:
        ConfigError: There is none.
    """

    name = "tree"
    words = "a tree"
    edges: int = 2

    def __post_init__(self) -> None:
        """Refuse a tree without edge servers."""
        if self.edges < 1:
            raise ConfigError("a tree needs edge servers", got=self.edges, expected="'edges' of at least 1")

    def check(self, n_clients: int) -> None:
        """Refuse an edge server without clients.

        Raises:
            ConfigError: There are fewer clients than edge servers.
        """
        if n_clients < self.edges:
            raise ConfigError(
                "an edge server has no client",
                got=f"{n_clients} clients, {self.edges} edge servers",
                fix="lower 'edges' of the topology or raise 'n_clients'",
            )

    def start(self, n_clients: int) -> Party:
        """The server."""
        return SERVER

    def turns(self, n_clients: int, round_index: int) -> tuple[Turn, ...]:
        """One turn of all clients, under their edge servers."""
        groups = {edge(e): tuple(range(e, n_clients, self.edges)) for e in range(self.edges)}
        return (Turn(root=SERVER, groups=groups),)
