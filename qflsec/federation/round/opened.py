"""What the server could open of one round."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from qflsec.base import ProtocolAbort
from qflsec.federation.groups import GroupMean
from qflsec.federation.parties import Header
from qflsec.federation.payloads import NOT_FINITE, misshapen
from qflsec.threat import Payload

__all__ = ["Opened", "open_plain"]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What the server could open of one round of one run.

    Attributes:
        ids: The clients whose updates count.
        malformed: What arrived of clients that no honest code would send, and was dropped.
        missing: Why the other participants do not count: nothing arrived, or the protocol left them out.
        proved: What parties did whose own authenticated words prove it.
        updates: Individual updates, where the stack leaves them.
        counts: The number of examples that each client states.
        reports: What else they report of themselves, by name.
        sent: Which parameters each of them sent, where clients send parts of the model; None where all send all.
        metrics: The entries of each client's metric, or of the mean metric behind ``mean``; None where none is uploaded.
        mean: The weighted mean, where the stack leaves the sum; of ``nothing``, what a client reads.
        weight: The weight behind the mean.
        groups: The mean of each group, where the stack leaves sums over groups.
        combined: The sealed aggregate, where the server cannot open it.
        header: What the aggregate is bound to.

    Shapes:
        updates: ``(n, P)``; counts: ``(n,)``; reports: ``(n,)`` each; sent: ``(n, P)``, boolean;
        mean: ``(P,)``; metrics: ``(n, M)``, or ``(M,)`` behind a mean
    """

    ids: tuple[int, ...]
    malformed: Mapping[int, str] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)
    proved: tuple[ProtocolAbort, ...] = ()
    updates: torch.Tensor | None = None
    counts: torch.Tensor | None = None
    reports: Mapping[str, torch.Tensor] = field(default_factory=dict)
    sent: torch.Tensor | None = None
    metrics: torch.Tensor | None = None
    mean: torch.Tensor | None = None
    weight: float = 0.0
    groups: tuple[GroupMean, ...] = ()
    combined: Payload | None = None
    header: Header | None = None

    def of(self, clients: Collection[int]) -> Opened:
        """What there is of some clients, where updates are single ones.

        Args:
            clients: The clients.
        """
        assert self.updates is not None
        assert self.counts is not None
        rows = [row for row, index in enumerate(self.ids) if index in clients]
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            malformed={index: why for index, why in self.malformed.items() if index in clients},
            missing={index: why for index, why in self.missing.items() if index in clients},
            updates=self.updates[rows],
            counts=self.counts[rows],
            reports={name: values[rows] for name, values in self.reports.items()},
        )


def open_plain(
    received: Mapping[int, Payload], like: torch.Tensor, asks: Sequence[str] = (), *, beside: int = 0
) -> Opened:
    """Single updates; what is malformed or not finite is dropped before any rule sees it.

    The server cannot know whether a lie or a mistake is behind it, and need not: no honest code sends it. Where
    nothing is left, the round is one of nobody.

    Args:
        received: What arrived, by client: an update with the number of examples behind it, or anything.
        like: Models, whose type the updates get.
        asks: What clients report of themselves behind the number of examples, name by name.
        beside: How many entries of a metric stand behind an update, before the number of examples.

    Shapes:
        like: ``(..., P)``
    """
    n_params = like.shape[-1]
    told = n_params + beside
    size = told + 1 + len(asks)
    malformed: dict[int, str] = {}
    vectors: dict[int, torch.Tensor] = {}
    for index, value in received.items():
        what = misshapen(value, size)
        if what is None and isinstance(value, torch.Tensor):
            vectors[index] = value.to(like.dtype)
        else:
            malformed[index] = f"it sent {what}"
    stacked = torch.stack(list(vectors.values())) if vectors else like.new_zeros(0, size)
    finite = torch.isfinite(stacked).all(dim=1)
    if not bool(finite.all()):  # as the server reads them: what is too large for its numbers is not finite
        for index, good in zip(list(vectors), finite.tolist(), strict=True):
            if not good:
                malformed[index] = f"it sent {NOT_FINITE}"
                del vectors[index]
        stacked = stacked[finite]
    malformed = dict(sorted(malformed.items()))
    return Opened(
        ids=tuple(vectors),
        malformed=malformed,
        updates=stacked[:, :n_params],
        counts=stacked[:, told],
        metrics=stacked[:, n_params:told] if beside else None,
        reports=dict(zip(asks, stacked[:, told + 1 :].unbind(dim=1), strict=True)),
    )
