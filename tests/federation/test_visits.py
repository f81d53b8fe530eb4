"""Rings and edge servers under attack: orders of visits, who is handed what, audits, and a block that is replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch

from qflsec.attacks import attack_from_config
from qflsec.base import ConfigError, IncompatibleAttack, IncompatibleStack
from qflsec.defenses.robust import ReceivedAudit
from qflsec.federation import (
    Adversary,
    Gossip,
    Hands,
    Hierarchy,
    Pipeline,
    Ring,
    RunResult,
    RunSpec,
    Stack,
    Topology,
    Tree,
    run_batch,
)
from qflsec.threat import Payload, Tapped, ThreatModel, client, malicious_edge, peer, wire_eavesdropper

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
AUDIT = Stack.from_layers("audit", [ReceivedAudit(tolerance=0.25)])


def on(pipeline: Pipeline, topology: Topology) -> Pipeline:
    return replace(pipeline, topology=topology)


def starts(run: RunResult, index: int) -> dict[int, torch.Tensor]:
    """The models that one client was handed, by round."""
    return {
        m.round: m.layers[0].at(run.lane, place)
        for m in run.transcript.messages
        if m.kind == "model"
        for place, slot in enumerate(m.slots)
        if slot.receiver == client(index) and m.present[run.lane][place]
    }


@pytest.mark.parametrize("order", ["fixed", "reversed", "alternating", "random"])
def test_every_client_of_a_ring_starts_from_what_the_one_before_it_made(
    make_pipeline: Maker, order: str
) -> None:
    ring = Ring(order=order)  # type: ignore[arg-type]
    pipeline = on(make_pipeline(n_qubits=2, members=24, n_clients=4, rounds=3), ring)
    specs = [RunSpec(seed=seed) for seed in (0, 1)]
    runs = run_batch(pipeline, NONE, specs, grant_honest_updates=True)
    orders = []
    for run in runs:
        updates, model = run.transcript.honest_updates[run.lane], run.initial
        for r in range(3):
            visits = [turn.root.index for turn in ring.turns_of(4, r, run.spec.seed)]
            orders.append(visits)
            for i in visits:
                got = starts(run, i).get(r)
                assert got is None or torch.equal(got, model)
                model = model + updates[r, i]
        assert torch.equal(model, run.params)
        assert [i for i, _ in run.visits] == orders[-1]
        assert run.visits[-1][1] == run.accuracy[-1]
        assert run.worst_accuracy[-1] == min(right for _, right in run.visits)
    up = [0, 1, 2, 3]
    expected = {"fixed": [up] * 3, "reversed": [up[::-1]] * 3, "alternating": [up, up[::-1], up]}
    if order == "random":
        assert len({tuple(visits) for visits in orders}) > 2
        assert all(sorted(visits) == up for visits in orders)
        alone = run_batch(pipeline, NONE, specs[1:])[0]
        assert torch.equal(alone.params, runs[1].params), "a run must not depend on the runs beside it"
    else:
        assert orders == expected[order] * 2


@dataclass(frozen=True, kw_only=True)
class Ruin(Adversary):
    """A client that hands on a model far off, from the second round on."""

    def updates(self, hands: Hands) -> torch.Tensor:
        return hands.honest if hands.round == 0 else hands.honest + 2.0

    def identity(self) -> dict[str, object]:
        return {"name": "ruin"}


def test_a_client_that_audits_goes_on_from_what_it_handed_on_last(make_pipeline: Maker) -> None:
    pipeline = on(make_pipeline(n_qubits=2, members=24, n_clients=3, rounds=2), Ring())
    threat = replace(peer(index=1), active=True)
    spec = RunSpec(seed=0, adversary=Ruin(), threat=threat)
    plain, audited = (run_batch(pipeline, s, [spec], grant_honest_updates=True)[0] for s in (NONE, AUDIT))
    updates = audited.transcript.honest_updates[0]
    handed = audited.initial + updates[0, 0] + updates[0, 1] + updates[0, 2]
    assert torch.allclose(audited.params, handed + updates[1, 2], atol=1e-6)
    assert audited.costs["refused_models"] == 1
    assert "refused_models" not in plain.costs
    assert not torch.allclose(plain.params, audited.params, atol=0.1)
    versions = audited.transcript.facts[0].versions
    assert versions["2"].bases == {"1": 1.0}, (
        "it rests on the model that the client handed on, not on the one it got"
    )
    view = audited.view(ThreatModel(name="p", corrupted=frozenset({client(0), client(1)})))
    mine = [item for item in view.readable("update") if item.round == 1 and item.about == {2}]
    assert len(mine) == 1
    assert torch.allclose(mine[0].vector, updates[1, 2], atol=1e-5)


@dataclass(frozen=True, kw_only=True)
class Shifted(Adversary):
    """A network that moves the model on its way to client 1."""

    def tamper(self, tapped: Tapped) -> Payload:
        if tapped.round == 0 and tapped.receiver == client(1):
            assert isinstance(tapped.payload, torch.Tensor)
            return tapped.payload + 0.5
        return tapped.payload

    def identity(self) -> dict[str, object]:
        return {"name": "shifted"}


def test_a_client_of_a_ring_hands_on_what_it_made_of_the_model_that_arrived(make_pipeline: Maker) -> None:
    pipeline = on(make_pipeline(n_qubits=2, members=24, n_clients=3, rounds=1), Ring())
    spec = RunSpec(seed=0, adversary=Shifted(), threat=wire_eavesdropper(active=True))
    run = run_batch(pipeline, NONE, [spec], grant_honest_updates=True)[0]
    total = sum(run.transcript.honest_updates[0].values())
    assert torch.allclose(run.params, run.initial + 0.5 + total, atol=1e-6)
    versions = run.transcript.facts[0].versions
    assert set(versions["0.2"].bases) == {"0.1 to client:1"}


def test_an_audit_that_refuses_nothing_changes_no_bit(make_pipeline: Maker) -> None:
    lenient = Stack.from_layers("lenient", [ReceivedAudit(tolerance=1e9)])
    for topology in (Ring(), Gossip()):
        pipeline = on(make_pipeline(n_qubits=2, members=24, n_clients=4, rounds=2), topology)
        one, other = (run_batch(pipeline, s, [RunSpec(seed=0)])[0] for s in (NONE, lenient))
        assert torch.equal(one.models, other.models)
        assert other.costs["refused_models"] == 0


def test_a_gossip_client_keeps_the_weight_of_a_model_that_it_refuses(make_pipeline: Maker) -> None:
    pipeline = on(make_pipeline(n_qubits=2, members=24, n_clients=4, rounds=2), Gossip())
    spec = RunSpec(seed=0, adversary=Ruin(), threat=replace(peer(index=1), active=True))
    run = run_batch(pipeline, Stack.from_layers("a", [ReceivedAudit(tolerance=0.25)]), [spec])[0]
    versions = run.transcript.facts[0].versions
    assert versions["2@0"].bases == pytest.approx({"1.1@0": 2 / 3, "1.1@3": 1 / 3})
    assert len(versions["2@1"].bases) == 3, "whoever is corrupted refuses nothing"


def test_audits_have_no_meaning_where_a_server_hands_models_out(make_pipeline: Maker) -> None:
    with pytest.raises(IncompatibleStack, match=r"received-audit.*gossip or ring.*a star"):
        run_batch(make_pipeline(), AUDIT, [RunSpec(seed=0)])
    with pytest.raises(ConfigError, match="tolerance"):
        ReceivedAudit(tolerance=-1.0)


@pytest.mark.parametrize("topology", [Tree(edges=2), Hierarchy(edges=2, period=1)], ids=lambda t: t.name)
def test_a_corrupted_edge_server_replaces_the_step_of_its_block_and_no_other(
    make_pipeline: Maker, topology: Topology
) -> None:
    pipeline = on(make_pipeline(n_qubits=2, members=24, n_clients=4, rounds=1), topology)
    attack = attack_from_config({"name": "edge-replacement", "scale": 3.0})
    spec = RunSpec(seed=0, adversary=attack, threat=malicious_edge(index=1))  # type: ignore[arg-type]
    runs = run_batch(pipeline, NONE, [spec, RunSpec(seed=0)], grant_honest_updates=True)
    updates = runs[0].transcript.honest_updates[0]
    block = {e: (updates[0, e] + updates[0, e + 2]) / 2 for e in (0, 1)}
    assert torch.allclose(runs[0].params, runs[0].initial + (block[0] - 3 * block[1]) / 2, atol=1e-6)
    assert torch.allclose(runs[1].params, runs[1].initial + (block[0] + block[1]) / 2, atol=1e-6)
    if topology.name == "hierarchy":
        told = [runs[0].transcript.facts[0].versions[f"0.1@{e}"].linear for e in (0, 1)]
        assert told == [True, False], "nobody takes a made-up step for a mean of updates"
    alone = run_batch(pipeline, NONE, [spec])[0]
    assert torch.equal(alone.params, runs[0].params)


def test_an_edge_attack_needs_an_edge(make_pipeline: Maker) -> None:
    attack = attack_from_config({"name": "edge-replacement"})
    with pytest.raises(IncompatibleAttack, match="needs edge servers"):
        attack.check(make_pipeline(), malicious_edge())
    with pytest.raises(ConfigError, match="acts through edge servers"):
        attack.corrupts(peer())  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="unknown 'order'"):
        Ring(order="zigzag")  # type: ignore[arg-type]
