"""What a server, or whoever hears it all, computes at the end of a round: the sum of the survivors' vectors.

Every owner of a secret is bound to each share of it. A helper that opens another share than it was given is named and
left out, so that the sum follows whenever the helpers that tell the truth are as many as the threshold, however many
lie: wrong shares are erasures and no errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from qflsec.base import LostRound, ProtocolAbort
from qflsec.protocols.secagg.fixed_point import Words
from qflsec.protocols.secagg.masks.expansion import PairPlace, add_expanded, add_masks, pair_key, self_key
from qflsec.protocols.secagg.rounds.pairing import PRIVATE_KEY, Scheme, pair_seed
from qflsec.protocols.secagg.rounds.records import (
    Advertisement,
    Shares,
    Sharing,
    commitment,
    indices_digest,
    share_digest,
)
from qflsec.protocols.secagg.rounds.shamir import combine_shares, weights_at_zero
from qflsec.threat import client

__all__ = ["Evidence", "culprits", "liars", "open_sum"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that was said to the server in one round.

    Attributes:
        session: The public name of the session.
        round: The round.
        threshold: How many shares open a secret.
        scheme: The key agreement.
        advertised: The advertisements of the clients in the roster.
        shared: The second messages of the sharing clients.
        masked: The masked vectors of the survivors.
        opened: By the client that opened them, shares by the owner and the label of the secret.
    """

    session: bytes
    round: int
    threshold: int
    scheme: Scheme
    advertised: Mapping[int, Advertisement]
    shared: Mapping[int, Sharing]
    masked: Mapping[int, Words]
    opened: Mapping[int, Shares]

    @property
    def places(self) -> dict[int, PairPlace]:
        """What the masks of each survivor are bound to."""
        sharers = indices_digest(self.shared)
        return {i: (self.session, self.round, self.advertised[i].model, sharers) for i in self.masked}


def open_sum(evidence: Evidence) -> Words:
    """The sum of the survivors' vectors.

    Raises:
        LostRound: There are too few shares that are right, or a client shared another secret than it is bound to.
    """
    accused = liars(evidence)
    honest = [helper for helper in sorted(evidence.opened) if helper not in accused]
    if len(honest) < evidence.threshold:
        raise LostRound(
            f"too few clients opened their shares in round {evidence.round}",
            got="; ".join((str(len(honest)), *map(str, accused.values()))),
            expected=f"at least {evidence.threshold}",
            caused_by=culprits(accused.values(), missing=evidence.threshold - len(honest)),
        )
    helpers = honest[: evidence.threshold]
    wanted = evidence.scheme.wanted(evidence.shared, evidence.masked)
    weights = weights_at_zero(helper + 1 for helper in helpers)
    secrets = {}
    for owner, label in wanted:
        shares = {h + 1: evidence.opened[h][owner, label] for h in helpers}
        secrets[owner, label] = _secret(evidence, owner, label, shares, weights)
    vectors = list(evidence.masked.values())
    total = add_masks(vectors[0], ((1, vector) for vector in vectors[1:]))
    return add_expanded(total, _left_over(evidence, secrets))


def liars(evidence: Evidence) -> dict[int, ProtocolAbort]:
    """The helpers that opened another share than its owner is bound to, with what they did.

    Whoever accepts a parcel has checked its shares against the digests, so that a share which does not fit is the
    helper's doing and not the owner's.
    """
    wanted = set(evidence.scheme.wanted(evidence.shared, evidence.masked))
    labels = {owner: evidence.scheme.labels(owner, evidence.advertised) for owner, _ in wanted}
    found = {}
    for helper, shares in evidence.opened.items():
        bound = {
            (owner, label): digest
            for owner in labels
            for label, digest in zip(labels[owner], evidence.shared[owner].digests(helper), strict=True)
        }
        wrong = {
            f"client:{owner}"
            for owner, label in wanted
            if share_digest(label, helper, shares.get((owner, label), b"")) != bound[owner, label]
        }
        if wrong:
            found[helper] = ProtocolAbort(
                f"client:{helper} opened other shares than it was given of {', '.join(sorted(wrong))}",
                caused_by=client(helper),
            )
    return found


def culprits(aborts: Iterable[ProtocolAbort], *, missing: int) -> str | None:
    """Who caused that something is missing: those whose own words prove a lie, where without them nothing would be.

    Args:
        aborts: What stopped a client, or a group of them, each.
        missing: How many are missing.
    """
    proved = [abort.caused_by for abort in aborts if abort.caused_by is not None]
    return " and ".join(dict.fromkeys(proved)) if len(proved) >= missing else None


def _secret(
    evidence: Evidence, owner: int, label: int, shares: Mapping[int, bytes], weights: Mapping[int, int]
) -> bytes:
    """The secret behind right shares, if it is what its owner is bound to: nobody else can be at fault."""
    labels = evidence.scheme.labels(owner, evidence.advertised)
    bound = evidence.shared[owner].committed[labels.index(label)]
    try:
        secret = combine_shares(shares, weights)
    except ProtocolAbort:
        secret = b""
    if commitment(label, secret) != bound:
        raise LostRound(
            f"the shares that client:{owner} gave in round {evidence.round} do not open to what it is bound to",
            caused_by=client(owner),
        )
    return secret


def _left_over(evidence: Evidence, secrets: Mapping[tuple[int, int], bytes]) -> Iterator[tuple[int, bytes]]:
    """The keys of the masks that do not cancel: the survivors' own, and their pairs with the dropped clients."""
    for index, place in evidence.places.items():
        yield -1, self_key(secrets[index, index], index, place)
    for dropped in sorted(set(evidence.shared) - set(evidence.masked)):
        seeds = _seeds(evidence, dropped, secrets)
        for index, place in evidence.places.items():
            yield (-1 if index < dropped else 1), pair_key(seeds[index], index, dropped, place)


def _seeds(evidence: Evidence, dropped: int, secrets: Mapping[tuple[int, int], bytes]) -> dict[int, bytes]:
    """What a dropped client shares with each survivor."""
    if not evidence.scheme.shares_private_key:
        return {index: secrets[min(index, dropped), max(index, dropped)] for index in evidence.masked}
    masks = evidence.scheme.rebuilt(secrets[dropped, PRIVATE_KEY])
    if masks.public != evidence.advertised[dropped].mask:
        raise LostRound(
            f"the shares of client:{dropped} do not open to the key that it advertised",
            caused_by=client(dropped),
        )
    return {index: pair_seed(masks, evidence.advertised[index].mask) for index in evidence.masked}
