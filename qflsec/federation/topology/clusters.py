"""Clusters: several models, and clients that choose in every round which of them they train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qflsec.base import register
from qflsec.federation.topology.base import Turn
from qflsec.federation.topology.tree import WithEdges
from qflsec.threat import edge

__all__ = ["Clusters"]


@register("topology", "clusters")
@dataclass(frozen=True, kw_only=True)
class Clusters(WithEdges):
    """Each client asks every cluster's edge server for its model, and trains the one with the least loss on its own records.

    The edge servers begin with different models, and each moves its own by the stack's rule over the updates of the
    clients that chose it. Who chose which cluster is said in the clear, and counts as known to all. Every client gets
    ``edges + 1`` models in a round: one of each cluster to choose from, and the chosen one to train.

    Args:
        edges: The number of clusters, each with an edge server.

    Raises:
        ConfigError: There is none.

    Source:
        After Ghosh, Chung, Yin, Ramchandran: An efficient framework for clustered federated learning, NeurIPS 2020,
        arXiv:2006.04088 (IFCA, averaging models), with a server for each cluster.
    """

    name = "clusters"
    words = "clusters that clients choose by their loss"
    without = "its edge servers get the updates of those clients alone that chose them"
    public_rosters = True
    chosen = True

    def nodes(self, n_clients: int) -> int:
        """One for each cluster."""
        return self.edges

    def ruled(self, n_clients: int) -> tuple[tuple[int, ...], ...]:
        """Equal clusters, as nobody knows beforehand who chooses which."""
        return tuple(self.blocks(n_clients).values())

    def turns(self, n_clients: int, round_index: int) -> tuple[Turn, ...]:
        """A turn for each cluster, side by side, before anybody has chosen."""
        return self.turns_for({i: i % self.edges for i in range(n_clients)})

    def turns_for(self, choices: Mapping[int, int]) -> tuple[Turn, ...]:
        """A turn for each cluster that somebody chose, side by side."""
        groups = {node: tuple(sorted(i for i in choices if choices[i] == node)) for node in range(self.edges)}
        return tuple(
            Turn(root=edge(node), groups={edge(node): group}, node=node)
            for node, group in groups.items()
            if group
        )
