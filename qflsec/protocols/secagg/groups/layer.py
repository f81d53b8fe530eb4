"""Secure aggregation in groups: one sum of each group, so that a robust rule can tell bad groups from good ones.

The clients draw common coins in the set-up of the session, which neither the server nor a client chooses; a hash of
the coins puts the clients into groups. In each group runs :class:`SecAgg`, with keys, shares and signatures of its
own, and every client refuses a group that was not drawn. The server reads one sum of each group and hands their means
to its rule as if each were a client's.

The price is the anonymity set: a client hides among its group and no longer among all. The groups stay the same for
the whole run, so that a client has the same companions in every round. Groups that are drawn anew give the server
other equations in the same clients' updates each time: after a few rounds they determine what each client adds on
average, and nothing is left of the anonymity set (see ``disaggregation``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import (
    ConfigError,
    DefenseCard,
    IncompatibleStack,
    LostRound,
    ProtocolAbort,
    Secrets,
    Source,
    register,
)
from qflsec.base.framing import entries_bytes, pack_entries, unpack_entries
from qflsec.federation import Control, Header, Identity, PartyState, Pipeline, Setup
from qflsec.federation.groups import GroupMean, LeavesGroups
from qflsec.federation.layers import Leaves
from qflsec.protocols.secagg.groups.common_coins import CONTRIBUTION_BYTES
from qflsec.protocols.secagg.groups.states import GroupMember, GroupServer, Partition
from qflsec.protocols.secagg.ledger import secagg_rows
from qflsec.protocols.secagg.messages import Kind, body_of, kind_of
from qflsec.protocols.secagg.rounds.layer import SecAgg
from qflsec.protocols.secagg.rounds.observer import observed_sums
from qflsec.protocols.secagg.rounds.pairing import scheme
from qflsec.protocols.secagg.rounds.terms import Terms
from qflsec.protocols.secagg.rounds.unmask import culprits
from qflsec.protocols.secagg.signatures import SIGNATURE_BYTES
from qflsec.threat import SERVER, Item, LaneFacts, Party, Payload, Traffic, Workload, client

__all__ = ["ValidatedGroups"]

_COINS = b"\xc0"
"""The first byte of a control message that opens contributions; no message of a round begins so."""


@register("layer", "validated-groups")
@dataclass(frozen=True, kw_only=True)
class ValidatedGroups(SecAgg, LeavesGroups):
    """Secure aggregation in groups that common coins draw; the server reads one sum of each.

    Attributes:
        groups: How many groups there are.
        min_groups: How many must be left: a group that loses too many clients is lost alone.
        redraw: Whether the coins draw other groups in each round. The sums of few rounds then determine every client's
            mean update, and corrupted clients come into other groups' company; without it a client hides among the
            same clients throughout.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="validated-groups",
        idea="Secure aggregation in random groups: a robust rule over the groups' sums replaces the mean over all.",
        source=Source(
            paper="Bonawitz et al., CCS 2017, eprint 2017/281, in each group; Yin et al., ICML 2018, "
            "arXiv:1803.01498, across the groups' means",
            year=2018,
            where="figure 4; algorithm 1 and definition 1",
        ),
        claim="The server reads the sum of each group and no part of it; f corrupted clients spoil at most f groups, "
        "so that a rule which withstands f of the groups withstands them.",
        assumption="computational",
        hides="single updates, among the clients of a group, from the server and the network",
        does_not=(
            "It does not hide the sum of a group, or numbers of records, which are taken as public.",
            "With groups that are drawn anew in each round, it does not hide what a client adds on average over a run.",
            "It does not stop a manipulation that stays within what the rule tolerates.",
            "It does not stop clients that sit in as many groups as the rule needs honest.",
            "It does not notice that a server sent two groups different models.",
        ),
        cost="as 'secagg' in each group, which is less in total; one contribution of each client in the set-up",
    )
    leaves: ClassVar[Leaves] = "groups"
    remote: ClassVar[bool] = False

    groups: int = 3
    min_groups: int = 3
    redraw: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups < 2:
            raise ConfigError("'groups' is too small", got=self.groups, expected="at least 2")
        if not 1 <= self.min_groups <= self.groups:
            raise ConfigError(
                "'min_groups' is out of range", got=self.min_groups, expected=f"1 to {self.groups} groups"
            )

    def check(self, pipeline: Pipeline) -> None:
        """Refuse groups that every client would refuse.

        Raises:
            IncompatibleStack: The groups are too small, no threshold fits them, or not everybody takes part.
        """
        config = pipeline.federation
        if config.n_participants != config.n_clients:
            raise IncompatibleStack(
                f"{self.card.name!r} draws its groups among all clients",
                got=f"{config.n_participants} participants of {config.n_clients} clients",
                fix="set participation = 1.0",
            )
        if config.n_clients // self.groups < self.min_clients:
            raise IncompatibleStack(
                f"{self.card.name!r} needs {self.min_clients} clients in each group",
                got=f"{config.n_clients} clients in {self.groups} groups",
                fix="lower 'groups' or raise 'n_clients'",
            )
        for size in {config.n_clients // self.groups, -(-config.n_clients // self.groups)}:
            t = self.threshold_for(size)
            if t > size or 2 * t <= size + self.colluders:
                raise IncompatibleStack(
                    f"{self.card.name!r} cannot keep its promise with a threshold of {t} in a group of {size}",
                    expected=f"{(size + self.colluders) // 2 + 1} to {size} with {self.colluders} colluders",
                    fix="change 'threshold', 'colluders' or 'groups'",
                )

    @property
    def partition(self) -> Partition:
        """What everybody knows of the groups before they are drawn."""
        return Partition(groups=self.groups, redraw=self.redraw)

    def cohorts(self, pipeline: Pipeline) -> tuple[int, ...]:
        """The sizes of the groups."""
        n = pipeline.federation.n_clients
        return tuple(sorted({n // self.groups, -(-n // self.groups)}))

    def expected_clients(self, setup: Setup) -> int:
        """0: every client knows its group."""
        return 0

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """A party's state.

        Raises:
            ConfigError: The largest weight does not fit into the ring.
        """
        self.words.check_room(self.card.name, setup)
        agreed = scheme(self.agreement)
        if identity.party in setup.clients:
            return GroupMember(
                setup,
                identity,
                secrets,
                self.signature,
                policy=self.policy,
                scheme=agreed,
                partition=self.partition,
            )
        return GroupServer(setup, identity, secrets, self.signature, scheme=agreed, partition=self.partition)

    def prepare(self, control: Control) -> frozenset[Party]:
        """Draw the groups, then stages 0 and 1 in each.

        Raises:
            ProtocolAbort: A client does not open its contribution, or too few groups are left.
        """
        server = _server(control)
        if not server.drawing.coins:
            self._draw(control)
        server.begin(control.round)
        for party in control.participants:
            _member(control, party).begin(control.round)
        found: set[Party] = set()
        for group, part in self._parts(control):
            try:
                found |= super().prepare(part)
            except ProtocolAbort as abort:
                server.drop(group, abort)
        self._enough(server)
        return frozenset(found)

    def _draw(self, control: Control) -> None:
        """Everybody opens the contribution that it was bound to in the set-up, through the server."""
        server = _server(control)
        everybody = server.setup.clients
        opened = {party: _COINS + _member(control, party).contribution for party in everybody}
        arrived = control.to_server(opened)
        server.drawing.settle({party: blob[1:] for party, blob in arrived.items()})
        packed = _COINS + pack_entries({party.index: blob[1:] for party, blob in arrived.items()})
        for party, blob in control.to_clients(dict.fromkeys(everybody, packed)).items():
            contributions = {client(index): part for index, part in unpack_entries(blob[1:]).items()}
            _member(control, party).drawing.settle(contributions)

    def _parts(self, control: Control) -> Iterator[tuple[tuple[int, ...], Control]]:
        """The groups that are left, each with a way to talk among those of it that take part."""
        for group, line in list(_server(control).lines.items()):
            there = tuple(party for party in control.participants if party.index in group)
            yield group, control.among(there, {SERVER: line})

    def _enough(self, server: GroupServer) -> None:
        """Refuse to go on with too few groups: a client that refuses what it was told ends the run, a dropout does not."""
        if len(server.lines) < self.min_groups:
            dropouts = all(isinstance(abort, LostRound) for abort in server.lost.values())
            raise (LostRound if dropouts else ProtocolAbort)(
                "too few groups are left",
                got=f"{len(server.lines)} ({'; '.join(map(str, server.lost.values()))})",
                expected=f"at least {self.min_groups}",
                caused_by=culprits(server.lost.values(), missing=self.min_groups - len(server.lines)),
            )

    def conclude(self, control: Control, payloads: Mapping[Party, Payload]) -> Mapping[Party, Payload]:
        """Stages 3 and 4 in each group.

        Raises:
            ProtocolAbort: Too few groups are left.
        """
        server = _server(control)
        counted: dict[Party, Payload] = {}
        for group, part in self._parts(control):
            try:
                alive = super().conclude(part, {p: blob for p, blob in payloads.items() if p.index in group})
            except ProtocolAbort as abort:
                server.drop(group, abort)
                continue
            line = server.lines[group]
            assert line.total is not None
            server.read.append((tuple(sorted(party.index for party in alive)), line.total))
            counted.update(alive)
        self._enough(server)
        return counted

    def combine(self, state: PartyState, payloads: Mapping[Party, Payload], header: Header) -> Payload:
        """The sum of each group's words.

        Shapes:
            returns: ``(groups, P + 1)``

        Raises:
            ProtocolAbort: The round was not concluded.
        """
        assert isinstance(state, GroupServer)
        if not state.read:
            raise ProtocolAbort(f"secure aggregation of round {header.round} was not concluded")
        return np.stack([words for _, words in state.read])

    def reveal(self, state: PartyState, combined: Payload, header: Header) -> tuple[torch.Tensor, float]:
        """The weighted mean over all groups, and the weight.

        Raises:
            ProtocolAbort: The weight is impossible: a client lied.
        """
        assert isinstance(combined, np.ndarray)
        return super().reveal(state, combined.sum(axis=0, dtype=combined.dtype), header)

    def reveal_groups(self, state: PartyState, combined: Payload, header: Header) -> tuple[GroupMean, ...]:
        """The weighted mean of each group; a group whose weight is impossible is left out.

        Raises:
            ProtocolAbort: Too few groups are left.
        """
        assert isinstance(state, GroupServer)
        assert isinstance(combined, np.ndarray)
        found = []
        for (members, _), words in zip(state.read, combined, strict=True):
            group = next(group for group in state.lines if set(members) <= set(group))
            try:
                mean, weight = super().reveal(state, words, replace(header, participants=_of(members)))
            except ProtocolAbort as abort:
                state.drop(group, abort)
                continue
            found.append(GroupMean(members=members, mean=mean, weight=weight))
        self._enough(state)
        return tuple(found)

    def turned_away(self, state: PartyState) -> Mapping[int, ProtocolAbort]:
        """Whose messages the server refused, and the members of groups that stopped."""
        assert isinstance(state, GroupServer)
        found = {index: why for group, why in state.lost.items() for index in group}
        for line in state.lines.values():
            found |= line.protocol.rejected
        return found

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """The common coins, and the five stages in the largest group in every round."""
        coins = Traffic().then(
            up={"coins": len(_COINS) + CONTRIBUTION_BYTES},
            down={"coins": len(_COINS) + entries_bytes(load.n_clients, CONTRIBUTION_BYTES)},
        )
        sizes = self.sizes(-(-load.n_clients // self.groups), self.bits // 8 * (load.n_params + 1))
        return Traffic.of_rounds(load.rounds, each=sizes.traffic(model=load.model_bytes), setup=coins)

    def peers(self, state: PartyState, header: Header) -> tuple[Party, ...]:
        """The sender's group."""
        assert isinstance(state, GroupMember)
        return _of(state.group)

    def derive(
        self, items: Sequence[Item], facts: LaneFacts, parties: frozenset[Party], held: frozenset[str]
    ) -> Sequence[Item]:
        """The sum of each group for whoever hears everything that its clients say to the server."""
        size = SIGNATURE_BYTES[self.signature]
        found: list[Item] = []
        for round_index, group in sorted(_groups_heard(items, size)):
            counted = facts.participants.get(round_index, frozenset()) & group
            of_group = [i for i in items if i.round == round_index and _speaks_of(i) in group]
            found += observed_sums(
                of_group,
                replace(facts, participants={round_index: counted}),
                words=self.words,
                scheme=scheme(self.agreement),
                signature_bytes=size,
            )
        return found

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What it hides from this observer, among the clients of a group."""
        n, rounds = context.training.n_clients, context.training.rounds
        smallest, largest = n // self.groups, -(-n // self.groups)
        rows = secagg_rows(
            self.card.name,
            context,
            threshold=self.threshold_for(smallest),
            deviators=min(self.deviators_for(smallest), self.deviators_for(largest)),
            agreement=self.agreement,
            quantum=self.quantum_keys(largest, rounds, self.groups),
            grouped=True,
        )
        statement = (
            "cannot give the clients of one group different models, keys or lists of survivors unnoticed, nor choose "
            "the groups"
        )
        note = (
            "two groups may be given different models; a client may submit any vector: f corrupted clients spoil at "
            "most f groups, and what a rule over groups does with them is not accounted for here"
        )
        return tuple(
            replace(row, statement=statement, note=note) if row.guarantee == "integrity" else row
            for row in rows
        )


def _server(control: Control) -> GroupServer:
    state = control.state(SERVER)
    assert isinstance(state, GroupServer)
    return state


def _member(control: Control, party: Party) -> GroupMember:
    state = control.state(party)
    assert isinstance(state, GroupMember)
    return state


def _of(indices: Sequence[int]) -> tuple[Party, ...]:
    return tuple(client(index) for index in indices)


def _speaks_of(item: Item) -> int:
    return (item.sender if item.sender.role == "client" else item.receiver).index


def _groups_heard(items: Sequence[Item], signature_bytes: int) -> set[tuple[int, frozenset[int]]]:
    """The groups of each round, from the terms that the server sent."""
    found = set()
    for item in items:
        if item.kind == "control" and isinstance(item.value, bytes) and kind_of(item.value) == Kind.START:
            with suppress(ProtocolAbort):  # a message that was altered on its way
                terms = Terms.from_bytes(body_of(item.value, signature_bytes))
                found.add((item.round, frozenset(terms.participants)))
    return found
