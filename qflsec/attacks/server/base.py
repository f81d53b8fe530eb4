"""What an attack by the quantum server is: a configuration that opens the server of a session.

The server gets what the protocol gives it: the public graph, handles of qubits, padded angles. It never
grades itself: who scores holds the client's pads and plan, which no server sees.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from qflsec.attacks.base import Attack
from qflsec.base import ConfigError, UpdateError, numpy_stream
from qflsec.federation import Adversary
from qflsec.protocols.blind import AngleGrid, Graph, QuantumServer
from qflsec.protocols.blind.angles import Angles, Floats
from qflsec.protocols.blind.qubits import Bits
from qflsec.protocols.blind.session import ServerFactory
from qflsec.threat import ThreatModel

__all__ = [
    "ActiveServer",
    "Chosen",
    "Reading",
    "ServerAttack",
    "ServerInference",
    "ServerManipulation",
    "WatchingServer",
    "last_nodes",
]

Chosen = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ServerAttack(Attack):
    """An attack by the quantum server.

    Attributes:
        joint: Whether it acts on all qubits of a round together, before its first answer.
    """

    joint: ClassVar[bool] = False

    @final
    def factory(self, seed: int, *purpose: str | int) -> ServerFactory:
        """What opens the server in a run, with a stream of its own.

        Args:
            seed: The run's seed.
            purpose: What sets this stream apart from others of the run.
        """
        rng = numpy_stream(seed, "attack", self.card.name, *purpose)

        def opened(graph: Graph, grid: AngleGrid) -> QuantumServer:
            return self.open(graph, grid, rng)

        return opened

    @abstractmethod
    def open(self, graph: Graph, grid: AngleGrid, rng: np.random.Generator) -> QuantumServer:
        """The server of one delegation.

        Args:
            graph: The public graph.
            grid: The public grid.
            rng: The adversary's own choices.
        """


@dataclass(frozen=True, kw_only=True)
class ServerManipulation(ServerAttack, Adversary):
    """An attack on integrity: the server deviates in some rounds, without knowing which are tests.

    Attributes:
        fraction: The probability with which a round is attacked.
    """

    fraction: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no probability."""
        if not 0 <= self.fraction <= 1:
            raise ConfigError("bad fraction of attacked rounds", got=self.fraction, expected="0 to 1")

    @final
    def identity(self) -> dict[str, object]:
        """Name and every parameter."""
        return dict(self.to_config())

    @final
    def quantum_server(self, stream_seed: int) -> ServerFactory:
        """What opens the corrupted quantum server of a run."""
        return self.factory(stream_seed, "run")

    def corrupts(self, threat: ThreatModel) -> None:
        """Refuse a threat model in which the quantum server is honest.

        Raises:
            ConfigError: The quantum server is not corrupted.
        """
        if not threat.quantum_server:
            raise ConfigError(
                f"attack {self.card.name!r} acts through the quantum server, which threat model {threat.name!r} "
                "leaves honest",
                fix="use kind = 'malicious-quantum-server'",
            )

    @final
    def detection(self, graph: Graph) -> float:
        """The probability that a test round on this graph fails, without noise."""
        colours = range(max(graph.n_colours, 1))
        return self.fraction * float(np.mean([self.caught(graph, colour) for colour in colours]))

    @abstractmethod
    def caught(self, graph: Graph, colour: int) -> float:
        """The probability that an attacked test round whose traps have this colour fails."""


class ActiveServer(QuantumServer):
    """A server that deviates in rounds that it draws when a batch begins."""

    def __init__(self, graph: Graph, grid: AngleGrid, fraction: float, rng: np.random.Generator) -> None:
        super().__init__(graph, grid)
        self.rng = rng
        self._fraction = fraction
        self.chosen: Chosen = np.zeros(0, dtype=bool)

    def start(self, rounds: int) -> None:
        """A batch of rounds begins."""
        super().start(rounds)
        self.chosen = self.rng.random(rounds) < self._fraction


def last_nodes(graph: Graph, nodes: int) -> tuple[int, ...]:
    """The last nodes in the order of measurement; all for 0."""
    return graph.order[-nodes:] if nodes else graph.order


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What a server makes of the rounds of a session; None where it says nothing.

    Attributes:
        test: For each round the probability, in its own eyes, that it is a test.
        angles: For each node that it speaks of, a guess of its angle modulo pi in each round.
        bits: For each node that it speaks of, a guess of its outcome in each round.
        exposed: The share of the qubits of which it got more than one copy.

    Shapes:
        test: ``(rounds,)``; angles, bits: ``(rounds,)`` for each node

    Units:
        angles: radians.
    """

    test: Floats | None = None
    angles: dict[int, Floats] = field(default_factory=dict)
    bits: dict[int, Bits] = field(default_factory=dict)
    exposed: float | None = None


class WatchingServer(QuantumServer):
    """A server that takes part and keeps what it was told and what it answered."""

    def __init__(self, graph: Graph, grid: AngleGrid) -> None:
        super().__init__(graph, grid)
        self.rounds = 0
        self._told: list[dict[int, Angles]] = []
        self._said: list[dict[int, Bits]] = []

    def start(self, rounds: int) -> None:
        """A batch of rounds begins."""
        super().start(rounds)
        self.rounds += rounds
        self._told.append({})
        self._said.append({})

    def answer(self, node: int, delta: Angles) -> Bits:
        """Keep the angle and the answer."""
        reply = super().answer(node, delta)
        self._told[-1][node], self._said[-1][node] = delta, reply
        return reply

    @property
    def deltas(self) -> dict[int, Angles]:
        """All told angles by node ``(rounds,)``."""
        return {node: np.concatenate([batch[node] for batch in self._told]) for node in self.graph.order}

    @property
    def replies(self) -> dict[int, Bits]:
        """All replies by node ``(rounds,)``."""
        return {node: np.concatenate([batch[node] for batch in self._said]) for node in self.graph.order}

    def reading(self) -> Reading:
        """What it makes of the session; called once, when it is over."""
        return Reading()


@dataclass(frozen=True, kw_only=True)
class ServerInference(ServerAttack):
    """An attack on confidentiality by a server that is watching."""

    @final
    def read(self, server: QuantumServer) -> Reading:
        """What the server makes of a session, checked.

        Raises:
            ConfigError: The server is of another attack.
            UpdateError: A guess is not one for each round.
        """
        if not isinstance(server, WatchingServer):
            raise ConfigError(f"attack {self.card.name!r} cannot read this server", got=type(server).__name__)
        found = server.reading()
        guesses: list[npt.NDArray[Any]] = [*found.angles.values(), *found.bits.values()]
        guesses += [] if found.test is None else [found.test]
        for guess in guesses:
            if np.shape(guess) != (server.rounds,) or not np.isfinite(guess).all():
                raise UpdateError(
                    f"attack {self.card.name!r} made no guess for each round",
                    got=np.shape(guess),
                    expected=(server.rounds,),
                )
        return found
