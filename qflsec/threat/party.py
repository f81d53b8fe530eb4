"""Parties: who takes part, and who watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["PUBLIC", "QUANTUM_SERVER", "SERVER", "WIRE", "Party", "Role", "client"]

Role = Literal["server", "client", "quantum-server", "wire", "public"]


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
        return f"client:{self.index}" if self.role == "client" else self.role


SERVER = Party("server")
QUANTUM_SERVER = Party("quantum-server")
WIRE = Party("wire")
PUBLIC = Party("public")


def client(index: int) -> Party:
    """The client with this index."""
    return Party("client", index)
