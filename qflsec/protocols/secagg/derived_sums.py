"""Sums that a listener derives: what each protocol's sealed uploads and control messages of a round add up to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from qflsec.base import ProtocolAbort
from qflsec.threat import Item, LaneFacts

__all__ = ["Heard", "Sum", "derived_sums"]


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a coalition heard of one round.

    Attributes:
        round: The round.
        members: The clients whose vectors were counted.
        uploads: The sealed vectors of those of them that were heard, by client.
        control: Readable control messages, in order.
    """

    round: int
    members: frozenset[int]
    uploads: Mapping[int, Item]
    control: Sequence[Item]

    @property
    def complete(self) -> bool:
        """Whether the vectors of all were heard."""
        return bool(self.uploads) and frozenset(self.uploads) == self.members


@dataclass(frozen=True, kw_only=True)
class Sum:
    """What follows.

    Attributes:
        mean: The weighted mean.
        weight: The weight behind it.
        said: The message that completes it.
    """

    mean: torch.Tensor
    weight: float
    said: Item


def derived_sums(items: Sequence[Item], facts: LaneFacts, read: Callable[[Heard], Sum | None]) -> list[Item]:
    """The aggregate of each round, where it follows from what was said.

    Args:
        items: What a coalition sees.
        facts: What is known of the run.
        read: The sum of one round; None, or an abort of the protocol, where it does not follow.
    """
    found = []
    dtype = next((i.value.dtype for i in items if isinstance(i.value, torch.Tensor)), torch.float32)
    by_round: dict[int, list[Item]] = {}
    for item in items:
        if not isinstance(item.value, torch.Tensor):
            by_round.setdefault(item.round, []).append(item)
    for round_index, members in sorted(facts.participants.items()):
        said = by_round.get(round_index, [])
        heard = Heard(
            round=round_index,
            members=members,
            uploads={
                item.sender.index: item
                for item in said
                if (item.kind, item.form) == ("update", "masked") and item.sender.index in members
            },
            control=[item for item in said if (item.kind, item.form) == ("control", "plain")],
        )
        try:
            total = read(heard)
        except ProtocolAbort:
            continue
        if total is not None:
            found.append(
                Item(
                    round=round_index,
                    kind="aggregate",
                    form="plain",
                    value=total.mean.to(dtype),
                    weight=total.weight,
                    about=members,
                    sender=total.said.sender,
                    receiver=total.said.receiver,
                    derived=True,
                )
            )
    return found
