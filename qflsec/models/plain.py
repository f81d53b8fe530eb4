"""Models that are one circuit and a scale, which local training in one compiled call knows."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.circuits import Circuit
from qflsec.models.base import Model
from qflsec.models.layered import Layered
from qflsec.models.losses import CrossEntropy, Hinge, MeanSquaredError
from qflsec.models.vqc import Vqc

__all__ = ["PlainCircuit", "plain_circuit"]


@dataclass(frozen=True, kw_only=True)
class PlainCircuit:
    """A circuit whose scaled expectation values go into a loss that the compiled kernel knows.

    Attributes:
        circuit: The circuit.
        scale: What expectation values are multiplied by.
        loss: The loss: ``"cross-entropy"``, ``"squares"`` or ``"hinge"``.
        low: The target of classes other than the label, 0 or -1.
    """

    circuit: Circuit
    scale: float
    loss: str
    low: float


def plain_circuit(model: Model) -> PlainCircuit | None:
    """What such a model is made of; None for all others, and for circuits of derived inputs."""
    circuit = _circuit(model)
    if circuit is None or circuit.derived or model.noise is not None:
        return None
    names = {CrossEntropy: "cross-entropy", MeanSquaredError: "squares", Hinge: "hinge"}
    name = names.get(type(model.loss))
    if name is None:
        return None
    zero_one = isinstance(model.loss, MeanSquaredError) and model.loss.targets == "zero-one"
    assert isinstance(model, Vqc | Layered)
    return PlainCircuit(circuit=circuit, scale=model.scale, loss=name, low=0.0 if zero_one else -1.0)


def _circuit(model: Model) -> Circuit | None:
    """The circuit whose weights are all of a model's parameters."""
    if type(model) is Layered:
        return model.read if model.whole else None
    return model.circuit if type(model) is Vqc else None
