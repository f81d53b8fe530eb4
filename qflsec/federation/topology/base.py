"""Topologies: who trains from which model, and who makes the next one.

A topology is data. It yields the turns of a round, and the loop carries them out; neither the loop nor the
closure of views knows one topology from another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, final

from qflsec.base import ConfigError, find
from qflsec.threat import Party, client

__all__ = ["Topology", "Turn", "topology_from_config"]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Clients that train side by side from one model, and who makes the next model from what they send.

    The model goes from whoever holds it to the heads, and from each head to its clients. Updates go back the same
    way: each head averages its clients' updates, and the root makes the next model and holds it.

    Attributes:
        root: Who makes the next model.
        groups: For each head, its clients. A head may be the root, and a client may be its own head.
    """

    root: Party
    groups: Mapping[Party, tuple[int, ...]]

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
class Topology(ABC):
    """The turns of a round, as a frozen configuration.

    Attributes:
        name: Its registry name.
        words: What it is called in sentences.
    """

    name: ClassVar[str]
    words: ClassVar[str]

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
        """The turns of a round, one after the other."""

    @final
    def parties(self, n_clients: int) -> frozenset[Party]:
        """The parties that hold models in a run; the network and the public come on top."""
        found = {self.start(n_clients), *(client(index) for index in range(n_clients))}
        for turn in self.turns(n_clients, 0):
            found |= {turn.root, *turn.groups}
        return frozenset(found)

    @final
    def to_config(self) -> dict[str, Any]:
        """The topology's name and every parameter, JSON-able."""
        return {"name": self.name, **asdict(self)}


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
