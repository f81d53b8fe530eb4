"""Where a party gets the keys of its quantum links from: its own side, and nothing of the other's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from uuid import UUID

from qflsec.base import ProtocolAbort
from qflsec.protocols.keystore.keys import QkdKey
from qflsec.threat import Party

__all__ = ["KeyProvider", "starved"]


class KeyProvider(ABC):
    """One party's end of its quantum links, with any other party.

    Keys are directed: what one end draws only the other end can fetch, so that no key serves both
    directions. Every key leaves each end once.

    Attributes:
        relays: Who holds the keys besides the two ends: trusted nodes on the way; nobody by default.
    """

    relays: frozenset[Party] = frozenset()

    @abstractmethod
    def draw(self, peer: Party, n_bits: int) -> tuple[QkdKey, ...]:
        """New keys for sending to ``peer``, at least ``n_bits`` together.

        Raises:
            ProtocolAbort: Too few bits are left; none was spent.
        """

    @abstractmethod
    def fetch(self, peer: Party, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        """The keys under which ``peer`` has sent.

        Raises:
            ProtocolAbort: A key is unknown or was fetched before; none was spent.
        """

    @abstractmethod
    def bits_left(self, peer: Party) -> int:
        """What can still be drawn for sending to ``peer``.

        Units:
            bits
        """

    def require(self, me: Party, peer: Party, n_bits: int) -> None:
        """Refuse to begin what takes more key than is left for sending to ``peer``; nothing is spent.

        Args:
            me: Whose end this is.
            peer: The other end.
            n_bits: What it takes.

        Raises:
            ProtocolAbort: Too few bits are left.
        """
        left = self.bits_left(peer)
        if left < n_bits:
            raise starved(me, peer, needed=n_bits, left=left)


def starved(sender: Party, receiver: Party, *, needed: int, left: int) -> ProtocolAbort:
    """The abort of a link that has run out of key."""
    return ProtocolAbort(
        f"the QKD link from {sender} to {receiver} has too little key",
        got=f"{left} bits left",
        expected=f"{needed} bits",
        fix="give the link more key, or let AES-256 stretch it",
    )
