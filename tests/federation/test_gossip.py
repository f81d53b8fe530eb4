"""Gossip and hierarchies against plain loops: mixing matrices, starts, reductions to the mean of a star, and who is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.data import PartitionSpec
from qflsec.defenses.robust import Median, TrimmedMean
from qflsec.federation import (
    Adversary,
    ClientPayloads,
    Gossip,
    Hands,
    Hierarchy,
    Pipeline,
    RunResult,
    RunSpec,
    Stack,
    Star,
    Topology,
    run_batch,
)
from qflsec.models import Execution
from qflsec.threat import Payload, Tapped, ThreatModel, client, corrupted_clients, wire_eavesdropper

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
KINDS = ("ring", "pairs", "all")


def on(pipeline: Pipeline, topology: Topology) -> Pipeline:
    return replace(pipeline, topology=topology)


def local(pipeline: Pipeline, params: torch.Tensor, run: RunResult, index: int) -> torch.Tensor:
    """One client's local SGD by plain autograd in double precision."""
    rows = run.clients[index]
    features, labels = run.dataset.features[rows].double(), run.dataset.labels[rows]
    for _ in range(pipeline.federation.local_steps):
        leaf = params.clone().requires_grad_()
        logits = pipeline.model(leaf, features, execution=Execution(dtype="complex128"))
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), leaf)
        params = params - pipeline.federation.learning_rate * gradient
    return params


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(3, 9),
    absent=st.sets(st.integers(0, 8), max_size=4),
    seed=st.integers(0, 99),
)
def test_mixing_matrices_are_symmetric_and_doubly_stochastic_and_draw_models_together(
    kind: str, n: int, absent: set[int], seed: int
) -> None:
    gossip = Gossip(neighbours=kind)  # type: ignore[arg-type]
    here = sorted(set(range(n)) - absent)
    mixed = gossip.matrix(n, 3, present=here, seed=seed)
    assert (mixed >= 0).all()
    assert np.allclose(mixed, mixed.T)
    assert np.allclose(mixed.sum(axis=0), 1)
    assert np.allclose(mixed.sum(axis=1), 1)
    for index in absent & set(range(n)):
        assert mixed[index, index] == 1
    rows = gossip.mixing(n, 3, present=here, counts=[1.0] * n, seed=seed)
    for mix in rows:
        assert mix.maker == client(mix.nodes[0])
        assert mix.weights == {j: mixed[mix.nodes[0], j] for j in range(n) if mixed[mix.nodes[0], j]}
    models = np.arange(n, dtype=float)
    assert np.var(mixed @ models) <= np.var(models) + 1e-12
    assert np.mean(mixed @ models) == pytest.approx(np.mean(models))


def test_every_client_of_a_gossip_network_trains_its_own_mixture(make_pipeline: Maker) -> None:
    """A plain loop over models, with the weights of a ring written out."""
    pipeline = on(make_pipeline(n_qubits=2, members=20, n_clients=5, rounds=3, local_steps=2), Gossip())
    run = run_batch(pipeline, NONE, [RunSpec(seed=4)])[0]
    models = [run.initial.double() for _ in range(5)]
    for _ in range(3):
        trained = [local(pipeline, models[i], run, i) for i in range(5)]
        models = [(trained[i - 1] + trained[i] + trained[(i + 1) % 5]) / 3 for i in range(5)]
    assert torch.allclose(run.models.double(), torch.stack(models), atol=3e-6)
    assert not torch.allclose(run.models[0], run.models[2], atol=1e-4), "there must be several models"
    test = run.records("test")
    own = [
        float((pipeline.model(m, test.features).argmax(-1) == test.labels).double().mean())
        for m in run.models
    ]
    assert run.accuracy[-1] == pytest.approx(float(np.mean(own)))
    assert run.worst_accuracy[-1] == pytest.approx(min(own))


@pytest.mark.parametrize(
    "topology", [Gossip(neighbours="all"), Hierarchy(edges=2, period=1), Hierarchy(edges=1, period=3)]
)
def test_equal_weights_and_a_period_of_one_are_the_mean_of_a_star(
    make_pipeline: Maker, topology: Topology
) -> None:
    pipeline = make_pipeline(n_qubits=2, members=24, n_clients=6, rounds=3)
    star, other = (run_batch(on(pipeline, t), NONE, [RunSpec(seed=1)])[0] for t in (Star(), topology))
    for model in other.models:
        assert torch.allclose(star.params, model, atol=1e-6)
    assert other.accuracy == pytest.approx(star.accuracy)


def test_edge_servers_train_on_their_own_until_the_period_ends(make_pipeline: Maker) -> None:
    spread = PartitionSpec(kind="quantity-skew", alpha=1.0, min_records=2)
    pipeline = make_pipeline(n_qubits=2, members=30, n_clients=5, rounds=3, partition=spread)
    run = run_batch(on(pipeline, Hierarchy(edges=2, period=2)), NONE, [RunSpec(seed=3)])[0]
    counts, blocks = [len(rows) for rows in run.clients], ((0, 2, 4), (1, 3))
    sizes = [sum(counts[i] for i in block) for block in blocks]
    assert sizes[0] != sizes[1]
    models = [run.initial.double()] * 2
    for r in range(3):
        models = [
            sum(counts[i] * local(pipeline, model, run, i) for i in block) / size
            for model, block, size in zip(models, blocks, sizes, strict=True)
        ]
        if r == 1:
            models = [(sizes[0] * models[0] + sizes[1] * models[1]) / sum(sizes)] * 2
    assert torch.allclose(run.models.double(), torch.stack(models), atol=3e-6)
    assert not torch.allclose(run.models[0], run.models[1], atol=1e-4)


def test_every_start_and_every_mixture_is_made_of_what_was_sent(make_pipeline: Maker) -> None:
    """With clients that are missing: whoever takes part adds its update to its model and mixes with who is there."""
    pipeline = make_pipeline(n_qubits=2, members=20, n_clients=5, rounds=4, participation=0.6)
    for topology in (Gossip(), Gossip(neighbours="pairs")):
        run = run_batch(on(pipeline, topology), NONE, [RunSpec(seed=2)], grant_honest_updates=True)[0]
        updates, models = run.transcript.honest_updates[0], [run.initial] * 5
        for r in range(4):
            present = sorted(c for k, c in updates if k == r)
            assert len(present) == 3
            sent = [model + updates[r, c] if c in present else model for c, model in enumerate(models)]
            matrix = torch.from_numpy(topology.matrix(5, r, present=present, seed=2))
            models = list((matrix @ torch.stack(sent).double()).float())
        assert torch.allclose(run.models, torch.stack(models), atol=1e-6)
        initial = [m for m in run.transcript.messages if m.kind == "model" and m.versions[0][0] == "0"]
        assert all(slot.sender == client(0) for message in initial for slot in message.slots)


@dataclass(frozen=True, kw_only=True)
class Flip(Adversary):
    """A scaled sign flip that draws."""

    def updates(self, hands: Hands) -> torch.Tensor:
        noise = torch.stack([torch.randn(hands.honest.shape[1:], generator=g) for g in hands.generators])
        return -2.0 * hands.honest + 0.01 * noise

    def identity(self) -> dict[str, object]:
        return {"name": "flip"}


@dataclass(frozen=True, kw_only=True)
class Silent(Adversary):
    """Corrupted clients that send nothing, or numbers that are not finite."""

    nan: bool = False

    def updates(self, hands: Hands) -> ClientPayloads | torch.Tensor:
        if self.nan:
            return torch.full_like(hands.honest, float("nan"))
        return [[None] * hands.honest.shape[1] for _ in range(len(hands.honest))]

    def identity(self) -> dict[str, object]:
        return {"name": "silent", "nan": self.nan}


@pytest.mark.parametrize(
    "topology", [Gossip(), Gossip(neighbours="pairs"), Hierarchy(edges=2, period=2)], ids=lambda t: t.words
)
def test_batched_equals_single_bit_for_bit(make_pipeline: Maker, topology: Topology) -> None:
    spread = PartitionSpec(kind="dirichlet", alpha=0.5, min_records=1)
    base = make_pipeline(
        n_qubits=2, members=36, n_clients=4, batch_size=4, participation=0.75, partition=spread, rounds=3
    )
    threat = corrupted_clients(n=1)
    specs = [
        *(RunSpec(seed=seed) for seed in (0, 1)),
        *(RunSpec(seed=seed, adversary=Flip(), threat=threat) for seed in (0, 1)),
    ]
    pipeline = on(base, topology)
    single = [run_batch(pipeline, NONE, [spec])[0] for spec in specs]
    together = run_batch(pipeline, NONE, specs)
    for one, other in zip(single, together, strict=True):
        assert one.outcome == "completed"
        assert torch.equal(one.models, other.models)
        assert one.accuracy == other.accuracy
        assert one.worst_accuracy == other.worst_accuracy
    assert not torch.equal(single[0].models, single[2].models), "the attack must change the run"


@pytest.mark.parametrize("nan", [False, True])
def test_neighbours_do_without_a_client_that_sends_no_model(make_pipeline: Maker, nan: bool) -> None:
    """They keep the weight that it would have had, and the run goes on."""
    pipeline = on(make_pipeline(n_qubits=2, members=20, n_clients=4, rounds=1), Gossip())
    spec = RunSpec(seed=0, adversary=Silent(nan=nan), threat=corrupted_clients(n=1))
    run = run_batch(pipeline, NONE, [spec], grant_honest_updates=True)[0]
    assert run.outcome == "completed"
    assert {(entry.round, entry.client) for entry in run.dropped} == {(0, 0)}
    sent = {c: run.initial + run.transcript.honest_updates[0][0, c] for c in (1, 2, 3)}
    assert torch.allclose(run.models[1], (2 * sent[1] + sent[2]) / 3, atol=1e-6)
    assert torch.allclose(run.models[2], (sent[1] + sent[2] + sent[3]) / 3, atol=1e-6)
    assert torch.allclose(run.models[0], (run.initial + sent[1] + sent[3]) / 3, atol=1e-6)


def test_what_a_corrupted_client_reads_counts_for_nothing(make_pipeline: Maker) -> None:
    pipeline = on(make_pipeline(n_qubits=2, members=20, n_clients=4, rounds=2, test=40), Gossip())
    spec = RunSpec(seed=0, adversary=Flip(), threat=corrupted_clients(n=1))
    run = run_batch(pipeline, NONE, [spec])[0]
    test = run.records("test")
    own = [
        float((pipeline.model(m, test.features).argmax(-1) == test.labels).double().mean())
        for m in run.models
    ]
    assert run.accuracy[-1] == pytest.approx(float(np.mean(own[1:])))
    assert run.worst_accuracy[-1] == pytest.approx(min(own[1:]))


@dataclass(frozen=True, kw_only=True)
class Shifted(Adversary):
    """A network that moves the models that reach client 1 in the first round."""

    def tamper(self, tapped: Tapped) -> Payload:
        if tapped.round == 0 and tapped.receiver == client(1) and tapped.sender == client(2):
            assert isinstance(tapped.payload, torch.Tensor)
            return tapped.payload + 1.0
        return tapped.payload

    def identity(self) -> dict[str, object]:
        return {"name": "shifted"}


def test_an_altered_model_is_mixed_as_it_arrived_and_leads_nowhere_public(make_pipeline: Maker) -> None:
    pipeline = on(make_pipeline(n_qubits=2, members=20, n_clients=4, rounds=1), Gossip())
    threat = wire_eavesdropper(active=True)
    honest = run_batch(pipeline, NONE, [RunSpec(seed=0)])[0]
    run = run_batch(pipeline, NONE, [RunSpec(seed=0, adversary=Shifted(), threat=threat)])[0]
    assert torch.allclose(run.models[1], honest.models[1] + 1 / 3, atol=1e-6)
    assert torch.equal(run.models[0], honest.models[0])
    versions = run.transcript.facts[0].versions
    assert not versions["0.1@2 to client:1"].bases


@dataclass(frozen=True, kw_only=True)
class Cut(Adversary):
    """A network that lets no first model through to client 2."""

    def tamper(self, tapped: Tapped) -> Payload | None:
        return None if tapped.sender == client(0) and tapped.receiver == client(2) else tapped.payload

    def identity(self) -> dict[str, object]:
        return {"name": "cut"}


def test_a_client_that_never_got_a_model_mixes_nothing(make_pipeline: Maker) -> None:
    pipeline = on(make_pipeline(n_qubits=2, members=20, n_clients=5, rounds=1), Gossip())
    spec = RunSpec(seed=0, adversary=Cut(), threat=wire_eavesdropper(active=True))
    run = run_batch(pipeline, NONE, [spec], grant_honest_updates=True)[0]
    updates = run.transcript.honest_updates[0]
    assert sorted(c for _, c in updates) == [0, 1, 3, 4]
    assert torch.equal(run.models[2], run.initial)
    sent = {c: run.initial + updates[0, c] for c in (0, 1)}
    assert torch.allclose(run.models[1], (sent[0] + 2 * sent[1]) / 3, atol=1e-6)


def test_a_robust_rule_acts_at_every_edge_server_against_a_minority_of_its_own_clients(
    make_pipeline: Maker,
) -> None:
    pipeline = make_pipeline(n_qubits=2, members=24, n_clients=6, rounds=1, declared_corrupted=1)
    median = Stack.from_layers("median", [Median()])
    hierarchy = on(pipeline, Hierarchy(edges=2, period=2))
    run = run_batch(hierarchy, median, [RunSpec(seed=0)], grant_honest_updates=True)[0]
    updates = run.transcript.honest_updates[0]
    for node in (0, 1):
        block = torch.stack([updates[0, c] for c in range(node, 6, 2)])
        assert torch.allclose(run.models[node], run.initial + block.median(dim=0).values, atol=1e-6)
    few = replace(pipeline, federation=replace(pipeline.federation, n_clients=4))
    trimmed = Stack.from_layers("trimmed", [TrimmedMean()])
    trimmed.check(on(few, Star()))
    with pytest.raises(IncompatibleStack, match="not defined for so many corrupted clients; got 2 clients"):
        trimmed.check(on(few, Hierarchy(edges=2)))


def test_a_neighbour_reads_single_updates_until_mixing_hides_them(make_pipeline: Maker) -> None:
    """The first models are known to everybody, so that the first updates are; later ones stand beside unknown ones."""
    pipeline = on(make_pipeline(n_qubits=2, members=20, n_clients=5, rounds=3), Gossip())
    run = run_batch(pipeline, NONE, [RunSpec(seed=0)])[0]
    view = run.view(ThreatModel(name="peer", corrupted=frozenset({client(0)})))
    singles = {(item.round, *item.named) for item in view.readable("update") if item.k == 1}
    assert singles == {(0, 1), (0, 4)}
    later = [item for item in view.readable("path") if item.round == 2]
    assert min(item.k for item in later) >= 2


def test_networks_without_neighbours_and_unknown_ones_are_refused(make_pipeline: Maker) -> None:
    with pytest.raises(ConfigError, match="gossip needs neighbours"):
        on(make_pipeline(n_clients=2), Gossip())
    with pytest.raises(ConfigError, match="unknown 'neighbours'"):
        Gossip(neighbours="torus")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs a period"):
        Hierarchy(period=0)
    with pytest.raises(ConfigError, match="has no client"):
        on(make_pipeline(n_clients=2), Hierarchy(edges=3))
