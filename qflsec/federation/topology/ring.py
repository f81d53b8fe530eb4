"""The ring: one model visits the clients in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from qflsec.base import ConfigError, register, stream
from qflsec.federation.topology.base import Topology, Turn
from qflsec.threat import Party, client

__all__ = ["Ring"]

_ORDERS = ("fixed", "reversed", "alternating", "random")


@register("topology", "ring")
@dataclass(frozen=True, kw_only=True)
class Ring(Topology):
    """Each client trains the model that it got from the one before it, and hands it on to the next.

    There is no server and no average. Client 0 holds the initial model, which is in the view of nobody whom it was
    not sent to; who knows it otherwise computes the first client's first update. A client that does not take part
    in a round is left out, and its neighbours are neighbours of each other.

    The last writer wins: a model is worth what the clients since the last corrupted one could mend, so that accuracy is
    also stated after every visit of the last round (:attr:`qflsec.federation.RunResult.visits`).

    Args:
        order: Of the visits in a round: ``"fixed"`` from client 0 upwards, ``"reversed"`` downwards,
            ``"alternating"`` upwards and downwards in turn, which makes the ring bidirectional, or ``"random"``, drawn
            anew for every round and run.

    Raises:
        ConfigError: There is no such order.
    """

    name = "ring"
    words = "a ring"
    without = "nobody there holds the updates of several clients, so there is nothing to bound, to hide among or to compare"
    order: Literal["fixed", "reversed", "alternating", "random"] = "fixed"

    def __post_init__(self) -> None:
        """Refuse an order that is not known."""
        if self.order not in _ORDERS:
            raise ConfigError(
                "unknown 'order' of a ring", got=repr(self.order), expected=" or ".join(map(repr, _ORDERS))
            )

    def check(self, n_clients: int) -> None:
        """Refuse a ring of one.

        Raises:
            ConfigError: There is only one client.
        """
        if n_clients < 2:
            raise ConfigError(
                "a ring needs clients that hand the model on", got=n_clients, expected="at least 2"
            )

    def start(self, n_clients: int) -> Party:
        """The first client."""
        return client(0)

    @property
    def drawn(self) -> bool:
        """Whether the order is."""
        return self.order == "random"

    def turns(self, n_clients: int, round_index: int) -> tuple[Turn, ...]:
        """A turn for each client, in order; of a random ring, upwards."""
        order = range(n_clients)
        back = self.order == "reversed" or (self.order == "alternating" and round_index % 2 == 1)
        return _visits(tuple(reversed(order)) if back else tuple(order))

    def turns_of(self, n_clients: int, round_index: int, seed: int) -> tuple[Turn, ...]:
        """A turn for each client, in the order of the run."""
        if self.order != "random":
            return self.turns(n_clients, round_index)
        drawn = torch.randperm(n_clients, generator=stream(seed, "ring-order", round_index))
        return _visits(tuple(drawn.tolist()))


def _visits(order: tuple[int, ...]) -> tuple[Turn, ...]:
    return tuple(Turn(root=client(i), groups={client(i): (i,)}) for i in order)
