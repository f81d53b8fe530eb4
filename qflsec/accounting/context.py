"""What a row of the ledger depends on: who looks, what was trained, and what protected it.

Each value has one owner and is made without the others, so that a claim can be stated for a training that
this package did not run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Self

from qflsec.accounting.people import People
from qflsec.base import ConfigError, finite
from qflsec.circuits import Circuit
from qflsec.models import Execution
from qflsec.threat import SUMS, RunAnonymity, ThreatModel, Traffic, View, run_anonymity

__all__ = ["CircuitUse", "LedgerContext", "Observer", "Preparation", "Seeds", "Training"]


@dataclass(frozen=True, kw_only=True)
class Observer:
    """Who looks, and what it reads.

    Attributes:
        threat: The threat model: which parties it holds.
        smallest_k: The smallest anonymity set among the updates, aggregates and steps that it reads: 1 where it
            reads a single honest client's update, 0 where it reads none of them.
        reads_model: Whether it reads a model.
        reads_clients: Whether it reads what honest clients sent, singly or summed, before the server's rule
            worked on it.
        read: The honest clients whose update it reads singly in some round.
        over_run: How anonymous honest clients are among all sums that it reads and whose clients it can name; None
            where it reads none.
        reads_paths: Whether it reads differences of models over several steps.
        reads_unnamed: Whether it reads sums of clients that it cannot name, which no count over the run is made of.
        knows_rosters: Whether it can tell of some honest client whether it took part in some round. Sampling of
            clients earns nothing against it; true unless something says otherwise.
        reads_made: Whether it reads updates as clients made them, before anything sealed them.
    """

    threat: ThreatModel
    smallest_k: int = 0
    reads_model: bool = False
    reads_clients: bool = False
    read: frozenset[int] = frozenset()
    over_run: RunAnonymity | None = None
    reads_paths: bool = False
    reads_unnamed: bool = False
    knows_rosters: bool = True
    reads_made: bool = False

    @classmethod
    def of(cls, view: View) -> Self:
        """The observer that holds a view."""
        corrupted = frozenset(view.threat.clients)
        held = [item for item in view.readable(*SUMS) if item.k > 0]
        sums = [item for item in held if item.kind in {"update", "aggregate"}]
        # an aggregate and what is left of it without the coalition's own updates are one equation
        mixed = {(item.round, item.base, item.about - corrupted) for item in sums if item.about is not None}
        return cls(
            threat=view.threat,
            smallest_k=min((item.k for item in held), default=0),
            reads_model=view.final_model() is not None,
            reads_clients=bool(sums),
            reads_paths=any(item.kind == "path" for item in held),
            reads_unnamed=any(item.about is None for item in sums),
            read=frozenset().union(*(about for *_, about in mixed if len(about) == 1)),
            over_run=_over_run(tuple(sorted(tuple(sorted(about)) for *_, about in mixed))) if mixed else None,
            # a view that names an honest client knows a roster, whatever it says
            knows_rosters=view.knows_rosters or any(item.named - corrupted for item in view.items),
            reads_made=any(item.granted for item in held),
        )

    @property
    def name(self) -> str:
        """The threat model's name."""
        return self.threat.name

    @property
    def clients(self) -> tuple[int, ...]:
        """The corrupted clients."""
        return self.threat.clients

    @property
    def listens(self) -> bool:
        """Whether it hears what honest clients send, sealed or not."""
        return self.threat.server or self.threat.wire or bool(self.threat.edges)

    @property
    def interferes(self) -> bool:
        """Whether it may drop, alter or invent what honest parties say to each other: it deviates, and hears them."""
        return self.threat.active and self.listens

    @property
    def reads_updates(self) -> bool:
        """Whether it reads a single honest client's update."""
        return self.smallest_k == 1

    @property
    def reads_sums(self) -> bool:
        """Whether it reads updates of honest clients, and only sums of several of them."""
        return self.smallest_k > 1

    @property
    def uncounted(self) -> str:
        """What it reads of honest clients and no anonymity over the run is counted in, in words."""
        kinds = {
            "differences of models over several steps": self.reads_paths,
            "sums of clients that it cannot name": self.reads_unnamed,
        }
        return " and ".join(words for words, read in kinds.items() if read)

    @property
    def reads_anything(self) -> bool:
        """Whether it reads an update, a sum or a model."""
        return self.smallest_k > 0 or self.reads_model


@lru_cache(maxsize=256)
def _over_run(sums: tuple[tuple[int, ...], ...]) -> RunAnonymity:
    return run_anonymity([frozenset(clients) for clients in sums])


@finite
@dataclass(frozen=True, kw_only=True)
class Training:
    """What was trained, and how.

    Attributes:
        counts: The number of training records of each client.
        rounds: The number of rounds.
        n_params: The number of parameters.
        local_steps: In how many local steps of a round a record can be: in all, or in one of every epoch.
        batch_size: The (expected) batch size; None for full batches.
        sampling: How batches are drawn; ``"shuffled"``: every record is in one batch of every epoch.
        participation: The fraction of clients in a round.
        client_sampling: How the clients of a round are drawn.
        weights: What each client counts in an aggregate; its number of records by default.
        additive: Whether an aggregate is the sum, with these weights, of the clients' noisy gradients, so that their
            noise adds up in it: plain SGD without momentum, a linear rule, nothing that changes, clips or rejects single
            updates, and no part of the model that a client keeps to itself.
        grid: The step to which a client's weighted coordinates are rounded before they are added; 0 where they are not.
        learning_rate: The least factor between a client's gradient and its update.
        factors: What each client multiplies its learning rate by, which depends on no record; 1 by default.
        members: For each round, whose updates counted and were made as the layers say; None where no run says.
        people: Who stands behind the records.
    """

    counts: tuple[int, ...]
    rounds: int
    n_params: int
    local_steps: int = 1
    batch_size: int | None = None
    sampling: Literal["full", "fixed", "poisson", "shuffled"] = "full"
    participation: float = 1.0
    client_sampling: Literal["all", "fixed", "poisson"] = "fixed"
    weights: tuple[float, ...] = ()
    additive: bool = False
    grid: float = 0.0
    learning_rate: float = 1.0
    factors: tuple[float, ...] = ()
    members: tuple[frozenset[int], ...] | None = None
    people: People = field(default_factory=People)

    def __post_init__(self) -> None:
        if not self.weights:
            object.__setattr__(self, "weights", tuple(map(float, self.counts)))
        if not self.factors:
            object.__setattr__(self, "factors", tuple(1.0 for _ in self.counts))
        for name, given in (("weight", self.weights), ("factor", self.factors)):
            if len(given) != len(self.counts):
                raise ConfigError(
                    f"every client needs a {name}",
                    got=f"{len(given)} {name}s",
                    expected=f"{len(self.counts)}, one for each of the clients",
                )

    @property
    def n_clients(self) -> int:
        """The number of clients."""
        return len(self.counts)

    @property
    def invited(self) -> int:
        """How many clients are asked into a round, the mean of an independent draw: how many count may be fewer."""
        return max(1, round(self.participation * self.n_clients))

    def sure_members(self, without: Collection[int]) -> int:
        """How many clients' updates are sure to be together in every round that holds any of them.

        Without a run nobody is sure to be joined by another: an independent draw may leave a client alone, and so may
        clients that drop out.

        Args:
            without: Clients that do not count: corrupted ones.
        """
        held = [len(members - set(without)) for members in self.members or ()]
        return min((count for count in held if count > 0), default=1)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What the preprocessing was fitted on.

    Attributes:
        fitted_on: The records, in words.
        on_training: Whether they are the training records themselves.
    """

    fitted_on: str = ""
    on_training: bool = False


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Which randomness came from a seed, so that it protects nothing outside the lab.

    Attributes:
        secrets: Keys, masks, pads and coins.
        noise: The noise of differential privacy.
    """

    secrets: bool = False
    noise: bool = True


@dataclass(frozen=True, kw_only=True)
class CircuitUse:
    """How honest clients evaluate circuits on their records.

    Attributes:
        circuit: The model's circuit.
        only_measures: Whether a record's features reach logits and gradients through measured values alone.
        executions: How they execute it, each way once.
        span: The width of the range that every feature is clipped to.

    Units:
        span: radians, where features are rotation angles.
    """

    circuit: Circuit
    only_measures: bool
    executions: tuple[Execution, ...]
    span: float


@dataclass(frozen=True, kw_only=True)
class LedgerContext:
    """What a layer needs to know to state its guarantee for one observer.

    Attributes:
        observer: Who looks.
        training: What was trained.
        preparation: What the preprocessing was fitted on.
        seeds: Which randomness came from a seed.
        circuit_use: How honest clients evaluate circuits on their records; None where the model has no circuit,
            or somebody else evaluates it.
        delegations: For each client, what its delegations to a quantum server came to; None where nothing is
            delegated.
        traffic: What each link layer got to carry, at most; None where that cannot be told.
    """

    observer: Observer
    training: Training
    preparation: Preparation = field(default_factory=Preparation)
    seeds: Seeds = field(default_factory=Seeds)
    circuit_use: CircuitUse | None = None
    delegations: Mapping[int, Sequence[object]] | None = None
    traffic: Mapping[Any, Traffic | None] = field(default_factory=dict)

    @property
    def honest(self) -> tuple[int, ...]:
        """The honest clients."""
        return tuple(index for index in range(self.training.n_clients) if index not in self.observer.clients)

    @property
    def quantum_server(self) -> bool:
        """Whether the observer holds a quantum server that clients delegate to."""
        return self.delegations is not None and self.observer.threat.quantum_server
