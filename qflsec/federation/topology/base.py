"""Topologies: who trains from which model, who makes the next one, and how models are mixed.

A topology is data. It yields the turns of a round and the mixing at its end, and the loop carries them out; neither
the loop nor the closure of views knows one topology from another.

A run has one model or several. Each has a place, its *node*: a star, a tree and a ring have one node, a gossip network
has one for each client, and a tree whose edge servers keep models of their own has one for each of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, final

import torch

from qflsec.base import ConfigError, find
from qflsec.threat import Party, client

__all__ = ["Mix", "Topology", "Turn", "side_by_side", "topology_from_config"]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Clients that train side by side from one model, and who makes the next model from what they send.

    The model goes from whoever holds it to the heads, and from each head to its clients. Updates go back the same
    way: each head averages its clients' updates, and the root makes the next model and holds it.

    Attributes:
        root: Who makes the next model.
        groups: For each head, its clients. A head may be the root, and a client may be its own head.
        node: Which of the run's models it is about.
    """

    root: Party
    groups: Mapping[Party, tuple[int, ...]]
    node: int = 0

    @property
    def trainers(self) -> tuple[int, ...]:
        """The clients that train."""
        return tuple(sorted(index for group in self.groups.values() for index in group))

    def head_of(self, index: int) -> Party | None:
        """Who sends a client the model; None where it does not train."""
        return next((head for head, group in self.groups.items() if index in group), None)

    @property
    def is_hierarchy(self) -> bool:
        """Whether heads other than the root average first."""
        return any(head != self.root for head in self.groups)


@dataclass(frozen=True, kw_only=True)
class Mix:
    """A model that one party makes as a weighted mean of models that their holders send it.

    Attributes:
        maker: Who makes it, and holds it from then on.
        weights: For each node, what its model counts. They are positive and add up to 1.
        nodes: The nodes whose model it becomes.
    """

    maker: Party
    weights: Mapping[int, float]
    nodes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Topology(ABC):
    """The turns of a round, as a frozen configuration.

    Attributes:
        name: Its registry name.
        words: What it is called in sentences.
        public_rosters: Whether everybody has to know who takes part in a round.
        without: Why a layer that was made for a star has no meaning in it.
        chosen: Whether clients choose in every round which of the run's models they train.
        personal: Whether every client's model is made for it, so that it is judged on the client's own classes.
        weighs: Whether clients give the models that they are sent weights of their own, by records of their own.
    """

    name: ClassVar[str]
    words: ClassVar[str]
    public_rosters: ClassVar[bool] = False
    without: ClassVar[str] = ""
    chosen: ClassVar[bool] = False
    personal: ClassVar[bool] = False
    weighs: ClassVar[bool] = False

    def check(self, n_clients: int) -> None:  # noqa: B027 - most topologies fit any number of clients
        """Refuse a number of clients that the topology cannot connect.

        Raises:
            ConfigError: There are too few of them.
        """

    @abstractmethod
    def start(self, n_clients: int) -> Party:
        """Who holds the model before the first round."""

    @abstractmethod
    def turns(self, n_clients: int, round_index: int) -> tuple[Turn, ...]:
        """The turns of a round, one after the other; turns on different nodes in a row go side by side."""

    @property
    def drawn(self) -> bool:
        """Whether :meth:`turns_of` differs from run to run; mixing may in any case."""
        return False

    def turns_of(self, n_clients: int, round_index: int, seed: int) -> tuple[Turn, ...]:
        """The turns of a round in the run of one seed; those of :meth:`turns` by default."""
        return self.turns(n_clients, round_index)

    def nodes(self, n_clients: int) -> int:
        """How many models a run has."""
        return 1

    def ruled(self, n_clients: int) -> tuple[tuple[int, ...], ...]:
        """The clients whose updates one rule gets, where all take part: everybody by default."""
        return (tuple(range(n_clients)),)

    def mixing(
        self,
        n_clients: int,
        round_index: int,
        *,
        present: Collection[int],
        counts: Sequence[float],
        seed: int,
    ) -> tuple[Mix, ...]:
        """How models are mixed at the end of a round, all at once; they are not by default.

        Args:
            n_clients: The number of clients.
            round_index: The round.
            present: The clients that take part in it.
            counts: What each client counts.
            seed: The run's seed.
        """
        return ()

    def mixing_of(
        self,
        n_clients: int,
        round_index: int,
        *,
        present: Collection[int],
        counts: Sequence[float],
        seed: int,
        models: torch.Tensor,
    ) -> tuple[Mix, ...]:
        """How models are mixed where that depends on the models; as :meth:`mixing` says by default.

        Args:
            n_clients: The number of clients.
            round_index: The round.
            present: The clients that take part in it.
            counts: What each client counts.
            seed: The run's seed.
            models: The models after training.

        Shapes:
            models: ``(node, P)``
        """
        return self.mixing(n_clients, round_index, present=present, counts=counts, seed=seed)

    @final
    def reads(self, n_clients: int) -> tuple[int, ...]:
        """For each client, the node whose model it trains from."""
        found = {index: turn.node for turn in self.turns(n_clients, 0) for index in turn.trainers}
        return tuple(found.get(index, 0) for index in range(n_clients))

    @final
    def parties(self, n_clients: int) -> frozenset[Party]:
        """The parties that hold models in a run; the network and the public come on top."""
        found = {self.start(n_clients), *(client(index) for index in range(n_clients))}
        for turn in self.turns(n_clients, 0):
            found |= {turn.root, *turn.groups}
        return frozenset(found)

    @final
    def to_config(self) -> dict[str, Any]:
        """The topology's name and every parameter, JSON-able; a list that is empty is no part of an id."""
        return {"name": self.name, **{key: value for key, value in asdict(self).items() if value != ()}}


def side_by_side(turns: Sequence[Turn]) -> list[list[Turn]]:
    """The turns of a round in order; those in a row that are about different models stand together."""
    found: list[list[Turn]] = []
    for turn in turns:
        if not found or any(turn.node == other.node for other in found[-1]):
            found.append([])
        found[-1].append(turn)
    return found


def topology_from_config(config: Mapping[str, Any]) -> Topology:
    """The topology described by its registry name and parameters.

    Raises:
        UnknownName: There is no such topology.
        ConfigError: A parameter is unknown or refused.
    """
    values = dict(config)
    name = values.pop("name", "star")
    kind = find("topology", str(name))
    known = set(kind.__dataclass_fields__)
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(
            f"unknown parameter of topology {name!r}",
            got=", ".join(unknown),
            expected=", ".join(sorted(known)) or "none",
        )
    made = kind(**values)
    if not isinstance(made, Topology):
        raise ConfigError(f"{name!r} is registered as a topology but is none", got=type(made).__name__)
    return made
