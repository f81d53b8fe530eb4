"""In which order gates and channels act, for whatever makes a plan of a noisy circuit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from qflsec.circuits.circuit import Angle, Circuit
from qflsec.circuits.errors import CircuitError
from qflsec.circuits.lowering import Operation, lower
from qflsec.circuits.noise import NoiseModel
from qflsec.circuits.placed_noise import Noise, PlacedNoise, Scaled, Term
from qflsec.circuits.transfer import PAULIS, Real, WeightedPermutation, diagonal, transfer_matrix

__all__ = ["NoisyOrder", "schedule_all", "turned"]


class NoisyOrder(Protocol):
    """Takes operations and channels in the order of their action.

    Attributes:
        n: Wires.
        frame: How the rows are read that follow.
    """

    n: int
    frame: WeightedPermutation

    def add(self, operation: Operation) -> None:
        """Take the next operation."""

    def constant(self, wire: int, matrix: Real) -> None:
        """Take the transfer matrix of a constant gate or a channel on one wire."""

    def flush(self, wires: Sequence[int]) -> None:
        """Emit what is pending on these wires."""

    def settle(self, wires: Sequence[int]) -> None:
        """Emit what is pending on these wires, in front of what acts on several of them."""

    def terms(self, terms: Sequence[Term]) -> None:
        """Take channels of single wires, and of pairs of wires that scale words."""
        for term in terms:
            if isinstance(term, Scaled):
                self.settle(term.wires)
                self.frame = diagonal(term.factors, term.wires, self.n).after(self.frame)
            else:
                self.constant(term.wire, term.matrix)

    def channel(self, noise: NoiseModel, wires: Sequence[int]) -> None:
        """Take a channel on each of the wires, or on the register."""
        if noise.kind == "global-depolarizing":
            # commutes with every unitary, and a model has one kind of channel: what is pending may come later
            kept = np.full(4**self.n, 1 - noise.p)
            kept[0] = 1.0
            self.frame = diagonal(kept, range(self.n), self.n).after(self.frame)
            return
        matrix = transfer_matrix(noise.kraus())
        for wire in wires:
            self.constant(wire, matrix)


def schedule_all(order: NoisyOrder, circuit: Circuit, noise: Noise | None, count: int) -> None:
    """Hand over a circuit without derived inputs, under noise that its first ``count`` gates see.

    Raises:
        CircuitError: An amplitude embedding.
    """
    reading = [k for k, gate in enumerate(circuit.gates) if any(a.kind == "feature" for a in gate.angles)]
    encoded = reading[-1] + 1 if reading else 0
    everywhere = range(circuit.n_qubits)
    for k in range(len(circuit.gates) + 1):
        if isinstance(noise, PlacedNoise):
            order.terms(noise.at_end if k == count else ())
        elif noise and (noise.where, k) in (("encoded", encoded), ("measurement", count)):
            order.channel(noise, everywhere)
        if k == len(circuit.gates):
            break
        gate = circuit.gates[k]
        if gate.name == "AmplitudeEmbedding":
            raise CircuitError("the noisy kernel has no amplitude embedding", fix="encode by rotations")
        for operation in lower(gate):
            order.add(operation)
        if k >= count or noise is None:
            continue
        if isinstance(noise, PlacedNoise):
            order.terms(noise.after[k])
        elif noise.where == "every-gate" or (noise.where == "two-qubit-gates" and len(gate.wires) > 1):
            order.channel(noise, gate.wires)
    order.flush(everywhere)


def turned(axis: str, angle: Angle) -> Real:
    """The transfer matrix of a rotation by a constant angle: ``(4, 4)``."""
    half = angle.offset / 2
    return transfer_matrix([np.cos(half) * PAULIS["I"] - 1j * np.sin(half) * PAULIS[axis]])
