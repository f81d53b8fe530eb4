"""A client of secure aggregation: five messages in, five messages out, and what it refuses.

The client keeps nothing from one round to the next but the number of the last round: all keys are fresh,
so that what a dropout opens in one round opens nothing in another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from qflsec.base import ProtocolAbort, Secrets
from qflsec.protocols.links import expand_key
from qflsec.protocols.secagg.exchange import ROOT_BYTES, KeyExchange, KeyPair
from qflsec.protocols.secagg.fixed_point import Words
from qflsec.protocols.secagg.masks import PairPlace, add_masks, expand, pair_key, self_key
from qflsec.protocols.secagg.messages import (
    EVERYBODY,
    Kind,
    Mail,
    fields,
    unpack_entries,
    unpack_indices,
)
from qflsec.protocols.secagg.records import (
    BOX_BYTES,
    Advertisement,
    Sharing,
    Statement,
    commitment,
    indices_digest,
    open_box,
    pack_reveal,
    seal_box,
)
from qflsec.protocols.secagg.shamir import SHARE_BYTES, share_secret
from qflsec.protocols.secagg.signatures import Signer
from qflsec.protocols.secagg.terms import Policy, Terms, session_digest
from qflsec.threat import SERVER, Party, client

__all__ = ["Client"]

_PROTOCOL = "qflsec/secagg/1"


@dataclass(kw_only=True)
class _Round:
    """What a client holds during one round, and forgets afterwards."""

    index: int
    terms: Terms
    own: Advertisement
    own_message: bytes
    mask_root: bytes = field(repr=False)
    mask_pair: KeyPair = field(repr=False)
    channel_pair: KeyPair = field(repr=False)
    self_secret: bytes = field(default=b"", repr=False)
    stage: Kind = Kind.ROSTER
    roster: bytes = b""
    peers: dict[int, Advertisement] = field(default_factory=dict)
    pair_secrets: dict[int, bytes] = field(default_factory=dict, repr=False)
    channels: dict[int, bytes] = field(default_factory=dict, repr=False)
    shares: dict[int, bytes] = field(default_factory=dict, repr=False)
    sharers: tuple[int, ...] = ()
    survivors: tuple[int, ...] = ()
    statement: Statement | None = None


class Client:
    """One client, over all rounds of a session.

    Args:
        session: The public name of the session.
        signer: The client's signature key, and the others' public keys.
        signature_bytes: The size of a signature.
        secrets: The client's own source of secrets.
        policy: What the client insists on.
        exchange: The key exchange.
        server: Who coordinates.
    """

    def __init__(
        self,
        *,
        session: bytes,
        signer: Signer,
        signature_bytes: int,
        secrets: Secrets,
        policy: Policy,
        exchange: KeyExchange,
        server: Party = SERVER,
    ) -> None:
        self.party = signer.party
        self._me = self.party.index
        self._session = session_digest(session)
        self._secrets, self._policy, self._exchange = secrets, policy, exchange
        self._mail = Mail(session=session, signer=signer, signature_bytes=signature_bytes)
        self._server = server
        self._last_round = -1
        self._round: _Round | None = None

    def advertise(self, start: bytes, *, round_index: int, model: bytes, size: int, bits: int) -> bytes:
        """Stage 0: accept the terms of a round and make fresh public keys for it.

        Args:
            start: The server's message.
            round_index: The round, as the client counts.
            model: The hash of the model that it received.
            size: The number of words that it will mask.
            bits: The size of its words.

        Raises:
            ProtocolAbort: The message or its terms are not acceptable, or the round is not a new one.
        """
        if round_index <= self._last_round:
            raise ProtocolAbort(f"{self.party} was asked to take part in round {round_index} twice")
        terms = Terms.from_bytes(self._mail.open(Kind.START, round_index, self._server, start))
        if terms.session != self._session:
            raise ProtocolAbort(f"{self.party} was given terms of another session")
        self._policy.check(terms, me=self._me, size=size, bits=bits)
        self._last_round = round_index
        mask_root = self._secrets.draw(ROOT_BYTES)
        mask_pair = self._exchange.pair(mask_root)
        channel_pair = self._exchange.pair(self._secrets.draw(ROOT_BYTES))
        own = Advertisement(
            model=model, terms=terms.digest(), mask=mask_pair.public, channel=channel_pair.public
        )
        message = self._mail.pack(Kind.ADVERTISE, round_index, EVERYBODY, own.to_bytes())
        self._round = _Round(
            index=round_index,
            terms=terms,
            own=own,
            own_message=message,
            mask_root=mask_root,
            mask_pair=mask_pair,
            channel_pair=channel_pair,
        )
        return message

    def share(self, roster: bytes) -> bytes:
        """Stage 1: check everybody's keys and models, and share what the server may need later.

        Raises:
            ProtocolAbort: A key or signature is wrong, there are too few clients, or models differ.
        """
        with self._step(Kind.ROSTER, Kind.DELIVERY) as state:
            body = self._mail.open(Kind.ROSTER, state.index, self._server, roster)
            self._read_roster(state, body)
            state.self_secret = self._secrets.draw(ROOT_BYTES)
            points = [index + 1 for index in (*state.peers, self._me)]
            both = [
                share_secret(secret, threshold=state.terms.threshold, points=points, secrets=self._secrets)
                for secret in (state.self_secret, state.mask_root)
            ]
            state.shares[self._me] = both[0][self._me + 1] + both[1][self._me + 1]
            parcels = {
                peer: self._parcel(state, peer, both[0][peer + 1] + both[1][peer + 1])
                for peer in sorted(state.peers)
            }
            wrapped = b""
            if self._exchange.ciphertext_bytes:
                chosen = b"".join(state.pair_secrets[peer] for peer in sorted(state.pair_secrets))
                wrapped = seal_box(Sharing.wrap_key(state.mask_root), chosen, state.roster)
            sharing = Sharing(committed=commitment(state.self_secret), wrapped=wrapped, parcels=parcels)
            return self._mail.pack(Kind.PARCELS, state.index, self._server, sharing.to_bytes())

    def mask(self, delivery: bytes, words: Words) -> bytes:
        """Stage 2: mask a vector for the clients whose parcels arrived.

        Args:
            delivery: The server's message.
            words: What to aggregate.

        Shapes:
            words: ``(size,)``

        Raises:
            ProtocolAbort: A parcel is not authentic, or there are too few.
        """
        with self._step(Kind.DELIVERY, Kind.SURVIVORS) as state:
            assert words.shape == (state.terms.size,)
            assert words.dtype.itemsize * 8 == state.terms.bits
            body = self._mail.open(Kind.DELIVERY, state.index, self._server, delivery)
            parcels = unpack_entries(body)
            strangers = set(parcels) - set(state.peers)
            if strangers:
                raise ProtocolAbort(
                    f"{self.party} got parcels of clients that advertised no key", got=strangers
                )
            state.sharers = tuple(sorted((*parcels, self._me)))
            self._enough(state, len(state.sharers), "parcels")
            for peer, parcel in parcels.items():
                self._open_parcel(state, peer, parcel)
            masked = add_masks(words, self._masks(state, words))
            state.pair_secrets.clear()
            raw = masked.astype(masked.dtype.newbyteorder("<"), copy=False).tobytes()
            return self._mail.pack(Kind.MASKED, state.index, self._server, raw)

    def agree(self, survivors: bytes) -> bytes:
        """Stage 3: sign what this client was told of the round.

        Raises:
            ProtocolAbort: The sets overlap, repeat a client, do not add up to the sharing clients, or are too
                small.
        """
        with self._step(Kind.SURVIVORS, Kind.STATEMENTS) as state:
            body = self._mail.open(Kind.SURVIVORS, state.index, self._server, survivors)
            alive, rest = unpack_indices(body)
            dropped, rest = unpack_indices(rest)
            if rest or set(alive) & set(dropped):
                raise ProtocolAbort(
                    f"{self.party} refuses to open both secrets of a client",
                    got=sorted(set(alive) & set(dropped)),
                )
            if set(alive) | set(dropped) != set(state.sharers) or self._me not in alive:
                raise ProtocolAbort(f"{self.party} was given survivors that are not those of the round")
            self._enough(state, len(alive), "survivors")
            state.survivors = tuple(sorted(alive))
            state.statement = Statement(
                model=state.own.model,
                terms=state.own.terms,
                roster=state.roster,
                sharers=indices_digest(state.sharers),
                survivors=indices_digest(alive),
            )
            state.own_message = self._mail.pack(
                Kind.STATEMENT, state.index, EVERYBODY, state.statement.to_bytes()
            )
            return state.own_message

    def reveal(self, statements: bytes) -> bytes:
        """Stage 4: open one share of each client, once enough others were told the same.

        Raises:
            ProtocolAbort: Statements differ, are not authentic, or are too few.
        """
        with self._step(Kind.STATEMENTS, Kind.REVEAL) as state:
            body = self._mail.open(Kind.STATEMENTS, state.index, self._server, statements)
            heard = unpack_entries(body)
            strangers = set(heard) - set(state.survivors)
            if strangers:
                raise ProtocolAbort(
                    f"{self.party} got statements of clients that did not survive", got=strangers
                )
            self._enough(state, len(heard), "statements")
            assert state.statement is not None
            if heard.pop(self._me, state.own_message) != state.own_message:
                raise ProtocolAbort(f"the statement of {self.party} was replaced")
            for author, message in heard.items():
                signed = self._mail.open(
                    Kind.STATEMENT, state.index, client(author), message, receiver=EVERYBODY
                )
                theirs = Statement.from_bytes(signed)
                for what in ("model", "terms", "roster", "sharers", "survivors"):
                    self._compare(what, author, getattr(state.statement, what), getattr(theirs, what))
            opened = {
                index: (True, both[:SHARE_BYTES]) if index in state.survivors else (False, both[SHARE_BYTES:])
                for index, both in state.shares.items()
            }
            self._round = None
            return self._mail.pack(Kind.REVEAL, state.index, self._server, pack_reveal(opened))

    @contextmanager
    def _step(self, expected: Kind, following: Kind) -> Iterator[_Round]:
        """One stage: each is passed once, and a failed check ends the round for this client."""
        state = self._round
        if state is None or state.stage != expected:
            raise ProtocolAbort(f"{self.party} got a {expected.name} message out of order")
        state.stage = following
        try:
            yield state
        except ProtocolAbort:
            self._round = None
            raise

    def _enough(self, state: _Round, number: int, what: str) -> None:
        if number < state.terms.threshold:
            raise ProtocolAbort(
                f"{self.party} got too few {what}", got=number, expected=f"at least {state.terms.threshold}"
            )

    def _compare(self, what: str, author: int, mine: bytes, theirs: bytes) -> None:
        if mine != theirs:
            raise ProtocolAbort(
                f"{self.party} and client:{author} were told different things in this round",
                got=f"another hash of the {what}",
                fix="the server, or one of the two, lies",
            )

    def _read_roster(self, state: _Round, body: bytes) -> None:
        entries = unpack_entries(body)
        if not set(entries) <= set(state.terms.participants) or self._me not in entries:
            raise ProtocolAbort(f"{self.party} got keys of clients that are not in the round")
        self._enough(state, len(entries), "keys")
        state.roster = hashlib.sha256(b"qflsec/secagg/roster" + body).digest()
        if entries.pop(self._me) != state.own_message:
            raise ProtocolAbort(f"the key of {self.party} was replaced")
        for index, message in entries.items():
            signed = self._mail.open(Kind.ADVERTISE, state.index, client(index), message, receiver=EVERYBODY)
            state.peers[index] = Advertisement.from_bytes(signed, self._exchange)
        publics = [key for entry in (state.own, *state.peers.values()) for key in (entry.mask, entry.channel)]
        if len(set(publics)) != len(publics):
            raise ProtocolAbort(f"{self.party} got a repeated key")
        for index, entry in state.peers.items():
            self._compare("model", index, state.own.model, entry.model)
            self._compare("terms", index, state.own.terms, entry.terms)

    def _box_about(self, state: _Round, sender: int, receiver: int) -> bytes:
        return f"{state.index}|{sender}|{receiver}|".encode() + state.roster

    def _box_key(self, state: _Round, secret: bytes, sender: int, receiver: int) -> bytes:
        return expand_key(secret, _PROTOCOL, self._session, state.index, sender, receiver, "shares")

    def _parcel(self, state: _Round, peer: int, shares: bytes) -> bytes:
        entry = state.peers[peer]
        state.channels[peer], outer = state.channel_pair.encapsulate(entry.channel)
        key = self._box_key(state, state.channels[peer], self._me, peer)
        body = outer + seal_box(key, shares, self._box_about(state, self._me, peer))
        if peer > self._me:
            state.pair_secrets[peer], inner = state.mask_pair.encapsulate(entry.mask)
            body += inner
        if not self._exchange.ciphertext_bytes:
            return body
        return self._mail.pack(Kind.PARCEL, state.index, client(peer), body)

    def _open_parcel(self, state: _Round, peer: int, parcel: bytes) -> None:
        entry, size = state.peers[peer], self._exchange.ciphertext_bytes
        body = self._mail.open(Kind.PARCEL, state.index, client(peer), parcel) if size else parcel
        outer, box, inner = fields(body, size, BOX_BYTES)
        if len(inner) != (size if peer < self._me else 0):
            raise ProtocolAbort(f"the parcel of client:{peer} is malformed")
        secret = state.channel_pair.decapsulate(entry.channel, outer) if size else state.channels[peer]
        key = self._box_key(state, secret, peer, self._me)
        state.shares[peer] = open_box(key, box, self._box_about(state, peer, self._me))
        if peer < self._me:
            state.pair_secrets[peer] = state.mask_pair.decapsulate(entry.mask, inner)

    def _masks(self, state: _Round, words: Words) -> Iterator[tuple[int, Words]]:
        place: PairPlace = (self._session, state.index, state.own.model, indices_digest(state.sharers))
        yield 1, expand(self_key(state.self_secret, self._me, place), words.size, words.dtype)
        for peer in state.sharers:
            if peer != self._me:
                key = pair_key(state.pair_secrets[peer], self._me, peer, place)
                yield (1 if self._me < peer else -1), expand(key, words.size, words.dtype)
