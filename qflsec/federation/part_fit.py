"""Which layers can take updates that are parts of a model."""

from __future__ import annotations

from collections.abc import Sequence

from qflsec.base import IncompatibleStack
from qflsec.federation.gradient_layers import GradientLayer
from qflsec.federation.layers import AggregationLayer, Layer, LinkLayer, ServerLayer, ShapeLayer
from qflsec.federation.pipeline import Pipeline

__all__ = ["check_parts"]

_ON_PARTS = (ShapeLayer, GradientLayer, LinkLayer)


def check_parts(pipeline: Pipeline, layers: Sequence[Layer]) -> None:
    """Refuse layers that need whole updates where clients send parts of the model.

    What clients do to their own gradients and updates, and links, do not look at parts: what is not sent of an update is
    left out afterwards. A layer of any other kind says so itself.

    Raises:
        IncompatibleStack: There is one.
    """
    if pipeline.parts is None:
        return
    for layer in layers:
        fits = layer.parts if isinstance(layer, ServerLayer) else isinstance(layer, _ON_PARTS)
        if not fits:
            why = (
                "a sum does not say over whom each parameter is a mean"
                if isinstance(layer, AggregationLayer)
                else "it was made for whole updates"
            )
            raise IncompatibleStack(
                f"clients send parts of the model ({pipeline.parts.name}), which {layer.card.name!r} cannot take: {why}",
                fix=f"leave out {layer.card.name!r}, or 'parts'",
            )
