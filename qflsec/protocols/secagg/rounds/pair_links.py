"""Quantum links between every two clients: where their keys come from, and each client's own end.

The server is no end of any of them and relays none of their keys: it must not be able to compute a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from qflsec.base import ConfigError, Secrets, finite
from qflsec.federation import Setup
from qflsec.protocols.keystore import Epsilons, IdealLinks, KeyBudget, KeyProvider, StoreProvider
from qflsec.protocols.links.bb84_source import distilled_ends
from qflsec.protocols.links.ledger import union_bound
from qflsec.protocols.links.sources import KeySource, blocks_of
from qflsec.protocols.secagg.ledger import QuantumKeys
from qflsec.protocols.secagg.rounds.pairing import QKD_KEY_BITS
from qflsec.threat import Party

__all__ = ["PairLinks", "pair_ends"]

_SAYS = {
    "ideal": "the quantum channels between clients are simulated by ideal ones: no photon was sent",
    "stores": "keys come from the clients' key stores, which say of each key whether its channel was simulated and what its "
    "block claims; keys of larger or unknown epsilons are refused before a bit of them is used",
    "bb84": "every two clients distilled their keys by BB84 with single photons over a simulated channel, one block for the "
    "whole run; their authentication key survives no spoiled run",
}


@finite
@dataclass(frozen=True, kw_only=True)
class PairLinks:
    """What a stack says of the quantum links between its clients.

    Attributes:
        source: ``"ideal"``, ``"stores"`` or ``"bb84"``.
        directory: The directory of the clients' key stores, for ``"stores"``.
        eps_sec: Secrecy of the key that one link gives for one round.
        eps_cor: Its correctness.
        eps_auth: Failure of the authentication of its public discussion.

    Raises:
        ConfigError: The source is unknown, has no directory, or an epsilon is no probability.
    """

    source: str
    directory: str
    eps_sec: float
    eps_cor: float
    eps_auth: float

    def __post_init__(self) -> None:
        if self.source not in _SAYS:
            raise ConfigError(
                "unknown source of the keys between clients",
                got=repr(self.source),
                expected="'ideal', 'stores' or 'bb84': links between two clients, without the server",
            )
        if self.source == "stores" and not self.directory:
            raise ConfigError("the key source 'stores' needs a directory", fix='set key_directory = "..."')
        for name in ("eps_sec", "eps_cor", "eps_auth"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"'{name}' is a probability", got=getattr(self, name), expected="in (0, 1)")

    @property
    def says(self) -> str:
        """What the ledger says of the keys."""
        return _SAYS[self.source]

    def keys(self, *, links: int, rounds: int) -> QuantumKeys:
        """The keys of so many links over so many rounds, for the ledger."""
        near, terms = union_bound(
            eps_sec=self.eps_sec, eps_cor=self.eps_cor, eps_auth=self.eps_auth, links=links, rounds=rounds,
            blocks=blocks_of(self.source, rounds=rounds),
        )  # fmt: skip
        words = f"masks of ChaCha20 under keys of quantum links, within {near:.1e} of ideal ones: {terms}"
        return QuantumKeys(
            near=f"{words}; not an epsilon of differential privacy", distance=min(1.0, near), says=self.says
        )


def pair_ends(links: PairLinks, setup: Setup, secrets: Secrets) -> Mapping[Party, KeyProvider]:
    """Each client's end of its links with all other clients, with as much key as a run can take.

    Args:
        links: What the stack says of them.
        setup: The clients and the number of rounds.
        secrets: The links' own source, which no party shares.
    """
    budget = QKD_KEY_BITS * setup.rounds
    if links.source == "ideal":
        ideal = IdealLinks(setup.clients, secrets, key_bits=QKD_KEY_BITS, budget_bits=budget)
        return {party: ideal.end(party) for party in setup.clients}
    if links.source == "stores":
        return {
            party: StoreProvider.in_directory(
                links.directory,
                party,
                key_bits=QKD_KEY_BITS,
                allow_seeded=secrets.seeded,
                budget=KeyBudget(
                    block=Epsilons(eps_sec=links.eps_sec, eps_cor=links.eps_cor, eps_auth=links.eps_auth),
                    blocks=blocks_of(links.source, rounds=setup.rounds),
                ),
            )
            for party in setup.clients
        }
    source = KeySource(
        name=links.source,
        directory="",
        key_bits=QKD_KEY_BITS,
        budget_bits=budget,
        eps_sec=links.eps_sec,
        eps_cor=links.eps_cor,
        eps_auth=links.eps_auth,
    )
    return distilled_ends(source, combinations(setup.clients, 2), secrets)
