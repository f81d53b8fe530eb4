"""How features enter a circuit."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

from qflsec.base.errors import ConfigError
from qflsec.circuits import Angle, Circuit, weight_periods
from qflsec.circuits.forms import Read

__all__ = ["angle_features", "measures_alone", "swap_roles"]


def angle_features(circuit: Circuit) -> bool:
    """Whether every expectation value has the period 2 pi in every feature."""
    if not circuit.n_features or _has_amplitudes(circuit):
        return False
    return all(period == 2 * math.pi for period in weight_periods(swap_roles(circuit)))


def measures_alone(circuit: Circuit) -> bool:
    """Whether features reach values and gradients through measured values alone.

    An angle that multiplies a feature with a weight passes the feature into that weight's gradient: its derivative
    is a measured value times the feature, and no property of the measurement hides it. One that adds them does not:
    its derivative in the weight is what it is without the feature.
    """
    products = (factors for form in circuit.derived for _, factors in form.terms)
    return all(len({read.kind for factor in own for read in factor.reads()}) < 2 for own in products)


@lru_cache(maxsize=256)
def swap_roles(circuit: Circuit) -> Circuit:
    """The same circuit with features as its weights and weights as its features.

    What is known of weights (periods, the parameter-shift rule) holds of features through it.

    Raises:
        ConfigError: Features enter as amplitudes, which are no rotation angles.
    """
    if _has_amplitudes(circuit):
        raise ConfigError(
            "amplitude-encoded features cannot be shifted",
            fix="use gradient='autograd', or an encoder of angles",
        )
    return Circuit(
        n_qubits=circuit.n_qubits,
        gates=tuple(replace(gate, angles=tuple(map(_swapped, gate.angles))) for gate in circuit.gates),
        observables=circuit.observables,
        n_weights=circuit.n_features,
        n_features=circuit.n_weights,
        derived=tuple(form.renamed(_exchanged) for form in circuit.derived),
    )


def _swapped(angle: Angle) -> Angle:
    if angle.kind in ("constant", "derived"):
        return angle
    return replace(angle, kind="feature" if angle.kind == "weight" else "weight")


def _exchanged(read: Read) -> Read:
    return Read("feature" if read.kind == "weight" else "weight", read.index)


def _has_amplitudes(circuit: Circuit) -> bool:
    return any(gate.name == "AmplitudeEmbedding" for gate in circuit.gates)
