"""What is federated: data, partition, model, and how they train together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Literal

from qflsec.base import ConfigError
from qflsec.circuits import metric_limits
from qflsec.data import DataSpec, PartitionSpec
from qflsec.federation.config import FederationConfig
from qflsec.federation.parts import Parts
from qflsec.federation.schedule import CONSTANT
from qflsec.federation.sharing import Sharing
from qflsec.federation.topology import Star, Topology
from qflsec.federation.uploaded_metric import UploadedMetric
from qflsec.models import EXACT, Execution, Model, benchmark_circuit, device_error
from qflsec.models.natural_gradient import metric_circuit
from qflsec.threat import PUBLIC, QUANTUM_SERVER, WIRE, Party, Workload

__all__ = ["Pipeline"]


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
        parts: Which parameters each client trains and sends, where clients are not alike; all of them by default.
        detects: The class whose detection is measured beside accuracy, such as a rare one; ``"every"`` for each against the
            rest. Training does not read it.

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
    parts: Parts | None = None
    detects: int | Literal["every"] | None = None

    def __post_init__(self) -> None:
        if self.data.n_features != self.model.n_features:
            raise ConfigError(
                "data and model differ in their number of features",
                got=f"{self.data.n_features} and {self.model.n_features}",
                fix="set 'n_features' of the data to that of the model",
            )
        self.federation.check_executions(self.client_executions)
        noise = [one.noise for one in (self.execution, *self.client_executions.values()) if one.noise]
        if self.model.noise is not None and noise:
            raise ConfigError(
                "the execution has noise, and so has the model's own circuit",
                got=noise[0],
                fix="remove one of them",
            )

        self._check_metric()
        if self.federation.sporadic is not None and benchmark_circuit(self.model) is None:
            raise ConfigError(
                "sporadic updates need a model with a circuit on which devices can be compared",
                got=self.model.name,
                fix="use a variational circuit, a hybrid, or a QNode of affine angles, or leave out 'sporadic'",
            )
        self._check_detects()
        if self.federation.uploads_metric and (self.topology.name != "star" or self.personal):
            raise ConfigError(
                "metrics are averaged by one server, over all parameters",
                got=f"clients that are connected as {self.topology.words}, and keep {list(self.personal)}",
                fix="use a star without 'personal', or leave out solved_by = 'server' of 'natural_gradient'",
            )
        self._check_own()
        if self.topology.weighs and self.personal:
            raise ConfigError(
                "clients try the models of others, which lack the parts that each keeps to itself",
                got=f"personal = {list(self.personal)}",
                fix="leave out 'personal', or use another topology",
            )
        self.topology.check(self.federation.n_clients)
        Sharing.of(self.model, self.personal)
        if self.parts is not None:
            self._check_parts(self.parts)

    def _check_metric(self) -> None:
        natural, circuit = self.federation.natural_gradient, metric_circuit(self.model)
        if natural is None:
            return
        if circuit is None:
            raise ConfigError(
                "a natural gradient needs a model whose parameters are the weights of one circuit that can be read",
                got=self.model.name,
                fix="use a variational circuit, or leave out 'natural_gradient'",
            )
        limits = metric_limits(circuit).tolist() if natural.bounded else []
        if free := [weight for weight, limit in enumerate(limits) if math.isinf(limit)]:
            raise ConfigError(
                "the circuit sets no limit to the metric of weights that enter products or functions, so that "
                "a server has none to keep it to",
                got=f"weights {free}",
                fix="leave out 'bounded' of 'natural_gradient', or have each weight in angles of its own",
            )

    def _check_detects(self) -> None:
        known: object = self.detects
        if known in (None, "every") or (type(known) is int and 0 <= known < self.model.n_classes):
            return
        raise ConfigError(
            "'detects' names no class of the model",
            got=repr(known),
            expected=f"a class from 0 to {self.model.n_classes - 1}, or 'every'",
        )

    def _check_own(self) -> None:
        one = self.topology.name in {"star", "tree"}
        if self.federation.own_models is None or (one and not self.personal and self.parts is None):
            return
        raise ConfigError(
            "own models are pulled towards one model that all clients receive whole",
            got=f"clients that are connected as {self.topology.words}, personal = {list(self.personal)}",
            expected="a star or a tree, without 'personal' and 'parts'",
            fix="leave out 'own_models'",
        )

    def _check_parts(self, parts: Parts) -> None:
        parts.check(self.model, self.federation.n_clients)
        if self.topology.name != "star":
            raise ConfigError(
                "parts of a model are averaged by one server",
                got=f"clients that are connected as {self.topology.words}",
                fix="use a star, or leave out 'parts'",
            )
        if self.federation.who != "all":
            raise ConfigError(
                "who sends which part is public, and so is who takes part",
                got=f"client_sampling = {self.federation.client_sampling!r}, participation = {self.federation.participation}",
                fix="let all clients take part, or leave out 'parts'",
            )
        if parts.training_rounds >= self.federation.rounds:
            raise ConfigError(
                "no update is ready before the run ends",
                got=f"train_rounds={parts.training_rounds}, rounds={self.federation.rounds}",
                fix="set 'train_rounds' below 'rounds'",
            )
        if parts.training_rounds and self.federation.schedule != CONSTANT:
            raise ConfigError(
                "what is sent late was trained at the rate of another round",
                got=f"train_rounds={parts.training_rounds}, and a schedule",
                fix="leave out 'schedule' or 'train_rounds'",
            )
        if self.federation.natural_gradient is not None or self.personal:
            raise ConfigError(
                "parts of a model go with no natural gradient and no parameters that clients keep",
                fix="leave out 'natural_gradient' and 'personal', or 'parts'",
            )

    def trained_by(self, index: int) -> tuple[Model, ...]:
        """The models whose mean loss this client minimises: one, unless it is trained at several exits."""
        return (self.model,) if self.parts is None else self.parts.trained(self.model, index)

    @property
    def kept(self) -> str:
        """What every client keeps to itself, so that each has a model of its own, in words; empty where there is none."""
        return "a model of its own" if self.federation.own_models is not None else ", ".join(self.personal)

    @property
    def ruled(self) -> tuple[tuple[int, ...], ...]:
        """The clients whose updates one rule gets, where all take part and everything arrives."""
        n_clients = self.federation.n_clients
        groups = self.topology.ruled(n_clients)
        return groups if self.parts is None else tuple(self.parts.groups(self.model, n_clients))

    def execution_of(self, index: int) -> Execution:
        """How this client executes the model."""
        return self.client_executions.get(index, self.execution)

    @cached_property
    def factors(self) -> tuple[float, ...]:
        """What each client multiplies its learning rate by: 1 without sporadic updates, 0 where it makes no step."""
        sporadic, clients = self.federation.sporadic, range(self.federation.n_clients)
        if sporadic is None:
            return tuple(1.0 for _ in clients)
        return tuple(sporadic.factor(device_error(self.model, self.execution_of(index))) for index in clients)

    @property
    def idle(self) -> tuple[int, ...]:
        """The clients whose devices are too noisy for a step, and who sit out."""
        return tuple(index for index, factor in enumerate(self.factors) if not factor)

    @property
    def sharing(self) -> Sharing:
        """Which parameters the clients share."""
        return Sharing.of(self.model, self.personal)

    @property
    def uploaded(self) -> UploadedMetric | None:
        """The metrics that clients upload; None where they upload none."""
        natural, circuit = self.federation.natural_gradient, metric_circuit(self.model)
        if natural is None or natural.solved_by == "client" or circuit is None:
            return None
        return UploadedMetric(circuit=circuit, natural=natural, dtype=self.execution.complex_dtype)

    @property
    def workload(self) -> Workload:
        """How much a run has to carry."""
        beside = 0 if self.uploaded is None else self.uploaded.size
        return Workload(
            n_params=self.sharing.n_shared + beside,
            beside=beside,
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
        # what is not there is no part of an id
        parts: dict[str, object] = {} if self.parts is None else {"parts": self.parts.to_config()}
        parts |= {} if self.detects is None else {"detects": self.detects}
        return {
            "data": self.data.to_config(),
            "partition": asdict(self.partition),
            "model": self.model.to_config(),
            "federation": self.federation.to_config(),
            "execution": self.execution.to_config(),
            "client_executions": {str(i): e.to_config() for i, e in sorted(self.client_executions.items())},
            "topology": self.topology.to_config(),
            "personal": list(self.personal),
            **parts,
        }
