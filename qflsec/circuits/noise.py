"""Noise as a value: which channel, and where it acts, in the convention of the privacy literature.

``depolarizing`` with parameter p is rho -> (1 - p) rho + p I / 2 (Qiskit's convention); PennyLane's
``DepolarizingChannel(q)`` has q = 3 p / 4.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qflsec.base import finite
from qflsec.circuits.errors import CircuitError

__all__ = ["KINDS", "PLACES", "NoiseModel"]

KINDS = (
    "global-depolarizing",
    "local-depolarizing",
    "amplitude-damping",
    "generalized-amplitude-damping",
    "phase-damping",
    "bit-flip",
    "phase-flip",
)
PLACES = ("encoded", "every-gate", "two-qubit-gates", "measurement")
_PAULIS = [
    np.array(m, complex) for m in ([[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]])
]


@finite
@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """One channel at one kind of place.

    Attributes:
        kind: One of :data:`KINDS`. All but the global one act on each wire alone.
        p: The literature's p; the probability of relaxation (gamma) or of dephasing (lambda) for damping.
        where: ``"encoded"``: on all wires, once, after the last gate that reads a feature; ``"every-gate"``
            and ``"two-qubit-gates"``: on the wires of the gate, after it; ``"measurement"``: on all wires,
            after the last gate.
        ground: The weight of |0> in the state to which generalized amplitude damping relaxes.

    Raises:
        CircuitError: A value is unknown or out of range.
    """

    kind: str
    p: float
    where: str = "measurement"
    ground: float = 1.0

    def __post_init__(self) -> None:
        for name, value, known in (("kind", self.kind, KINDS), ("place", self.where, PLACES)):
            if value not in known:
                raise CircuitError(f"unknown {name} of noise", got=repr(value), expected=", ".join(known))
        for name, number in (("p", self.p), ("ground", self.ground)):
            if isinstance(number, bool) or not 0 <= number <= 1:
                raise CircuitError(f"{name!r} of noise out of range", got=number, expected="0 to 1")
        if self.kind == "global-depolarizing" and self.where not in ("encoded", "measurement"):
            raise CircuitError(
                "global noise acts on the whole register", got=self.where, expected="encoded or measurement"
            )
        if self.kind != "generalized-amplitude-damping" and self.ground != 1.0:
            raise CircuitError("'ground' is a parameter of generalized-amplitude-damping", got=self.kind)

    def to_config(self) -> dict[str, object]:
        """Every parameter, JSON-able."""
        return asdict(self)

    def repeated(self, times: int) -> NoiseModel:
        """The noise whose channel is this one so many times over: each kind is closed under composition.

        Args:
            times: How often, at least once.

        Raises:
            CircuitError: Less than once.
        """
        if times < 1:
            raise CircuitError("noise repeated less than once", got=times, expected="at least 1")
        if self.kind in ("bit-flip", "phase-flip"):  # an odd number of flips
            return replace(self, p=(1 - (1 - 2 * self.p) ** times) / 2)
        return replace(self, p=1 - (1 - self.p) ** times)

    def kraus(self) -> tuple[npt.NDArray[np.complex128], ...]:
        """The Kraus operators on one wire.

        Raises:
            CircuitError: The noise is global.
        """
        return tuple(np.asarray(operator, np.complex128) for operator in self._operators())

    def _operators(self) -> tuple[npt.NDArray[Any], ...]:
        p, g = self.p, self.ground
        a, b = math.sqrt(1 - p), math.sqrt(p)
        match self.kind:
            case "global-depolarizing":
                raise CircuitError("global noise has no Kraus operators on one wire", got=self.kind)
            case "local-depolarizing":
                weights = [1 - 0.75 * p, p / 4, p / 4, p / 4]
                return tuple(math.sqrt(w) * m for w, m in zip(weights, _PAULIS, strict=True))
            case "bit-flip":
                return a * _PAULIS[0], b * _PAULIS[1]
            case "phase-flip":
                return a * _PAULIS[0], b * _PAULIS[3]
            case "phase-damping":
                return np.diag([1, a]).astype(complex), np.diag([0, b]).astype(complex)
        up, down = math.sqrt(g), math.sqrt(1 - g)
        return (
            up * np.array([[1, 0], [0, a]], complex),
            up * np.array([[0, b], [0, 0]], complex),
            down * np.array([[a, 0], [0, 1]], complex),
            down * np.array([[0, 0], [b, 0]], complex),
        )
