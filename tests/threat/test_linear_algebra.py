"""The closure against linear algebra: every vector that a coalition reads, as a combination of unknown updates.

The rows are written down here from who talks to whom, without versions, paths or elimination of the package. An
update is known if and only if its unit vector lies in their span.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from qflsec.federation import Gossip, Pipeline, Ring, RunSpec, Stack, Star, Topology, Tree, run_batch
from qflsec.threat import PUBLIC, SERVER, WIRE, Party, Rosters, ThreatModel, View, client, edge
from qflsec.threat.view import SUMS

Maker = Callable[..., Pipeline]
Vector = npt.NDArray[np.float64]
Update = tuple[int, int]
N, ROUNDS = 4, 3
SEEDS, COALITIONS = 4, 12


@dataclass
class World:
    """A run as linear algebra: a column for the first model and one for each update, by round and client."""

    topology: Topology
    present: list[list[int]]
    counts: tuple[float, ...]
    rate: float
    seed: int

    def __post_init__(self) -> None:
        self.updates = [(r, c) for r, clients in enumerate(self.present) for c in clients]
        self.reads: list[tuple[frozenset[Party], Vector]] = []
        self.bases: dict[Update, Vector] = {}
        for r, c in self.updates:
            self.say(self.one(r, c), client(c))
        model = self.unit(0)
        if isinstance(self.topology, Gossip):
            self.gossip()
            return
        for r, clients in enumerate(self.present):
            model = (
                self.visit(r, clients, model)
                if isinstance(self.topology, Ring)
                else self.gather(r, clients, model)
            )
        self.say(model, PUBLIC)

    def unit(self, place: int) -> Vector:
        found: Vector = np.eye(1 + len(self.updates))[place]
        return found

    def one(self, r: int, c: int) -> Vector:
        return self.unit(1 + self.updates.index((r, c)))

    def say(self, vector: Vector, *parties: Party) -> None:
        self.reads.append((frozenset(parties), vector))

    def mean(self, r: int, clients: list[int]) -> Vector:
        weight = sum(self.counts[c] for c in clients)
        found: Vector = sum((self.counts[c] / weight * self.one(r, c) for c in clients), 0 * self.unit(0))
        return found

    def gather(self, r: int, clients: list[int], model: Vector) -> Vector:
        """A round of a star or a tree: the server holds every model, and whoever is on the way what passes."""
        self.say(model, SERVER)
        edges = self.topology.edges if isinstance(self.topology, Tree) else 0
        for c in clients:
            head = edge(c % edges) if edges else SERVER
            self.bases[r, c] = model
            self.say(model, client(c), head, WIRE)
            self.say(self.one(r, c), head, WIRE)
        for e in range(edges):
            if group := [c for c in clients if c % edges == e]:
                self.say(self.mean(r, group), edge(e), SERVER, WIRE)
        after = model + self.rate * self.mean(r, clients) if clients else model
        self.say(after, SERVER)
        return after

    def visit(self, r: int, clients: list[int], model: Vector) -> Vector:
        """A round of a ring: each client holds the model before and after its turn."""
        holder = getattr(self, "holder", 0)
        for c in clients:
            self.bases[r, c] = model
            if c != holder:
                self.say(model, client(holder), client(c), WIRE)
            self.holder = holder = c
            model = model + self.rate * self.one(r, c)
        return model

    def gossip(self) -> None:
        """All rounds: who trains sends its model to its neighbours, and everybody present mixes what is there."""
        models, told = {c: self.unit(0) for c in range(N)}, {0}
        for r, clients in enumerate(self.present):
            for c in clients:
                self.bases[r, c] = models[c]
                if c not in told:
                    self.say(models[c], client(0), client(c), WIRE)
                told.add(c)
            trained = {c: models[c] + self.rate * self.one(r, c) for c in clients}
            pairs = [(i, j) for i in clients for j in clients if self.meets(r, i, j)]
            for i, j in pairs:
                self.say(trained[j], client(i), client(j), WIRE)
            share = {"ring": 1 / 3, "all": 1 / N, "pairs": 1 / 2}[self.topology.neighbours]
            for i in clients:
                self.say(trained[i], client(i))
                met = [j for one, j in pairs if one == i]
                models[i] = (1 - share * len(met)) * trained[i] + sum(
                    (share * trained[j] for j in met), 0 * self.unit(0)
                )
                self.say(models[i], client(i))
        for c in range(N):
            self.say(models[c], PUBLIC)

    def meets(self, r: int, i: int, j: int) -> bool:
        if self.topology.neighbours == "ring":
            return (i - j) % N in {1, N - 1}
        drawn = self.topology.matrix(N, r, present=self.present[r], seed=self.seed)
        return i != j and bool(drawn[i, j] > 0)

    def seen(self, coalition: frozenset[Party]) -> Vector:
        rows = [vector for parties, vector in self.reads if parties & coalition]
        return np.array(rows).reshape(-1, 1 + len(self.updates))


def spans(rows: Vector, vector: Vector) -> bool:
    return bool(np.linalg.matrix_rank(np.vstack([rows, vector])) == np.linalg.matrix_rank(rows))


def fewest(world: World, rows: Vector, honest: list[int]) -> int:
    """The fewest honest clients in a combination of the rows that holds no model; 0 where there is none."""
    kept = {c: [1 + k for k, (_, who) in enumerate(world.updates) if who == c] for c in honest}
    for size in range(1, len(honest) + 1):
        for some in itertools.combinations(honest, size):
            # combinations that vanish on the first model and on all other honest clients, but not on these
            off = [0, *(k for c in honest if c not in some for k in kept[c])]
            inside = off + [k for c in some for k in kept[c]]
            if np.linalg.matrix_rank(rows[:, inside]) > np.linalg.matrix_rank(rows[:, off]):
                return size
    return 0


def coalitions(topology: Topology, seed: int) -> list[frozenset[Party]]:
    """Nobody, every single party, and a draw of the others."""
    everybody = sorted({*topology.parties(N), WIRE})
    each = [some for size in range(len(everybody)) for some in itertools.combinations(everybody, size)]
    drawn = random.Random(seed).sample(each[len(everybody) + 1 :], COALITIONS)
    return [frozenset({PUBLIC, *some}) for some in (*each[: len(everybody) + 1], *drawn)]


@pytest.mark.parametrize(
    ("topology", "rate", "settings"),
    [
        (topology, rate, settings)
        for topology in (Star(), Ring(), Tree(edges=2), Tree(edges=3), Gossip(), Gossip(neighbours="pairs"))
        for rate, settings in (
            (1.0, {"participation": 0.5, "client_sampling": "poisson"}),
            (0.5, {"participation": 0.5, "client_sampling": "fixed"}),
            (1.0, {"participation": 0.25, "client_sampling": "poisson"}),
        )
    ],
)
def test_every_coalition_knows_what_linear_algebra_says(
    make_pipeline: Maker, topology: Topology, rate: float, settings: dict[str, object]
) -> None:
    pipeline = replace(
        make_pipeline(
            n_qubits=2, members=13, n_clients=N, rounds=ROUNDS, server_learning_rate=rate, **settings
        ),
        topology=topology,
    )
    specs = [RunSpec(seed=seed) for seed in range(SEEDS)]
    for run in run_batch(pipeline, Stack(name="none"), specs, grant_honest_updates=True):
        hidden = run.transcript.facts[run.lane].rosters
        facts, updates = run.transcript.facts[run.lane], run.transcript.honest_updates[run.lane]
        present = [sorted(c for r, c in updates if r == k) for k in range(ROUNDS)]
        world = World(topology, present, facts.counts, rate, run.spec.seed)
        values = torch.stack([run.initial, *(updates[place] for place in world.updates)]).double().numpy()
        for chosen in coalitions(topology, run.spec.seed):
            threat, where = (
                ThreatModel(name="x", corrupted=chosen),
                repr((run.spec.seed, sorted(chosen), present)),
            )
            facts.rosters = Rosters()  # for a coalition that was told every roster
            agrees(run.view(threat), world, chosen, values, where)
            facts.rosters = hidden
            overstates_nothing(run.view(threat), world, chosen, where)


def agrees(view: View, world: World, coalition: frozenset[Party], values: Vector, where: str) -> None:
    rows = world.seen(coalition)
    honest = [c for c in range(N) if client(c) not in coalition]
    known = {place for place in world.updates if spans(rows, world.one(*place))}
    singles = [item for item in view.readable("update") if not item.about <= set(view.threat.clients)]
    found = {(item.round, min(item.about)) for item in singles if len(item.about) == 1}
    assert found == {(r, c) for r, c in known if c in honest}, where
    sizes = [item.k for item in view.readable(*SUMS) if item.k > 0]
    assert min(sizes, default=0) == fewest(world, rows, honest), where
    for item in view.readable("update", "aggregate"):
        if not item.about:
            continue
        clients, r = sorted(item.about), item.round
        close(item.value, world.mean(r, clients) @ values, where)
        assert item.weight == sum(world.counts[c] for c in clients), where
        hidden = [c for c in clients if c in honest and (len(clients) == 1 or (r, c) not in known)]
        # where every update of a sum is known, nobody hides in it, or the last one that was only derived
        assert item.k == len(hidden) or (not hidden and item.k == 1), (where, item)
        base = view.base_of(item)
        start = world.bases[r, clients[0]]
        if base is not None:
            close(base, start @ values, where)
        elif set(clients) & set(honest):
            assert not spans(rows, start), (where, item)


def overstates_nothing(view: View, world: World, coalition: frozenset[Party], where: str) -> None:
    """Who is not told the rosters may still guess them: no anonymity is counted on top."""
    rows = world.seen(coalition)
    honest = [c for c in range(N) if client(c) not in coalition]
    known = {place for place in world.updates if spans(rows, world.one(*place))}
    named = [item for item in view.readable("update", "aggregate") if item.about is not None]
    for item in named:
        close_to = [(item.round, c) for c in item.named if len(item.named) == 1 and c in honest]
        assert set(close_to) <= known, where
    least = fewest(world, rows, honest)
    sizes = [item.k for item in view.readable(*SUMS) if item.k > 0]
    assert least == 0 or 0 < min(sizes) <= least, (where, sizes, least)


def close(value: object, expected: Vector, where: str) -> None:
    assert isinstance(value, torch.Tensor)
    assert torch.allclose(value.double(), torch.from_numpy(expected), rtol=1e-4, atol=2e-5), where
