"""Topologies: the turns of a round as data."""

from __future__ import annotations

from qflsec.federation.topology.affinity import Affinity, affinities
from qflsec.federation.topology.base import Mix, Topology, Turn, side_by_side, topology_from_config
from qflsec.federation.topology.clusters import Clusters
from qflsec.federation.topology.gossip import Gossip
from qflsec.federation.topology.noise_groups import groups_by_error
from qflsec.federation.topology.preference import Preference, preferences
from qflsec.federation.topology.ring import Ring
from qflsec.federation.topology.star import Star
from qflsec.federation.topology.tree import Hierarchy, Tree

__all__ = [
    "Affinity",
    "Clusters",
    "Gossip",
    "Hierarchy",
    "Mix",
    "Preference",
    "Ring",
    "Star",
    "Topology",
    "Tree",
    "Turn",
    "affinities",
    "groups_by_error",
    "preferences",
    "side_by_side",
    "topology_from_config",
]
