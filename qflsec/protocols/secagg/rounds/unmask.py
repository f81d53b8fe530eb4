"""What a server, or whoever hears it all, computes at the end of a round: the sum of the survivors' vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qflsec.base import ProtocolAbort
from qflsec.protocols.secagg.fixed_point import Words
from qflsec.protocols.secagg.masks.expansion import PairPlace, add_expanded, add_masks, pair_key, self_key
from qflsec.protocols.secagg.rounds.pairing import PRIVATE_KEY, Scheme
from qflsec.protocols.secagg.rounds.records import Advertisement, Shares, Sharing, commitment, indices_digest
from qflsec.protocols.secagg.rounds.shamir import combine_shares, weights_at_zero

__all__ = ["Evidence", "open_sum"]


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
        ProtocolAbort: There are too few shares, or shares do not open to what a client was bound to.
    """
    helpers = sorted(evidence.opened)[: evidence.threshold]
    if len(helpers) < evidence.threshold:
        raise ProtocolAbort(
            f"too few clients opened shares in round {evidence.round}",
            got=len(helpers),
            expected=f"at least {evidence.threshold}",
        )
    wanted = evidence.scheme.wanted(evidence.shared, evidence.masked)
    if any(set(wanted) - set(evidence.opened[helper]) for helper in helpers):
        raise ProtocolAbort(f"a client opened other shares in round {evidence.round} than the sum needs")
    weights = weights_at_zero(helper + 1 for helper in helpers)
    secrets = {
        which: combine_shares({h + 1: evidence.opened[h][which] for h in helpers}, weights)
        for which in wanted
    }
    _check(evidence, secrets)
    vectors = list(evidence.masked.values())
    total = add_masks(vectors[0], ((1, vector) for vector in vectors[1:]))
    return add_expanded(total, _left_over(evidence, secrets))


def _check(evidence: Evidence, secrets: Mapping[tuple[int, int], bytes]) -> None:
    """What was opened is what its owner was bound to."""
    for (owner, label), secret in secrets.items():
        labels = evidence.scheme.labels(owner, evidence.advertised)
        if commitment(label, secret) != evidence.shared[owner].committed[labels.index(label)]:
            raise ProtocolAbort(f"the shares of client:{owner} do not open to what it was bound to")


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
    pairing = evidence.scheme.rebuilt(secrets[dropped, PRIVATE_KEY])
    if pairing.mask != evidence.advertised[dropped].mask:
        raise ProtocolAbort(f"the shares of client:{dropped} do not open to its key")
    return {index: pairing.pair_seed(evidence.advertised[index].mask) for index in evidence.masked}
