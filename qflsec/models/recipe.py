"""Reading a circuit from a model's configuration."""

from __future__ import annotations

from typing import Any

from qflsec.base.errors import ConfigError
from qflsec.circuits import Circuit, build_circuit, pauli_z
from qflsec.models.fields import Fields

__all__ = ["CIRCUIT_FIELDS", "Recipe", "read_circuit"]

Recipe = tuple[tuple[str, object], ...]
CIRCUIT_FIELDS = ("n_qubits", "layers", "encoder", "ansatz", "rotation", "circuit")


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
        "layers": fields.integer("layers", 3),
        "encoder": fields.text("encoder", "angle"),
        "ansatz": fields.text("ansatz", "strongly-entangling"),
        "rotation": fields.text("rotation", "X"),
    }
    observables = [pauli_z(wire, n_qubits) for wire in range(n_observables)]
    circuit = build_circuit(**recipe, n_features=n_features, observables=observables)
    return circuit, (*recipe.items(), ("n_features", circuit.n_features))
