"""Where the keys of quantum links come from in a run: nature's part, one for each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qflsec.base import ConfigError, Secrets
from qflsec.federation import Setup
from qflsec.protocols.keystore import Epsilons, IdealLinks, KeyBudget, KeyProvider, StoreProvider
from qflsec.threat import Party

__all__ = ["KeySource", "blocks_of", "open_ends", "register_source", "source_names"]


@dataclass(frozen=True, kw_only=True)
class KeySource:
    """What a stack says of the keys of its quantum links.

    Attributes:
        name: The name of the source.
        directory: Where key stores lie, for the source ``"stores"``.
        key_bits: The length of a key.
        budget_bits: What each direction of each link gives to one run.
        eps_sec: The secrecy that the ledger states for a link's key; every key of the source must keep it.
        eps_cor: Its correctness, likewise.
        eps_auth: The failure of authentication, likewise.
    """

    name: str
    directory: str
    key_bits: int
    budget_bits: int
    eps_sec: float
    eps_cor: float
    eps_auth: float

    @property
    def epsilons(self) -> Epsilons:
        """All three."""
        return Epsilons(eps_sec=self.eps_sec, eps_cor=self.eps_cor, eps_auth=self.eps_auth)


Opener = Callable[[KeySource, Setup, Secrets], Mapping[Party, KeyProvider]]


@dataclass(frozen=True, kw_only=True)
class _Registered:
    opener: Opener
    says: str
    one_block: bool


_sources: dict[str, _Registered] = {}


def register_source(name: str, *, says: str, one_block: bool = False) -> Callable[[Opener], Opener]:
    """Register a source of keys.

    Args:
        name: Its name in a stack's configuration.
        says: What the ledger says of its keys.
        one_block: Whether all keys of a link are of one block in a run; else each round may use a block of its own.
    """

    def keep(opener: Opener) -> Opener:
        _sources[name] = _Registered(opener=opener, says=says, one_block=one_block)
        return opener

    return keep


def source_names() -> tuple[str, ...]:
    """The names of all sources."""
    return tuple(sorted(_sources))


def what_it_says(name: str) -> str:
    """What the ledger says of the keys of a source."""
    return _sources[name].says


def blocks_of(name: str, *, rounds: int) -> int:
    """How many blocks of key a link uses in a run at most, each as bad as is stated; more, if they are better."""
    return 1 if _sources[name].one_block else rounds


def open_ends(source: KeySource, setup: Setup, secrets: Secrets) -> Mapping[Party, KeyProvider]:
    """Each party's end of the links of one run, to be handed to that party alone."""
    return _sources[source.name].opener(source, setup, secrets)


@register_source(
    "ideal",
    says="the quantum channel is simulated by an ideal one: no photon was sent, both ends get the same bits of the "
    "operating system, and the epsilons are those that a real link is supposed to keep",
)
def _ideal(source: KeySource, setup: Setup, secrets: Secrets) -> Mapping[Party, KeyProvider]:
    parties = (*setup.clients, setup.server)
    links = IdealLinks(parties, secrets, key_bits=source.key_bits, budget_bits=source.budget_bits)
    return {party: links.end(party) for party in parties}


@register_source(
    "stores",
    says="keys come from the parties' key stores, which say of each key whether its quantum channel was simulated and "
    "what its block claims; keys of larger or unknown epsilons are refused before a bit of them is used",
)
def _stores(source: KeySource, setup: Setup, secrets: Secrets) -> Mapping[Party, KeyProvider]:
    if not source.directory:
        raise ConfigError("the key source 'stores' needs a directory", fix='set directory = "..."')
    return {
        party: StoreProvider.in_directory(
            source.directory,
            party,
            key_bits=source.key_bits,
            allow_seeded=secrets.seeded,
            budget=KeyBudget(block=source.epsilons, blocks=blocks_of(source.name, rounds=setup.rounds)),
        )
        for party in (*setup.clients, setup.server)
    }
