"""What each party holds of secure aggregation in groups, and how the groups are drawn."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from qflsec.base import ProtocolAbort, Secrets
from qflsec.federation import Identity, Setup
from qflsec.federation.identity import ED25519_BYTES
from qflsec.protocols.secagg.fixed_point import Words
from qflsec.protocols.secagg.groups.common_coins import BOUND_BYTES, CONTRIBUTION_BYTES, bound, draw_coins
from qflsec.protocols.secagg.rounds.pairing import Scheme
from qflsec.protocols.secagg.rounds.server import Server
from qflsec.protocols.secagg.rounds.states import ClientState, ServerState
from qflsec.protocols.secagg.rounds.terms import Policy, Terms, session_digest
from qflsec.protocols.secagg.signatures import SIGNATURE_BYTES, SignatureScheme
from qflsec.protocols.stages import Staged, stage
from qflsec.threat import Party

__all__ = ["GroupMember", "GroupServer", "Partition", "draw_groups"]

_CONTEXT = b"qflsec/secagg/groups|"
_ANNOUNCED_BYTES = BOUND_BYTES + ED25519_BYTES


@dataclass(frozen=True, kw_only=True)
class Partition:
    """How clients are put into groups.

    Attributes:
        groups: How many groups there are.
        redraw: Whether each round has groups of its own; otherwise all have those of the first.
    """

    groups: int
    redraw: bool

    def draw(self, coins: bytes, round_index: int, clients: Iterable[int]) -> tuple[tuple[int, ...], ...]:
        """The groups of a round.

        Args:
            coins: The session's common coins.
            round_index: The round.
            clients: All clients of the session.
        """
        return draw_groups(coins, round_index if self.redraw else 0, clients, self.groups)


def draw_groups(
    coins: bytes, draw: int, clients: Iterable[int], n_groups: int
) -> tuple[tuple[int, ...], ...]:
    """Groups whose sizes differ by at most one.

    Args:
        coins: The session's common coins.
        draw: Which of the groups that the coins give.
        clients: All clients of the session.
        n_groups: How many groups there are.
    """

    def place(index: int) -> bytes:
        return hashlib.sha256(b"qflsec/secagg/group" + coins + f"|{draw}|{index}".encode()).digest()

    order = sorted(clients, key=place)
    return tuple(tuple(sorted(order[k::n_groups])) for k in range(n_groups))


@dataclass(kw_only=True)
class _Expected:
    members: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _GroupPolicy(Policy):
    """The floors of a client, and the group that the common coins give it."""

    expected: _Expected = field(compare=False)

    def check(self, terms: Terms, *, me: int, size: int, bits: int) -> None:
        """Refuse another group than the one that was drawn.

        Raises:
            ProtocolAbort: The terms are not acceptable.
        """
        if terms.participants != self.expected.members:
            raise ProtocolAbort(
                f"client:{me} was put into a group that nobody drew",
                got=list(terms.participants),
                expected=list(self.expected.members),
            )
        super().check(terms, me=me, size=size, bits=bits)


class _Drawing(Staged):
    """The coins of a session, as one party comes to know them."""

    def __init__(self, setup: Setup, identity: Identity) -> None:
        self.label = session_digest(setup.session) + b"groups"
        self.party, self.coins = identity.party, b""
        self._setup, self._identity = setup, identity
        self._hashes: dict[Party, bytes] = {}

    @stage()
    def announce(self, contribution: bytes) -> bytes:
        """What binds this party, signed."""
        own = bound(self.label, self._identity.party, contribution)
        self._hashes[self._identity.party] = own
        return self._identity.sign(own, _CONTEXT + self._setup.session)

    @stage(each="author")
    def learn(self, author: Party, announcement: bytes) -> bytes:
        """Take in what binds another client; the rest of its announcement is returned.

        Raises:
            ProtocolAbort: It is not authentic, or a second one.
        """
        if len(announcement) < _ANNOUNCED_BYTES:
            raise ProtocolAbort(f"{author} is bound to no contribution")
        signed, rest = announcement[:_ANNOUNCED_BYTES], announcement[_ANNOUNCED_BYTES:]
        self._hashes[author] = self._identity.verify(author, signed, _CONTEXT + self._setup.session)
        return rest

    @stage("learn")
    def settle(self, contributions: Mapping[Party, bytes]) -> None:
        """Take in all contributions.

        Raises:
            ProtocolAbort: A client did not open what it was bound to.
        """
        self._require("learn", (party for party in self._setup.clients if party != self.party))
        self.coins = draw_coins(self.label, self._hashes, contributions)

    @stage("settle", opens=True, each="round_index")
    def groups(self, round_index: int, partition: Partition) -> tuple[tuple[int, ...], ...]:
        """The groups of a round."""
        return partition.draw(self.coins, round_index, (party.index for party in self._setup.clients))


class GroupMember(ClientState):
    """A client, which knows its group in every round."""

    def __init__(
        self,
        setup: Setup,
        identity: Identity,
        secrets: Secrets,
        signature: SignatureScheme,
        *,
        policy: Policy,
        scheme: Scheme,
        partition: Partition,
    ) -> None:
        self._expected = _Expected()
        strict = _GroupPolicy(
            min_clients=policy.min_clients,
            min_threshold=policy.min_threshold,
            colluders=policy.colluders,
            two_thirds=policy.two_thirds,
            expected=self._expected,
        )
        super().__init__(setup, identity, secrets, signature, policy=strict, scheme=scheme)
        self.drawing = _Drawing(setup, identity)
        self.contribution = secrets.draw(CONTRIBUTION_BYTES)
        self._partition = partition

    @property
    def group(self) -> tuple[int, ...]:
        """The group of the round; empty before the first."""
        return self._expected.members

    def announce(self) -> bytes:
        """What binds it to its contribution, and its own key for signatures if it has one."""
        return self.drawing.announce(self.contribution) + super().announce()

    def learn(self, author: Party, announcement: bytes) -> None:
        """Take in another client's, or the server's.

        Raises:
            ProtocolAbort: It is not authentic.
        """
        rest = announcement if author == self.setup.server else self.drawing.learn(author, announcement)
        if rest:
            super().learn(author, rest)

    def begin(self, round_index: int) -> None:
        """Find the own group of a round."""
        groups = self.drawing.groups(round_index, self._partition)
        self._expected.members = next(group for group in groups if self.party.index in group)


class GroupServer(ServerState):
    """The server: one run of the protocol for each group."""

    def __init__(
        self,
        setup: Setup,
        identity: Identity,
        secrets: Secrets,
        signature: SignatureScheme,
        *,
        scheme: Scheme,
        partition: Partition,
    ) -> None:
        super().__init__(setup, identity, secrets, signature, scheme=scheme)
        self.drawing = _Drawing(setup, identity)
        self.lines: dict[tuple[int, ...], ServerState] = {}
        self.lost: dict[tuple[int, ...], ProtocolAbort] = {}
        self.read: list[tuple[tuple[int, ...], Words]] = []
        self._signature, self._scheme, self._partition = signature, scheme, partition

    def learn(self, author: Party, announcement: bytes) -> None:
        """Take in what a client is bound to, and its own key for signatures if it has one.

        Raises:
            ProtocolAbort: It is not authentic.
        """
        rest = self.drawing.learn(author, announcement)
        if rest:
            super().learn(author, rest)

    def begin(self, round_index: int) -> None:
        """Find the groups of a round, and start a run of the protocol for each."""
        groups = self.drawing.groups(round_index, self._partition)
        self.lines, self.lost, self.read = {group: self._line() for group in groups}, {}, []

    def drop(self, group: tuple[int, ...], why: ProtocolAbort) -> None:
        """A group stopped: the others go on without it."""
        self.lost[group] = why
        del self.lines[group]

    def _line(self) -> ServerState:
        line = copy.copy(self)
        line.protocol = Server(
            session=self.setup.session,
            signer=self.signer,
            signature_bytes=SIGNATURE_BYTES[self._signature],
            scheme=self._scheme,
        )
        return line
