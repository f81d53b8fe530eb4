"""Measurement patterns with causal flow: J steps, CZ and readouts as nodes of a graph.

J(a) = H diag(1, exp(i a)) is one node, measured at the angle -a, whose successor carries the wire on. An
outcome s asks for X on the successor and Z on the successor's other neighbours; the client moves both into
later angles. A readout is a last J without a successor: its outcome is the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from qflsec.circuits import Angle
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.graph import Graph

__all__ = ["NodeAngle", "Pattern", "Readout", "Step", "build_pattern"]


@dataclass(frozen=True)
class NodeAngle:
    """The angle a of J(a): affine forms of weights and features, and named gates' phases.

    Attributes:
        terms: Affine forms that are added.
        eighths: A multiple of pi / 4, from gates whose names fix it.
    """

    terms: tuple[Angle, ...] = ()
    eighths: int = 0

    @property
    def pauli(self) -> bool:
        """Whether the gates' names, not the values of angles, make it 0 or pi."""
        return not self.terms and self.eighths % 4 == 0


@dataclass(frozen=True)
class Readout:
    """Where the bit of a wire is found.

    Attributes:
        node: The node whose outcome it is; None for a wire that is still a basis state.
        flip: What is added to it.
    """

    node: int | None
    flip: int = 0


@dataclass(frozen=True)
class Step:
    """A step on wires: ``plus`` starts one, ``j`` moves along it, ``cz`` links two, ``read`` ends one."""

    kind: Literal["plus", "j", "cz", "read"]
    wires: tuple[int, ...]
    angle: NodeAngle = field(default_factory=NodeAngle)


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A measurement pattern; only :attr:`graph` is public.

    Attributes:
        graph: Nodes, edges and order.
        successor: The flow: the next node on the wire, or None.
        angles: The angle of each node's J.
        readouts: Where each read wire's bit is found.

    Source:
        Danos and Kashefi, Determinism in the one-way model, PRA 74, 052310, 2006 (causal flow).
    """

    graph: Graph
    successor: tuple[int | None, ...]
    angles: tuple[NodeAngle, ...]
    readouts: tuple[Readout, ...]

    def __post_init__(self) -> None:
        """Refuse corrections that would have to act on the past."""
        place = {node: k for k, node in enumerate(self.graph.order)}
        for node in range(self.graph.n_nodes):
            if any(place[past] >= place[node] for past in (*self.x_from[node], *self.z_from[node])):
                raise BlindError("the order does not follow the flow", got=f"node {node}")
            if node in self.outputs and self.successor[node] is not None:
                raise BlindError("an output with a successor", got=f"node {node}")

    @cached_property
    def x_from(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the nodes whose outcomes flip the sign of its angle."""
        found: list[list[int]] = [[] for _ in self.successor]
        for node, after in enumerate(self.successor):
            if after is not None:
                found[after].append(node)
        return tuple(map(tuple, found))

    @cached_property
    def z_from(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the nodes whose outcomes add pi to its angle."""
        found: list[list[int]] = [[] for _ in self.successor]
        for node, after in enumerate(self.successor):
            if after is not None:
                for other in self.graph.neighbours[after]:
                    if other != node:
                        found[other].append(node)
        return tuple(map(tuple, found))

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """The nodes that hold read bits."""
        return tuple(readout.node for readout in self.readouts if readout.node is not None)


def build_pattern(steps: Sequence[Step], wires: Sequence[tuple[int, int]]) -> Pattern:
    """The pattern of a list of steps.

    Args:
        steps: Each wire's steps begin with ``plus`` and end with ``read``.
        wires: The wires whose bits are wanted, each with what is added to the bit.
    """
    current: dict[int, int] = {}
    angles: list[NodeAngle] = []
    successor: list[int | None] = []
    edges: set[tuple[int, int]] = set()
    order: list[int] = []
    ends: dict[int, int] = {}

    def node() -> int:
        angles.append(NodeAngle())
        successor.append(None)
        return len(angles) - 1

    for step in steps:
        wire = step.wires[0]
        if step.kind == "plus":
            current[wire] = node()
        elif step.kind == "cz":
            a, b = sorted(current[w] for w in step.wires)
            edges ^= {(a, b)}
        else:
            here = current[wire]
            angles[here] = step.angle
            if step.kind == "read":
                ends[wire] = here
                continue
            current[wire] = successor[here] = node()
            edges.add((here, current[wire]))
            order.append(here)
    graph = Graph(n_nodes=len(angles), edges=tuple(sorted(edges)), order=(*order, *sorted(ends.values())))
    readouts = tuple(Readout(ends.get(wire), flip) for wire, flip in wires)
    return Pattern(graph=graph, successor=tuple(successor), angles=tuple(angles), readouts=readouts)
