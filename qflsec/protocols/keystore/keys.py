"""Keys of a quantum key distribution link, and whom they belong to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from uuid import UUID

from qflsec.base import ConfigError, Secrets
from qflsec.protocols.epsilons import KeyBlock
from qflsec.threat import Party

__all__ = ["KeyLink", "QkdKey", "fresh_key_id", "sae_name"]

_SAE = re.compile(r"[A-Za-z0-9._~-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class QkdKey:
    """One copy of a key.

    Attributes:
        key_id: Its public identifier, equal at both ends.
        material: The key itself.
        simulated_channel: Whether the quantum channel behind it was simulated.
        seeded: Whether it can be reproduced, and so protects nothing.
        block: The block that it was cut from, with its epsilons; None where nothing is known of them, and nothing may be
            claimed.

    Raises:
        ConfigError: The key is empty.
    """

    key_id: UUID
    material: bytes = field(repr=False)
    simulated_channel: bool
    seeded: bool
    block: KeyBlock | None = None

    def __post_init__(self) -> None:
        if not self.material:
            raise ConfigError("an empty key", got=f"key {self.key_id}", expected="at least 8 bits")

    @property
    def bits(self) -> int:
        """Its length.

        Units:
            bits
        """
        return 8 * len(self.material)


@dataclass(frozen=True, kw_only=True)
class KeyLink:
    """A direction between two applications (SAEs): keys that the master asks for and the slave looks up.

    Keys are assigned to one direction when they are made. So no key serves both directions, and two
    applications that ask at the same time cannot be given the same one.

    Attributes:
        master: The application that asks for a new key; for a link, the sender.
        slave: The application that looks the key up by its identifier; the receiver.

    Raises:
        ConfigError: A name cannot stand in a URL, or both are the same.
    """

    master: str
    slave: str

    def __post_init__(self) -> None:
        for name in (self.master, self.slave):
            if not _SAE.fullmatch(name):
                raise ConfigError(
                    "impossible name of an application (SAE)",
                    got=repr(name),
                    expected="1 to 64 letters, digits or any of . _ ~ -",
                )
        if self.master == self.slave:
            raise ConfigError("a key link has two ends", got=f"{self.master!r} twice")

    def __str__(self) -> str:
        return f"{self.master} > {self.slave}"


def sae_name(party: Party) -> str:
    """The name of a party as an application: ``"client-3"``, ``"server"``."""
    return str(party).replace(":", "-")


def fresh_key_id(secrets: Secrets) -> UUID:
    """A new random identifier."""
    return UUID(bytes=secrets.draw(16), version=4)
