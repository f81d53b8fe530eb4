"""How features enter a circuit."""

from __future__ import annotations

import math
from dataclasses import replace

from qflsec.base.errors import ConfigError
from qflsec.circuits import Angle, Circuit

__all__ = ["angle_features", "features_as_weights"]


def angle_features(circuit: Circuit) -> bool:
    """Whether every expectation value has the period 2 pi in every feature."""
    if not circuit.n_features or any(gate.name == "AmplitudeEmbedding" for gate in circuit.gates):
        return False
    periods = features_as_weights(circuit).weight_periods[circuit.n_weights :]
    return all(period == 2 * math.pi for period in periods)


def features_as_weights(circuit: Circuit) -> Circuit:
    """The same circuit, taking weights and features as one vector of weights, and no features.

    Raises:
        ConfigError: Features enter as amplitudes, which are no rotation angles.
    """
    if any(gate.name == "AmplitudeEmbedding" for gate in circuit.gates):
        raise ConfigError(
            "amplitude-encoded features cannot be shifted",
            fix="use gradient='autograd', or an encoder of angles",
        )

    def merged(angle: Angle) -> Angle:
        if angle.kind != "feature":
            return angle
        return replace(angle, kind="weight", index=circuit.n_weights + angle.index)

    return Circuit(
        n_qubits=circuit.n_qubits,
        gates=tuple(replace(gate, angles=tuple(map(merged, gate.angles))) for gate in circuit.gates),
        observables=circuit.observables,
        n_weights=circuit.n_weights + circuit.n_features,
        n_features=0,
    )
