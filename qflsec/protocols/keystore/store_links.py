"""Quantum links whose keys lie in key stores: each party opens its own store and no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from qflsec.base import ProtocolAbort, StoreError
from qflsec.protocols.epsilons import Epsilons
from qflsec.protocols.keystore.errors import KeysExhausted, UnknownKey, WeakKeys, WrongSae
from qflsec.protocols.keystore.key_budget import KeyAccount, KeyBudget
from qflsec.protocols.keystore.keys import KeyLink, QkdKey, sae_name
from qflsec.protocols.keystore.provider import KeyProvider, starved
from qflsec.protocols.keystore.store import Admit, KeyStore
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
        budget: What is accepted of the keys of each link; by default everything, and then nothing may be claimed.
    """

    def __init__(
        self, store: KeyStore, party: Party, *, key_bits: int, budget: KeyBudget | None = None
    ) -> None:
        self._store = store
        self._party = party
        self._key_bits = key_bits
        self._budget = budget
        self._accounts: dict[Party, KeyAccount] = {}

    @classmethod
    def in_directory(
        cls,
        directory: str | Path,
        party: Party,
        *,
        key_bits: int,
        allow_seeded: bool,
        budget: KeyBudget | None = None,
    ) -> StoreProvider:
        """The provider of a party whose store lies in a directory.

        Raises:
            StoreError: There is no store for the party.
        """
        path = store_path(directory, party)
        if not path.exists():
            raise StoreError(f"there is no key store for {party}", expected=f"the file {path}")
        return cls(KeyStore(path, allow_seeded=allow_seeded), party, key_bits=key_bits, budget=budget)

    def draw(self, peer: Party, n_bits: int) -> tuple[QkdKey, ...]:
        """See :meth:`KeyProvider.draw`."""
        link = KeyLink(master=sae_name(self._party), slave=sae_name(peer))
        try:
            return self._store.take(
                link,
                number=-(-n_bits // self._key_bits),
                bits=self._key_bits,
                within=self._worst,
                admit=self._admit(peer),
            )
        except KeysExhausted:
            raise self._too_little(link, peer, n_bits) from None
        except WeakKeys as error:
            raise ProtocolAbort(
                f"the QKD link from {self._party} to {peer} has no good key", got=error
            ) from None

    def fetch(self, peer: Party, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        """See :meth:`KeyProvider.fetch`."""
        link = KeyLink(master=sae_name(peer), slave=sae_name(self._party))
        try:
            return self._store.take_ids(link, key_ids, admit=self._admit(peer))
        except (UnknownKey, WeakKeys, WrongSae) as error:
            raise ProtocolAbort(
                f"a message from {peer} to {self._party} names a key that cannot be used", got=error
            ) from None

    def bits_left(self, peer: Party) -> int:
        """See :meth:`KeyProvider.bits_left`."""
        link = KeyLink(master=sae_name(self._party), slave=sae_name(peer))
        return self._store.bits_left(link, bits=self._key_bits, within=self._worst)

    def require(self, me: Party, peer: Party, n_bits: int) -> None:
        """See :meth:`KeyProvider.require`; it says what is left of weak keys besides."""
        if self.bits_left(peer) < n_bits:
            link = KeyLink(master=sae_name(self._party), slave=sae_name(peer))
            raise self._too_little(link, peer, n_bits)

    @property
    def _worst(self) -> Epsilons | None:
        return None if self._budget is None else self._budget.block

    def _admit(self, peer: Party) -> Admit | None:
        """The account of the link with a peer: one for both directions, because blocks serve both."""
        if self._budget is None:
            return None
        return self._accounts.setdefault(peer, KeyAccount(self._budget)).admit

    def _too_little(self, link: KeyLink, peer: Party, needed: int) -> ProtocolAbort:
        """Too little key, or none that is good enough."""
        good = self.bits_left(peer)
        weak = self._store.bits_left(link, bits=self._key_bits) - good
        if not weak:
            return starved(self._party, peer, needed=needed, left=good)
        return ProtocolAbort(
            f"the QKD link from {self._party} to {peer} has too little good key",
            got=f"{good} bits left; {weak} more are of blocks with larger or unknown epsilons",
            expected=f"{needed} bits within {self._worst}",
            fix="distil better blocks, or accept larger epsilons and claim less",
        )
