"""Collection: the updates of a turn on their way up, to heads that average first and to the root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from qflsec.base import ProtocolAbort
from qflsec.federation.aggregation import weighted_mean
from qflsec.federation.groups import GroupMean
from qflsec.federation.payloads import Sent, fault
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.broadcast import Received
from qflsec.federation.round.opened import Opened
from qflsec.federation.round.session import Session
from qflsec.federation.round.turns import Turns
from qflsec.federation.round.upload import Uploads
from qflsec.federation.stack import Stack
from qflsec.federation.statements import Asked
from qflsec.federation.topology import Turn
from qflsec.threat import Delivery, Envelope, Network, Party, Slot, Version

__all__ = ["Collection", "uploads_of"]


def uploads_of(
    pipeline: Pipeline, *, stack: Stack, session: Session, network: Network
) -> dict[Party, Uploads]:
    """The upload step of every party, other than a client, that clients send to."""
    turns = pipeline.topology.turns(pipeline.federation.n_clients, 0)
    heads = {head for turn in turns for head in turn.groups}
    return {
        head: Uploads(
            stack=stack,
            session=session,
            network=network,
            aggregator=head,
            beside=pipeline.workload.beside,
        )
        for head in sorted(heads)
        if head.role != "client"
    }


@dataclass(frozen=True, kw_only=True)
class _Averaged:
    """What the heads of a turn opened in one run, and what of it arrived at the root."""

    opened: Mapping[Party, Opened]
    groups: tuple[GroupMean, ...]
    silent: Mapping[int, str]


class Collection:
    """The upload step of a batch of runs.

    Args:
        uploads: The upload step of every party that clients send to.
        network: The network.
        moves: The moves of corrupted edge servers.
    """

    def __init__(self, *, uploads: Mapping[Party, Uploads], network: Network, moves: Turns) -> None:
        self._uploads, self._network, self._moves = dict(uploads), network, moves
        self._round, self._turns = 0, tuple[Turn, ...]()
        self._bases: Sequence[Sequence[Version]] = ()
        self._own: list[tuple[Sent, torch.Tensor, torch.Tensor]] = []
        self._averaged: dict[int, list[_Averaged]] = {}
        self._nobody = torch.zeros(0, 0)

    def start(self, round_index: int, turns: Sequence[Turn], received: Received, asked: Asked) -> None:
        """Begin turns that go side by side.

        Args:
            round_index: The round.
            turns: The turns.
            received: What the clients train from.
            asked: What clients are asked to state.
        """
        self._round, self._turns, self._bases = round_index, tuple(turns), received.bases
        self._own, self._averaged = [], {}
        self._nobody = received.models.new_zeros(0, received.models.shape[-1])
        for head, group in self._groups():
            if head in self._uploads:
                present = received.present & _members(received.present, group)
                self._uploads[head].start(round_index, present, received.models, received.bases, asked)

    def send(self, sent: Sent, counts: torch.Tensor, now: torch.Tensor) -> None:
        """Send the updates of the clients whose turn it is; a client that is its own head keeps its update.

        Shapes:
            counts: ``(lane, client)``; now: ``(lane, client)``
        """
        for head, group in self._groups():
            mine = now & _members(now, group)
            if head in self._uploads:
                self._uploads[head].send(sent, counts, mine)
            else:
                self._own.append((sent, counts, mine))

    def _groups(self) -> list[tuple[Party, tuple[int, ...]]]:
        """Each head once, with the clients of all its turns."""
        found: dict[Party, tuple[int, ...]] = {}
        for turn in self._turns:
            for head, group in turn.groups.items():
                found[head] = tuple(sorted({*found.get(head, ()), *group}))
        return list(found.items())

    def average(self, lanes: Sequence[int]) -> None:
        """Let heads that are not the root average what they got, and send the means on.

        Args:
            lanes: The runs that go on.
        """
        for turn in self._turns:
            if turn.is_hierarchy:
                self._averaged[turn.node] = self._average(turn, lanes)

    def _average(self, turn: Turn, lanes: Sequence[int]) -> list[_Averaged]:
        heads = list(turn.groups)
        n_lanes = len(self._bases)
        silent: list[dict[int, str]] = [{} for _ in range(n_lanes)]
        opened = [
            self._open_heads(turn, lane, silent[lane]) if lane in lanes else {} for lane in range(n_lanes)
        ]
        empty = torch.zeros(0)
        delivery = self._network.send(
            Envelope.plain(
                [
                    [self._mean(lane, head, row[head]) if head in row else empty for head in heads]
                    for lane, row in enumerate(opened)
                ]
            ),
            kind="aggregate",
            round_index=self._round,
            lanes=list(range(n_lanes)),
            slots=[Slot(head, turn.root) for head in heads],
            present=[[head in row for head in heads] for row in opened],
            members=[
                [frozenset(row[head].ids) if head in row else frozenset() for head in heads] for row in opened
            ],
            versions=[
                [self._base(lane, row[head]) if head in row else None for head in heads]
                for lane, row in enumerate(opened)
            ],
        )
        return [
            _Averaged(opened=row, groups=_arrived(delivery, lane, heads, row), silent=silent[lane])
            for lane, row in enumerate(opened)
        ]

    def _open_heads(self, turn: Turn, lane: int, silent: dict[int, str]) -> dict[Party, Opened]:
        """What each head could open; a head without any update has nothing to send.

        Args:
            turn: The turn.
            lane: The run.
            silent: Where to note the clients of such heads, with the reason.
        """
        found = {}
        for head in turn.groups:
            opened = self._uploads[head].open(lane)
            if opened.ids:
                found[head] = opened
            else:
                silent |= {**opened.malformed, **opened.missing}
        return found

    def _mean(self, lane: int, head: Party, opened: Opened) -> torch.Tensor:
        """What a head sends on: the weighted mean, then its weight."""
        assert opened.updates is not None
        assert opened.counts is not None
        mean = weighted_mean(opened.updates, opened.counts)
        mean = self._moves.edge(self._round, lane, head, mean)
        return torch.cat([mean, opened.counts.sum()[None].to(mean.dtype)])

    def _base(self, lane: int, opened: Opened) -> Version | None:
        bases = {self._bases[lane][index] for index in opened.ids}
        return next(iter(bases)) if len(bases) == 1 else None

    def open(self, lane: int, turn: Turn) -> Opened:
        """What the root of a turn could open of one run.

        Raises:
            ProtocolAbort: The payloads cannot be combined, or a client of a ring hands on no model.
        """
        if not turn.is_hierarchy:
            if turn.root not in self._uploads:
                return self._mine(lane, turn)
            opened = self._uploads[turn.root].open(lane)
            shared = sum(other.root == turn.root for other in self._turns) > 1
            return opened.of(turn.trainers) if shared else opened
        averaged = self._averaged[turn.node][lane]
        parts = averaged.opened.values()
        counted = {index for group in averaged.groups for index in group.members}
        unheard = {index for part in parts for index in part.ids} - counted
        return Opened(
            ids=tuple(sorted(counted)),
            groups=averaged.groups,
            updates=None if averaged.groups else self._nobody,
            counts=None if averaged.groups else self._nobody[:, 0],
            malformed={i: why for part in parts for i, why in part.malformed.items()},
            missing={
                **averaged.silent,
                **{i: why for part in parts for i, why in part.missing.items()},
                **dict.fromkeys(unheard, "the average of its edge did not arrive"),
            },
        )

    def heard(self, lane: int, turn: Turn) -> tuple[int, ...]:
        """The clients of a turn whose updates arrived somewhere."""
        heads = [self._uploads[head] for head in turn.groups if head in self._uploads]
        return tuple(index for upload in heads for index in upload.heard(lane) if index in turn.trainers)

    def _mine(self, lane: int, turn: Turn) -> Opened:
        """The update of the client that makes the next model itself.

        The only model of a run is lost with a client that hands none on; where everybody has one, others do without.
        """
        for sent, counts, now in self._own:
            for index in torch.nonzero(now[lane]).flatten().tolist():
                if index not in turn.trainers:
                    continue
                update = sent.updates[lane, [index]]
                sound = (lane, index) not in sent.irregular
                if sound and (len(self._turns) == 1 or bool(torch.isfinite(update).all())):
                    return Opened(ids=(index,), updates=update, counts=counts[lane, [index]])
                if len(self._turns) == 1:
                    raise ProtocolAbort(f"client:{index} handed on no model in round {self._round}")
                return replace(self._none(), malformed={index: "it sent its neighbours no model"})
        if len(self._turns) > 1:
            return self._none()
        raise ProtocolAbort(f"no client trained in round {self._round}")

    def _none(self) -> Opened:
        return Opened(ids=(), updates=self._nobody, counts=self._nobody[:, 0])


def _members(like: torch.Tensor, group: Sequence[int]) -> torch.Tensor:
    mask = torch.zeros(like.shape[-1], dtype=torch.bool)
    mask[list(group)] = True
    return mask


def _arrived(
    delivery: Delivery, lane: int, heads: Sequence[Party], opened: Mapping[Party, Opened]
) -> tuple[GroupMean, ...]:
    found = []
    for place, head in enumerate(heads):
        value = delivery.at(lane, place)
        if head not in opened or not isinstance(value, torch.Tensor):
            continue
        updates = opened[head].updates
        assert updates is not None
        if fault(value, updates.shape[-1] + 1) is None:
            found.append(GroupMean(members=opened[head].ids, mean=value[:-1], weight=float(value[-1])))
    return tuple(found)
