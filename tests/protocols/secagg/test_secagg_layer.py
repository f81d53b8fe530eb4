"""Secure aggregation in the loop: dropouts over the network, views, ledger, and an active server."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from qflsec.base import ConfigError, IncompatibleStack, OsSecrets, ProtocolAbort
from qflsec.federation import (
    Adversary,
    RunResult,
    RunSpec,
    ServerHands,
    Setup,
    Stack,
    layer_from_config,
    run_batch,
)
from qflsec.federation.aggregation import weighted_mean
from qflsec.protocols.ghz import Ghz
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import HeMasked, HeThreshold, Masked, SecAgg, Terms
from qflsec.protocols.secagg.messages import Kind
from qflsec.threat import SERVER, Payload, Tapped, ThreatModel, client, coalition

Maker = Callable[..., Any]
WIRE = coalition(wire=True, active=True)
KINDS = {"advertise": 2, "share": 5, "mask": 7, "agree": 9, "reveal": 11}


def one(pipeline: Any, *layers: Any, **spec: Any) -> RunResult:
    stack = Stack(name="s", client=tuple(layers))
    return run_batch(pipeline, stack, [RunSpec(seed=4, **spec)], grant_honest_updates=True)[0]


def mean_of(result: RunResult, round_index: int, among: list[int]) -> torch.Tensor:
    updates = result.transcript.honest_updates[0]
    counts = torch.tensor([float(len(result.clients[i])) for i in among])
    return weighted_mean(torch.stack([updates[round_index, i] for i in among]), counts)


@dataclass(frozen=True)
class Dropper(Adversary):
    """A network that loses one kind of message of one client in the first round."""

    kind: int
    victim: int

    def identity(self) -> Any:
        return {"kind": self.kind, "victim": self.victim}

    def corrupts(self, threat: ThreatModel) -> None:
        pass

    def tamper(self, tapped: Tapped) -> Payload | None:
        lost = (
            tapped.round == 0
            and tapped.sender.index == self.victim
            and tapped.sender.role == "client"
            and isinstance(tapped.payload, bytes)
            and tapped.payload[:1] == bytes([self.kind])
        )
        return None if lost else tapped.payload


@dataclass(frozen=True)
class Withholder(Dropper):
    """A network that loses a client's update in the first round."""

    kind: int = -1
    victim: int = 1

    def tamper(self, tapped: Tapped) -> Payload | None:
        lost = tapped.round == 0 and tapped.kind == "update" and tapped.sender == client(self.victim)
        return None if lost else tapped.payload


@dataclass(frozen=True)
class Splitter(Adversary):
    """A server that sends one client another model."""

    def identity(self) -> Any:
        return "splitter"

    def corrupts(self, threat: ThreatModel) -> None:
        pass

    def broadcast(self, hands: ServerHands) -> torch.Tensor:
        models = hands.params[:, None, :].repeat(1, hands.n_clients, 1)
        models[:, 2] += 1e-6
        return models


@pytest.mark.parametrize(
    "layer", [SecAgg(), SecAgg(agreement="hybrid", signature="ml-dsa-65"), SecAgg(bits=64)]
)
@pytest.mark.parametrize("link", [(), (AesGcmLink(),)])
def test_the_loop_agrees_with_no_protection(
    make_pipeline: Maker, layer: SecAgg, link: tuple[Any, ...]
) -> None:
    pipeline = make_pipeline(n_clients=4)
    plain, sealed = one(pipeline), one(pipeline, layer, *link)
    assert sealed.outcome == "completed"
    assert torch.allclose(plain.params, sealed.params, atol=5e-6)
    assert any(m.kind == "control" for m in sealed.transcript.messages)


@pytest.mark.parametrize("agreement", ["x25519", "bb84"])
@pytest.mark.parametrize("stage", list(KINDS))
def test_a_client_that_drops_out_at_each_stage(make_pipeline: Maker, stage: str, agreement: Any) -> None:
    pipeline = make_pipeline(n_clients=5)
    result = one(pipeline, SecAgg(agreement=agreement), adversary=Dropper(KINDS[stage], 3), threat=WIRE)
    assert result.outcome == "completed"
    there = [0, 1, 2, 3, 4] if stage in {"agree", "reveal"} else [0, 1, 2, 4]
    assert result.transcript.facts[0].participants == {0: frozenset(there), 1: frozenset(range(5))}
    (item,) = [
        i
        for i in result.view(coalition(server=True)).readable("aggregate", round_index=0)
        if i.about == frozenset(there)
    ]
    assert torch.allclose(item.vector, mean_of(result, 0, there), atol=1e-5)
    assert item.derived


@pytest.mark.parametrize("stage", list(KINDS))
def test_too_few_clients_lose_a_round_and_not_the_run(make_pipeline: Maker, stage: str) -> None:
    """Three clients leave no room: the model stays for one round, and the next one goes on from it."""
    pipeline = make_pipeline(n_clients=3)
    result = one(pipeline, SecAgg(), adversary=Dropper(KINDS[stage], 1), threat=WIRE)
    assert result.outcome == "completed"
    (fault,) = result.faults
    assert (fault.round, fault.lost, fault.caused_by) == (0, True, None)
    assert fault.reason.startswith("too few clients are left after the")
    sent = result.view(coalition(server=True)).readable("model", round_index=1)
    assert all(torch.equal(item.vector, result.initial) for item in sent)
    assert not torch.equal(result.params, result.initial)


@pytest.mark.parametrize(
    "layer", [Masked(), HeThreshold(), Ghz(shots=4, tests=8)], ids=lambda layer: layer.card.name
)
def test_protocols_that_need_everybody_lose_a_round_and_not_the_run(make_pipeline: Maker, layer: Any) -> None:
    result = one(make_pipeline(n_clients=3), layer, adversary=Withholder(), threat=WIRE)
    assert result.outcome == "completed"
    assert [(fault.round, fault.lost, fault.caused_by) for fault in result.faults] == [(0, True, None)]
    assert not torch.equal(result.params, result.initial)


def test_where_only_clients_open_sums_a_lost_round_ends_the_run(make_pipeline: Maker) -> None:
    result = one(make_pipeline(n_clients=3), HeMasked(), adversary=Withholder(), threat=WIRE)
    assert result.outcome.startswith("aborted: ")


def test_a_run_of_which_every_round_is_lost_has_no_model(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=3, rounds=1)
    result = one(pipeline, SecAgg(), adversary=Dropper(KINDS["mask"], 1), threat=WIRE)
    assert result.outcome.startswith("aborted: too few clients are left after the MASKED stage")
    assert result.outcome.endswith("who caused it cannot be known")


def test_partial_participation(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=6, participation=0.5, rounds=3)
    plain, sealed = one(pipeline), one(pipeline, SecAgg())
    assert torch.allclose(plain.params, sealed.params, atol=1e-5)


def test_a_server_that_splits_the_model_is_named(make_pipeline: Maker) -> None:
    threat = coalition(server=True, active=True)
    result = one(make_pipeline(n_clients=4), SecAgg(), adversary=Splitter(), threat=threat)
    assert "client:0 and client:2 were told different things" in result.outcome
    assert not any(m.present[0] == [True] * 4 for m in result.transcript.messages if m.kind == "update")
    assert not [i for i in result.view(threat).items if i.kind == "update"], "nothing was sealed"


def test_what_each_coalition_reads(make_pipeline: Maker) -> None:
    """Five clients, threshold 4: an honest update is read by four other clients, or four with a listener."""
    bare, linked = (one(make_pipeline(n_clients=5), SecAgg(), *link) for link in ((), (AesGcmLink(),)))
    for server, wire, n in itertools.product((False, True), (False, True), range(5)):
        threat = coalition(server=server, wire=wire, n=n)
        for result, listens in ((bare, server or wire), (linked, server)):
            view = result.view(threat)
            singles = [i for i in view.readable("update", round_index=0) if i.about == {4}]
            assert bool(singles) == (n == 4), (server, wire, n)
            for item in singles:
                assert torch.allclose(item.vector, mean_of(result, 0, [4]), atol=3e-5)
            sums = view.readable("aggregate", round_index=0)
            assert bool(sums) == (listens or n > 0), (server, wire, n)


def test_a_threshold_of_colluders_opens_everything(make_pipeline: Maker) -> None:
    """Six clients, threshold 4: four with the server hold shares enough; three do not. The ledger says so.

    One may collude with a server that deviates; with two it could show two lists of survivors.
    """
    result = one(make_pipeline(n_clients=6), SecAgg(threshold=4))
    for n, opened in ((1, False), (3, False), (4, True)):
        threat = coalition(server=True, n=n)
        singles = [i for i in result.view(threat).readable("update", round_index=0) if i.about == {5}]
        assert bool(singles) == opened
        rows = [row for row in result.ledger(threat) if row.layer == "secagg"]
        assert [row.guarantee for row in rows] == (
            ["not covered"] if opened else ["secrecy", "anonymity", "integrity" if n == 1 else "not covered"]
        )
        assert opened or ("if it deviated" in rows[2].statement) == (n == 3)
    assert "hold enough shares" in rows[0].statement
    clients_only = coalition(n=4)
    assert not [i for i in result.view(clients_only).readable("update", round_index=0) if i.about == {5}]


def test_a_server_that_deviates_cannot_ask_few_clients(make_pipeline: Maker) -> None:
    """Clients insist on the threshold of a whole round: three of ten, of which two collude, are refused."""
    setup = Setup(
        session=b"s", clients=tuple(map(client, range(10))), server=SERVER, n_params=5, rounds=1, max_count=9
    )
    few = Terms(session=bytes(32), participants=(0, 8, 9), threshold=3, size=6, bits=32)
    SecAgg().policy.check(few, me=0, size=6, bits=32)
    with pytest.raises(ProtocolAbort, match="refuses a threshold of 3"):
        SecAgg().policy_for(setup).check(few, me=0, size=6, bits=32)
    some = replace(few, participants=tuple(range(3, 10)), threshold=7)
    SecAgg().policy_for(setup).check(some, me=4, size=6, bits=32)
    half = replace(setup, participants=5)
    SecAgg().policy_for(half).check(
        replace(few, participants=(0, 1, 8, 9), threshold=4), me=0, size=6, bits=32
    )
    row = next(
        r
        for r in one(make_pipeline(n_clients=5), SecAgg()).ledger(coalition(server=True))
        if r.layer == "secagg" and r.guarantee == "secrecy"
    )
    assert "as few as 4 clients into a round" in row.note


def test_the_ledger_names_what_stays_visible(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=4)
    for agreement, words in (
        ("x25519", "quantum computer"),
        ("ml-kem-768", "ML-KEM-768"),
        ("hybrid", "or ML-KEM"),
    ):
        result = one(pipeline, SecAgg(agreement=agreement))  # type: ignore[arg-type]
        rows = [r for r in result.ledger(coalition(server=True)) if r.layer == "secagg"]
        assert "who drops out" in rows[0].note
        assert words in rows[0].note
        assert rows[0].assumption == "computational"
    seeded = run_batch(pipeline, Stack(name="s", client=(SecAgg(),)), [RunSpec(seed=4)], secrets="seeded")[0]
    rows = [r for r in seeded.ledger(coalition(server=True)) if r.layer == "secagg"]
    assert {row.assumption for row in rows} == {"none"}


def test_no_secret_is_in_any_view(make_pipeline: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []
    draw = OsSecrets.draw

    def noted(source: OsSecrets, n_bytes: int) -> bytes:
        drawn.append(draw(source, n_bytes))
        return drawn[-1]

    monkeypatch.setattr(OsSecrets, "draw", noted)
    result = one(make_pipeline(n_clients=4), SecAgg())
    secrets = [value for value in drawn if len(value) >= 32]
    assert len(secrets) > 4 * 2 * 3
    everything = coalition(server=True, wire=True, n=2)
    memory = b"\0".join(i.value for i in result.view(everything).items if isinstance(i.value, bytes))
    assert not any(secret in memory for secret in secrets)
    assert any(
        i.kind == "control" and i.value[0] == Kind.REVEAL
        for i in result.view(everything).items
        if isinstance(i.value, bytes)
    )


def test_batched_equals_single(make_pipeline: Maker) -> None:
    pipeline, stack = make_pipeline(n_clients=4), Stack(name="s", client=(SecAgg(),))
    both = run_batch(pipeline, stack, [RunSpec(seed=1), RunSpec(seed=2)], secrets="seeded")
    for result, seed in zip(both, (1, 2), strict=True):
        alone = run_batch(pipeline, stack, [RunSpec(seed=seed)], secrets="seeded")[0]
        assert torch.equal(result.params, alone.params)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": 16},
        {"fractional_bits": 0},
        {"fractional_bits": 25},
        {"threshold": 1},
        {"min_clients": 2},
        {"colluders": -1},
        {"agreement": "rsa"},
        {"signature": "rsa"},
    ],
)
def test_parameters_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        layer_from_config({"name": "secagg", **wrong})


@pytest.mark.parametrize(
    ("layer", "n"),
    [
        (SecAgg(), 2),
        (SecAgg(threshold=2), 4),
        (SecAgg(threshold=5), 4),
        (SecAgg(threshold=3, colluders=2), 4),
    ],
)
def test_pipelines_that_do_not_fit(make_pipeline: Maker, layer: SecAgg, n: int) -> None:
    with pytest.raises(IncompatibleStack):
        layer.check(make_pipeline(n_clients=n))


def test_a_ring_that_is_too_small(make_pipeline: Maker) -> None:
    with pytest.raises(ConfigError, match="too small"):
        one(make_pipeline(n_clients=5), SecAgg(fractional_bits=24))
