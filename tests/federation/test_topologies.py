"""Ring and tree against plain loops, batches against single runs, and what their parties see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from qflsec.attacks import InversionClaim, Manipulation, attack_from_config
from qflsec.base import AttackCard, ConfigError, IncompatibleStack, Source
from qflsec.data import PartitionSpec
from qflsec.defenses.privacy import ClientClip, DpSgd
from qflsec.defenses.robust import Median
from qflsec.federation import (
    Adversary,
    ClientPayloads,
    Hands,
    Pipeline,
    Ring,
    RunResult,
    RunSpec,
    ServerHands,
    Stack,
    Star,
    Topology,
    Tree,
    run_batch,
)
from qflsec.federation.topology import topology_from_config
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import Execution
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import Masked
from qflsec.threat import (
    SERVER,
    ThreatModel,
    client,
    corrupted_clients,
    edge,
    malicious_server,
    wire_eavesdropper,
)

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
CLIP = Stack(name="clip", client=(ClientClip(clip_norm=0.5),))


def on(pipeline: Pipeline, topology: Topology) -> Pipeline:
    return replace(pipeline, topology=topology)


def same(a: RunResult, b: RunResult) -> bool:
    return torch.equal(a.params, b.params) and a.accuracy == b.accuracy and a.train_loss == b.train_loss


@dataclass(frozen=True, kw_only=True)
class Flip(Manipulation):
    """Scaled sign flip that also draws from its stream."""

    card: ClassVar[AttackCard] = AttackCard(
        name="flip",
        idea="test",
        source=Source(paper="test", year=2026, where="here"),
        family="poisoning",
        goal="integrity",
        needs=("corrupted clients",),
    )
    factor: float = 2.0

    def run(self, hands: Hands) -> torch.Tensor:
        noise = torch.stack([torch.randn(hands.honest.shape[1:], generator=g) for g in hands.generators])
        return -self.factor * hands.honest + 0.01 * noise


@dataclass(frozen=True, kw_only=True)
class Silent(Adversary):
    """Corrupted clients that hand nothing on."""

    def updates(self, hands: Hands) -> ClientPayloads:
        return [[None] * hands.honest.shape[1] for _ in range(len(hands.honest))]

    def identity(self) -> dict[str, object]:
        return {"name": "silent"}


def local(
    pipeline: Pipeline, params: torch.Tensor, features: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """One client's local SGD by plain autograd in double precision."""
    for _ in range(pipeline.federation.local_steps):
        leaf = params.clone().requires_grad_()
        logits = pipeline.model(leaf, features.double(), execution=Execution(dtype="complex128"))
        loss = torch.nn.functional.cross_entropy(logits, labels)
        (gradient,) = torch.autograd.grad(loss, leaf)
        params = params - pipeline.federation.learning_rate * gradient
    return params


def test_a_ring_is_one_model_that_visits_every_client(make_pipeline: Maker) -> None:
    pipeline = on(make_pipeline(members=32, n_clients=4, local_steps=2, rounds=3), Ring())
    run = run_batch(pipeline, NONE, [RunSpec(seed=3)])[0]
    params = run.initial.double()
    for _ in range(3):
        for rows in run.clients:
            params = local(pipeline, params, run.dataset.features[rows], run.dataset.labels[rows])
    assert torch.allclose(run.params.double(), params, atol=2e-6)
    star = run_batch(on(pipeline, Star()), NONE, [RunSpec(seed=3)])[0]
    assert not torch.allclose(run.params, star.params, atol=1e-3), "the topology must matter"


def test_a_tree_of_weighted_means_trains_the_model_of_a_star(make_pipeline: Maker) -> None:
    spread = PartitionSpec(kind="quantity-skew", alpha=1.0, min_records=2)
    pipeline = make_pipeline(members=40, n_clients=7, rounds=3, partition=spread, participation=0.6)
    star, tree = (run_batch(on(pipeline, t), NONE, [RunSpec(seed=1)])[0] for t in (Star(), Tree(edges=3)))
    assert len({len(rows) for rows in star.clients}) > 1
    assert torch.allclose(star.params, tree.params, atol=1e-6)
    assert star.accuracy == pytest.approx(tree.accuracy)


@pytest.mark.parametrize("topology", [Ring(), Tree(edges=2), Tree(edges=1)])
@pytest.mark.parametrize("stack", [NONE, CLIP])
def test_batched_equals_single_bit_for_bit(make_pipeline: Maker, topology: Topology, stack: Stack) -> None:
    spread = PartitionSpec(kind="dirichlet", alpha=0.5, min_records=1)
    base = make_pipeline(
        members=36, n_clients=4, batch_size=4, local_steps=2, participation=0.75, partition=spread
    )
    threat, pair = corrupted_clients(n=1), corrupted_clients(n=2)
    specs = [
        *(RunSpec(seed=seed) for seed in (0, 1, 2)),
        *(RunSpec(seed=seed, adversary=Flip(), threat=threat) for seed in (0, 1)),
        RunSpec(seed=1, adversary=Flip(), threat=pair),
    ]
    pipeline = on(base, topology)
    single = [run_batch(pipeline, stack, [spec])[0] for spec in specs]
    assert all(run.outcome == "completed" for run in single)
    for lanes in (2, 3, 16):
        together = run_batch(pipeline, stack, specs, max_lanes=lanes)
        assert [same(a, b) for a, b in zip(single, together, strict=True)] == [True] * len(specs)
    assert not same(single[0], single[3]), "the attack must change the run"


def models_to(run: RunResult, index: int) -> list[tuple[int, torch.Tensor]]:
    """The models that one client received, with the round."""
    return [
        (m.round, m.layers[0].at(0, place))
        for m in run.transcript.messages
        if m.kind == "model"
        for place, slot in enumerate(m.slots)
        if slot.receiver == client(index) and m.present[0][place]
    ]


def test_every_client_starts_where_the_topology_says(make_pipeline: Maker) -> None:
    """In a ring from what its neighbour made of its own start, in a tree from the server's model."""
    pipeline = make_pipeline(members=24, n_clients=3, rounds=2)
    ring = run_batch(on(pipeline, Ring()), NONE, [RunSpec(seed=0)], grant_honest_updates=True)[0]
    updates = ring.transcript.honest_updates[0]
    model, starts = ring.initial, {i: models_to(ring, i) for i in range(3)}
    for round_index in range(2):
        for i in range(3):
            got = dict(starts[i]).get(round_index)
            assert (got is None) == (round_index == 0 and i == 0), "the first client holds the first model"
            assert got is None or torch.equal(got, model)
            model = model + updates[round_index, i]
    assert torch.equal(model, ring.params)
    tree = run_batch(on(pipeline, Tree(edges=2)), NONE, [RunSpec(seed=0)])[0]
    for i in range(3):
        assert [r for r, _ in models_to(tree, i)] == [0, 1]
        assert torch.equal(models_to(tree, i)[0][1], tree.initial)


def test_a_client_that_is_left_out_of_a_ring_is_passed_over(make_pipeline: Maker) -> None:
    pipeline = on(make_pipeline(members=24, n_clients=4, rounds=4, participation=0.5), Ring())
    run = run_batch(pipeline, NONE, [RunSpec(seed=2)], grant_honest_updates=True)[0]
    updates = run.transcript.honest_updates[0]
    assert {len([c for r, c in updates if r == k]) for k in range(4)} == {2}
    model = run.initial
    for key in sorted(updates):
        model = model + updates[key]
    assert torch.equal(model, run.params)


def test_an_edge_sees_single_updates_and_the_server_sums_of_groups(make_pipeline: Maker) -> None:
    pipeline = on(make_pipeline(members=24, n_clients=6, rounds=1), Tree(edges=2))
    run = run_batch(pipeline, NONE, [RunSpec(seed=0)])[0]
    server = run.view(ThreatModel(name="s", corrupted=frozenset({SERVER})))
    sums = server.readable("update", "aggregate")
    assert {(item.about, item.k) for item in sums if not item.derived} == {
        (frozenset({0, 2, 4}), 3),
        (frozenset({1, 3, 5}), 3),
    }
    at_edge = run.view(ThreatModel(name="e", corrupted=frozenset({edge(0)})))
    singles = {item.about for item in at_edge.readable("update")}
    assert singles == {frozenset({i}) for i in (0, 2, 4)}
    other = [item for item in at_edge.readable("aggregate") if item.about == {1, 3, 5}]
    assert [item.k for item in other] == [3], "the whole less its own group"


def test_gradient_matching_from_the_wire_of_a_ring_rebuilds_records_and_the_ledger_says_k_is_1(
    make_pipeline: Maker,
) -> None:
    """What a rule that takes rounds for steps got wrong: it said sums of all clients, and the attack found nothing."""
    pipeline = on(make_pipeline(members=8, n_clients=8, layers=3, rounds=2), Ring())
    run = run_batch(pipeline, NONE, [RunSpec(seed=0)])[0]
    threat = wire_eavesdropper()
    attack = attack_from_config({"name": "dlg"})
    challenge, truth = challenge_for(attack, run, seed=0, threat=threat)
    claim = attack(run.view(threat), challenge)  # type: ignore[operator]
    assert isinstance(claim, InversionClaim)
    assert score_claim(claim, truth).advantage > 0.99
    seen = " ".join(row.statement for row in run.ledger(threat) if row.guarantee == "seen")
    assert "updates of single honest clients (8 of them)" in seen
    assert min(item.k for item in run.view(threat).readable("update", "aggregate", "step")) == 1


@pytest.mark.parametrize("topology", [Ring(), Tree(edges=2)])
@pytest.mark.parametrize(
    "layer", [Masked(), AesGcmLink(), DpSgd(clip_norm=1.0, noise_multiplier=1.0), Median()]
)
def test_a_layer_that_was_not_made_for_a_topology_is_incompatible(
    make_pipeline: Maker, topology: Topology, layer: Any
) -> None:
    stack = Stack.from_layers("x", [layer])
    with pytest.raises(IncompatibleStack, match=f"{layer.card.name}.*made for a .*star.*{topology.words}"):
        run_batch(on(make_pipeline(n_clients=4), topology), stack, [RunSpec(seed=0)])


def test_a_server_that_forges_models_needs_a_star(make_pipeline: Maker) -> None:
    class Forger(Adversary):
        def broadcast(self, hands: ServerHands) -> torch.Tensor:
            return super().broadcast(hands) + 1

        def identity(self) -> dict[str, object]:
            return {"name": "forger"}

    spec = RunSpec(seed=0, adversary=Forger(), threat=malicious_server())
    assert run_batch(make_pipeline(), NONE, [spec])[0].outcome == "completed"
    with pytest.raises(IncompatibleStack, match="a model of its own"):
        run_batch(on(make_pipeline(), Tree()), NONE, [spec])
    with pytest.raises(IncompatibleStack, match="corrupts a party that the topology lacks; got server"):
        run_batch(on(make_pipeline(), Ring()), NONE, [spec])


def test_a_client_that_hands_nothing_on_loses_the_ring_and_not_the_tree(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(members=24, n_clients=4)
    spec = RunSpec(seed=0, adversary=Silent(), threat=corrupted_clients(n=1))
    ring, tree = (run_batch(on(pipeline, t), NONE, [spec])[0] for t in (Ring(), Tree()))
    assert ring.outcome.startswith("lost: client:0 sent nothing")
    assert tree.outcome == "completed"
    assert {(entry.round, entry.client) for entry in tree.dropped} == {(0, 0), (1, 0)}


def test_topologies_refuse_what_they_cannot_connect(make_pipeline: Maker) -> None:
    with pytest.raises(ConfigError, match="ring needs clients"):
        on(make_pipeline(n_clients=1), Ring())
    with pytest.raises(ConfigError, match="has no client"):
        on(make_pipeline(n_clients=2), Tree(edges=3))
    with pytest.raises(ConfigError, match="edge servers"):
        Tree(edges=0)
    with pytest.raises(ConfigError, match="unknown parameter"):
        topology_from_config({"name": "ring", "edges": 2})


@pytest.mark.parametrize("topology", [Star(), Ring(), Tree(edges=3)])
def test_every_client_trains_once_in_a_round_and_configs_come_back(topology: Topology) -> None:
    trained = [index for turn in topology.turns(7, 0) for index in turn.trainers]
    assert sorted(trained) == list(range(7))
    assert topology_from_config(topology.to_config()) == topology
    assert {client(i) for i in range(7)} <= topology.parties(7)
