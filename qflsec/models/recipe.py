"""Reading a circuit from a model's configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qflsec.base.errors import ConfigError
from qflsec.circuits import Circuit, build_circuit, pauli_z
from qflsec.circuits.build import Ansatz, Encoder, Rotation
from qflsec.models.fields import Fields, ModelKeys

__all__ = ["CIRCUIT_FIELDS", "CircuitKeys", "Recipe", "read_circuit"]

Recipe = tuple[tuple[str, object], ...]


@dataclass(frozen=True, kw_only=True)
class CircuitKeys(ModelKeys):
    """The keys of a circuit.

    Attributes:
        n_qubits: Qubits; required, unless ``circuit`` is given.
        layers: Layers of weights.
        encoder: How features enter: as angles once, as angles before every layer, as amplitudes, or by both.
        amplitude_qubits: Wires that hold amplitudes, for encoder ``amplitude-angle``.
        ansatz: The gates of a layer.
        rotation: The axis of the angles.
        circuit: A whole circuit in place of these keys, as ``Circuit.to_config`` writes it.
    """

    n_qubits: int | None = None
    layers: int = 3
    encoder: Encoder = "angle"
    ansatz: Ansatz = "strongly-entangling"
    rotation: Rotation = "X"
    amplitude_qubits: int | None = None
    circuit: Mapping[str, object] | None = None


CIRCUIT_FIELDS = tuple(
    part.name for part in dataclasses.fields(CircuitKeys) if part.name not in ModelKeys.__annotations__
)


def read_circuit(fields: Fields, *, n_observables: int, n_features: int | None) -> tuple[Circuit, Recipe]:
    """The circuit that a model's configuration describes, and its recipe with defaults written out.

    The configuration holds either ``circuit`` (see ``Circuit.to_config``), which has no recipe, or the
    arguments of :func:`qflsec.circuits.build_circuit`. Pauli Z is measured on the first wires.

    Args:
        fields: The configuration.
        n_observables: Number of wires to be measured.
        n_features: Features of the circuit; as many as it has room for if None.

    Raises:
        ConfigError: The configuration contradicts itself or does not fit.
    """
    if "circuit" in fields:
        if clash := [key for key in CIRCUIT_FIELDS if key != "circuit" and key in fields]:
            raise ConfigError("'circuit' already determines the circuit", got=f"also {', '.join(clash)}")
        circuit = Circuit.from_config(fields.mapping("circuit"))
        if n_features not in (None, circuit.n_features):
            raise ConfigError(
                "n_features does not fit the circuit", got=n_features, expected=circuit.n_features
            )
        return circuit, ()
    n_qubits = fields.integer("n_qubits")
    if n_observables > n_qubits:
        raise ConfigError(
            f"{n_observables} classes are too many for {n_qubits} qubits",
            expected="one measured wire for each class",
            fix=f"set n_qubits to {n_observables} or more, or use the model 'hybrid'",
        )
    recipe: dict[str, Any] = {
        "n_qubits": n_qubits,
        "layers": fields.integer("layers"),
        "encoder": fields.text("encoder"),
        "ansatz": fields.text("ansatz"),
        "rotation": fields.text("rotation"),
    }
    if "amplitude_qubits" in fields:
        recipe["amplitude_qubits"] = fields.integer("amplitude_qubits")
    observables = [pauli_z(wire, n_qubits) for wire in range(n_observables)]
    circuit = build_circuit(**recipe, n_features=n_features, observables=observables)
    return circuit, (*recipe.items(), ("n_features", circuit.n_features))
