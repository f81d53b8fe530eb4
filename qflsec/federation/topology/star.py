"""The star: one server in the middle."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.base import register
from qflsec.federation.topology.base import Topology, Turn
from qflsec.threat import SERVER, Party

__all__ = ["Star"]


@register("topology", "star")
@dataclass(frozen=True, kw_only=True)
class Star(Topology):
    """Every client trains from the server's model, and the server makes the next one."""

    name = "star"
    words = "a star"

    def start(self, n_clients: int) -> Party:
        """The server."""
        return SERVER

    def turns(self, n_clients: int, round_index: int) -> tuple[Turn, ...]:
        """One turn of all clients."""
        return (Turn(root=SERVER, groups={SERVER: tuple(range(n_clients))}),)
