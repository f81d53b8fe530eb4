"""Stacks: which layers act at the clients and the server, and whether they can work together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from qflsec.base import IncompatibleStack
from qflsec.federation.aggregation import FedAvg
from qflsec.federation.audit_layers import AuditLayer
from qflsec.federation.bound_fit import check_separate
from qflsec.federation.delegation import DelegationLayer
from qflsec.federation.executions import ExecutionLayer, executed
from qflsec.federation.gradient_layers import GradientLayer
from qflsec.federation.layers import (
    AggregationLayer,
    AggregatorLayer,
    BoundLayer,
    ClientLayer,
    Layer,
    Leaves,
    LinkLayer,
    NoiseLayer,
    PayloadForm,
    SecretLayer,
    ServerLayer,
    ShapeLayer,
)
from qflsec.federation.metric_fit import check_metric
from qflsec.federation.part_fit import check_parts
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.record_layers import RecordLayer
from qflsec.federation.serving import ServingLayer
from qflsec.federation.statements import StatementLayer
from qflsec.models import device_error
from qflsec.threat import Traffic, Workload

__all__ = ["Stack", "in_order"]

_STEPS = {
    AuditLayer: 0,
    DelegationLayer: 0,
    ExecutionLayer: 0,
    RecordLayer: 0,
    GradientLayer: 0,
    ShapeLayer: 1,
    StatementLayer: 1,
    AggregationLayer: 2,
    LinkLayer: 3,
}
_OF_DEVICE = frozenset({"quality"})
"""Reports that depend on no record, so that they void no epsilon."""
_KNOWN = _OF_DEVICE | {"loss"}
"""What clients can report."""
_SERVER_STEPS = {BoundLayer: 0, AggregatorLayer: 1, NoiseLayer: 2, ServingLayer: 3}
_SINGLE = {1: "rule", 3: "layer that answers records"}
_STRENGTH: dict[Leaves, int] = {"individual": 0, "groups": 1, "sum": 2, "nothing": 3}
_LEFT: dict[Leaves, str] = {
    "groups": "only sums over groups",
    "sum": "only their sum",
    "nothing": "nothing that the server can read",
}


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Two ordered lists of layers.

    Attributes:
        name: A name for tables.
        client: What the clients do, in order.
        server: What the server does, in order; FedAvg where no rule is named.

    Raises:
        IncompatibleStack: The layers cannot work in this order.
    """

    name: str
    client: tuple[ClientLayer, ...] = ()
    server: tuple[ServerLayer, ...] = ()

    def __post_init__(self) -> None:
        _check_client_order(self.client)
        _check_server(self.server, self.leaves, self._hider())
        self._check_asks()

    @classmethod
    def from_layers(cls, name: str, layers: Sequence[Layer]) -> Stack:
        """A stack from one list; client layers and server layers keep their own order."""
        return cls(
            name=name,
            client=tuple(layer for layer in layers if isinstance(layer, ClientLayer)),
            server=tuple(layer for layer in layers if isinstance(layer, ServerLayer)),
        )

    @property
    def leaves(self) -> Leaves:
        """What the clients' layers leave the server to see."""
        return max(
            (layer.leaves for layer in self.client), key=lambda kind: _STRENGTH[kind], default="individual"
        )

    @property
    def gradient(self) -> GradientLayer | None:
        """The layer inside training, if any."""
        return next((layer for layer in self.client if isinstance(layer, GradientLayer)), None)

    @property
    def records(self) -> RecordLayer | None:
        """The layer on the records of every local step, if any."""
        return next((layer for layer in self.client if isinstance(layer, RecordLayer)), None)

    @property
    def audit(self) -> AuditLayer | None:
        """The layer on models that clients get from each other, if any."""
        return next((layer for layer in self.client if isinstance(layer, AuditLayer)), None)

    @property
    def delegation(self) -> DelegationLayer | None:
        """The layer that has circuits executed by a quantum server, if any."""
        return next((layer for layer in self.client if isinstance(layer, DelegationLayer)), None)

    @property
    def executions(self) -> tuple[ExecutionLayer, ...]:
        """The layers on how clients execute circuits."""
        return tuple(layer for layer in self.client if isinstance(layer, ExecutionLayer))

    @property
    def shapes(self) -> tuple[ShapeLayer, ...]:
        """The layers on a client's update."""
        return tuple(layer for layer in self.client if isinstance(layer, ShapeLayer))

    @property
    def aggregation(self) -> AggregationLayer | None:
        """The layer that seals updates for an aggregate, if any."""
        return next((layer for layer in self.client if isinstance(layer, AggregationLayer)), None)

    @property
    def statements(self) -> tuple[StatementLayer, ...]:
        """The layers on what clients state of their training."""
        return tuple(layer for layer in self.client if isinstance(layer, StatementLayer))

    @property
    def links(self) -> tuple[LinkLayer, ...]:
        """The layers on the links."""
        return tuple(layer for layer in self.client if isinstance(layer, LinkLayer))

    @property
    def bounds(self) -> tuple[BoundLayer, ...]:
        """The server's bounds."""
        return tuple(layer for layer in self.server if isinstance(layer, BoundLayer))

    @property
    def rule(self) -> AggregatorLayer:
        """The server's rule."""
        return next((layer for layer in self.server if isinstance(layer, AggregatorLayer)), FedAvg())

    @property
    def noises(self) -> tuple[NoiseLayer, ...]:
        """The server's noise."""
        return tuple(layer for layer in self.server if isinstance(layer, NoiseLayer))

    @property
    def serving(self) -> ServingLayer | None:
        """The layer on the final model's answers, if any."""
        return next((layer for layer in self.server if isinstance(layer, ServingLayer)), None)

    @property
    def asks(self) -> tuple[str, ...]:
        """What clients report of themselves beside their updates, in the order in which they do."""
        return tuple(sorted(frozenset().union(*(layer.asks for layer in (*self.server, self.rule)))))

    def reported(self, losses: torch.Tensor, pipeline: Pipeline) -> dict[str, torch.Tensor]:
        """What honest clients report, by name.

        Args:
            losses: The loss of the model that each client received, on its first batch.
            pipeline: The pipeline, which says what device each client has.

        Shapes:
            losses: ``(lane, client)``; returns the same for each name
        """
        said = {name: losses for name in self.asks if name == "loss"}
        if "quality" in self.asks:
            own = executed(pipeline, self.executions)
            errors = [device_error(own.model, own.execution_of(index)) for index in range(losses.shape[1])]
            said["quality"] = (1 - losses.new_tensor(errors)).clamp(0, 1).expand_as(losses)
        return said

    @property
    def linear(self) -> bool:
        """Whether the server's step is the weighted mean of what the clients sent."""
        return self.rule.linear and not self.bounds and not self.noises

    @property
    def additive(self) -> bool:
        """Whether noise in what clients train adds up in the step, with :meth:`weights`: nothing touches single updates."""
        exact = self.aggregation is None or self.aggregation.additive
        return self.linear and exact and not self.shapes

    def weights(self, counts: Sequence[float]) -> tuple[float, ...]:
        """What each client counts in the mean.

        Args:
            counts: Their numbers of examples.
        """
        weighted = self.aggregation is None or self.aggregation.weighted
        return tuple(float(count) if weighted else 1.0 for count in counts)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers."""
        return (*self.client, *self.server)

    def carried(self, load: Workload) -> dict[LinkLayer, Traffic | None]:
        """What each link layer gets to carry in a run over a star, at most; None where that cannot be told.

        Without layers it is the model down and the update with its weight up, in every round and for every client:
        whoever is drawn into a round is not known beforehand. Evaluation sends nothing, and the final model goes to
        the public.
        """
        update = load.number_bytes * (load.n_params + 1 + len(self.asks))
        each = Traffic().then(down={"model": load.model_bytes}, up={"update": update})
        inner: Traffic | None = Traffic.of_rounds(load.rounds, each=each)
        found: dict[LinkLayer, Traffic | None] = {}
        # a protocol for sums says anew what crosses, and statements come beside it wherever their layer stands
        for layer in sorted(self.client, key=lambda one: isinstance(one, StatementLayer | LinkLayer)):
            if isinstance(layer, LinkLayer):
                found[layer] = inner
            if isinstance(layer, SecretLayer):
                inner = None if inner is None else layer.traffic(load, inner)
        return found

    def remarks(self, pipeline: Pipeline) -> tuple[str, ...]:
        """What is to be said before a run of a pipeline that fits."""
        carried: dict[Any, Traffic | None] = dict(self.carried(pipeline.workload))
        return tuple(
            remark for layer in self.layers for remark in layer.remarks(pipeline, carried.get(layer))
        )

    def check(self, pipeline: Pipeline) -> None:
        """Refuse a pipeline with which the stack cannot keep its promises.

        Raises:
            IncompatibleStack: A layer does not fit the pipeline.
        """
        check_metric(pipeline, (*self.layers, self.rule))
        topology = pipeline.topology
        for layer in (*self.client, *self.server, self.rule):
            if layer.topologies is not None and topology.name not in layer.topologies:
                known = " or ".join(sorted(layer.topologies))
                why = f": {topology.without}" if topology.without else ""
                raise IncompatibleStack(
                    f"{layer.card.name!r} was made for a {known}, but the clients are connected as {topology.words}{why}",
                    fix=f"leave out {layer.card.name!r}, or use another topology",
                )
            layer.check(pipeline)
        check_parts(pipeline, (*self.layers, self.rule))
        if self.delegation is not None and pipeline.federation.own_models is not None:
            raise IncompatibleStack(
                f"clients with {self.delegation.card.name!r} have no device that could train a model of their own",
                fix="leave out 'own_models'",
            )
        if topology.name == "star":
            for link, traffic in self.carried(pipeline.workload).items():
                link.check_traffic(traffic)
        if self.aggregation is not None and pipeline.federation.who == "poisson":
            raise IncompatibleStack(
                f"{self.aggregation.card.name!r} needs a known number of clients in every round, but Poisson sampling "
                "may leave one alone or none",
                fix="set client_sampling = 'fixed', or leave out the layer",
            )

    def to_config(self) -> list[dict[str, Any]]:
        """Every layer with every parameter, JSON-able; the name of the stack is not part of it."""
        return [layer.to_config() for layer in self.layers]

    def _check_asks(self) -> None:
        """Refuse client layers whose promise a report of a client would break."""
        asking = next((layer for layer in (*self.server, self.rule) if layer.asks), None)
        if asking is None:
            return
        what = " and ".join(self.asks)
        if unknown := sorted(set(self.asks) - _KNOWN):
            raise IncompatibleStack(
                "a layer of the server asks for what clients cannot report",
                got=", ".join(map(repr, unknown)),
                expected=" or ".join(map(repr, sorted(_KNOWN))),
            )
        if self.aggregation is not None:
            raise IncompatibleStack(
                f"{asking.card.name!r} asks every client for its {what}, but {self.aggregation.card.name!r} leaves no "
                "single client's numbers to read",
                fix=f"leave out one of them, or use a rule that asks for nothing, such as {FedAvg.card.name!r}",
            )
        for layer in self.client:
            if layer.alone and set(self.asks) - _OF_DEVICE:
                raise IncompatibleStack(
                    f"{asking.card.name!r} asks every client for its {what}, which no noise of {layer.card.name!r} "
                    "covers: its epsilon would not hold",
                    fix="leave out one of them",
                )

    def _hider(self) -> str:
        return next((layer.card.name for layer in self.client if layer.leaves == self.leaves), "")


def in_order(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Layers in the order in which they act in a round; those with the same place keep theirs."""
    return tuple(sorted(layers, key=lambda layer: _step_of(layer, {**_STEPS, **_SERVER_STEPS})))


def _step_of(layer: Layer, steps: Mapping[type[Any], int]) -> int:
    return next(step for kind, step in steps.items() if isinstance(layer, kind))


def _check_client_order(layers: Sequence[ClientLayer]) -> None:
    form: PayloadForm = "plain"
    maker = ""
    for place, layer in enumerate(layers):
        for earlier in layers[:place]:
            _check_pair(earlier, layer)
        if form not in layer.takes:
            raise IncompatibleStack(
                f"{layer.card.name!r} needs {' or '.join(sorted(layer.takes))} payloads, but {maker!r} before it "
                f"already made them {form}"
            )
        if layer.gives is not None:
            form, maker = layer.gives, layer.card.name


def _check_pair(earlier: ClientLayer, layer: ClientLayer) -> None:
    kinds = (
        (GradientLayer, "gradient"),
        (RecordLayer, "record"),
        (AggregationLayer, "aggregation"),
        (AuditLayer, "audit"),
        (DelegationLayer, "delegation"),
    )
    for kind, word in kinds:
        if isinstance(earlier, kind) and isinstance(layer, kind):
            raise IncompatibleStack(
                f"a stack can hold one {word} layer, but has {earlier.card.name!r} and {layer.card.name!r}"
            )
    _check_executions(earlier, layer)
    if isinstance(layer, SecretLayer) and earlier == layer:
        raise IncompatibleStack(f"a stack holds {layer.card.name!r} twice with the same parameters")
    if _step_of(layer, _STEPS) < min(_step_of(earlier, _STEPS), 2):
        raise IncompatibleStack(
            f"{layer.card.name!r} acts before {earlier.card.name!r} in a round",
            fix=f"put {layer.card.name!r} first",
        )


def _check_executions(earlier: ClientLayer, layer: ClientLayer) -> None:
    kinds = (ExecutionLayer, RecordLayer, DelegationLayer)
    if not isinstance(earlier, kinds) or not isinstance(layer, kinds):
        return
    if isinstance(earlier, DelegationLayer) or isinstance(layer, DelegationLayer):
        raise IncompatibleStack(
            f"clients that delegate their circuits do not execute any, so {earlier.card.name!r} and "
            f"{layer.card.name!r} exclude each other"
        )
    if isinstance(earlier, RecordLayer) or isinstance(layer, RecordLayer):
        return
    if both := sorted(earlier.sets & layer.sets):
        raise IncompatibleStack(
            f"{earlier.card.name!r} and {layer.card.name!r} both set the {both[0]} of a circuit's execution",
            fix="keep one of them",
        )


def _check_server(layers: Sequence[ServerLayer], leaves: Leaves, hider: str) -> None:
    for place, layer in enumerate(layers):
        if not layer.works_on(leaves):
            need = "individual updates" if "sum" not in layer.accepts else "individual updates or their sum"
            raise IncompatibleStack(f"{layer.card.name!r} needs {need}, but {hider!r} leaves {_LEFT[leaves]}")
        for earlier in layers[:place]:
            first, second = _step_of(earlier, _SERVER_STEPS), _step_of(layer, _SERVER_STEPS)
            if first == second and first in _SINGLE:
                raise IncompatibleStack(
                    f"a stack can hold one {_SINGLE[first]}, but has {earlier.card.name!r} and {layer.card.name!r}"
                )
            if first > second:
                raise IncompatibleStack(
                    f"{layer.card.name!r} acts before {earlier.card.name!r} in a round",
                    fix=f"put {layer.card.name!r} first",
                )
            check_separate(earlier, layer)
