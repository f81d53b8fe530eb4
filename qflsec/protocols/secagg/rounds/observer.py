"""What a listener computes: the sum of each round, from everything that is said to the server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
import torch

from qflsec.base import ProtocolAbort
from qflsec.base.framing import unpack_entries, unpack_indices
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
    found = []
    readable = next((i.value.dtype for i in items if isinstance(i.value, torch.Tensor)), torch.float32)
    for round_index, members in sorted(facts.participants.items()):
        vectors = {
            item.sender.index: item
            for item in _of_round(items, round_index, "update", "masked")
            if item.sender.index in members
        }
        heard = _heard(items, round_index)
        opened = {i: message for (i, kind), message in heard.items() if kind == Kind.REVEAL}
        if frozenset(vectors) != members or not opened:
            continue
        try:
            evidence = _evidence(round_index, heard, vectors, words, scheme, signature_bytes)
            mean, weight = words.read(open_sum(evidence))
        except ProtocolAbort:
            continue
        last = vectors[max(vectors)]
        found.append(
            Item(
                round=round_index,
                kind="aggregate",
                form="plain",
                value=mean.to(readable),
                weight=weight,
                about=members,
                sender=last.sender,
                receiver=last.receiver,
                derived=True,
            )
        )
    return found


def _of_round(items: Sequence[Item], round_index: int, kind: str, form: str) -> Iterator[Item]:
    for item in items:
        if (item.round, item.kind, item.form) == (round_index, kind, form) and isinstance(item.value, bytes):
            yield item


def _heard(items: Sequence[Item], round_index: int) -> dict[tuple[int, int], bytes]:
    """Control messages by client and kind."""
    heard = {}
    for item in _of_round(items, round_index, "control", "plain"):
        party = item.sender if item.sender.role == "client" else item.receiver
        assert isinstance(item.value, bytes)
        heard[party.index, kind_of(item.value)] = item.value
    return heard


def _evidence(
    round_index: int,
    heard: dict[tuple[int, int], bytes],
    vectors: dict[int, Item],
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
