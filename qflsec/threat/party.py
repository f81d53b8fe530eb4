"""Parties: who takes part, and who watches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

__all__ = ["PUBLIC", "QUANTUM_SERVER", "SERVER", "WIRE", "Party", "Role", "client", "edge"]

Role = Literal["server", "edge", "client", "quantum-server", "wire", "public"]
"""An edge server aggregates for its own clients, between them and the server."""


@dataclass(frozen=True, order=True)
class Party:
    """One party.

    Attributes:
        role: What it is.
        index: Which one of its role.
    """

    role: Role
    index: int = 0

    def __str__(self) -> str:
        return f"{self.role}:{self.index}" if self.role in {"client", "edge"} else self.role


SERVER = Party("server")
QUANTUM_SERVER = Party("quantum-server")
WIRE = Party("wire")
PUBLIC = Party("public")


@lru_cache(maxsize=4096)  # protocols name clients hundreds of times in a round
def client(index: int) -> Party:
    """The client with this index."""
    return Party("client", index)


def edge(index: int) -> Party:
    """The edge server with this index."""
    return Party("edge", index)
