"""What a listener computes: the sum of each round, from everything that is said to the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from qflsec.base import ProtocolAbort
from qflsec.base.framing import unpack_entries, unpack_indices
from qflsec.protocols.secagg.derived_sums import Heard, Sum, derived_sums
from qflsec.protocols.secagg.fixed_point import FixedPoint
from qflsec.protocols.secagg.messages import Kind, body_of, kind_of
from qflsec.protocols.secagg.rounds.pairing import Scheme
from qflsec.protocols.secagg.rounds.records import Advertisement, Sharing, unpack_reveal
from qflsec.protocols.secagg.rounds.terms import Terms
from qflsec.protocols.secagg.rounds.unmask import Evidence, open_sum
from qflsec.threat import Item, LaneFacts

__all__ = ["observed_sums"]


def observed_sums(
    items: Sequence[Item],
    facts: LaneFacts,
    *,
    words: FixedPoint,
    scheme: Scheme,
    signature_bytes: int,
) -> list[Item]:
    """The aggregates that follow from readable control messages and masked vectors.

    Args:
        items: What a coalition sees.
        facts: What is known of the run.
        words: How integers are read.
        scheme: The key agreement.
        signature_bytes: The size of a signature.
    """

    def read(heard: Heard) -> Sum | None:
        messages = _by_client(heard.control)
        if not heard.complete or not any(kind == Kind.REVEAL for _, kind in messages):
            return None
        evidence = _evidence(heard.round, messages, heard.uploads, words, scheme, signature_bytes)
        mean, weight = words.read(open_sum(evidence))
        return Sum(mean=mean, weight=weight, said=heard.uploads[max(heard.uploads)])

    return derived_sums(items, facts, read)


def _by_client(control: Sequence[Item]) -> dict[tuple[int, int], bytes]:
    """Control messages by client and kind."""
    heard = {}
    for item in control:
        party = item.sender if item.sender.role == "client" else item.receiver
        if isinstance(item.value, bytes):
            heard[party.index, kind_of(item.value)] = item.value
    return heard


def _evidence(
    round_index: int,
    heard: dict[tuple[int, int], bytes],
    vectors: Mapping[int, Item],
    words: FixedPoint,
    scheme: Scheme,
    signature_bytes: int,
) -> Evidence:
    def all_of(kind: Kind) -> dict[int, bytes]:
        found = {i: message for (i, its_kind), message in heard.items() if its_kind == kind}
        return dict(sorted(found.items()))

    told = [all_of(kind) for kind in (Kind.START, Kind.ROSTER, Kind.SURVIVORS)]
    if not all(told):
        raise ProtocolAbort("what the server told the clients was not heard")
    start, roster, survivors = (next(iter(messages.values())) for messages in told)
    start, survivors = (body_of(message, signature_bytes) for message in (start, survivors))
    terms = Terms.from_bytes(start)
    alive, rest = unpack_indices(survivors)
    sharers = {*alive, *unpack_indices(rest)[0]}
    shared = {
        i: Sharing.from_bytes(body_of(m, signature_bytes))
        for i, m in all_of(Kind.PARCELS).items()
        if i in sharers
    }
    raw = {i: item.value for i, item in vectors.items()}
    dtype = words.dtype.newbyteorder("<")
    wanted = set(scheme.wanted(shared, raw))
    opened = {}
    for index, message in all_of(Kind.REVEAL).items():
        with suppress(ProtocolAbort):  # the server left it out as well
            shares = unpack_reveal(body_of(message, signature_bytes))
            if set(shares) == wanted:
                opened[index] = shares
    return Evidence(
        session=terms.session,
        round=round_index,
        threshold=terms.threshold,
        scheme=scheme,
        advertised={
            i: Advertisement.from_bytes(body_of(m, signature_bytes), scheme)
            for i, m in unpack_entries(body_of(roster)).items()
        },
        shared=shared,
        masked={
            i: np.frombuffer(body_of(blob, signature_bytes), dtype=dtype)
            for i, blob in raw.items()
            if isinstance(blob, bytes)
        },
        opened=opened,
    )
