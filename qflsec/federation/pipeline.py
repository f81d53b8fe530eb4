"""What is federated: data, partition, model and the loop's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from qflsec.base import ConfigError, finite
from qflsec.data import DataSpec, PartitionSpec
from qflsec.federation.sharing import Sharing
from qflsec.federation.topology import Star, Topology
from qflsec.models import EXACT, Execution, Model
from qflsec.threat import PUBLIC, QUANTUM_SERVER, WIRE, Party, Workload

__all__ = ["FederationConfig", "Pipeline"]


@finite
@dataclass(frozen=True, kw_only=True)
class FederationConfig:
    """How clients and server train together.

    Attributes:
        n_clients: The number of clients.
        rounds: The number of rounds.
        local_steps: Optimiser steps of a client in one round.
        batch_size: Records of one step; None takes all records of the client.
        sampling: ``"fixed"`` draws exactly ``batch_size`` distinct records; ``"poisson"`` takes each record
            independently with probability ``batch_size / n``, which DP accounting assumes.
        optimizer: The client's optimiser; its state lives for one round.
        learning_rate: Of the client's optimiser.
        server_learning_rate: The factor on the aggregated update.
        participation: The fraction of clients that take part in a round, at least one.
        client_sampling: ``"fixed"`` draws exactly that fraction; ``"poisson"`` draws each client independently
            with that probability, so that a round may have any number of clients, even none.
        declared_corrupted: How many corrupted clients the server reckons with, f.

    Raises:
        ConfigError: A value is out of range.
    """

    n_clients: int = 10
    rounds: int = 15
    local_steps: int = 1
    batch_size: int | None = None
    sampling: Literal["fixed", "poisson"] = "fixed"
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1
    server_learning_rate: float = 1.0
    participation: float = 1.0
    client_sampling: Literal["fixed", "poisson"] = "fixed"
    declared_corrupted: int = 2

    def __post_init__(self) -> None:
        for name, low in (("n_clients", 1), ("rounds", 1), ("local_steps", 1)):
            value = getattr(self, name)
            if value < low:
                raise ConfigError(f"{name!r} is too small", got=value, expected=f"at least {low}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(
                "'batch_size' is too small", got=self.batch_size, expected="at least 1, or none"
            )
        for name in ("learning_rate", "server_learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name!r} must be positive", got=getattr(self, name))
        if not 0 < self.participation <= 1:
            raise ConfigError("'participation' is a fraction", got=self.participation, expected="in (0, 1]")
        if self.optimizer not in {"sgd", "adam"}:
            raise ConfigError("unknown 'optimizer'", got=repr(self.optimizer), expected="'sgd' or 'adam'")
        for name in ("sampling", "client_sampling"):
            value = getattr(self, name)
            if value not in {"fixed", "poisson"}:
                raise ConfigError(f"unknown {name!r}", got=repr(value), expected="'fixed' or 'poisson'")

    @property
    def n_participants(self) -> int:
        """How many clients take part in a round; with Poisson sampling, how many do on average."""
        return max(1, round(self.participation * self.n_clients))

    @property
    def batches(self) -> Literal["full", "fixed", "poisson"]:
        """How batches are drawn."""
        return "full" if self.batch_size is None else self.sampling

    @property
    def who(self) -> Literal["all", "fixed", "poisson"]:
        """How the clients of a round are drawn."""
        if self.client_sampling == "poisson":
            return "all" if self.participation == 1 else "poisson"
        return "all" if self.n_participants == self.n_clients else "fixed"


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Everything about a run except its stack, its adversary and its seed.

    Attributes:
        data: Which data, how it is split and preprocessed.
        partition: How the training records are spread over the clients.
        model: The shared model.
        federation: The loop.
        execution: How clients execute the model.
        client_executions: Clients that differ in it.
        topology: Who trains from which model, and who makes the next one.
        personal: The blocks of the model's layout that every client keeps to itself, such as a local head.

    Raises:
        ConfigError: The parts do not fit each other.
    """

    data: DataSpec
    model: Model
    partition: PartitionSpec = field(default_factory=PartitionSpec)
    federation: FederationConfig = field(default_factory=FederationConfig)
    execution: Execution = EXACT
    client_executions: Mapping[int, Execution] = field(default_factory=dict)
    topology: Topology = field(default_factory=Star)
    personal: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.data.n_features != self.model.n_features:
            raise ConfigError(
                "data and model differ in their number of features",
                got=f"{self.data.n_features} and {self.model.n_features}",
                fix="set 'n_features' of the data to that of the model",
            )
        strangers = sorted(i for i in self.client_executions if not 0 <= i < self.federation.n_clients)
        if strangers:
            raise ConfigError("an execution is set for a client that does not exist", got=strangers)

        self.topology.check(self.federation.n_clients)
        Sharing.of(self.model, self.personal)

    def execution_of(self, index: int) -> Execution:
        """How this client executes the model."""
        return self.client_executions.get(index, self.execution)

    @property
    def sharing(self) -> Sharing:
        """Which parameters the clients share."""
        return Sharing.of(self.model, self.personal)

    @property
    def workload(self) -> Workload:
        """How much a run has to carry."""
        return Workload(
            n_params=self.sharing.n_shared,
            n_clients=self.federation.n_clients,
            participants=self.federation.n_participants,
            rounds=self.federation.rounds,
        )

    @property
    def parties(self) -> frozenset[Party]:
        """Everybody who may be corrupted: who holds models, the network, the public, and a quantum server."""
        return self.topology.parties(self.federation.n_clients) | {WIRE, PUBLIC, QUANTUM_SERVER}

    def to_config(self) -> dict[str, object]:
        """Every parameter, JSON-able, defaults written out: what an id is made from."""
        return {
            "data": asdict(self.data),
            "partition": asdict(self.partition),
            "model": self.model.to_config(),
            "federation": asdict(self.federation),
            "execution": self.execution.to_config(),
            "client_executions": {str(i): e.to_config() for i, e in sorted(self.client_executions.items())},
            "topology": self.topology.to_config(),
            "personal": list(self.personal),
        }
