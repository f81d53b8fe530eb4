"""A client of secure aggregation: five messages in, five messages out, and what it refuses.

The client keeps nothing from one round to the next but the number of the last round: all keys are fresh,
so that what a dropout opens in one round opens nothing in another.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from qflsec.base import ProtocolAbort, Secrets, blaming
from qflsec.base.framing import cut, unpack_entries, unpack_indices
from qflsec.protocols.key_agreement import expand_key
from qflsec.protocols.keystore import KeyProvider
from qflsec.protocols.secagg.fixed_point import Words
from qflsec.protocols.secagg.masks.expansion import PairPlace, add_expanded, pair_key, self_key
from qflsec.protocols.secagg.messages import EVERYBODY, Kind, Mail
from qflsec.protocols.secagg.rounds.pairing import PRIVATE_KEY, QKD_KEY_BITS, Pairing, Scheme, pair_seed
from qflsec.protocols.secagg.rounds.records import (
    STATEMENT_BYTES,
    Advertisement,
    Said,
    Sharing,
    Statement,
    box_bytes,
    commitment,
    indices_digest,
    open_box,
    pack_reveal,
    seal_box,
    share_digest,
    split_parcel,
    tag,
)
from qflsec.protocols.secagg.rounds.shamir import SECRET_BYTES, SHARE_BYTES, share_secret
from qflsec.protocols.secagg.rounds.terms import Policy, Terms, session_digest
from qflsec.protocols.secagg.signatures import Signer
from qflsec.protocols.stages import Staged, stage
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
    pairing: Pairing = field(repr=False)
    self_secret: bytes = field(default=b"", repr=False)
    roster: bytes = b""
    peers: dict[int, Advertisement] = field(default_factory=dict)
    seeds: dict[int, bytes] = field(default_factory=dict, repr=False)
    to_peers: dict[int, bytes] = field(default_factory=dict, repr=False)
    from_peers: dict[int, bytes] = field(default_factory=dict, repr=False)
    shares: dict[tuple[int, int], bytes] = field(default_factory=dict, repr=False)
    sharers: tuple[int, ...] = ()
    survivors: tuple[int, ...] = ()
    statement: Statement | None = None


class Client(Staged):
    """One client, over all rounds of a session.

    Args:
        session: The public name of the session.
        signer: The client's signature key, and the others' public keys.
        signature_bytes: The size of a signature.
        secrets: The client's own source of secrets.
        policy: What the client insists on.
        scheme: The key agreement.
        links: The client's end of its quantum links with the other clients, for the agreement ``bb84``.
        server: Who coordinates.

    Attributes:
        qkd_key_bits: What it has drawn from the quantum links.
    """

    def __init__(
        self,
        *,
        session: bytes,
        signer: Signer,
        signature_bytes: int,
        secrets: Secrets,
        policy: Policy,
        scheme: Scheme,
        links: KeyProvider | None = None,
        server: Party = SERVER,
    ) -> None:
        self.party = signer.party
        self._me = self.party.index
        self._session = session_digest(session)
        self._secrets, self._policy, self._scheme, self._links = secrets, policy, scheme, links
        self.qkd_key_bits = 0
        self._mail = Mail(session=session, signer=signer, signature_bytes=signature_bytes)
        self._server = server
        self._round: _Round | None = None

    @property
    def threshold(self) -> int:
        """The threshold that it accepted for the present round; 0 outside of one."""
        return 0 if self._round is None else self._round.terms.threshold

    @stage(opens=True, each="round_index")
    def advertise(self, start: bytes, *, round_index: int, model: bytes, size: int, bits: int) -> bytes:
        """Stage 0: accept the terms of a round and make fresh public keys for it.

        Args:
            start: The server's message.
            round_index: The round, as the client counts.
            model: The hash of the model that it received.
            size: The number of words that it will mask.
            bits: The size of its words.

        Raises:
            ProtocolAbort: The message or its terms are not acceptable.
        """
        body = self._mail.open(Kind.START, round_index, self._server, start)
        with blaming(self._server):
            terms = Terms.from_bytes(body)
            if terms.session != self._session:
                raise ProtocolAbort(f"{self.party} was given terms of another session")
            self._policy.check(terms, me=self._me, size=size, bits=bits)
        pairing = self._scheme.start(self._secrets, self._links)
        own = Advertisement(model=model, terms=terms.digest(), mask=pairing.mask, channel=pairing.channel)
        message = self._mail.pack(Kind.ADVERTISE, round_index, EVERYBODY, own.to_bytes())
        self._round = _Round(
            index=round_index,
            terms=terms,
            own=own,
            own_message=message,
            pairing=pairing,
        )
        return message

    @stage("advertise")
    def share(self, roster: bytes) -> bytes:
        """Stage 1: check everybody's keys and models, and share what the server may need later.

        Raises:
            ProtocolAbort: A key or signature is wrong, there are too few clients, or models differ.
        """
        state = self._now
        self._read_roster(state, self._mail.relayed(Kind.ROSTER, state.index, roster))
        tokens = {peer: self._key_to(state, peer) for peer in sorted(state.peers)}
        state.self_secret = self._secrets.draw(SECRET_BYTES)
        secrets = self._shared_secrets(state)
        points = [index + 1 for index in (*state.peers, self._me)]
        shared = [
            share_secret(secret, threshold=state.terms.threshold, points=points, secrets=self._secrets)
            for secret in secrets.values()
        ]
        for label, shares in zip(secrets, shared, strict=True):
            state.shares[self._me, label] = shares[self._me + 1]
        parcels = {
            peer: self._parcel(
                state, peer, token, {label: s[peer + 1] for label, s in zip(secrets, shared, strict=True)}
            )
            for peer, token in tokens.items()
        }
        sharing = Sharing(
            committed=tuple(commitment(label, secret) for label, secret in secrets.items()),
            kept=tuple(share_digest(label, self._me, state.shares[self._me, label]) for label in secrets),
            parcels=parcels,
        )
        return self._mail.pack(Kind.PARCELS, state.index, self._server, sharing.to_bytes())

    @stage("share")
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
        state = self._now
        assert words.shape == (state.terms.size,)
        assert words.dtype.itemsize * 8 == state.terms.bits
        parcels = unpack_entries(self._mail.relayed(Kind.DELIVERY, state.index, delivery))
        strangers = set(parcels) - set(state.peers)
        if strangers:
            raise ProtocolAbort(f"{self.party} got parcels of clients that advertised no key", got=strangers)
        state.sharers = tuple(sorted((*parcels, self._me)))
        self._enough(state, len(state.sharers), "parcels")
        for peer, parcel in parcels.items():
            self._open_parcel(state, peer, parcel)
        masked = add_expanded(words, self._masks(state))
        state.seeds.clear()
        raw = masked.astype(masked.dtype.newbyteorder("<"), copy=False).data.cast("B")
        return self._mail.pack(Kind.MASKED, state.index, self._server, raw)

    @stage("mask")
    def agree(self, survivors: bytes) -> bytes:
        """Stage 3: sign what this client was told of the round.

        Raises:
            ProtocolAbort: The sets overlap, repeat a client, do not add up to the sharing clients, or are too
                small.
        """
        state = self._now
        body = self._mail.open(Kind.SURVIVORS, state.index, self._server, survivors)
        with blaming(self._server):
            state.survivors, told = self._read_survivors(state, body)
        # nobody signs a delivery: whoever carried it may have left out a parcel
        if told != set(state.sharers):
            raise ProtocolAbort(f"{self.party} was given survivors that are not those of the round")
        state.statement = Statement(
            model=state.own.model,
            terms=state.own.terms,
            roster=state.roster,
            sharers=indices_digest(state.sharers),
            survivors=indices_digest(state.survivors),
        )
        stated = state.statement.to_bytes()
        tags = {peer: tag(key, stated) for peer, key in state.to_peers.items()}
        said = Said(statement=state.statement, tags=tags)
        return self._mail.pack(Kind.STATEMENT, state.index, self._server, said.to_bytes())

    def _read_survivors(self, state: _Round, body: bytes) -> tuple[tuple[int, ...], set[int]]:
        """Who survived, and of whom that was said at all."""
        alive, rest = unpack_indices(body)
        dropped, rest = unpack_indices(rest)
        if rest or set(alive) & set(dropped):
            raise ProtocolAbort(
                f"{self.party} refuses to open both secrets of a client",
                got=sorted(set(alive) & set(dropped)),
            )
        if self._me not in alive:
            raise ProtocolAbort(f"{self.party} was given survivors that are not those of the round")
        self._enough(state, len(alive), "survivors")
        return tuple(sorted(alive)), {*alive, *dropped}

    @stage("agree")
    def reveal(self, statements: bytes) -> bytes:
        """Stage 4: open one share of each client, once enough others were told the same.

        Raises:
            ProtocolAbort: Statements differ, are not authentic, or are too few.
        """
        state = self._now
        heard = unpack_entries(self._mail.relayed(Kind.STATEMENTS, state.index, statements))
        strangers = set(heard) - set(state.survivors) | set(heard) & {self._me}
        if strangers:
            raise ProtocolAbort(
                f"{self.party} got statements of clients that did not survive, or its own", got=strangers
            )
        self._enough(state, len(heard) + 1, "statements")
        for author, message in heard.items():
            self._check_statement(state, author, message)
        opened = {which: state.shares[which] for which in self._scheme.wanted(state.sharers, state.survivors)}
        self._round = None
        return self._mail.pack(Kind.REVEAL, state.index, self._server, pack_reveal(opened))

    def _check_statement(self, state: _Round, author: int, message: bytes) -> None:
        stated, proof = message[:STATEMENT_BYTES], message[STATEMENT_BYTES:]
        if not hmac.compare_digest(proof, tag(state.from_peers[author], stated)):
            raise ProtocolAbort(f"the statement of client:{author} has a wrong tag")
        theirs = Statement.from_bytes(stated)
        assert state.statement is not None
        for what in ("model", "terms", "roster", "sharers", "survivors"):
            self._compare(what, author, getattr(state.statement, what), getattr(theirs, what))

    @property
    def _now(self) -> _Round:
        assert self._round is not None
        return self._round

    def _forget(self) -> None:
        self._round = None

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
            with blaming(client(index)):
                state.peers[index] = Advertisement.from_bytes(signed, self._scheme)
        entries_read = (state.own, *state.peers.values())
        publics = [key for entry in entries_read for key in (entry.mask, entry.channel)]
        forms = [form for key in publics for form in self._scheme.canonical(key)]
        if len(set(forms)) != len(forms):
            raise ProtocolAbort(f"{self.party} got a repeated key")
        for index, entry in state.peers.items():
            self._compare("model", index, state.own.model, entry.model)
            self._compare("terms", index, state.own.terms, entry.terms)

    def _shared_secrets(self, state: _Round) -> dict[int, bytes]:
        """What is shared among the clients, by label."""
        labels = self._scheme.labels(self._me, (*state.peers, self._me))
        known = {self._me: state.self_secret, PRIVATE_KEY: state.pairing.root, **state.seeds}
        return {label: known[label] for label in labels}

    def _key_to(self, state: _Round, peer: int) -> bytes:
        """Find the secret of what goes to a peer; what tells the peer is returned."""
        secret, token = state.pairing.send(client(peer), state.peers[peer].channel)
        self.qkd_key_bits += QKD_KEY_BITS if self._scheme.exchange is None else 0
        state.to_peers[peer] = self._derive(state, secret, self._me, peer, "channel")
        if peer > self._me and not self._scheme.shares_private_key:
            state.seeds[peer] = self._derive(state, secret, self._me, peer, "seed")
        return token

    def _derive(self, state: _Round, secret: bytes, sender: int, receiver: int, purpose: str) -> bytes:
        return expand_key(secret, _PROTOCOL, self._session, state.index, sender, receiver, purpose)

    def _box_about(self, state: _Round, sender: int, receiver: int, digests: Iterable[bytes]) -> bytes:
        place = f"{state.index}|{sender}|{receiver}|".encode()
        return place + state.roster + hashlib.sha256(b"".join(digests)).digest()

    def _parcel(self, state: _Round, peer: int, token: bytes, shares: Mapping[int, bytes]) -> bytes:
        digests = [share_digest(label, peer, share) for label, share in shares.items()]
        about = self._box_about(state, self._me, peer, digests)
        body = token + seal_box(state.to_peers[peer], b"".join(shares.values()), about)
        if self._scheme.signs_parcels:
            body = self._mail.pack(Kind.PARCEL, state.index, client(peer), body)
        return b"".join((*digests, body))

    def _open_parcel(self, state: _Round, peer: int, parcel: bytes) -> None:
        entry, author = state.peers[peer], client(peer)
        labels = self._scheme.labels(peer, (*state.peers, self._me))
        digests, body = split_parcel(parcel, len(labels))
        if self._scheme.signs_parcels:
            body = self._mail.open(Kind.PARCEL, state.index, author, body)
        token, box, rest = cut(body, self._scheme.token_bytes, box_bytes(len(labels)))
        if rest:
            raise ProtocolAbort(f"the parcel of {author} is malformed")
        secret = state.pairing.receive(author, entry.channel, token)
        state.from_peers[peer] = self._derive(state, secret, peer, self._me, "channel")
        opened = open_box(state.from_peers[peer], box, self._box_about(state, peer, self._me, digests))
        shares = cut(opened, *[SHARE_BYTES] * len(labels))
        for label, share, digest in zip(labels, shares, digests, strict=False):
            if share_digest(label, self._me, share) != digest:
                raise ProtocolAbort(
                    f"{author} gave {self.party} another share than it is bound to", caused_by=author
                )
            state.shares[peer, label] = share
        if self._scheme.shares_private_key:
            assert state.pairing.masks is not None
            state.seeds[peer] = pair_seed(state.pairing.masks, entry.mask)
        elif peer < self._me:
            state.seeds[peer] = self._derive(state, secret, peer, self._me, "seed")

    def _masks(self, state: _Round) -> Iterator[tuple[int, bytes]]:
        """The keys of this client's masks, with their signs."""
        place: PairPlace = (self._session, state.index, state.own.model, indices_digest(state.sharers))
        yield 1, self_key(state.self_secret, self._me, place)
        for peer in state.sharers:
            if peer != self._me:
                yield (1 if self._me < peer else -1), pair_key(state.seeds[peer], self._me, peer, place)
