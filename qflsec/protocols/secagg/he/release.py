"""Releases: one client decrypts a sum for the server, as often as was agreed and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from qflsec.base import ProtocolAbort, Secrets
from qflsec.federation import Control, Header, Identity, PartyState, Setup
from qflsec.protocols.key_agreement import KeyExchange
from qflsec.protocols.secagg.derived_sums import Heard, Sum, derived_sums
from qflsec.protocols.secagg.he.envelope import open_envelope, read_envelope, seal_envelope
from qflsec.protocols.secagg.he.state import HeClient, HeServer
from qflsec.protocols.stages import stage
from qflsec.threat import SERVER, Item, LaneFacts, Party, Payload

__all__ = ["ReleaseClient", "ask_release", "observed_releases"]


class ReleaseClient(HeClient):
    """A client that may release sums; the first one of a session does, and counts.

    Args:
        releases: How many it releases at most.
    """

    def __init__(
        self,
        setup: Setup,
        identity: Identity,
        secrets: Secrets,
        protocol: str,
        exchange: KeyExchange,
        *,
        releases: int,
    ) -> None:
        super().__init__(setup, identity, secrets, protocol, exchange)
        self._left = releases

    @stage("key", opens=True, each="round_index")
    def open_sum(self, message: bytes, round_index: int) -> list[bytes]:
        """The ciphertexts of a sum that it is asked to release, counted.

        Raises:
            ProtocolAbort: It is not the server's, was asked for already, or nothing is left to release.
        """
        if self.party != self.leader:
            raise ProtocolAbort(f"{self.party} releases nothing: {self.leader} counts the releases")
        if self._left == 0:
            raise ProtocolAbort(
                f"{self.party} has released the agreed number of sums",
                fix="agree on more releases, or on a fresh key",
            )
        chunks = open_envelope(
            self.identity,
            SERVER,
            message,
            context=self.bound("aggregate"),
            key_id=self.key_id,
            round_index=round_index,
        )
        self._left -= 1
        return chunks


class _Releaser(Protocol):
    def release(self, state: ReleaseClient, chunks: Sequence[bytes], participants: int) -> bytes: ...


def ask_release(
    layer: _Releaser,
    control: Control,
    payloads: Mapping[Party, Payload],
    add: Callable[[PartyState, Mapping[Party, Payload], Header], Payload],
) -> None:
    """Sum the ciphertexts, and have the first client release the sum to the server.

    Raises:
        ProtocolAbort: It refuses, or was not heard.
    """
    server = control.state(SERVER)
    assert isinstance(server, HeServer)
    header = Header(round=control.round, sender=SERVER, participants=control.participants)
    total = add(server, payloads, header)
    assert isinstance(total, bytes)
    leader = control.state(server.leader)
    assert isinstance(leader, ReleaseClient)
    asked = control.to_clients({server.leader: total})
    if server.leader not in asked:
        raise ProtocolAbort(f"{server.leader}, who decrypts, did not hear of round {control.round}")
    chunks = leader.open_sum(asked[server.leader], control.round)
    answer = seal_envelope(
        leader.identity,
        context=leader.bound("released"),
        key_id=leader.key_id,
        round_index=control.round,
        chunks=[layer.release(leader, chunks, len(control.participants))],
    )
    heard = control.to_server({server.leader: answer})
    if server.leader not in heard:
        raise ProtocolAbort(f"the sum that {server.leader} released in round {control.round} was not heard")
    (server.released[control.round],) = open_envelope(
        server.identity,
        server.leader,
        heard[server.leader],
        context=server.bound("released"),
        key_id=server.key_id,
        round_index=control.round,
        n=1,
    )


def observed_releases(items: Sequence[Item], facts: LaneFacts) -> list[Item]:
    """The aggregates that whoever hears the first client's answers reads."""
    return derived_sums(items, facts, _released)


def _released(heard: Heard) -> Sum | None:
    for item in heard.control:
        numbers = _numbers(item.value) if item.receiver == SERVER and heard.members else None
        if numbers is not None:
            return Sum(
                mean=torch.from_numpy(numbers[:-1] / numbers[-1]), weight=float(numbers[-1]), said=item
            )
    return None


def _numbers(value: Payload) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    """Released numbers: the envelopes with one blob; those of the set-up hold one for each client."""
    if not isinstance(value, bytes):
        return None
    try:
        chunks = read_envelope(value)
    except ProtocolAbort:
        return None
    if len(chunks) != 1 or len(chunks[0]) < 16 or len(chunks[0]) % 8:
        return None
    numbers = np.frombuffer(chunks[0], dtype="<f8").astype(np.float64)
    return numbers if np.isfinite(numbers).all() and numbers[-1] > 0 else None
