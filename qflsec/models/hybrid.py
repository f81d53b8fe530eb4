"""A quantum circuit between classical layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qflsec.base.registry import register
from qflsec.circuits import Circuit, weight_periods
from qflsec.models.affine import affine_layout, dense, draw_affine
from qflsec.models.base import Execution, Generators, Model, check_classes
from qflsec.models.execute import measure
from qflsec.models.fields import Fields, configured_by
from qflsec.models.losses import CROSS_ENTROPY, Loss
from qflsec.models.recipe import CircuitKeys, Recipe, read_circuit

__all__ = ["Hybrid"]


@dataclass(frozen=True, kw_only=True)
class Hybrid(Model):
    """Affine layers with tanh, a circuit, and an affine layer to the logits.

    The circuit's features are ``pi/2 tanh(.)`` of the last affine layer before it. The parameters are, in
    this order: ``before.i.weight`` ``(out, in)`` and ``before.i.bias`` ``(out,)`` layer by layer,
    ``circuit`` ``(P_circuit,)``, ``after.0.weight`` ``(K, observables)``, ``after.0.bias`` ``(K,)``.

    Args:
        n_features: Features per record.
        circuit: The circuit in the middle.
        n_classes: Classes.
        hidden: Widths of further classical layers before the circuit.
        recipe: The arguments that the circuit was built from, for a readable configuration.
        loss: What training minimises.

    Source:
        Mari, Bromley, Izaac, Schuld and Killoran, Transfer learning in hybrid classical-quantum neural
        networks, Quantum 4, 340, 2020 ("dressed" circuits).
    """

    name = "hybrid"
    n_features: int
    circuit: Circuit = field(repr=False)
    n_classes: int = 2
    hidden: tuple[int, ...] = ()
    recipe: Recipe = field(default=(), compare=False)
    loss: Loss = CROSS_ENTROPY
    angle_features: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Refuse fewer than two classes."""
        check_classes(self.n_classes)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths from the features to the circuit."""
        return (self.n_features, *self.hidden, self.circuit.n_features)

    @property
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The blocks of the flat parameter vector in order."""
        return (
            *affine_layout("before", self.widths),
            ("circuit", (self.circuit.n_weights,)),
            *affine_layout("after", (len(self.circuit.observables), self.n_classes)),
        )

    @property
    def periods(self) -> tuple[float | None, ...]:
        """The periods of the circuit's weights; None for the classical parameters."""
        periods: list[float | None] = []
        for block, shape in self.layout:
            periods += weight_periods(self.circuit) if block == "circuit" else (None,) * math.prod(shape)
        return tuple(periods)

    def initial(self, generator: torch.Generator) -> Tensor:
        """Classical layers as in ``torch.nn.Linear``, the circuit uniform in [0, 2 pi)."""
        return torch.cat(
            [
                draw_affine(self.widths, generator),
                2 * math.pi * torch.rand(self.circuit.n_weights, generator=generator),
                draw_affine((len(self.circuit.observables), self.n_classes), generator),
            ]
        )

    def to_config(self) -> dict[str, object]:
        """The configuration, defaults written out."""
        circuit = dict(self.recipe) if self.recipe else {"circuit": self.circuit.to_config()}
        return {
            **circuit,
            "name": self.name,
            "n_features": self.n_features,
            "n_classes": self.n_classes,
            "hidden": list(self.hidden),
            **self.loss.to_config(),
        }

    def _logits(
        self, params: Tensor, features: Tensor, execution: Execution, generator: Generators | None
    ) -> Tensor:
        blocks = self.unflatten(params)
        angles = math.pi / 2 * torch.tanh(dense(features, blocks, "before", len(self.widths) - 1))
        scores = measure(self.circuit, blocks["circuit"], angles, execution, generator)
        return dense(scores, blocks, "after", 1)


@dataclass(frozen=True, kw_only=True)
class HybridKeys(CircuitKeys):
    """The keys of a circuit between classical layers.

    Attributes:
        hidden: Widths of further classical layers before the circuit.
    """

    hidden: tuple[int, ...] = ()


@register("model", "hybrid")
@configured_by(HybridKeys)
def _build(config: Mapping[str, object]) -> Hybrid:
    """A quantum circuit between classical layers."""
    fields = Fields(config, HybridKeys)
    n_qubits = fields.integer("n_qubits") if "n_qubits" in fields else 0
    circuit, recipe = read_circuit(fields, n_observables=n_qubits, n_features=None)
    return Hybrid(
        n_features=fields.integer("n_features"),
        circuit=circuit,
        n_classes=fields.integer("n_classes", minimum=2),
        hidden=fields.integers("hidden"),
        recipe=recipe,
        loss=fields.loss(),
    )
