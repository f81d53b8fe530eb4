"""Pads of several clients: a qubit passes them all on a line, and each turns it by an angle of its own.

The owner of a computation stands first on the line: it prepares the qubits with its own pad, as alone, and
keeps the outcomes' pads. Every other client turns each passing qubit by a fresh angle, so that the pad is
theta = sum of theta_c modulo 2^b. The told angle phi' + theta + r pi is formed by a masked sum: every pair of
clients shares a uniform mask, which one adds and the other subtracts, and each client sends the server its
own term under its masks. The server adds them up; the masks cancel.

What holds, for any server and any other clients together with it: the owner's angle stays hidden by its own
theta and r, as alone; of the honest clients' thetas nothing but their sum can be in their shares; and nobody
who misses one client's theta has the pad. What does not: a line adds no protection against an owner's own
leak of its theta and r together, and an owner that sees the sum told to the server knows the total pad,
which hides its own angles. Pairs need a private way to each other; here they hand each other their masks.

Source:
    Polacchi et al., Multi-client distributed blind quantum computation with the Qline architecture, Nature
    Communications 14, 7743, 2023 (the line); the masked sum is the pairwise one of Bonawitz et al., Practical
    secure aggregation for privacy-preserving machine learning, CCS 2017, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qflsec.base import Secrets
from qflsec.protocols.blind.angles import AngleGrid, Angles, Floats
from qflsec.protocols.blind.client import BlindClient, RoundPlan
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.pads import draw_angles
from qflsec.protocols.blind.pattern import Pattern
from qflsec.protocols.blind.qubits import Bits, QuantumChannel, Qubits, rotate
from qflsec.protocols.stages import Staged, stage

__all__ = ["LineClient", "LineOwner", "Masks", "Qline", "QlineClients", "add_shares"]

Turn = Callable[[Qubits, Floats], None]


class Masks(Staged):
    """One client's part of the masks of a batch.

    Args:
        place: Its place on the line.
        grid: The grid.
        secrets: Its own source.
    """

    def __init__(self, place: int, grid: AngleGrid, secrets: Secrets) -> None:
        self._place, self._grid, self._secrets = place, grid, secrets
        self._shape, self._line = (0, 0), 0
        self._total: Angles = np.zeros(self._shape, dtype=np.uint64)

    @stage(opens=True)
    def begin(self, nodes: int, rounds: int, line: int) -> None:
        """Forget the last batch's masks.

        Args:
            nodes: The nodes of the pattern.
            rounds: The rounds of the batch.
            line: How many clients stand on the line.
        """
        self._shape, self._line = (nodes, rounds), line
        self._total = np.zeros(self._shape, dtype=np.uint64)

    @stage("begin", each="other")
    def give(self, other: int) -> Angles:
        """A fresh mask for the client at a place further down the line, which only these two have."""
        mask = draw_angles(self._secrets, self._grid, *self._shape)
        self._total = self._total + mask
        return mask

    @stage("begin", each="other")
    def take(self, other: int, mask: Angles) -> None:
        """The mask that the client at a place further up the line gave."""
        if mask.shape != self._shape:
            raise BlindError("a mask of another shape", got=mask.shape, expected=self._shape)
        self._total = self._total - mask

    @stage("begin", each="node")
    def cover(self, node: int, term: Angles) -> Angles:
        """A term under all masks of this client.

        Raises:
            ProtocolAbort: It has no mask with some other client yet.
        """
        self._require("give", range(self._place + 1, self._line))
        self._require("take", range(self._place))
        covered: Angles = (term + self._total[node]) & self._grid.mask
        return covered


class LineClient(Staged):
    """A client that lends a pad: it holds its thetas and its masks, and hears nothing else.

    Args:
        place: Its place on the line, from 1.
        grid: The grid.
        secrets: Its own source.
        turn: How it turns a passing qubit.
    """

    def __init__(self, place: int, grid: AngleGrid, secrets: Secrets, *, turn: Turn = rotate) -> None:
        self.masks = Masks(place, grid, secrets)
        self._grid, self._secrets, self._turn = grid, secrets, turn
        self._theta: Angles = np.zeros((0, 0), dtype=np.uint64)

    @stage(opens=True)
    def begin(self, nodes: int, rounds: int, line: int) -> None:
        """Draw the thetas of a batch."""
        self._theta = draw_angles(self._secrets, self._grid, nodes, rounds)
        self.masks.begin(nodes, rounds, line)

    @stage("begin", each="node")
    def rotate(self, node: int, qubits: Qubits) -> None:
        """Turn a node's qubits as they pass."""
        self._turn(qubits, self._grid.to_radians(self._theta[node]))

    @stage("rotate", each="node")
    def share(self, node: int) -> Angles:
        """Its term of a node's angle, for the server."""
        return self.masks.cover(node, self._theta[node])


class LineOwner:
    """The client whose computation it is: a :class:`BlindClient` at the head of the line.

    Args:
        client: It, as alone.
        grid: The grid.
        secrets: Its own source.
    """

    def __init__(self, client: BlindClient, grid: AngleGrid, secrets: Secrets) -> None:
        self.client = client
        self.masks = Masks(0, grid, secrets)

    def share(self, node: int) -> Angles:
        """Its term of a node's angle, with the computation's angle and the outcome's pad in it."""
        return self.masks.cover(node, self.client.delta(node))


def add_shares(shares: Sequence[Angles], grid: AngleGrid) -> Angles:
    """What the server does with the clients' shares of a node's angle: add them."""
    total = np.zeros_like(shares[0])
    for share in shares:
        total = total + share
    told: Angles = total & grid.mask
    return told


class Qline:
    """The line from its end, where the server stands: wiring between the parties, and no party itself.

    Args:
        owner: The head of the line.
        helpers: The others in order.
        nodes: The nodes of the pattern.
        grid: The grid.
    """

    def __init__(
        self, owner: LineOwner, helpers: Sequence[LineClient], *, nodes: int, grid: AngleGrid
    ) -> None:
        self.owner, self.helpers = owner, tuple(helpers)
        self._nodes, self._grid = nodes, grid

    def batches(self, size: int) -> Iterator[int]:
        """Begin one batch of rounds after the other: thetas are drawn and pairs agree on masks."""
        for rounds in self.owner.client.batches(size):
            everybody = [self.owner.masks, *(helper.masks for helper in self.helpers)]
            self.owner.masks.begin(self._nodes, rounds, len(everybody))
            for helper in self.helpers:
                helper.begin(self._nodes, rounds, len(everybody))
            for place, first in enumerate(everybody):
                for later, second in enumerate(everybody[place + 1 :], start=place + 1):
                    second.take(place, first.give(later))
            yield rounds

    def send(self, node: int) -> Qubits:
        """A node's qubits, after they passed the line."""
        qubits = self.owner.client.send(node)
        for helper in self.helpers:
            helper.rotate(node, qubits)
        return qubits

    def shares(self, node: int) -> list[Angles]:
        """What each client sends the server for a node's angle."""
        return [self.owner.share(node), *(helper.share(node) for helper in self.helpers)]

    def delta(self, node: int) -> Angles:
        """The node's angle as the server adds it up."""
        return add_shares(self.shares(node), self._grid)

    def hear(self, node: int, reply: Bits) -> None:
        """The outcomes go to the owner."""
        self.owner.client.hear(node, reply)

    def finish(self) -> None:
        """End the batch."""
        self.owner.client.finish()

    def outcomes(self, rows: int) -> Bits:
        """The owner's bits."""
        return self.owner.client.outcomes(rows)

    def failures(self) -> int:
        """The owner's failed tests."""
        return self.owner.client.failures()

    def decoded_signs(self, positions: tuple[int, ...]) -> Floats:
        """What the owner decodes with."""
        return self.owner.client.decoded_signs(positions)


@dataclass(frozen=True, kw_only=True)
class QlineClients:
    """Makes the line of each delegation: for ``client`` of :class:`Shots` and :class:`Exact`.

    Attributes:
        helpers: The other clients' own sources of secrets, in the order of the line.
    """

    helpers: tuple[Secrets, ...]

    def __call__(
        self,
        *,
        pattern: Pattern,
        angles: Angles,
        plan: RoundPlan,
        grid: AngleGrid,
        secrets: Secrets,
        channel: QuantumChannel,
    ) -> Qline:
        """The line whose owner is a :class:`BlindClient` of these arguments."""
        client = BlindClient(
            pattern=pattern, angles=angles, plan=plan, grid=grid, secrets=secrets, channel=channel
        )
        return Qline(
            LineOwner(client, grid, secrets),
            [LineClient(place, grid, source) for place, source in enumerate(self.helpers, start=1)],
            nodes=pattern.graph.n_nodes,
            grid=grid,
        )
