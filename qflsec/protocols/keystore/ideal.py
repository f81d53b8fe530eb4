"""Ideal quantum links: keys that appear at both ends, in place of a quantum network.

No photon is simulated: the bits come from a source of secrets, and the links hand one copy to each end.
What a link gives is limited, so that a protocol can run out of key as it would on a fibre.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

from qflsec.base import ConfigError, ProtocolAbort, Secrets
from qflsec.protocols.keystore.keys import QkdKey, fresh_key_id
from qflsec.protocols.keystore.provider import KeyProvider, starved
from qflsec.threat import Party

__all__ = ["IdealLinks"]


class IdealLinks:
    """The quantum links between all pairs of some parties, in both directions: the part of nature.

    Args:
        parties: The parties.
        secrets: Where the bits come from.
        key_bits: The length of a key.
        budget_bits: What each direction of each link gives altogether.

    Raises:
        ConfigError: A length is out of range.
    """

    def __init__(
        self, parties: Sequence[Party], secrets: Secrets, *, key_bits: int, budget_bits: int
    ) -> None:
        if key_bits < 8 or key_bits % 8:
            raise ConfigError("'key_bits' is out of range", got=key_bits, expected="8, 16, 24 ...")
        self._secrets = secrets
        self._key_bytes = key_bits // 8
        self._stock = {(a, b): budget_bits // key_bits for a in parties for b in parties if a != b}
        self._boxes: dict[tuple[Party, Party], dict[UUID, QkdKey]] = {pair: {} for pair in self._stock}
        self._open = set(parties)

    def end(self, party: Party) -> KeyProvider:
        """The end of one party; it can be had once.

        Raises:
            ProtocolAbort: It has been taken.
        """
        if party not in self._open:
            raise ProtocolAbort(f"the end of {party} of the quantum links has been taken")
        self._open.remove(party)
        return _End(
            draw=partial(self._make, party),
            fetch=partial(self._pick_up, party),
            left=partial(self._left, party),
        )

    def _make(self, sender: Party, receiver: Party, n_bits: int) -> tuple[QkdKey, ...]:
        number = -(-n_bits // (8 * self._key_bytes))
        if number > self._stock.get((sender, receiver), 0):
            raise starved(sender, receiver, needed=n_bits, left=self._left(sender, receiver))
        self._stock[sender, receiver] -= number
        keys = tuple(
            QkdKey(
                key_id=fresh_key_id(self._secrets),
                material=self._secrets.draw(self._key_bytes),
                simulated_channel=True,
                seeded=self._secrets.seeded,
            )
            for _ in range(number)
        )
        self._boxes[sender, receiver].update((key.key_id, key) for key in keys)
        return keys

    def _pick_up(self, receiver: Party, sender: Party, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        box = self._boxes.get((sender, receiver), {})
        if len(set(key_ids)) < len(key_ids) or any(key_id not in box for key_id in key_ids):
            raise ProtocolAbort(
                f"a message from {sender} to {receiver} names a key that is unknown or was used before"
            )
        return tuple(box.pop(key_id) for key_id in key_ids)

    def _left(self, sender: Party, receiver: Party) -> int:
        return 8 * self._key_bytes * self._stock.get((sender, receiver), 0)


class _End(KeyProvider):
    """What one party may do with the links: draw as sender, fetch as receiver."""

    def __init__(
        self,
        *,
        draw: Callable[[Party, int], tuple[QkdKey, ...]],
        fetch: Callable[[Party, Sequence[UUID]], tuple[QkdKey, ...]],
        left: Callable[[Party], int],
    ) -> None:
        self._draw, self._fetch, self._left = draw, fetch, left

    def draw(self, peer: Party, n_bits: int) -> tuple[QkdKey, ...]:
        return self._draw(peer, n_bits)

    def fetch(self, peer: Party, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        return self._fetch(peer, key_ids)

    def bits_left(self, peer: Party) -> int:
        return self._left(peer)
