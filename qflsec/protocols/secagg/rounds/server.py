"""The server of secure aggregation: it relays, counts and adds, and learns the sum of the survivors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from qflsec.base import LostRound, ProtocolAbort, blaming
from qflsec.base.framing import pack_entries, pack_indices
from qflsec.protocols.secagg.fixed_point import Words
from qflsec.protocols.secagg.messages import EVERYBODY, Kind, Mail
from qflsec.protocols.secagg.rounds.pairing import Scheme
from qflsec.protocols.secagg.rounds.records import Advertisement, Said, Shares, Sharing, unpack_reveal
from qflsec.protocols.secagg.rounds.terms import Terms, session_digest
from qflsec.protocols.secagg.rounds.unmask import Evidence, culprits, liars, open_sum
from qflsec.protocols.secagg.signatures import Signer
from qflsec.protocols.stages import Staged, stage
from qflsec.threat import Party, client

__all__ = ["Server"]

_T = TypeVar("_T")


@dataclass(kw_only=True)
class _Round:
    index: int
    terms: Terms
    raw: dict[int, bytes] = field(default_factory=dict)
    advertised: dict[int, Advertisement] = field(default_factory=dict)
    shared: dict[int, Sharing] = field(default_factory=dict)
    masked: dict[int, Words] = field(default_factory=dict)
    stated: tuple[int, ...] = ()


class Server(Staged):
    """The server, over all rounds of a session.

    A message that is not what its sender should have sent counts as not sent: the sender drops out, and
    :attr:`rejected` says why. What is signed and wrong names its author as the cause, unless it may be right for what
    the author was told: only terms and survivors are signed on the way to clients, rosters, deliveries and statements
    as wholes are not. What has no right signature could come from anybody.

    Args:
        session: The public name of the session.
        signer: The server's signature key, and the clients' public keys.
        signature_bytes: The size of a signature.
        scheme: The key agreement.
    """

    def __init__(self, *, session: bytes, signer: Signer, signature_bytes: int, scheme: Scheme) -> None:
        self.party = signer.party
        self.rejected: dict[int, ProtocolAbort] = {}
        self._session, self._scheme = session_digest(session), scheme
        self._mail = Mail(session=session, signer=signer, signature_bytes=signature_bytes)
        self._round: _Round | None = None

    @property
    def survivors(self) -> tuple[int, ...]:
        """The clients whose vectors are in the sum."""
        return () if self._round is None else tuple(self._round.masked)

    @property
    def threshold(self) -> int:
        """The threshold of the present round; 0 before the first."""
        return 0 if self._round is None else self._round.terms.threshold

    @stage(opens=True, each="round_index")
    def start(
        self, round_index: int, *, participants: tuple[int, ...], threshold: int, size: int, bits: int
    ) -> dict[int, bytes]:
        """Propose a round to its participants.

        Args:
            round_index: The round.
            participants: The indices of the clients.
            threshold: How many of them must remain, and how many shares open a secret.
            size: The number of words of a vector.
            bits: The size of a word.
        """
        self.rejected = {}
        terms = Terms(
            session=self._session,
            participants=tuple(sorted(participants)),
            threshold=threshold,
            size=size,
            bits=bits,
        )
        self._round = _Round(index=round_index, terms=terms)
        body = terms.to_bytes()
        return {i: self._mail.pack(Kind.START, round_index, client(i), body) for i in terms.participants}

    @stage("start")
    def collect_keys(self, messages: Mapping[int, bytes]) -> dict[int, bytes]:
        """Stage 0: take in public keys, and send all of them to everybody.

        Raises:
            LostRound: Too few clients are left.
        """
        state = self._now

        def read(index: int, body: bytes) -> Advertisement:
            with blaming(client(index)):
                return Advertisement.from_bytes(body, self._scheme)

        state.advertised = self._accept(Kind.ADVERTISE, messages, state.terms.participants, EVERYBODY, read)
        body = pack_entries({i: messages[i] for i in state.advertised})
        return dict.fromkeys(state.advertised, self._mail.relay(Kind.ROSTER, state.index, body))

    @stage("collect_keys")
    def collect_parcels(self, messages: Mapping[int, bytes]) -> dict[int, bytes]:
        """Stage 1: take in encrypted shares, and hand each client its own.

        Raises:
            LostRound: Too few clients are left.
        """
        state = self._now

        def read(index: int, body: bytes) -> Sharing:
            with blaming(client(index)):
                sharing = Sharing.from_bytes(body)
            if set(sharing.parcels) != set(state.advertised) - {index}:
                # nobody signs a roster: whoever carried it may have left out a client
                raise ProtocolAbort(f"the parcels of client:{index} are not for the clients of the round")
            with blaming(client(index)):
                if len(sharing.committed) != len(self._scheme.labels(index, state.advertised)):
                    raise ProtocolAbort(
                        f"client:{index} is bound to another number of secrets than it shares"
                    )
                for holder in state.advertised:
                    sharing.digests(holder)
            return sharing

        state.shared = self._accept(Kind.PARCELS, messages, state.advertised, self.party, read)
        parcels = {i: sharing.parcels for i, sharing in state.shared.items()}
        return {
            receiver: self._mail.relay(
                Kind.DELIVERY,
                state.index,
                pack_entries({i: parcels[i][receiver] for i in parcels if i != receiver}),
            )
            for receiver in parcels
        }

    @stage("collect_parcels")
    def collect_vectors(self, messages: Mapping[int, bytes]) -> dict[int, bytes]:
        """Stage 2: take in masked vectors, and tell the survivors who survived.

        Raises:
            LostRound: Too few clients are left.
        """
        state = self._now
        dtype = np.dtype(f"<u{state.terms.bits // 8}")

        def read(index: int, body: bytes) -> Words:
            if len(body) != state.terms.size * dtype.itemsize:
                raise ProtocolAbort(
                    f"the masked vector of client:{index} has the wrong size", caused_by=client(index)
                )
            return np.frombuffer(body, dtype=dtype)

        state.masked = self._accept(Kind.MASKED, messages, state.shared, self.party, read)
        dropped = sorted(set(state.shared) - set(state.masked))
        body = pack_indices(sorted(state.masked)) + pack_indices(dropped)
        return self._to(state.masked, Kind.SURVIVORS, lambda _: body)

    @stage("collect_vectors")
    def collect_statements(self, messages: Mapping[int, bytes]) -> dict[int, bytes]:
        """Stage 3: take in statements, and show them to all who made one.

        Raises:
            LostRound: Too few clients are left.
        """
        state = self._now

        def read(index: int, body: bytes) -> Said:
            with blaming(client(index)):
                said = Said.from_bytes(body)
                if set(said.tags) != set(state.advertised) - {index}:
                    raise ProtocolAbort(
                        f"the statement of client:{index} is not for the clients of the round"
                    )
            return said

        stated = self._accept(Kind.STATEMENT, messages, state.masked, self.party, read)
        state.stated = tuple(stated)
        contents = {i: said.statement.to_bytes() for i, said in stated.items()}
        return {
            receiver: self._mail.relay(
                Kind.STATEMENTS,
                state.index,
                pack_entries({i: contents[i] + stated[i].tags[receiver] for i in stated if i != receiver}),
            )
            for receiver in stated
        }

    @stage("collect_statements")
    def open(self, messages: Mapping[int, bytes]) -> Words:
        """Stage 4: take in opened shares, and take off the masks that are left.

        Whoever opens another share than it was given is named in :attr:`rejected`, also where the sum follows from
        the others'.

        Shapes:
            returns: ``(size,)``

        Raises:
            LostRound: Too few right shares are left, or a client shared another secret than it is bound to.
        """
        state = self._now
        expected = set(self._scheme.wanted(state.shared, state.masked))

        def read(index: int, body: bytes) -> Shares:
            with blaming(client(index)):
                shares = unpack_reveal(body)
                if set(shares) != expected:
                    raise ProtocolAbort(f"client:{index} opened other shares than it was asked for")
            return shares

        opened = self._accept(Kind.REVEAL, messages, state.stated, self.party, read)
        evidence = Evidence(
            session=self._session,
            round=state.index,
            threshold=state.terms.threshold,
            scheme=self._scheme,
            advertised=state.advertised,
            shared=state.shared,
            masked=state.masked,
            opened=opened,
        )
        self.rejected |= liars(evidence)
        return open_sum(evidence)

    @property
    def _now(self) -> _Round:
        assert self._round is not None
        return self._round

    def _accept(
        self,
        kind: Kind,
        messages: Mapping[int, bytes],
        allowed: Mapping[int, object] | tuple[int, ...],
        receiver: Party,
        read: Callable[[int, bytes], _T],
    ) -> dict[int, _T]:
        """The records of the clients whose messages are right, by index."""
        state = self._now
        found: dict[int, _T] = {}
        for index in sorted(messages):
            if index not in allowed:  # what came before says why it is out of place
                self.rejected.setdefault(index, ProtocolAbort(f"client:{index} takes no part in this stage"))
                continue
            try:
                body = self._mail.open(kind, state.index, client(index), messages[index], receiver=receiver)
                found[index] = read(index, body)
            except ProtocolAbort as abort:
                self.rejected[index] = abort
        missing = state.terms.threshold - len(found)
        if missing > 0:
            why = "; ".join(map(str, self.rejected.values()))
            raise LostRound(
                f"too few clients are left after the {kind.name} stage of round {state.index}",
                got=f"{len(found)}{f' ({why})' if why else ''}",
                expected=f"at least {state.terms.threshold}",
                caused_by=culprits(self.rejected.values(), missing=missing),
            )
        return found

    def _to(
        self, receivers: Mapping[int, object], kind: Kind, body: Callable[[int], bytes]
    ) -> dict[int, bytes]:
        return {
            index: self._mail.pack(kind, self._now.index, client(index), body(index)) for index in receivers
        }
