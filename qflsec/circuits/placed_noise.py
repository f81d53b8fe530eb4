"""Noise that differs from gate to gate: what acts after each gate of one circuit, as transfer matrices."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.circuits.noise import NoiseModel
from qflsec.circuits.transfer import Real

__all__ = ["Noise", "OneWire", "PlacedNoise", "Scaled", "Term"]


@dataclass(frozen=True, eq=False)
class OneWire:
    """A channel on one wire.

    Shapes:
        matrix: ``(4, 4)``
    """

    wire: int
    matrix: Real


@dataclass(frozen=True, eq=False)
class Scaled:
    """A channel that scales the Pauli words of two wires, such as depolarization of both together.

    Shapes:
        factors: ``(16,)``, by the letters of the first wire and then of the second
    """

    wires: tuple[int, int]
    factors: Real


Term = OneWire | Scaled


@dataclass(frozen=True, eq=False)
class PlacedNoise:
    """The channels of one circuit.

    Attributes:
        after: The channels after each gate, in the order of their action.
        at_end: Those in front of the measurement, such as errors of the readout.
    """

    after: tuple[tuple[Term, ...], ...]
    at_end: tuple[Term, ...] = ()


Noise = NoiseModel | PlacedNoise
"""What the noisy kernels take."""
