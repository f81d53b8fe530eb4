"""Circuits that can be cut short: an exit behind every layer, and measurement axes that are parameters of their own.

A client with a small device trains and reads a prefix of the circuit, and the parameters of a prefix are a prefix of the
parameters. The poles turn each measured qubit before Z is measured, which is a measurement along another axis of the
Bloch sphere; whoever lacks them measures Z.

Source:
    Nested depths after Park, Son, Jung and Kim, IEEE TVT 74, 8158, 2025, and Han et al. (Quorus), ICLR 2026,
    arXiv:2510.06228; angles and poles after Yun et al. (SlimQFL), ICML workshop DyNN 2022, arXiv:2207.10221. What is
    computed is tested against the same circuits in PennyLane.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from qflsec.base import finite
from qflsec.base.errors import ConfigError
from qflsec.base.registry import register
from qflsec.circuits import Angle, Circuit, Gate, build_circuit, pauli_z, weight_periods
from qflsec.circuits.build import Ansatz, Encoder, Rotation
from qflsec.models.base import Execution, Generators, Model, check_classes
from qflsec.models.encoding import angle_features
from qflsec.models.execute import measure
from qflsec.models.fields import Fields, ModelKeys, configured_by
from qflsec.models.losses import CROSS_ENTROPY, Loss
from qflsec.models.vqc import scores_to_logits

__all__ = ["POLES", "Layered", "layer_name"]

POLES = "poles"
"""The block of the layout with two angles for each measured qubit."""


def layer_name(depth: int) -> str:
    """The block of the layout with the weights of one layer, counted from 1."""
    return f"layer.{depth}"


@finite
@dataclass(frozen=True, kw_only=True)
class Layered(Model):
    """A variational classifier whose answer may be read behind any of its layers.

    The parameters are those of all layers, whichever exit answers; an exit's logits do not depend on later ones.

    Args:
        n_qubits: Qubits.
        layers: Layers of weights, L.
        encoder: How features enter.
        ansatz: The gates of a layer.
        rotation: The axis of the angles.
        n_features: Features of a record.
        n_classes: Classes; Pauli Z of one qubit for two, else of one for each.
        scale: What expectation values are multiplied by.
        exit: Behind how many layers the answer is read; behind the last by default.
        poles: Whether the model has poles.
        axes: ``"poles"`` to measure along them where there are any, ``"z"`` to read the model of whoever lacks them.
        loss: What training minimises.

    Raises:
        ConfigError: A value is out of range.
    """

    name = "layered"
    n_qubits: int
    layers: int = 3
    encoder: Encoder = "angle"
    ansatz: Ansatz = "strongly-entangling"
    rotation: Rotation = "X"
    n_features: int
    n_classes: int = 2
    scale: float = CROSS_ENTROPY.scale
    exit: int | None = None
    poles: bool = False
    axes: Literal["poles", "z"] = "poles"
    loss: Loss = CROSS_ENTROPY
    angle_features: bool = field(init=False)
    read: Circuit = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the circuit up to the exit."""
        check_classes(self.n_classes)
        if self.n_measured > self.n_qubits:
            raise ConfigError(
                f"{self.n_classes} classes are too many for {self.n_qubits} qubits",
                expected="one measured wire for each class",
                fix=f"set n_qubits to {self.n_measured} or more",
            )
        if not 1 <= self.depth <= self.layers:
            raise ConfigError(
                "there is no such exit", got=self.depth, expected=f"a layer from 1 to {self.layers}"
            )
        if self.axes not in ("poles", "z"):
            raise ConfigError("unknown axes", got=repr(self.axes), expected="'poles' or 'z'")
        object.__setattr__(self, "exit", self.depth)  # one model is one value
        object.__setattr__(self, "read", self._circuit())
        object.__setattr__(self, "angle_features", angle_features(self.read))

    @property
    def depth(self) -> int:
        """Behind how many layers the answer is read."""
        return self.layers if self.exit is None else self.exit

    @property
    def n_measured(self) -> int:
        """How many qubits are measured."""
        return 1 if self.n_classes == 2 else self.n_classes

    @property
    def turned(self) -> bool:
        """Whether the answer is measured along the poles."""
        return self.poles and self.axes == "poles"

    @property
    def whole(self) -> bool:
        """Whether the answer depends on every parameter."""
        return self.depth == self.layers and self.turned == self.poles

    def at(self, depth: int) -> Layered:
        """The same model, read behind so many layers."""
        return replace(self, exit=depth)

    @property
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """One block ``layer.1``, ``layer.2`` and so on for each layer; ``poles`` with (polar angle, azimuth) at the end."""
        width = self._width
        blocks = tuple((layer_name(depth), (width,)) for depth in range(1, self.layers + 1))
        return (*blocks, (POLES, (self.n_measured, 2))) if self.poles else blocks

    @property
    def periods(self) -> tuple[float | None, ...]:
        """2 pi for every parameter, as each is the angle of an uncontrolled rotation."""
        full = replace(self, exit=None, axes="poles")
        return weight_periods(full.read)

    def initial(self, generator: torch.Generator) -> Tensor:
        """Uniform in [0, 2 pi) for layers; poles begin along Z."""
        angles = 2 * math.pi * torch.rand(self.layers * self._width, generator=generator)
        return torch.cat([angles, torch.zeros(2 * self.n_measured)]) if self.poles else angles

    def to_config(self) -> dict[str, object]:
        """The configuration, defaults written out."""
        keys = ("n_qubits", "layers", "encoder", "ansatz", "rotation", "n_features", "n_classes", "scale")
        own = {"exit": self.depth, "poles": self.poles, "axes": self.axes}
        return {
            "name": self.name,
            **{key: getattr(self, key) for key in keys},
            **own,
            **self.loss.to_config(),
        }

    @property
    def _width(self) -> int:
        return self.n_qubits * (3 if self.ansatz == "strongly-entangling" else 1)

    def _circuit(self) -> Circuit:
        """The circuit up to the exit; its weights are those of its layers, then the poles."""
        circuit = build_circuit(
            n_qubits=self.n_qubits,
            encoder=self.encoder,
            ansatz=self.ansatz,
            rotation=self.rotation,
            layers=self.depth,
            n_features=self.n_features,
            observables=[pauli_z(wire, self.n_qubits) for wire in range(self.n_measured)],
        )
        if not self.turned:
            return circuit
        # Z behind RY(-polar) RZ(-azimuth) is the observable n . sigma of the axis n at (polar, azimuth)
        gates = [
            Gate(name, (wire,), (Angle.weight(circuit.n_weights + 2 * wire + place, scale=-1.0),))
            for wire in range(self.n_measured)
            for name, place in (("RZ", 1), ("RY", 0))
        ]
        return replace(
            circuit,
            gates=(*circuit.gates, *gates),
            n_weights=circuit.n_weights + 2 * self.n_measured,
        )

    def _logits(
        self, params: Tensor, features: Tensor, execution: Execution, generator: Generators | None
    ) -> Tensor:
        if not self.whole:
            used = params[..., : self.depth * self._width]
            tail = params[..., self.layers * self._width :]
            params = torch.cat([used, tail], dim=-1) if self.turned else used
        scores = measure(self.read, params, features, execution, generator)
        return scores_to_logits(scores, self.scale, self.loss)


@dataclass(frozen=True, kw_only=True)
class LayeredKeys(ModelKeys):
    """The keys of a circuit with exits.

    Attributes:
        n_qubits: Qubits; required.
        layers: Layers of weights.
        encoder: How features enter: as angles once, as angles before every layer, or as amplitudes.
        ansatz: The gates of a layer.
        rotation: The axis of the angles.
        scale: What expectation values are multiplied by; what suits the loss by default.
        exit: Behind how many layers the answer is read; behind the last by default.
        poles: Whether the axes of the measurements are parameters.
        axes: ``"poles"`` to measure along them, ``"z"`` to read the model of whoever lacks them.
    """

    n_qubits: int | None = None
    layers: int = 3
    encoder: Encoder = "angle"
    ansatz: Ansatz = "strongly-entangling"
    rotation: Rotation = "X"
    scale: float | None = None
    exit: int | None = None
    poles: bool = False
    axes: Literal["poles", "z"] = "poles"


@register("model", "layered")
@configured_by(LayeredKeys)
def _build(config: Mapping[str, object]) -> Layered:
    """A variational circuit that can be read behind any layer, with poles as further parameters."""
    fields = Fields(config, LayeredKeys)
    loss, n_qubits = fields.loss(), fields.integer("n_qubits")
    return Layered(
        n_qubits=n_qubits,
        layers=fields.integer("layers"),
        encoder=fields.text("encoder"),  # type: ignore[arg-type]
        ansatz=fields.text("ansatz"),  # type: ignore[arg-type]
        rotation=fields.text("rotation"),  # type: ignore[arg-type]
        n_features=fields.integer("n_features") if "n_features" in fields else n_qubits,
        n_classes=fields.integer("n_classes", minimum=2),
        scale=fields.number("scale") if "scale" in fields else loss.scale,
        exit=fields.integer("exit") if "exit" in fields else None,
        poles=fields.flag("poles"),
        axes=fields.text("axes"),  # type: ignore[arg-type]
        loss=loss,
    )
