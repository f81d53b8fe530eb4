"""Every coalition over a ring, a tree and others, its view walked for canaries that it could not have.

Who can compute a client's update is worked out here by hand for each topology, independently of versions,
paths and elimination.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from walking import head, held, near

from qflsec.federation import (
    Clusters,
    Gossip,
    Hierarchy,
    Pipeline,
    Ring,
    RunSpec,
    Stack,
    Topology,
    Tree,
    run_batch,
)
from qflsec.threat import PUBLIC, SERVER, WIRE, Party, ThreatModel, client, edge, wire_eavesdropper

Maker = Callable[..., Pipeline]
N = 4
ROUND = 1


def ring_reads(target: int, coalition: frozenset[Party]) -> bool:
    """Both neighbours hold the model before and after; the wire carries both."""
    before, after = client((target - 1) % N), client((target + 1) % N)
    return WIRE in coalition or {before, after} <= coalition


def tree_reads(target: int, coalition: frozenset[Party]) -> bool:
    """Clients 0 and 2 are under edge 0, clients 1 and 3 under edge 1."""
    mate = client((target + 2) % N)
    others = {client((target + 1) % N), client((target + 3) % N)}
    if WIRE in coalition or edge(target % 2) in coalition:
        return True
    # the sum of the target's group: sent to the server, or the whole less what the other edge averaged
    group = SERVER in coalition or edge((target + 1) % 2) in coalition or others <= coalition
    return mate in coalition and group


def gossip_reads(target: int, coalition: frozenset[Party]) -> bool:
    """On a ring of four, a client's mixture has its own model and two others; one client is not its neighbour."""
    ring = {client((target - 1) % N), client((target + 1) % N)}
    opposite = client((target + 2) % N)
    if WIRE in coalition:
        return True
    # the model after the turn is sent to the neighbours alone; the models that it was mixed from are those of the ring
    after = bool(ring & coalition)
    # what the left neighbour sent is read by it and by the opposite client, and so is what the right one sent
    before = opposite in coalition or ring <= coalition
    return after and before


def hierarchy_reads(target: int, coalition: frozenset[Party]) -> bool:
    """Clients 0 and 2 are under edge 0, clients 1 and 3 under edge 1; the server makes a mean in the last round only."""
    mate = client((target + 2) % N)
    if WIRE in coalition or edge(target % 2) in coalition:
        return True
    # a mate holds the block's model before and after the round, and knows its own update
    return mate in coalition


def clusters_reads(joined: dict[int, int]) -> Callable[[int, frozenset[Party]], bool]:
    """Every client asks for every cluster's model in every round, and so reads what each cluster's clients changed together."""

    def reads(target: int, coalition: frozenset[Party]) -> bool:
        if WIRE in coalition or edge(joined[target]) in coalition:
            return True
        mates = {client(i) for i in joined if joined[i] == joined[target] and i != target}
        return mates <= coalition and any(party.role == "client" for party in coalition)

    return reads


CASES: dict[str, tuple[Topology, tuple[Party, ...], Callable[[int, frozenset[Party]], bool]]] = {
    "ring": (Ring(), tuple(client(i) for i in range(N)), ring_reads),
    "gossip": (Gossip(), tuple(client(i) for i in range(N)), gossip_reads),
    "hierarchy": (
        Hierarchy(edges=2, period=3),
        (SERVER, edge(0), edge(1), *(client(i) for i in range(N))),
        hierarchy_reads,
    ),
    "clusters": (
        Clusters(edges=2),
        (SERVER, edge(0), edge(1), *(client(i) for i in range(N))),
        clusters_reads({}),
    ),
    "tree": (Tree(edges=2), (SERVER, edge(0), edge(1), *(client(i) for i in range(N))), tree_reads),
}


@pytest.mark.parametrize("name", CASES)
def test_every_coalition_holds_what_it_could_and_nothing_else(make_pipeline: Maker, name: str) -> None:
    topology, parties, reads = CASES[name]
    pipeline = replace(make_pipeline(layers=2, members=12, n_clients=N, rounds=3), topology=topology)
    # with seed 26 one client is alone in its cluster
    spec = RunSpec(seed=26 if name == "clusters" else 11)
    run = run_batch(pipeline, Stack(name="none"), [spec], grant_honest_updates=True)[0]
    if name == "clusters":
        told = run.view(wire_eavesdropper()).readable("control", round_index=ROUND)
        joined = {min(item.named): item.receiver.index for item in told}
        assert len(set(joined.values())) == 2, "somebody must have chosen each"
        reads = clusters_reads(joined)
    updates = run.transcript.honest_updates[0]
    records = {i: [head(row) for row in run.client_records(i).features] for i in range(N)}
    sizes = range(len(parties) + 1)
    chosen_ones = itertools.chain.from_iterable(itertools.combinations(parties, size) for size in sizes)
    # who reads the network reads every update, with whomever it is
    for chosen in [*chosen_ones, (WIRE,), (WIRE, client(0))]:
        coalition = frozenset(chosen)
        view = run.view(ThreatModel(name="coalition", corrupted=coalition | {PUBLIC}))
        memory = held(view)
        for i in range(N):
            corrupted = client(i) in coalition
            assert all((record in memory) == corrupted for record in records[i]), (chosen, i)
            allowed = corrupted or reads(i, coalition)
            assert near(view, updates[ROUND, i]) == allowed, (chosen, i)
            if not allowed:
                assert head(updates[ROUND, i]) not in memory
            k = [item.k for item in view.readable() if item.about == {i} and item.kind == "update"]
            assert all(value == 1 - corrupted for value in k), (chosen, i)


@pytest.mark.parametrize(
    ("name", "coalition", "k"),
    [
        ("ring", {client(0)}, 3),
        ("ring", {client(0), client(2)}, 1),
        ("ring", {client(0), client(1)}, 2),
        ("ring", {WIRE}, 1),
        ("gossip", {client(0)}, 1),
        ("gossip", {PUBLIC}, 2),  # the models of opposite clients differ by their own updates alone
        ("hierarchy", {client(0)}, 1),
        ("hierarchy", {edge(1)}, 1),
        ("hierarchy", {SERVER}, 2),
        ("tree", {SERVER}, 2),
        ("tree", {edge(0)}, 1),
        ("tree", {client(0)}, 3),
        ("tree", {client(0), SERVER}, 1),
        ("tree", {client(0), client(2)}, 2),
    ],
)
def test_anonymity_sets(make_pipeline: Maker, name: str, coalition: set[Party], k: int) -> None:
    pipeline = replace(make_pipeline(members=12, n_clients=N, rounds=3), topology=CASES[name][0])
    run = run_batch(pipeline, Stack(name="none"), [RunSpec(seed=2)])[0]
    view = run.view(ThreatModel(name="x", corrupted=frozenset(coalition) | {PUBLIC}))
    sizes = [item.k for item in view.readable("update", "aggregate", "step", "path") if item.k > 0]
    assert min(sizes) == k
