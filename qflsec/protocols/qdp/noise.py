"""Noise channels in one convention: that of the privacy literature.

``depolarizing(p)`` is rho -> (1 - p) rho + p I / 2, as in the literature and Qiskit. PennyLane's
``DepolarizingChannel(q)`` applies each Pauli with probability q / 3: p = 4 q / 3.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from qflsec.protocols.qdp.channel import Channel, Complex, kron
from qflsec.protocols.qdp.errors import QdpError

__all__ = [
    "amplitude_damping",
    "bit_flip",
    "depolarizing",
    "generalized_amplitude_damping",
    "global_depolarizing",
    "pennylane_depolarizing_probability",
    "phase_damping",
    "thermal_relaxation",
]

_PAULIS: tuple[Complex, ...] = tuple(
    np.array(m, dtype=np.complex128)
    for m in ([[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]])
)


def _probability(name: str, value: float, most: float = 1.0) -> float:
    if not 0 <= value <= most:
        raise QdpError(f"{name!r} is out of range", got=value, expected=f"0 to {most:g}")
    return float(value)


def pennylane_depolarizing_probability(p: float) -> float:
    """The q of PennyLane's ``DepolarizingChannel`` that is the literature's p."""
    return 0.75 * _probability("p", p)


def depolarizing(p: float) -> Channel:
    """The map rho -> (1 - p) rho + p I / 2 on one qubit."""
    return global_depolarizing(1, p)


def global_depolarizing(n_qubits: int, p: float) -> Channel:
    """The map rho -> (1 - p) rho + p I / 2^n on n qubits together."""
    _probability("p", p)
    words = [kron(*letters) for letters in product(_PAULIS, repeat=n_qubits)]
    share = p / len(words)
    weights = [1 - p + share, *[share] * (len(words) - 1)]
    return Channel(tuple(math.sqrt(w) * word for w, word in zip(weights, words, strict=True) if w > 0))


def generalized_amplitude_damping(gamma: float, ground: float) -> Channel:
    """Relaxation with probability gamma towards |0> with weight ``ground``, else towards |1>.

    PennyLane's ``GeneralizedAmplitudeDamping(gamma, p)`` has p = 1 - ``ground``: there p is the weight of |1>.
    """
    g, p = _probability("gamma", gamma), _probability("ground", ground)
    a, b = math.sqrt(1 - g), math.sqrt(g)
    operators = [
        math.sqrt(p) * np.array([[1, 0], [0, a]]),
        math.sqrt(p) * np.array([[0, b], [0, 0]]),
        math.sqrt(1 - p) * np.array([[a, 0], [0, 1]]),
        math.sqrt(1 - p) * np.array([[0, 0], [b, 0]]),
    ]
    return Channel(tuple(k.astype(np.complex128) for k in operators if np.abs(k).any()))


def amplitude_damping(gamma: float) -> Channel:
    """Relaxation to |0> (T1 noise at zero temperature)."""
    return generalized_amplitude_damping(gamma, 1.0)


def phase_damping(lam: float) -> Channel:
    """Coherences shrink by sqrt(1 - lambda)."""
    s = _probability("lambda", lam)
    operators = [np.diag([1, math.sqrt(1 - s)]), np.diag([0, math.sqrt(s)])]
    return Channel(tuple(k.astype(np.complex128) for k in operators if np.abs(k).any()))


def bit_flip(p: float) -> Channel:
    """X with probability p."""
    _probability("p", p)
    operators = [math.sqrt(1 - p) * _PAULIS[0], math.sqrt(p) * _PAULIS[1]]
    return Channel(tuple(k for k in operators if np.abs(k).any()))


def thermal_relaxation(*, t1: float, t2: float, duration: float, excited: float) -> Channel:
    """Relaxation in time towards a thermal state.

    Args:
        t1: Relaxation time.
        t2: Dephasing time, at most 2 t1.
        duration: How long it lasts.
        excited: The weight of |1> in the thermal state; 0 at zero temperature.

    Units:
        All times in the same unit.

    Raises:
        QdpError: Times that no qubit has, or that are not finite.
    """
    if not (0 < t1 < math.inf and 0 < t2 <= 2 * t1 and 0 <= duration < math.inf):
        raise QdpError(
            "bad times",
            got=f"t1={t1}, t2={t2}, duration={duration}",
            expected="finite, 0 < t2 <= 2 t1, duration 0 or more",
        )
    gamma = -math.expm1(-duration / t1)
    relaxed = generalized_amplitude_damping(gamma, 1 - _probability("excited", excited))
    # what is left of the coherence's decay after relaxation took its square root; at t2 = 2 t1, nothing
    rate = max(0.0, 2 / t2 - 1 / t1)
    return relaxed.then(phase_damping(-math.expm1(-duration * rate)))
