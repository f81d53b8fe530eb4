"""Brickwork: one graph for all circuits of a size, so that the server does not learn the architecture.

A stage is a column of bricks on neighbouring wires, starting at wire 0 in even stages and at wire 1 in odd
ones. On each wire a brick is four J steps, with a CZ after the second and after the fourth: RX RZ, CZ,
RX RZ, CZ. Without RX in its second half it turns each wire by Z X Z; with it, it is exp(-i a/2 Z X).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from qflsec.circuits import Circuit, Gate
from qflsec.circuits.gates import CONSTANT
from qflsec.circuits.lowering import Rotation, lower
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.pattern import NodeAngle, Pattern, Step, build_pattern

__all__ = ["brickwork_nodes", "brickwork_pattern"]


@dataclass(eq=False)
class _Turn:
    """A rotation about Z, X, or ZX with the target last."""

    kind: Literal["Z", "X", "ZX"]
    wires: tuple[int, ...]
    angle: NodeAngle


def brickwork_nodes(n_wires: int, stages: int) -> int:
    """The size of the graph: four nodes for each wire and stage."""
    return 4 * n_wires * stages


def brickwork_pattern(circuit: Circuit, wires: tuple[int, ...], *, stages: int | None = None) -> Pattern:
    """Embed a circuit whose wires are read in the computational basis.

    The price beside the circuit's own graph is about four nodes for every wire and brick column: a chain
    of CNOTs between neighbours takes a brick each, in turn; one between wires d apart takes 3 (d - 1) + 1.

    Args:
        circuit: The circuit.
        wires: The wires whose bits are wanted; the server measures all.
        stages: Number of stages; as many as the circuit needs when None. To hide which of several circuits
            is run, give all of them the same number.

    Source:
        Broadbent, Fitzsimons and Kashefi, Universal blind quantum computation, FOCS 2009, section 4,
        figures 1 and 3.

    Raises:
        BlindError: The circuit needs more stages.
    """
    writer = _TurnWriter(circuit.n_qubits)
    line = list(range(circuit.n_qubits))
    for gate in circuit.gates:
        writer.gate(gate, line)
    bricks: list[list[tuple[NodeAngle, ...]]] = []
    while writer.busy() or not bricks:
        bricks.append(_stage(writer.queues, len(bricks)))
    if stages is not None and stages < len(bricks):
        raise BlindError("too few stages of brickwork", got=stages, expected=f"at least {len(bricks)}")
    idle: tuple[NodeAngle, ...] = (NodeAngle(),) * 4
    rest = [[idle] * circuit.n_qubits] * ((stages or len(bricks)) - len(bricks))
    return build_pattern(_steps(bricks + rest), [(line[wire], 0) for wire in wires])


def _pairs(stage: int, n_wires: int) -> list[tuple[int, int]]:
    return [(wire, wire + 1) for wire in range(stage % 2, n_wires - 1, 2)]


def _steps(bricks: list[list[tuple[NodeAngle, ...]]]) -> list[Step]:
    n = len(bricks[0])
    steps = [Step("plus", (wire,)) for wire in range(n)]
    for stage, columns in enumerate(bricks):
        for column in range(4):
            last = stage == len(bricks) - 1 and column == 3
            steps += [Step("read" if last else "j", (wire,), columns[wire][column]) for wire in range(n)]
            if column % 2 and not last:
                steps += [Step("cz", pair) for pair in _pairs(stage, n)]
    return steps


def _stage(queues: list[deque[_Turn]], stage: int) -> list[tuple[NodeAngle, ...]]:
    """Take from each wire's queue what fits into one stage."""
    n = len(queues)

    def take(wire: int, kind: str) -> NodeAngle:
        if queues[wire] and queues[wire][0].kind == kind:
            return queues[wire].popleft().angle
        return NodeAngle()

    columns = [[take(wire, "Z"), take(wire, "X")] for wire in range(n)]
    alone = set(range(n))
    for a, b in _pairs(stage, n):
        alone -= {a, b}
        if queues[a] and queues[b] and queues[a][0] is queues[b][0]:
            turn = queues[a].popleft()
            queues[b].popleft()
            control, target = turn.wires
            columns[control] += [take(control, "Z"), NodeAngle()]
            columns[target] += [NodeAngle(), turn.angle]
        else:
            for wire in (a, b):
                columns[wire] += [take(wire, "Z"), NodeAngle()]
    for wire in alone:
        columns[wire] += [take(wire, "Z"), take(wire, "X")]
    return [tuple(column) for column in columns]


class _TurnWriter:
    """A queue of rotations for each wire, which starts in |+> and is first turned to |0>."""

    def __init__(self, n_wires: int) -> None:
        self.queues: list[deque[_Turn]] = [deque() for _ in range(n_wires)]
        for wire in range(n_wires):
            self._turn("Z", wire, eighths=2)
            self._turn("X", wire, eighths=2)

    def busy(self) -> bool:
        """Whether any wire waits for more than a last RZ, which no readout sees."""
        return any(turn.kind != "Z" for queue in self.queues for turn in queue)

    def gate(self, gate: Gate, line: list[int]) -> None:
        """Queue one gate; ``line`` holds the place of each of the circuit's wires."""
        if gate.name == "AmplitudeEmbedding":
            raise BlindError(
                "amplitude embedding has no affine angles to hide", fix="use an angle or re-uploading encoder"
            )
        if len(gate.wires) == 2 and gate.name != "SWAP":
            self._meet(gate.wires[0], gate.wires[1], line)
        wires = tuple(line[wire] for wire in gate.wires)
        if gate.name == "SWAP":
            line[gate.wires[0]], line[gate.wires[1]] = wires[1], wires[0]
        elif gate.name in CONSTANT:
            self._constant(gate.name, wires)
        else:
            for operation in lower(gate):
                assert isinstance(operation, Rotation)
                letters = [(line[w], letter) for w, letter in operation.letters]
                self._rotation(letters, NodeAngle((operation.angle,)))

    def _meet(self, a: int, b: int, line: list[int]) -> None:
        while abs(line[a] - line[b]) > 1:
            here = line[a]
            there = here + (1 if line[b] > here else -1)
            for control, target in ((here, there), (there, here), (here, there)):
                self._constant("CNOT", (control, target))
            neighbour = line.index(there)
            line[a], line[neighbour] = there, here

    def _constant(self, name: str, wires: tuple[int, ...]) -> None:
        wire = wires[-1]
        if name in ("Z", "S", "T", "X", "SX"):
            axis: Literal["Z", "X"] = "X" if name in ("X", "SX") else "Z"
            self._turn(axis, wire, eighths={"T": 1, "S": 2, "SX": 2}.get(name, 4))
        elif name == "Y":
            self._constant("Z", wires)
            self._constant("X", wires)
        elif name == "H":
            for axis in ("Z", "X", "Z"):
                self._turn(axis, wire, eighths=2)
        else:
            self._change(wire, {"CY": "Y", "CZ": "Z"}.get(name, "X"), 1)
            self._turn(
                "X", wire, eighths=2
            )  # joins what stands before the brick, and the Z what stands in it
            self._push(_Turn("ZX", wires, NodeAngle((), -2)))
            self._turn("Z", wires[0], eighths=2)
            self._change(wire, {"CY": "Y", "CZ": "Z"}.get(name, "X"), -1)

    def _rotation(self, letters: list[tuple[int, str]], angle: NodeAngle) -> None:
        if len(letters) == 1:
            ((wire, letter),) = letters
            if letter == "Z":
                self._push(_Turn("Z", (wire,), angle))
                return
            self._change(wire, letter, 1)
            self._push(_Turn("X", (wire,), angle))
            self._change(wire, letter, -1)
            return
        (a, left), (b, right) = sorted(letters, key=lambda item: item[1] != "Z")
        self._to_z(a, left, 1)
        self._change(b, right, 1)
        self._push(_Turn("ZX", (a, b), angle))
        self._change(b, right, -1)
        self._to_z(a, left, -1)

    def _change(self, wire: int, letter: str, sign: int) -> None:
        """Turn a letter into X before a rotation (sign 1) and back after it (-1)."""
        if letter == "Y":
            self._turn("Z", wire, eighths=-2 * sign)
        elif letter == "Z":
            self._constant("H", (wire,))

    def _to_z(self, wire: int, letter: str, sign: int) -> None:
        if letter == "Y":
            self._turn("X", wire, eighths=2 * sign)
        elif letter == "X":
            self._constant("H", (wire,))

    def _turn(self, axis: Literal["Z", "X"], wire: int, *, eighths: int) -> None:
        self._push(_Turn(axis, (wire,), NodeAngle((), eighths)))

    def _push(self, turn: _Turn) -> None:
        queue = self.queues[turn.wires[0]]
        if len(turn.wires) == 1 and queue and queue[-1].kind == turn.kind:
            before = queue[-1].angle
            queue[-1] = _Turn(
                turn.kind,
                turn.wires,
                NodeAngle(before.terms + turn.angle.terms, (before.eighths + turn.angle.eighths) % 8),
            )
            if queue[-1].angle == NodeAngle():
                queue.pop()
            return
        for wire in turn.wires:
            self.queues[wire].append(turn)
