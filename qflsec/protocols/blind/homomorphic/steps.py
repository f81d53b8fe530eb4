"""From a circuit to what the client prepares and what the server does under the pad."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from qflsec.circuits import Angle, Circuit, Gate, refuse_derived
from qflsec.circuits.gates import CONSTANT
from qflsec.circuits.lowering import Rotation, lower
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.homomorphic.laboratory import Clifford

__all__ = ["PadStep", "PaddedCircuit", "padded_circuit"]

_ON_GRID = 1e-12
"""How far from a multiple of pi / 2 rounding may put a constant angle that is one."""


@dataclass(frozen=True)
class PadStep:
    """One step of the server.

    Attributes:
        kind: A Clifford gate; or ``phase``, the gate diag(1, exp(i angle)), which takes a gadget.
        wires: Its wires.
        angle: The phase's angle.
    """

    kind: Clifford | Literal["phase"]
    wires: tuple[int, ...]
    angle: Angle | None = None


@dataclass(frozen=True, kw_only=True)
class PaddedCircuit:
    """A circuit in two parts.

    Attributes:
        n_wires: Wires.
        preparation: For each wire, the one-wire gates that the client does before it pads.
        steps: What the server does.
    """

    n_wires: int
    preparation: tuple[tuple[Gate, ...], ...]
    steps: tuple[PadStep, ...]

    @property
    def n_gadgets(self) -> int:
        """How many steps are not Clifford."""
        return sum(step.kind == "phase" for step in self.steps)


def padded_circuit(circuit: Circuit) -> PaddedCircuit:
    """Split a circuit: the client encodes its features on single qubits, the server does the rest.

    The server knows the circuit and its weights; the pad hides the features and the results.

    Raises:
        BlindError: A feature enters after the server's first gate on its wire, or an encoding that single
            qubits cannot carry.
    """
    refuse_derived(circuit, "homomorphic delegation", error=BlindError)
    writer = _Writer(circuit.n_qubits)
    for gate in circuit.gates:
        writer.gate(gate)
    return PaddedCircuit(
        n_wires=circuit.n_qubits,
        preparation=tuple(map(tuple, writer.preparation)),
        steps=tuple(writer.steps),
    )


@dataclass
class _Writer:
    """Lists of gates and steps while a circuit is read."""

    n_wires: int
    preparation: list[list[Gate]] = field(init=False)
    steps: list[PadStep] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.preparation = [[] for _ in range(self.n_wires)]

    def gate(self, gate: Gate) -> None:
        """Give one gate to the client or to the server."""
        if gate.name == "AmplitudeEmbedding":
            raise BlindError(
                "single qubits cannot carry an amplitude embedding", fix="use an angle encoder, one wire each"
            )
        kinds = {angle.kind for angle in gate.angles}
        if len(gate.wires) == 1 and gate.wires[0] not in self.taken and "weight" not in kinds:
            self.preparation[gate.wires[0]].append(gate)
            return
        if "feature" in kinds:
            raise BlindError(
                "a feature enters after the server's first gate on its wire",
                got=f"{gate.name} on {gate.wires}",
                fix="use an encoder that stands before all weights, on single wires; re-uploading needs blind "
                "computation",
            )
        self.taken.update(gate.wires)
        if gate.name in CONSTANT:
            self._constant(gate.name, gate.wires)
        else:
            for operation in lower(gate):
                assert isinstance(operation, Rotation)
                self._rotation(operation)

    def _constant(self, name: str, wires: tuple[int, ...]) -> None:
        one = wires[-1:]
        if name in ("H", "S", "X", "Z", "CNOT", "CZ"):
            self.steps.append(PadStep(name, wires))  # type: ignore[arg-type]  # narrowed by the test
        elif name == "T":
            self.steps.append(PadStep("phase", wires, Angle.constant(math.pi / 4)))
        elif name == "Y":
            self._write("Z", "X", wires=wires)
        elif name == "SX":
            self._write("H", "S", "H", wires=wires)
        elif name == "CY":
            self._write("S", "Z", wires=one)
            self.steps.append(PadStep("CNOT", wires))
            self._write("S", wires=one)
        else:
            a, b = wires
            self.steps += [PadStep("CNOT", pair) for pair in ((a, b), (b, a), (a, b))]

    def _write(self, *kinds: Clifford, wires: tuple[int, ...]) -> None:
        self.steps += [PadStep(kind, wires) for kind in kinds]

    def _rotation(self, rotation: Rotation) -> None:
        """A rotation about a Pauli word: its letters to Z, their parity to the last wire, a phase, and back."""
        wires = [wire for wire, _ in rotation.letters]
        for wire, letter in rotation.letters:
            if letter == "Y":
                self._write("S", "Z", wires=(wire,))
            if letter != "Z":
                self._write("H", wires=(wire,))
        ladder = [PadStep("CNOT", pair) for pair in pairwise(wires)]
        self.steps += ladder
        self._phase(wires[-1], rotation.angle)
        self.steps += reversed(ladder)
        for wire, letter in rotation.letters:
            if letter != "Z":
                self._write("H", wires=(wire,))
            if letter == "Y":
                self._write("S", wires=(wire,))

    def _phase(self, wire: int, angle: Angle) -> None:
        quarters = angle.offset / (math.pi / 2)
        if angle.kind == "constant" and abs(quarters - round(quarters)) < _ON_GRID:
            self.steps += [PadStep("S", (wire,))] * (round(quarters) % 4)
            return
        self.steps.append(PadStep("phase", (wire,), angle))
