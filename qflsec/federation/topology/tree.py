"""The tree: edge servers between the server and the clients."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from qflsec.base import ConfigError, finite, register
from qflsec.federation.topology.base import Mix, Topology, Turn
from qflsec.threat import SERVER, Party, edge

__all__ = ["Hierarchy", "Tree", "WithEdges"]


@finite
@dataclass(frozen=True, kw_only=True)
class WithEdges(Topology):
    """Edge servers, to which clients belong: client i to edge server ``i % edges``.

    Attributes:
        edges: The number of edge servers.
    """

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

    def blocks(self, n_clients: int) -> dict[Party, tuple[int, ...]]:
        """The clients of each edge server."""
        return {edge(e): tuple(range(e, n_clients, self.edges)) for e in range(self.edges)}


@register("topology", "tree")
@dataclass(frozen=True, kw_only=True)
class Tree(WithEdges):
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
    without = "its server gets means of blocks, and its edge servers only those of their own clients"

    def turns(self, n_clients: int, round_index: int) -> tuple[Turn, ...]:
        """One turn of all clients, under their edge servers."""
        return (Turn(root=SERVER, groups=self.blocks(n_clients)),)


@register("topology", "hierarchy")
@dataclass(frozen=True, kw_only=True)
class Hierarchy(WithEdges):
    """Edge servers that keep models of their own, and a server that averages these every so many rounds.

    Client i belongs to edge server ``i % edges``, or to the one that ``members`` says. In each round every edge server moves its model by the stack's rule
    over the updates of its own clients, and reckons with ``declared_corrupted`` corrupted ones among them. After every
    ``period`` rounds the server makes the mean of the edge servers' models, weighted by the examples of all their
    clients, and sends it back. With period 1, a linear rule and all clients in every round the model is that of a star.

    Args:
        edges: The number of edge servers.
        period: How many rounds they train on their own between two means of the server, tau.
        members: The edge server of each client, such as :func:`~qflsec.federation.groups_by_error` finds for clients with
            devices of the same kind; public. Empty for client i at ``i % edges``.

    Raises:
        ConfigError: There is no edge server, or the period is none.

    Source:
        After Liu, Zhang, Song, Letaief: Client-edge-cloud hierarchical federated learning, IEEE ICC 2020. The reduction
        to a star is checked in the tests.
    """

    name = "hierarchy"
    words = "a hierarchy"
    without = (
        "its server gets models of edge servers, and its edge servers only the updates of their own clients"
    )
    period: int = 2
    members: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a hierarchy without edge servers, or without a period."""
        super().__post_init__()
        if self.period < 1:
            raise ConfigError(
                "a hierarchy needs a period", got=self.period, expected="'period' of at least 1"
            )
        if self.members and set(self.members) != set(range(self.edges)):
            raise ConfigError(
                "'members' does not give every edge server a client",
                got=list(self.members),
                expected=f"an edge server below {self.edges} for each client, each at least once",
            )

    def check(self, n_clients: int) -> None:
        """Refuse an edge server without clients, or members that are not those of the federation.

        Raises:
            ConfigError: There are fewer clients than edge servers, or another number than ``members`` has.
        """
        super().check(n_clients)
        if self.members and len(self.members) != n_clients:
            raise ConfigError(
                "'members' of the hierarchy has another number of clients",
                got=len(self.members),
                expected=n_clients,
            )

    def blocks(self, n_clients: int) -> dict[Party, tuple[int, ...]]:
        """The clients of each edge server."""
        if not self.members:
            return super().blocks(n_clients)
        return {edge(e): tuple(i for i, at in enumerate(self.members) if at == e) for e in range(self.edges)}

    def nodes(self, n_clients: int) -> int:
        """One for each edge server."""
        return self.edges

    def ruled(self, n_clients: int) -> tuple[tuple[int, ...], ...]:
        """The clients of each edge server."""
        return tuple(self.blocks(n_clients).values())

    def turns(self, n_clients: int, round_index: int) -> tuple[Turn, ...]:
        """A turn for each edge server and its clients, side by side."""
        blocks = self.blocks(n_clients)
        return tuple(Turn(root=head, groups={head: group}, node=head.index) for head, group in blocks.items())

    def mixing(
        self,
        n_clients: int,
        round_index: int,
        *,
        present: Collection[int],
        counts: Sequence[float],
        seed: int,
    ) -> tuple[Mix, ...]:
        """The server's mean, at the end of every period."""
        if (round_index + 1) % self.period:
            return ()
        sizes = [sum(counts[index] for index in group) for group in self.blocks(n_clients).values()]
        weights = {node: size / sum(sizes) for node, size in enumerate(sizes) if size}
        return (Mix(maker=SERVER, weights=weights, nodes=tuple(range(self.edges))),)
