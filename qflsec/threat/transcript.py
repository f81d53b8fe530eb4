"""The transcript: everything that was said, and what a coalition sees of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from qflsec.base import ConfigError, QflsecError
from qflsec.threat.closure import close
from qflsec.threat.facts import LaneFacts
from qflsec.threat.message import Message, MessageKind, Payload
from qflsec.threat.model import ThreatModel
from qflsec.threat.party import PUBLIC, WIRE, Party, client
from qflsec.threat.view import MODELS, Granted, Item, View

__all__ = ["Deriver", "Transcript"]

_BLANK = Item(round=0, kind="", form="", value=b"", weight=None, about=None, sender=PUBLIC, receiver=PUBLIC)

Deriver = Callable[[Sequence[Item], LaneFacts, frozenset[Party], frozenset[str]], Sequence[Item]]
"""What a layer lets a coalition compute: (items, facts, corrupted parties, their keys) -> new items."""


@dataclass(kw_only=True)
class Transcript:
    """The messages of a batch of runs.

    Attributes:
        record_kinds: The kinds that are kept; what no attack needs can be left out to save memory.
        keys: The names of the keys that each party holds.
        facts: What is known of each run besides its messages; filled by the loop as it goes.
        derivers: What the stack's layers let a coalition compute.
        granted: Per run, what knowledge a threat model may grant.
        honest_updates: Per run, the updates of clients by round and client, as they made them before anything sealed
            them; kept for threat models that grant them (``"honest-updates"``), a strong assumption.
    """

    record_kinds: frozenset[MessageKind] | None = None
    keys: Mapping[Party, frozenset[str]] = field(default_factory=dict)
    facts: dict[int, LaneFacts] = field(default_factory=dict)
    derivers: tuple[Deriver, ...] = ()
    granted: dict[int, Granted] = field(default_factory=dict)
    honest_updates: dict[int, dict[tuple[int, int], torch.Tensor]] = field(default_factory=dict)
    _messages: list[Message] = field(default_factory=list)
    _of_lane: dict[int, list[Message]] = field(default_factory=dict)

    def record(self, message: Message) -> None:
        """Append one message; values are kept as they are, so senders must not change them afterwards."""
        if self.record_kinds is None or message.kind in self.record_kinds:
            self._messages.append(message)
            for lane in message.lanes:
                self._of_lane.setdefault(lane, []).append(message)

    def seen_by(self, threat: ThreatModel, lane: int = 0) -> View:
        """All that the coalition of ``threat`` holds of one run, closed under what it can compute.

        Args:
            threat: The threat model.
            lane: The run's index in its batch.

        Raises:
            QflsecError: There is no such run in this batch.
            ConfigError: The threat model grants honest updates, and the run kept none.
        """
        if lane not in self.facts:
            raise QflsecError("no such run in this transcript", got=lane, expected=sorted(self.facts))
        facts = self.facts[lane]
        parties = threat.corrupted
        held = frozenset(name for party in parties for name in self.keys.get(party, frozenset()))
        items = [
            item
            for message in self._of_lane.get(lane, ())
            if threat.when != "final-model" or message.kind == "final-model"
            for item in _visible(message, lane, parties, held)
        ]
        known = facts.rosters.known_to(threat, items)
        for derive in self.derivers:
            items.extend(derive(items, facts, parties, held))
        if "honest-updates" in threat.knows:
            items.extend(self._granted(lane, facts, frozenset(threat.clients)))
        closed = close(items, facts, frozenset(threat.clients), known)
        return View(
            threat=threat,
            items=tuple(_parted(item, facts.beside) for item in closed) if facts.beside else closed,
            granted=self.granted[lane].under(threat) if lane in self.granted else Granted(),
            keys=held,
            knows_rosters=facts.rosters.told_to(threat),
        )

    def grant(self, round_index: int, updates: torch.Tensor, present: torch.Tensor) -> None:
        """Keep what honest clients release, in the runs that grant it to a threat model.

        Args:
            round_index: The round.
            updates: The updates.
            present: Who sends one.

        Shapes:
            updates: ``(lane, client, P)``; present: ``(lane, client)``
        """
        for lane, kept in self.honest_updates.items():
            for index in torch.nonzero(present[lane]).flatten().tolist():
                kept[round_index, index] = updates[lane, index].clone()

    def _granted(self, lane: int, facts: LaneFacts, corrupted: frozenset[int]) -> Iterator[Item]:
        """The updates of honest clients that a threat model grants, as items that can be read.

        Raises:
            ConfigError: The run did not keep them, so that its view would hold less than what is granted.
        """
        if lane not in self.honest_updates:
            raise ConfigError(
                "the threat model grants honest updates, but the run kept none",
                fix="run it with grant_honest_updates=True, or against this threat model",
            )
        for (round_index, index), update in self.honest_updates[lane].items():
            if index not in corrupted:
                yield Item(
                    round=round_index,
                    kind="update",
                    form="plain",
                    value=update.clone(),
                    weight=facts.counts[index],
                    about=frozenset({index}),
                    base=facts.versions.base_of_round(round_index, {index}),
                    # no message carried it
                    sender=client(index),
                    receiver=client(index),
                    granted=True,
                )

    @property
    def messages(self) -> tuple[Message, ...]:
        """Everything recorded: for the bookkeeping of the lab and the tests, never for an attack."""
        return tuple(self._messages)


def _visible(message: Message, lane: int, parties: frozenset[Party], held: frozenset[str]) -> list[Item]:
    position, taps = message.lanes.index(lane), WIRE in parties
    reached: dict[int, list[int]] = {}
    for index, slot in enumerate(message.slots):
        sees = slot.sender in parties or slot.receiver in parties or (taps and slot.receiver != PUBLIC)
        if not (sees and message.present[position][index]):
            continue
        depth = message.origin if slot.sender in parties else len(message.layers) - 1
        while depth > 0 and message.layers[depth].opens(position, index, held):
            depth -= 1
        for place in range(depth, len(message.layers)):
            # whoever opens a layer holds the closed form as well, and may add such forms up
            if place == depth or message.layers[place].form != "sealed":
                reached.setdefault(place, []).append(index)
    if not reached:
        return []
    versions, is_model = message.versions[position], message.kind in MODELS
    members = message.members[position]
    found = {
        place: _values(message.layers[place].value[position], slots, message if place == 0 else None)
        for place, slots in reached.items()
    }
    blank, items = _BLANK.with_fields(round=message.round, kind=message.kind), []
    for index, place in sorted((index, place) for place, slots in reached.items() for index in slots):
        slot, version = message.slots[index], versions[index]
        value, weight, said = found[place][index]
        item = blank.with_fields(
            form=message.layers[place].form,
            value=value,
            weight=weight,
            reports=said,
            about=members[index],
            sender=slot.sender,
            receiver=slot.receiver,
            version=version if is_model else None,
            base=None if is_model else version,
        )
        items.append(item)
    return items


def _parted(item: Item, beside: int) -> Item:
    """An update or a sum without the numbers behind its parameters, which were added up with them until here."""
    value = item.value
    if item.form != "plain" or item.kind not in {"update", "aggregate"}:
        return item
    if not isinstance(value, torch.Tensor) or len(value) <= beside:
        return item
    return item.with_fields(value=value[:-beside], metric=value[-beside:])


_Values = Mapping[int, tuple[Payload, float | None, Mapping[str, float]]]
"""By slot: a payload, its weight, and what its sender reports."""


def _values(
    row: torch.Tensor | Sequence[Payload], slots: Sequence[int], innermost: Message | None
) -> _Values:
    """A copy of what a layer holds for these slots, and of nothing else: one for all, as there are thousands.

    A plain update or aggregate carries its weight behind its coordinates, and behind that what its sender reports.
    """
    names = innermost.reports if innermost is not None and innermost.kind in {"update", "aggregate"} else None
    if not isinstance(row, torch.Tensor):
        return {index: _split(row[index], names) for index in slots}
    block = row[list(slots)]
    if names is None or block.ndim != 2:
        return {index: (value, None, {}) for index, value in zip(slots, block.unbind(), strict=True)}
    size = block.shape[1] - 1 - len(names)
    vectors = block[:, :size].unbind()
    told = block[:, size:].tolist()
    return {
        index: (vector, weight, dict(zip(names, said, strict=True)))
        for index, vector, (weight, *said) in zip(slots, vectors, told, strict=True)
    }


def _split(value: Payload, names: Sequence[str] | None) -> tuple[Payload, float | None, Mapping[str, float]]:
    """One payload apart."""
    if names is None or not isinstance(value, torch.Tensor):
        return (value.clone() if isinstance(value, torch.Tensor) else value), None, {}
    size = len(value) - 1 - len(names)
    weight, *said = value[size:].tolist()
    return value[:size].clone(), weight, dict(zip(names, said, strict=True))
