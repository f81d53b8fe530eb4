"""Topologies: the turns of a round as data."""

from __future__ import annotations

from qflsec.federation.topology.base import Topology, Turn, topology_from_config
from qflsec.federation.topology.ring import Ring
from qflsec.federation.topology.star import Star
from qflsec.federation.topology.tree import Tree

__all__ = ["Ring", "Star", "Topology", "Tree", "Turn", "topology_from_config"]
