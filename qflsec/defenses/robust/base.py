"""Robust rules: one step from the updates of a round, whoever sent them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from qflsec.base import IncompatibleStack
from qflsec.defenses.robust.guarantee import Robustness
from qflsec.defenses.robust.torus import reduced
from qflsec.federation import AggregatorLayer, BoundLayer, Pipeline, RoundUpdates, SummedUpdates

__all__ = ["SINGLE_UPDATES", "RobustFilter", "RobustRule", "UpdateRule"]

SINGLE_UPDATES = frozenset({"star", "hierarchy", "clusters"})
"""The topologies in which a server gets the updates of single clients, and makes its own model of them."""


@dataclass(frozen=True, kw_only=True)
class UpdateRule(AggregatorLayer):
    """A rule that needs individual updates.

    Attributes:
        wrap: Whether updates of rotation angles are first reduced to half a period
            (:func:`~qflsec.defenses.robust.reduce_differences`); updates that short stay as they are, bit for bit.
    """

    robustness: ClassVar[Robustness | None] = None
    topologies = SINGLE_UPDATES

    wrap: bool = True

    def start(self, n_params: int) -> object:
        """No state."""
        return None

    @final
    def aggregate(self, batch: RoundUpdates | SummedUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The rule on the updates of the round.

        Where so many clients of a round are missing that the rule is not defined for the declared f any more, it works
        with the largest f for which it is: a client that sends nothing must not end a run.

        Raises:
            IncompatibleStack: The server holds only a sum.
        """
        if isinstance(batch, SummedUpdates):
            raise IncompatibleStack(
                f"{self.card.name!r} needs individual updates, but the server holds only their sum"
            )
        return self.act(reduced(batch) if self.wrap else batch, state)

    @abstractmethod
    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The step and the next state.

        Shapes:
            returns: a step ``(P,)``
        """

    def check(self, pipeline: Pipeline) -> None:
        """Refuse a pipeline whose declared f is too large for the rule to be defined.

        Raises:
            IncompatibleStack: It is.
        """
        federation = pipeline.federation
        groups = pipeline.ruled
        n = min(federation.n_participants, *map(len, groups))
        f = federation.declared_corrupted
        if f > self.defined(n):
            raise IncompatibleStack(
                f"{self.card.name!r} is not defined for so many corrupted clients",
                got=f"{n} clients in a round and declared_corrupted = {f}",
                expected=f"declared_corrupted of at most {self.defined(n)}",
                fix="lower 'declared_corrupted', or ask more clients",
            )

    def f(self, batch: RoundUpdates) -> int:
        """The declared number of corrupted rows among those that are here."""
        return min(batch.f, self.defined(len(batch.ids)))

    def defined(self, n: int) -> int:
        """The largest f for which the rule can be computed from ``n`` updates; any number by default."""
        return n

    def most(self, n: int) -> int:
        """The largest number of corrupted clients among ``n`` under which the card's claim holds; none by default."""
        return 0

    def kappa(self, n: int, f: int) -> float | None:
        """A proved kappa for ``f`` of ``n`` corrupted updates; None where there is none.

        Args:
            n: The number of updates.
            f: The number of corrupted ones, at most :meth:`most`.
        """
        return None


@dataclass(frozen=True, kw_only=True)
class RobustRule(UpdateRule):
    """A rule without memory that counts every client the same."""

    parts = True

    @final
    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The rule, with the f that it is defined for; on each part of the model apart, over the clients that sent it."""
        if batch.sent is None:
            return self.rule(batch.updates, f=self.f(batch)), None
        step = torch.zeros_like(batch.broadcast)
        for column in torch.unique(batch.sent, dim=1).T:
            places, count = (batch.sent == column[:, None]).all(dim=0), int(column.sum())
            if count:
                rows = batch.updates[column][:, places]
                step[places] = self.rule(rows, f=min(batch.f, self.defined(count)))
        return step, None

    @abstractmethod
    def rule(self, updates: torch.Tensor, *, f: int) -> torch.Tensor:
        """The step.

        Args:
            updates: A row for each client.
            f: How many of them the server reckons to be corrupted; those that it dropped are not counted any more.

        Shapes:
            updates: ``(n, P)``; returns: ``(P,)``
        """


@dataclass(frozen=True, kw_only=True)
class RobustFilter(BoundLayer):
    """Mixes, clips or drops updates in front of the rule.

    Attributes:
        wrap: Whether updates of rotation angles are first reduced to half a period, as by a rule.
    """

    robustness: ClassVar[Robustness | None] = None
    topologies = SINGLE_UPDATES

    wrap: bool = True

    @final
    def bound(self, batch: RoundUpdates) -> RoundUpdates:
        """The updates that the rule gets to see."""
        return self.act(reduced(batch) if self.wrap else batch)

    @abstractmethod
    def act(self, batch: RoundUpdates) -> RoundUpdates:
        """The filtered round."""

    def rows(self, n: int) -> int:
        """How many rows it leaves of ``n``; all by default."""
        return n

    def most(self, n: int) -> int:
        """The largest number of corrupted clients among ``n`` under which the card's claim holds; any by default."""
        return n

    def kappa(self, n: int, f: int, inner: float | None) -> float | None:
        """A proved kappa of the filter with a rule behind it; None where there is none.

        Args:
            n: The number of updates.
            f: The number of corrupted ones.
            inner: The rule's kappa.
        """
        return None
