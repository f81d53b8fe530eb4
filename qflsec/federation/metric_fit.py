"""Which layers fit a natural gradient, and clients that upload their metric."""

from __future__ import annotations

from collections.abc import Sequence

from qflsec.base import IncompatibleStack
from qflsec.federation.aggregation import FedAvg
from qflsec.federation.delegation import DelegationLayer
from qflsec.federation.executions import ExecutionLayer
from qflsec.federation.layers import AggregationLayer, Layer, LinkLayer
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.serving import ServingLayer

__all__ = ["check_metric"]

_FITTING = (ExecutionLayer, LinkLayer, FedAvg, ServingLayer)


def check_metric(pipeline: Pipeline, layers: Sequence[Layer]) -> None:
    """Refuse clients that cannot tell a metric, and layers that would leave an uploaded one as it is.

    Links and exact sums carry the metric as further numbers. Whatever clips, rounds, blurs or weighs updates, inside
    training or behind it, does nothing to it: no epsilon and no bound of such a layer would hold.

    Raises:
        IncompatibleStack: There is one.
    """
    natural = pipeline.federation.natural_gradient
    if natural is None:
        return
    for layer in layers:
        if isinstance(layer, DelegationLayer):
            raise IncompatibleStack(
                f"clients with {layer.card.name!r} have no device that could tell the metric of a natural gradient",
                fix="leave out 'natural_gradient'",
            )
        if pipeline.uploaded is None:
            continue
        if isinstance(layer, AggregationLayer):
            if natural.bounded:
                raise IncompatibleStack(
                    f"the server bounds each client's metric, and {layer.card.name!r} leaves it their sum",
                    fix=f"leave out {layer.card.name!r}, or 'bounded' of 'natural_gradient'",
                )
            if layer.additive and layer.leaves == "sum":
                continue
            raise IncompatibleStack(
                f"the server needs an exact sum of the metrics that clients upload, and {layer.card.name!r} gives it none",
                fix="use 'masked' or 'secagg', or leave out solved_by = 'server' of 'natural_gradient'",
            )
        if not isinstance(layer, _FITTING):
            raise IncompatibleStack(
                f"clients upload their metric, a second release of their records that {layer.card.name!r} does nothing to: "
                "what it promises of updates would not hold of what is sent",
                fix=f"leave out {layer.card.name!r}, or solved_by = 'server' of 'natural_gradient'",
            )
