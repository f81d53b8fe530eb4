"""From a circuit to measurement patterns, one for each group of commuting observables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from qflsec.circuits import Circuit, measurement_groups, refuse_derived
from qflsec.protocols.blind.brickwork import brickwork_pattern
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.pattern import NodeAngle, Pattern, Step, build_pattern
from qflsec.protocols.blind.steps import StepWriter, write_gate

__all__ = ["Delegation", "Embedding", "compile_pattern", "compile_patterns"]

Embedding = Literal["ansatz", "brickwork"]


@dataclass(frozen=True, kw_only=True)
class Delegation:
    """One pattern and what its bits say of the observables.

    Attributes:
        pattern: The pattern.
        words: For each Pauli word, the positions among the readouts whose parity is its outcome.
        coefficients: For each word, its coefficient in each observable.
    """

    pattern: Pattern
    words: tuple[tuple[int, ...], ...]
    coefficients: tuple[tuple[float, ...], ...]


@lru_cache(maxsize=64)
def compile_patterns(
    circuit: Circuit, *, embedding: Embedding = "ansatz", stages: int | None = None
) -> tuple[Delegation, ...]:
    """The patterns that together measure a circuit's observables.

    Args:
        circuit: The circuit.
        embedding: ``"ansatz"`` shows the server the circuit's own graph, which hides data, parameters and
            results but not the architecture; ``"brickwork"`` shows it only the numbers of wires and stages,
            for :func:`~qflsec.protocols.blind.brickwork.brickwork_pattern`'s price.
        stages: Stages of the brickwork, the same for every pattern; as many as needed when None.

    Raises:
        BlindError: A gate without affine angles, an unknown embedding, or too few stages.
    """
    if embedding not in ("ansatz", "brickwork"):
        raise BlindError("unknown embedding", got=repr(embedding), expected="ansatz or brickwork")
    if embedding == "ansatz" and stages is not None:
        raise BlindError("only a brickwork has stages", fix='choose embedding="brickwork"')
    refuse_derived(circuit, "a measurement pattern", error=BlindError)
    groups = measurement_groups(circuit)
    compile_one: Callable[[Circuit, tuple[int, ...]], Pattern] = compile_pattern
    if embedding == "brickwork":
        compile_one = lambda rotated, wires: brickwork_pattern(rotated, wires, stages=stages)  # noqa: E731
    return tuple(
        Delegation(
            pattern=compile_one(group.circuit, group.wires),
            words=group.words,
            coefficients=group.coefficients,
        )
        for group in groups
    )


def compile_pattern(circuit: Circuit, wires: tuple[int, ...]) -> Pattern:
    """The pattern that reads some wires of a circuit in the computational basis, on the circuit's graph.

    RZ, CZ, Paulis and swaps cost no node, RX and a CNOT two, RY two (of which a layer of RY and CZ shares
    none). What cannot change the read bits is dropped: diagonal tails and whatever lies outside their light
    cone. For L layers of RY and a CZ chain on n wires, all read, n (2 L - 1) nodes are left.

    Source:
        Danos, Kashefi and Panangaden, The measurement calculus, J. ACM 54, 8, 2007, section 4 (J and CZ).
    """
    writer = StepWriter(circuit.n_qubits)
    line = list(range(circuit.n_qubits))
    for gate in circuit.gates:
        write_gate(writer, gate, line)
    read = [line[wire] for wire in wires]
    steps = _light_cone(writer.steps, set(read))
    return build_pattern(steps, [(wire, writer.x[wire]) for wire in read])


def _light_cone(steps: list[Step], read: set[int]) -> list[Step]:
    """Drop what cannot change the read bits; end every wire that is left with a readout."""
    kept: list[Step] = []
    live: set[int] = set()
    for step in reversed(steps):
        wire = step.wires[0]
        if step.kind == "cz":
            if live.isdisjoint(step.wires):
                continue  # diagonal before a readout
            for late in [w for w in step.wires if w not in live]:
                kept.append(Step("read", (late,)))
                kept += [Step("j", (late,))] if late in read else []  # H H: a readout in the Z basis
                live.add(late)
        elif wire not in live:
            if wire not in read:
                continue
            live.add(wire)
            if step.kind == "plus":  # a wire in |+> is read as a coin
                kept.append(Step("read", (wire,), NodeAngle((), 2)))
            else:
                kept.append(Step("read", (wire,), step.angle))
                continue
        kept.append(step)
    return kept[::-1]
