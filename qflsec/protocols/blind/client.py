"""The client: it prepares single qubits, tells angles, hears bits, and keeps its pads.

Computation and test rounds take the same steps: a node's angle is told as base + theta + r pi, where the base
is the computation's angle, or 0. A node's qubit is |+_theta>, or a random basis state for the dummies of a
test. Outputs are padded like every other node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.base import ProtocolAbort, Secrets
from qflsec.protocols.blind.angles import AngleGrid, Angles
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.pads import Pads, draw_pads, permutation, uniform_below
from qflsec.protocols.blind.pattern import Pattern
from qflsec.protocols.blind.qubits import Bits, QuantumChannel, Qubits
from qflsec.protocols.stages import Staged, stage

__all__ = ["BlindClient", "RoundPlan", "plan_order"]

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """The client's secret order of rounds.

    Attributes:
        rows: For each round the row of angles that it computes, or -1 for a test.
        colours: For each round the colour of its traps; -1 for a computation.
    """

    rows: Rows
    colours: Rows


def plan_order(secrets: Secrets, *, rows: int, shots: int, tests: int, colours: int) -> RoundPlan:
    """Every row ``shots`` times and ``tests`` tests, in random order without replacement.

    Args:
        secrets: Where the order and the tests' colours come from.
        rows: Number of rows of angles.
        shots: Computation rounds of each row.
        tests: Test rounds.
        colours: Colours of the graph, from which each test chooses its traps' at random.
    """
    which = np.concatenate([np.repeat(np.arange(rows), shots), np.full(tests, -1)])
    chosen = np.full(len(which), -1, dtype=np.int64)
    if tests:
        chosen[len(which) - tests :] = uniform_below(secrets, max(colours, 1), tests)
    order = permutation(secrets, len(which))
    return RoundPlan(rows=which[order], colours=chosen[order])


class BlindClient(Staged):
    """One client with its angles, plan and secrets.

    Args:
        pattern: The pattern; the server knows its graph alone.
        angles: The angle of each node's J ``(rows, nodes)`` on the grid.
        plan: The order of rounds.
        grid: The grid.
        secrets: Where the pads come from.
        channel: The client's end of the quantum channel.
    """

    def __init__(
        self,
        *,
        pattern: Pattern,
        angles: Angles,
        plan: RoundPlan,
        grid: AngleGrid,
        secrets: Secrets,
        channel: QuantumChannel,
    ) -> None:
        if angles.shape[1:] != (pattern.graph.n_nodes,):
            raise BlindError("angles of another pattern", got=angles.shape)
        self._pattern = pattern
        # J(a) is measured at -a; tests have the base 0, which is row -1
        phi = np.concatenate([np.uint64(0) - angles, np.zeros_like(angles, shape=(1, angles.shape[1]))])
        self._phi = np.ascontiguousarray(phi.T)
        self._plan = plan
        self._grid = grid
        self._secrets = secrets
        self._channel = channel
        self._colouring = np.array(pattern.graph.colouring, dtype=np.int64)
        self._span = slice(0, 0)
        self._tests = np.zeros(0, dtype=bool)
        self._any_tests = False
        self._pads: Pads | None = None
        self._signals = np.empty((0, 0), dtype=np.uint8)
        self._bits = np.zeros((len(plan.rows), len(pattern.readouts)), dtype=np.uint8)
        self._failed = np.zeros(len(plan.rows), dtype=bool)

    def batches(self, size: int) -> Iterator[int]:
        """Begin one batch of rounds after the other; the number of rounds in each."""
        for first in range(0, len(self._plan.rows), size):
            yield self._begin(first, size)

    @stage(opens=True, each="first")
    def _begin(self, first: int, size: int) -> int:
        self._span = slice(first, min(first + size, len(self._plan.rows)))
        rounds, nodes = self._span.stop - first, self._pattern.graph.n_nodes
        self._channel.begin()
        self._pads = self._draw(nodes, rounds)
        self._signals = np.zeros((nodes, rounds), dtype=np.uint8)
        self._tests = self._plan.colours[self._span] >= 0
        self._any_tests = bool(self._tests.any())
        return rounds

    def _draw(self, nodes: int, rounds: int) -> Pads:
        """The pads of a batch; a control that leaves one out overrides this."""
        return draw_pads(self._secrets, self._grid, nodes, rounds)

    @property
    def _secret(self) -> Pads:
        if self._pads is None:
            raise BlindError("no batch of rounds has begun")
        return self._pads

    def _is_dummy(self, node: int) -> npt.NDArray[np.bool_]:
        other: npt.NDArray[np.bool_] = self._plan.colours[self._span] != self._colouring[node]
        return self._tests & other

    @stage("_begin", each="node")
    def send(self, node: int) -> Qubits:
        """Prepare a node's qubit in each round of the batch and send it."""
        pads = self._secret
        basis = np.full(pads.theta.shape[1], -1, dtype=np.int8)
        if self._any_tests:
            basis = np.where(self._is_dummy(node), pads.dummy[node], basis).astype(np.int8)
        return self._channel.send(self._grid.to_radians(pads.theta[node]), basis)

    @stage("send", each="node")
    def delta(self, node: int) -> Angles:
        """The padded angle of a node.

        Raises:
            ProtocolAbort: An outcome that corrects it was not heard: two angles under one pad would tell the angle.
        """
        self._require("hear", (*self._pattern.x_from[node], *self._pattern.z_from[node]))
        pads, grid = self._secret, self._grid
        base = self._phi[node][self._plan.rows[self._span]]
        if self._pattern.x_from[node]:
            base = np.where(self._parity(self._pattern.x_from[node]), np.uint64(0) - base, base)
        signs = pads.r[node]
        if self._pattern.z_from[node]:
            signs = signs ^ (self._parity(self._pattern.z_from[node]) & ~self._tests)
        told: Angles = (base + pads.theta[node] + grid.half * signs) & grid.mask
        return told

    def _parity(self, nodes: tuple[int, ...]) -> Bits:
        total: Bits = np.bitwise_xor.reduce(self._signals[list(nodes)], axis=0)
        return total

    @stage("delta", each="node")
    def hear(self, node: int, reply: Bits) -> None:
        """Take the server's outcomes of a node.

        Raises:
            ProtocolAbort: The reply is no bit for each round.
        """
        pads = self._secret
        reply = np.asarray(reply)
        if reply.shape != pads.r[node].shape or not ((reply == 0) | (reply == 1)).all():
            raise ProtocolAbort("the server's reply is not one bit for each round", got=reply.shape)
        self._signals[node] = reply.astype(np.uint8) ^ pads.r[node]

    @stage("_begin")
    def finish(self) -> None:
        """End the batch: read the outputs and the traps.

        Raises:
            ProtocolAbort: The outcome of a node was not heard.
        """
        self._require("hear", range(self._pattern.graph.n_nodes))
        for k, readout in enumerate(self._pattern.readouts):
            signal = 0 if readout.node is None else self._signals[readout.node]
            self._bits[self._span, k] = signal ^ np.uint8(readout.flip)
        if self._any_tests:
            self._failed[self._span] = self._trap_failures()
        self._pads = None

    def _trap_failures(self) -> npt.NDArray[np.bool_]:
        """The tests in which a trap's outcome is not the parity of the dummies around it."""
        dummy = self._secret.dummy
        failed = np.zeros(len(self._tests), dtype=bool)
        for node, around in enumerate(self._pattern.graph.neighbours):
            expected = np.bitwise_xor.reduce(dummy[list(around)], axis=0) if around else 0
            failed |= self._tests & ~self._is_dummy(node) & (self._signals[node] != expected)
        return failed

    def decoded_signs(self, positions: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """The factor that turns the parity of a word's raw outcomes into that of its bits, for each round."""
        sign = np.ones(self._secret.r.shape[1])
        for position in positions:
            readout = self._pattern.readouts[position]
            sign *= 1.0 - 2.0 * readout.flip
            if readout.node is not None:
                sign *= 1.0 - 2.0 * self._secret.r[readout.node]
        return sign

    def outcomes(self, rows: int) -> Bits:
        """The bits of the computation rounds ``(rows, shots, readouts)``."""
        mine = np.argsort(self._plan.rows, kind="stable")[int((self._plan.rows < 0).sum()) :]
        return self._bits[mine].reshape(rows, -1, self._bits.shape[1])

    def failures(self) -> int:
        """How many tests failed."""
        return int(self._failed.sum())
