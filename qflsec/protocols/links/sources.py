"""Where the keys of quantum links come from in a run: nature's part, one for each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qflsec.base import ConfigError, Secrets
from qflsec.federation import Setup
from qflsec.protocols.keystore import IdealLinks, KeyProvider, StoreProvider
from qflsec.threat import Party

__all__ = ["KeySource", "open_ends", "register_source", "source_names"]


@dataclass(frozen=True, kw_only=True)
class KeySource:
    """What a stack says of the keys of its quantum links.

    Attributes:
        name: The name of the source.
        directory: Where key stores lie, for the source ``"stores"``.
        key_bits: The length of a key.
        budget_bits: What each direction of each link gives to one run.
        eps_sec: The secrecy that the ledger states for a link's key; a source that distils must keep it.
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


Opener = Callable[[KeySource, Setup, Secrets], Mapping[Party, KeyProvider]]
_openers: dict[str, tuple[Opener, str]] = {}


def register_source(name: str, *, says: str) -> Callable[[Opener], Opener]:
    """Register a source of keys.

    Args:
        name: Its name in a stack's configuration.
        says: What the ledger says of its keys.
    """

    def keep(opener: Opener) -> Opener:
        _openers[name] = (opener, says)
        return opener

    return keep


def source_names() -> tuple[str, ...]:
    """The names of all sources."""
    return tuple(sorted(_openers))


def what_it_says(name: str) -> str:
    """What the ledger says of the keys of a source."""
    return _openers[name][1]


def open_ends(source: KeySource, setup: Setup, secrets: Secrets) -> Mapping[Party, KeyProvider]:
    """Each party's end of the links of one run, to be handed to that party alone."""
    return _openers[source.name][0](source, setup, secrets)


@register_source(
    "ideal",
    says="the quantum channel is simulated by an ideal one: no photon was sent, and both ends get the same "
    "bits of the operating system",
)
def _ideal(source: KeySource, setup: Setup, secrets: Secrets) -> Mapping[Party, KeyProvider]:
    parties = (*setup.clients, setup.server)
    links = IdealLinks(parties, secrets, key_bits=source.key_bits, budget_bits=source.budget_bits)
    return {party: links.end(party) for party in parties}


@register_source(
    "stores",
    says="keys come from the parties' key stores, which say of each key whether its quantum channel was "
    "simulated",
)
def _stores(source: KeySource, setup: Setup, secrets: Secrets) -> Mapping[Party, KeyProvider]:
    if not source.directory:
        raise ConfigError("the key source 'stores' needs a directory", fix='set directory = "..."')
    return {
        party: StoreProvider.in_directory(
            source.directory, party, key_bits=source.key_bits, allow_seeded=secrets.seeded
        )
        for party in (*setup.clients, setup.server)
    }
