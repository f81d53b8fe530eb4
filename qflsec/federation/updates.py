"""What a server's rule gets to see in one round of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch

from qflsec.base import UpdateError
from qflsec.base.errors import cause_in_words

__all__ = ["Dropped", "Fault", "RoundUpdates", "SummedUpdates"]


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A client that took part in a round and whose update does not count.

    Attributes:
        round: The round.
        client: The client.
        reason: What the server saw.
    """

    round: int
    client: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A lie that was proved, or a round that was lost.

    Attributes:
        round: The round.
        reason: What went wrong.
        caused_by: The party, or parties, whose own authenticated words prove it, such as ``"client:3"``; None where it
            cannot be known.
        lost: Whether it cost the round: the model stayed as it was.
    """

    round: int
    reason: str
    caused_by: str | None
    lost: bool

    @property
    def told(self) -> str:
        """The fault as a sentence."""
        lost = " was lost" if self.lost else ""
        return f"round {self.round}{lost}: {self.reason}; {cause_in_words(self.caused_by)}"


@dataclass(frozen=True, kw_only=True)
class RoundUpdates:
    """Individual updates.

    Attributes:
        round: The round.
        updates: Differences from the broadcast model.
        counts: The number of examples that each client states.
        ids: The clients, in the order of the rows.
        broadcast: The model that was sent out.
        periods: The period of each parameter, None where it has none.
        f: The declared number of corrupted clients, less those that were dropped as malformed.
        generator: The rule's stream for this round.
        groups: Where each row is the mean of a group: its members. ``ids`` then numbers the groups, and ``f``
            corrupted clients spoil at most as many of them. None where each row is a client.
        trusted: The update that the server trained on records of its own; None where the rule asks for none.
        validation: The mean loss of models, ``(n, P)`` to ``(n,)``, on records of the server; None where no bound asks.
        reports: What clients report of themselves, by name, where a layer asks for it; a lever for whoever lies.
        sent: Which parameters each client sent, where clients send parts of the model: updates are zero in the others,
            which count for nothing. None where everybody sends all.
        max_share: The largest share of the weight that a rule which weighs clients may give to one of them.

    Shapes:
        updates: ``(n, P)``; counts: ``(n,)``; reports: ``(n,)`` each; broadcast: ``(P,)``; trusted: ``(P,)``;
        sent: ``(n, P)``, boolean
    """

    round: int
    updates: torch.Tensor
    counts: torch.Tensor
    ids: tuple[int, ...]
    broadcast: torch.Tensor
    periods: tuple[float | None, ...]
    f: int
    generator: torch.Generator
    groups: tuple[tuple[int, ...], ...] | None = None
    trusted: torch.Tensor | None = None
    validation: Callable[[torch.Tensor], torch.Tensor] | None = None
    reports: Mapping[str, torch.Tensor] = field(default_factory=dict)
    sent: torch.Tensor | None = None
    max_share: float | None = None

    def __post_init__(self) -> None:
        if self.updates.shape != (len(self.ids), self.broadcast.shape[0]):
            raise UpdateError(
                "the updates of a round have the wrong shape",
                got=tuple(self.updates.shape),
                expected=(len(self.ids), self.broadcast.shape[0]),
                fix="an update has one number for each parameter of the model",
            )
        finite = torch.isfinite(self.updates).all(dim=1)
        if not bool(finite.all()):
            bad = [self.ids[row] for row in torch.nonzero(~finite).flatten().tolist()]
            raise UpdateError(
                f"updates of round {self.round} are not finite",
                got=f"NaN or infinity from clients {bad}",
                expected="finite numbers",
                fix="drop such rows first, as the server of a run does",
            )

    def with_updates(self, updates: torch.Tensor) -> RoundUpdates:
        """The same round with other updates."""
        return replace(self, updates=updates)

    def keep(self, rows: torch.Tensor) -> RoundUpdates:
        """The same round with some of the rows.

        Shapes:
            rows: ``(n,)``, boolean
        """
        chosen = torch.nonzero(rows).flatten()
        return replace(
            self,
            updates=self.updates[chosen],
            counts=self.counts[chosen],
            reports={name: said[chosen] for name, said in self.reports.items()},
            sent=None if self.sent is None else self.sent[chosen],
            ids=tuple(self.ids[i] for i in chosen.tolist()),
            groups=None if self.groups is None else tuple(self.groups[i] for i in chosen.tolist()),
        )


@dataclass(frozen=True, kw_only=True)
class SummedUpdates:
    """The weighted mean of updates that the server could not see singly.

    Attributes:
        round: The round.
        mean: The weighted mean.
        weight: The sum of the weights.
        ids: The clients in it.
        broadcast: The model that was sent out.
        generator: The rule's stream for this round.
    """

    round: int
    mean: torch.Tensor
    weight: float
    ids: tuple[int, ...]
    broadcast: torch.Tensor
    generator: torch.Generator
