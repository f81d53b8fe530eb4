"""The variational quantum classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qflsec.base import finite
from qflsec.base.errors import ConfigError
from qflsec.base.registry import register
from qflsec.circuits import Circuit, weight_periods
from qflsec.models.base import Execution, Generators, Model, check_classes
from qflsec.models.encoding import angle_features, measures_alone
from qflsec.models.execute import measure
from qflsec.models.fields import Fields, configured_by
from qflsec.models.losses import CROSS_ENTROPY, Loss
from qflsec.models.recipe import CircuitKeys, Recipe, read_circuit

__all__ = ["Vqc", "probabilities_to_logits", "scores_to_logits"]


PROBABILITY_FLOOR = 1e-3
"""What is added to a probability before its logarithm."""


def scores_to_logits(scores: Tensor, scale: float, loss: Loss) -> Tensor:
    """Logits of measured values: ``scale z_k``; of one value, what the loss makes of one output ``scale z``.

    Shapes:
        scores: ``(..., M)``.
        returns: ``(..., 2)`` for M = 1, else ``(..., M)``.
    """
    return loss.two_logits(scores * scale) if scores.shape[-1] == 1 else scores * scale


def probabilities_to_logits(probabilities: Tensor) -> Tensor:
    """Logits of the probabilities of outcomes, each of which is a class, under cross entropy.

    ``log(p_k + 0.001)``: their softmax gives the probabilities back, up to the floor, and the cross entropy is the
    usual negative log likelihood. The floor bounds the loss of a record by log(1000), also where an outcome was
    never drawn.

    Shapes:
        probabilities: ``(..., K)``.
        returns: ``(..., K)``.
    """
    return torch.log(probabilities.clamp_min(0) + PROBABILITY_FLOOR)


@finite
@dataclass(frozen=True, kw_only=True)
class Vqc(Model):
    """A circuit whose expectation values, times a fixed scale, are the logits.

    The parameters are the circuit's weights, in its order.

    Args:
        circuit: The circuit; one observable for each class, or a single one for two classes.
        n_classes: Classes.
        scale: What expectation values are multiplied by; see :func:`scores_to_logits`.
        recipe: The arguments that the circuit was built from, for a readable configuration.
        loss: What training minimises.

    Raises:
        ConfigError: The observables do not fit the classes.
    """

    name = "vqc"
    circuit: Circuit = field(repr=False)
    n_classes: int = 2
    scale: float = CROSS_ENTROPY.scale
    recipe: Recipe = field(default=(), compare=False)
    loss: Loss = CROSS_ENTROPY
    n_features: int = field(init=False)
    angle_features: bool = field(init=False)

    def __post_init__(self) -> None:
        """Derive what the circuit determines."""
        check_classes(self.n_classes)
        expected, count = (1, 2) if self.n_classes == 2 else (self.n_classes,), len(self.circuit.observables)
        if count not in expected:
            raise ConfigError(
                f"{self.n_classes} classes need {expected[0]} observable{'s' if expected[0] > 1 else ''}",
                got=count,
            )
        object.__setattr__(self, "n_features", self.circuit.n_features)
        object.__setattr__(self, "angle_features", angle_features(self.circuit))

    @property
    def only_measures(self) -> bool:
        """True unless the circuit multiplies a feature with a weight."""
        return measures_alone(self.circuit)

    @property
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """One block, ``weights``."""
        return (("weights", (self.circuit.n_weights,)),)

    @property
    def periods(self) -> tuple[float | None, ...]:
        """The periods of the circuit's weights."""
        return weight_periods(self.circuit)

    def initial(self, generator: torch.Generator) -> Tensor:
        """Uniform in [0, 2 pi), as in PennyLane."""
        return 2 * math.pi * torch.rand(self.n_params, generator=generator)

    def to_config(self) -> dict[str, object]:
        """The configuration, defaults written out."""
        circuit = dict(self.recipe) if self.recipe else {"circuit": self.circuit.to_config()}
        return {
            "name": self.name,
            **circuit,
            "n_classes": self.n_classes,
            "scale": self.scale,
            **self.loss.to_config(),
        }

    def _logits(
        self, params: Tensor, features: Tensor, execution: Execution, generator: Generators | None
    ) -> Tensor:
        scores = measure(self.circuit, params, features, execution, generator)
        return scores_to_logits(scores, self.scale, self.loss)


@dataclass(frozen=True, kw_only=True)
class VqcKeys(CircuitKeys):
    """The keys of a variational circuit.

    Attributes:
        scale: What expectation values are multiplied by; what suits the loss by default.
    """

    scale: float | None = None


@register("model", "vqc")
@configured_by(VqcKeys)
def _build(config: Mapping[str, object]) -> Vqc:
    """A variational quantum circuit, whose expectation values are the scores of the classes."""
    fields = Fields(config, VqcKeys)
    n_classes = fields.integer("n_classes", minimum=2)
    n_features = fields.integer("n_features") if "n_features" in fields else None
    circuit, recipe = read_circuit(
        fields, n_observables=1 if n_classes == 2 else n_classes, n_features=n_features
    )
    loss = fields.loss()
    return Vqc(
        circuit=circuit,
        n_classes=n_classes,
        scale=fields.number("scale") if "scale" in fields else loss.scale,
        recipe=recipe,
        loss=loss,
    )
