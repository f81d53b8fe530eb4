"""What a server, or whoever hears it all, computes at the end of a round: the sum of the survivors' vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qflsec.base import ProtocolAbort
from qflsec.protocols.secagg.exchange import KeyExchange
from qflsec.protocols.secagg.fixed_point import Words
from qflsec.protocols.secagg.masks import PairPlace, add_masks, expand, pair_key, self_key
from qflsec.protocols.secagg.messages import body_of
from qflsec.protocols.secagg.records import (
    BOX_BYTES,
    Advertisement,
    Sharing,
    commitment,
    indices_digest,
    open_box,
)
from qflsec.protocols.secagg.shamir import combine_shares, weights_at_zero

__all__ = ["Evidence", "open_sum"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that was said to the server in one round.

    Attributes:
        session: The public name of the session.
        round: The round.
        threshold: How many shares open a secret.
        exchange: The key exchange.
        roster: The hash of all advertisements.
        advertised: The advertisements of the clients in the roster.
        shared: The second messages of the sharing clients.
        ciphertexts: For (sender, receiver), the ciphertext of a pair secret; empty under X25519.
        masked: The masked vectors of the survivors.
        opened: By the client that opened it and the client that it is of: whether that one survived, and the share.
    """

    session: bytes
    round: int
    threshold: int
    exchange: KeyExchange
    roster: bytes
    advertised: Mapping[int, Advertisement]
    shared: Mapping[int, Sharing]
    ciphertexts: Mapping[tuple[int, int], bytes]
    masked: Mapping[int, Words]
    opened: Mapping[int, Mapping[int, tuple[bool, bytes]]]

    @property
    def places(self) -> dict[int, PairPlace]:
        """What the masks of each survivor are bound to."""
        sharers = indices_digest(self.shared)
        return {i: (self.session, self.round, self.advertised[i].model, sharers) for i in self.masked}


def ciphertext_of(parcel: bytes, exchange: KeyExchange, signature_bytes: int) -> bytes:
    """The ciphertext of a pair secret in a parcel; parcels without ciphertexts are not signed."""
    if not exchange.ciphertext_bytes:
        return b""
    return body_of(parcel, signature_bytes)[exchange.ciphertext_bytes + BOX_BYTES :]


def open_sum(evidence: Evidence) -> Words:
    """The sum of the survivors' vectors.

    Raises:
        ProtocolAbort: There are too few shares, or shares do not open to what a client was bound to.
    """
    helpers = sorted(evidence.opened)[: evidence.threshold]
    if len(helpers) < evidence.threshold:
        raise ProtocolAbort(
            f"too few clients opened shares in round {evidence.round}",
            got=len(helpers),
            expected=f"at least {evidence.threshold}",
        )
    weights = weights_at_zero(helper + 1 for helper in helpers)
    secrets = {
        index: combine_shares({h + 1: evidence.opened[h][index][1] for h in helpers}, weights)
        for index in evidence.shared
    }
    vectors = list(evidence.masked.values())
    total = add_masks(vectors[0], ((1, vector) for vector in vectors[1:]))
    return add_masks(total, _left_over(evidence, secrets, total))


def _left_over(evidence: Evidence, secrets: Mapping[int, bytes], total: Words) -> Iterator[tuple[int, Words]]:
    """The masks that do not cancel: the survivors' own, and their pairs with the dropped clients."""
    for index, place in evidence.places.items():
        if commitment(secrets[index]) != evidence.shared[index].committed:
            raise ProtocolAbort(f"the shares of client:{index} do not open to what it was bound to")
        yield -1, expand(self_key(secrets[index], index, place), total.size, total.dtype)
    for dropped in sorted(set(evidence.shared) - set(evidence.masked)):
        pairs = _pair_secrets(evidence, dropped, secrets[dropped])
        for index, place in evidence.places.items():
            key = pair_key(pairs[index], index, dropped, place)
            yield (-1 if index < dropped else 1), expand(key, total.size, total.dtype)


def _pair_secrets(evidence: Evidence, dropped: int, root: bytes) -> dict[int, bytes]:
    """What a dropped client shares with each survivor, from its root."""
    exchange = evidence.exchange
    pair = exchange.pair(root)
    if pair.public != evidence.advertised[dropped].mask:
        raise ProtocolAbort(f"the shares of client:{dropped} do not open to its key")
    chosen: dict[int, bytes] = {}
    if exchange.ciphertext_bytes:
        raw = open_box(Sharing.wrap_key(root), evidence.shared[dropped].wrapped, evidence.roster)
        higher = [index for index in sorted(evidence.advertised) if index > dropped]
        chosen = {index: raw[32 * place : 32 * place + 32] for place, index in enumerate(higher)}
    found = {}
    for index in evidence.masked:
        if index > dropped and exchange.ciphertext_bytes:
            found[index] = chosen[index]
        else:
            ciphertext = evidence.ciphertexts.get((index, dropped), b"")
            found[index] = pair.decapsulate(evidence.advertised[index].mask, ciphertext)
    return found
