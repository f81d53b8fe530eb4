"""Quantum links whose keys lie in key stores: each party opens its own store and no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from qflsec.base import ProtocolAbort, StoreError
from qflsec.protocols.keystore.errors import KeysExhausted, UnknownKey, WrongSae
from qflsec.protocols.keystore.keys import KeyLink, QkdKey, sae_name
from qflsec.protocols.keystore.provider import KeyProvider, starved
from qflsec.protocols.keystore.store import KeyStore
from qflsec.threat import Party

__all__ = ["StoreProvider", "store_path"]


def store_path(directory: str | Path, party: Party) -> Path:
    """Where the key store of a party lies, by convention."""
    return Path(directory) / f"{sae_name(party)}.keys"


class StoreProvider(KeyProvider):
    """A party's end of its links, backed by its own key store.

    Args:
        store: The party's store.
        party: The party.
        key_bits: The length of the keys in it that are to be used.
    """

    def __init__(self, store: KeyStore, party: Party, *, key_bits: int) -> None:
        self._store = store
        self._party = party
        self._key_bits = key_bits

    @classmethod
    def in_directory(
        cls, directory: str | Path, party: Party, *, key_bits: int, allow_seeded: bool
    ) -> StoreProvider:
        """The provider of a party whose store lies in a directory.

        Raises:
            StoreError: There is no store for the party.
        """
        path = store_path(directory, party)
        if not path.exists():
            raise StoreError(f"there is no key store for {party}", expected=f"the file {path}")
        return cls(KeyStore(path, allow_seeded=allow_seeded), party, key_bits=key_bits)

    def draw(self, peer: Party, n_bits: int) -> tuple[QkdKey, ...]:
        """See :meth:`KeyProvider.draw`."""
        link = KeyLink(master=sae_name(self._party), slave=sae_name(peer))
        try:
            return self._store.take(link, number=-(-n_bits // self._key_bits), bits=self._key_bits)
        except KeysExhausted:
            raise starved(self._party, peer, needed=n_bits, left=self.bits_left(peer)) from None

    def fetch(self, peer: Party, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        """See :meth:`KeyProvider.fetch`."""
        link = KeyLink(master=sae_name(peer), slave=sae_name(self._party))
        try:
            return self._store.take_ids(link, key_ids)
        except (UnknownKey, WrongSae) as error:
            raise ProtocolAbort(
                f"a message from {peer} to {self._party} names a key that cannot be used", got=error
            ) from None

    def bits_left(self, peer: Party) -> int:
        """See :meth:`KeyProvider.bits_left`."""
        link = KeyLink(master=sae_name(self._party), slave=sae_name(peer))
        return self._store.bits_left(link, bits=self._key_bits)
