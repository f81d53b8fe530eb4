"""Gossip: every client has a model of its own and mixes it with those of others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, register, stream
from qflsec.federation.topology.base import Mix, Topology, Turn
from qflsec.threat import Party, client

__all__ = ["Gossip"]


@register("topology", "gossip")
@dataclass(frozen=True, kw_only=True)
class Gossip(Topology):
    """Every client trains its own model, sends it to its neighbours, and takes a weighted mean of what it holds then.

    With one row for each client, the weights are a symmetric and doubly stochastic matrix, so that the mean over the
    clients is what a star with equal counts would make of the same updates. There is no server and no rule. Client 0
    sends everybody the first model. A client that does not take part in a round keeps its model, and its neighbours
    keep the weight that it would have had; so do the neighbours of one whose model does not arrive.

    Args:
        neighbours: ``"ring"``: the two clients before and after, and 1/3 for each of the three; ``"pairs"``: one other
            client, drawn anew for every round and run, and 1/2 for each of the two; ``"all"``: everybody, and an equal
            weight; ``"none"``: nobody, so that every client trains alone.

    Raises:
        ConfigError: There are no such neighbours.

    Source:
        After Boyd, Ghosh, Prabhakar, Shah: Randomized gossip algorithms, IEEE Transactions on Information Theory 52
        (2006). That the mean is kept and differences shrink is checked in the tests.
    """

    name = "gossip"
    words = "a gossip network"
    public_rosters = True
    without = "nobody there holds the updates of all clients, so there is nothing to bound, to hide among or to compare"
    neighbours: Literal["ring", "pairs", "all", "none"] = "ring"

    def __post_init__(self) -> None:
        """Refuse neighbours that are not known."""
        if self.neighbours not in {"ring", "pairs", "all", "none"}:
            raise ConfigError(
                "unknown 'neighbours' of gossip",
                got=repr(self.neighbours),
                expected="'ring', 'pairs', 'all' or 'none'",
            )

    def check(self, n_clients: int) -> None:
        """Refuse a network without neighbours.

        Raises:
            ConfigError: There are too few clients.
        """
        least = {"ring": 3, "none": 1}.get(self.neighbours, 2)
        if n_clients < least:
            raise ConfigError("gossip needs neighbours", got=n_clients, expected=f"at least {least} clients")

    def start(self, n_clients: int) -> Party:
        """The first client."""
        return client(0)

    def nodes(self, n_clients: int) -> int:
        """One for each client."""
        return n_clients

    def turns(self, n_clients: int, round_index: int) -> tuple[Turn, ...]:
        """A turn for each client, side by side."""
        return tuple(Turn(root=client(i), groups={client(i): (i,)}, node=i) for i in range(n_clients))

    def matrix(
        self, n_clients: int, round_index: int, *, present: Collection[int], seed: int
    ) -> npt.NDArray[np.float64]:
        """What each client's next model takes of everybody's.

        Args:
            n_clients: The number of clients.
            round_index: The round.
            present: The clients that take part in it.
            seed: The run's seed.

        Shapes:
            returns: ``(client, client)``, symmetric; its rows and columns add up to 1
        """
        here = sorted(present)
        if self.neighbours == "none":
            return np.eye(n_clients)
        if self.neighbours == "pairs":
            edges = self._pairs(here, round_index, seed)
        elif self.neighbours == "ring":
            edges = {frozenset({i, (i + 1) % n_clients}) for i in range(n_clients)}
        else:
            edges = {frozenset({i, j}) for i in range(n_clients) for j in range(i)}
        share = {"pairs": 1 / 2, "ring": 1 / 3, "all": 1 / n_clients}[self.neighbours]
        mixed = np.eye(n_clients)
        for one, other in map(sorted, edges):
            if one in here and other in here:
                mixed[[one, other], [other, one]] += share
                mixed[[one, other], [one, other]] -= share
        return mixed

    def _pairs(self, here: Sequence[int], round_index: int, seed: int) -> set[frozenset[int]]:
        """Disjoint pairs; where the number is odd, one client is left over."""
        order = torch.randperm(len(here), generator=stream(seed, "gossip-pairs", round_index)).tolist()
        return {frozenset({here[order[i]], here[order[i + 1]]}) for i in range(0, len(order) - 1, 2)}

    def mixing(
        self,
        n_clients: int,
        round_index: int,
        *,
        present: Collection[int],
        counts: Sequence[float],
        seed: int,
    ) -> tuple[Mix, ...]:
        """The rows of :meth:`matrix` that say more than that a client keeps its model."""
        mixed = self.matrix(n_clients, round_index, present=present, seed=seed)
        return tuple(
            Mix(
                maker=client(i),
                weights={j: float(mixed[i, j]) for j in np.flatnonzero(mixed[i]).tolist()},
                nodes=(i,),
            )
            for i in range(n_clients)
            if mixed[i, i] < 1
        )
