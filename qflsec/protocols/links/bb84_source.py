"""The key source ``"bb84"``: every client runs BB84 with the server, over a simulated quantum channel.

Each pair sends its pulses, sifts, reconciles and hashes before the first round, with a block large enough for
the budget of both directions. Each party's end holds the keys of its own half of the post-processing, so what
one end cannot open the other never sealed. A pair whose run aborts has no key, and its link starves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

from qflsec.base import ConfigError, ProtocolAbort, Secrets
from qflsec.federation import Setup
from qflsec.protocols.keystore import KeyProvider, QkdKey, cut, fresh_key_id
from qflsec.protocols.keystore.provider import starved
from qflsec.protocols.links.sources import KeySource, register_source
from qflsec.threat import Party

if TYPE_CHECKING:
    from qflsec.protocols.bb84.optimise import Plan
    from qflsec.protocols.bb84.run_config import BB84Config

__all__ = ["DistilledEnd", "block_for", "distilled_ends"]

# Post-processing holds its block in memory: about half a gigabyte at the largest of these.
_PULSES = (2_000_000, 4_000_000, 8_000_000, 16_000_000)


class DistilledEnd(KeyProvider):
    """One party's own copies of the keys that it distilled with its peers.

    Args:
        party: The party.
    """

    def __init__(self, party: Party) -> None:
        self._party = party
        self._to_send: dict[Party, list[QkdKey]] = {}
        self._to_receive: dict[Party, dict[UUID, QkdKey]] = {}

    def add(self, peer: Party, keys: Sequence[QkdKey], *, first: bool) -> None:
        """Take in a block; the keys serve the two directions in turn.

        Args:
            peer: The other end.
            keys: This party's copies, in the order that both ends cut them in.
            first: Whether this party sends under the first of each two.
        """
        mine, theirs = (keys[::2], keys[1::2]) if first else (keys[1::2], keys[::2])
        self._to_send.setdefault(peer, []).extend(mine)
        self._to_receive.setdefault(peer, {}).update((key.key_id, key) for key in theirs)

    def draw(self, peer: Party, n_bits: int) -> tuple[QkdKey, ...]:
        """New keys for sending to ``peer``.

        Raises:
            ProtocolAbort: Too few bits are left; none was spent.
        """
        stock = self._to_send.get(peer, [])
        if n_bits > self.bits_left(peer):
            raise starved(self._party, peer, needed=n_bits, left=self.bits_left(peer))
        drawn: list[QkdKey] = []
        while sum(8 * len(key.material) for key in drawn) < n_bits:
            drawn.append(stock.pop(0))
        return tuple(drawn)

    def fetch(self, peer: Party, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        """The keys under which ``peer`` has sent.

        Raises:
            ProtocolAbort: A key is unknown or was fetched before; none was spent.
        """
        box = self._to_receive.get(peer, {})
        if len(set(key_ids)) < len(key_ids) or any(key_id not in box for key_id in key_ids):
            raise ProtocolAbort(
                f"a message from {peer} to {self._party} names a key that is unknown or was used before"
            )
        return tuple(box.pop(key_id) for key_id in key_ids)

    def bits_left(self, peer: Party) -> int:
        """What can still be drawn for sending to ``peer``."""
        return sum(8 * len(key.material) for key in self._to_send.get(peer, []))


@lru_cache(maxsize=16)
def block_for(budget_bits: int, *, eps_sec: float, eps_cor: float) -> tuple[BB84Config, Plan]:
    """The smallest block of pulses whose agreed key covers both directions of a link.

    Args:
        budget_bits: What each direction is to give.
        eps_sec: The secrecy that the key must have.
        eps_cor: Its correctness.

    Raises:
        ConfigError: No block of a supported size gives so much.
    """
    from qflsec.protocols.bb84.optimise import Requirements
    from qflsec.protocols.bb84.run_config import BB84Config, agree

    asked = Requirements(eps_sec=eps_sec, eps_cor=eps_cor)
    for pulses in _PULSES:
        config = BB84Config(source="single-photon", pulses=pulses, requirements=asked)
        try:
            plan = agree(config)
        except ConfigError:
            continue
        if plan.config.length >= 2 * budget_bits:
            return config, plan
    raise ConfigError(
        "the key source 'bb84' cannot distil so much key for one run",
        got=f"budget_bits={budget_bits}",
        fix="lower 'budget_bits', or fill key stores beforehand and set source = \"stores\"",
    )


@register_source(
    "bb84",
    says="every link distilled its keys by BB84 with single photons over a simulated quantum channel, one block for the "
    "whole run; its authentication key survives no spoiled run, so that whoever alters one message of it leaves the link "
    "without key",
    one_block=True,
)
def _bb84(source: KeySource, setup: Setup, secrets: Secrets) -> Mapping[Party, KeyProvider]:
    return distilled_ends(source, [(client, setup.server) for client in setup.clients], secrets)


def distilled_ends(
    source: KeySource, pairs: Iterable[tuple[Party, Party]], secrets: Secrets
) -> Mapping[Party, KeyProvider]:
    """Each party's end of links that run BB84 with each other, one run for each pair.

    Args:
        source: What the links have to give; its secrecy, correctness and authentication must be kept.
        pairs: The two ends of each link; the first plays Alice.
        secrets: The links' own source.

    Raises:
        ConfigError: No block gives so much, or authentication is weaker than stated.
    """
    from qflsec.protocols.bb84.run import run_bb84

    config, plan = block_for(source.budget_bits, eps_sec=source.eps_sec, eps_cor=source.eps_cor)
    ends: dict[Party, DistilledEnd] = {}
    for alice, bob in pairs:
        physics = int.from_bytes(secrets.draw(7), "big")
        result = run_bb84(config, seed=physics, plan=plan, alice_secrets=secrets, bob_secrets=secrets)
        if result.key.eps_auth > source.eps_auth:
            raise ConfigError(
                "the key source 'bb84' cannot authenticate as well as the link states",
                got=f"eps_auth={source.eps_auth:.1e}",
                expected=f"at least {result.key.eps_auth:.1e} for this block",
            )
        block = fresh_key_id(secrets)
        for party, peer, bits in ((alice, bob, result.alice_key), (bob, alice, result.bob_key)):
            end = ends.setdefault(party, DistilledEnd(party))
            if bits is not None:
                keys = cut(
                    bits, block=block, epsilons=result.key.epsilons, key_bits=source.key_bits,
                    simulated_channel=True, seeded=secrets.seeded,
                )  # fmt: skip
                end.add(peer, keys, first=party == alice)
    return ends
