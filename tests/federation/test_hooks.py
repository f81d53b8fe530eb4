"""One test for each hook: what it gets, what becomes of what it gives, and whom it binds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from recorders import Aggregated, Bounded, Delegating, Executing, Graded, Linked, Noisy, Ruled, Shaped

from qflsec.data import PartitionSpec
from qflsec.federation import (
    Adversary,
    Hands,
    Layer,
    Pipeline,
    RunResult,
    RunSpec,
    ServerHands,
    Stack,
    run_batch,
)
from qflsec.models import Execution
from qflsec.threat import (
    Tapped,
    coalition,
    corrupted_clients,
    honest_but_curious_server,
    malicious_server,
    wire_eavesdropper,
)

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
LIAR = corrupted_clients(n=1)
STILL = 1e-12
"""A learning rate at which no client moves the model by a bit of float32 that a test would see."""


@dataclass(frozen=True)
class Hundred(Adversary):
    """Its clients send 100 in every coordinate."""

    def updates(self, hands: Hands) -> torch.Tensor:
        return torch.full_like(hands.honest, 100.0)

    def identity(self) -> dict[str, object]:
        return {"name": "hundred"}


def run(pipeline: Pipeline, *layers: Layer, spec: RunSpec | None = None, **kwargs: object) -> RunResult:
    stack = Stack.from_layers("stack", layers)
    (result,) = run_batch(pipeline, stack, [spec or RunSpec(seed=1)], secrets="seeded", **kwargs)  # type: ignore[arg-type]
    assert result.outcome == "completed", result.traceback
    return result


def step(result: RunResult) -> torch.Tensor:
    return result.params - result.initial


def sent(result: RunResult, round_index: int = 0) -> dict[int, torch.Tensor]:
    """What the server received of each client, in the clear."""
    view = result.view(honest_but_curious_server())
    items = view.readable("update", round_index=round_index)
    return {min(item.about): item.vector for item in items if not item.derived and len(item.about) == 1}


# -- the client's hooks --------------------------------------------------------------------------------


def test_execution_replaces_how_clients_execute(make_pipeline: Maker) -> None:
    plain = make_pipeline(members=9, rounds=3, local_steps=3)
    wide = replace(plain, execution=Execution(dtype="complex128"))
    layered = run(plain, Executing())
    assert torch.equal(layered.params, run(wide).params)
    assert not torch.equal(layered.params, run(plain).params), "the control"
    assert torch.allclose(layered.params, run(plain).params, atol=1e-5)


def test_execution_goes_over_what_single_clients_have(make_pipeline: Maker) -> None:
    """A client's own shots stay, and the layer's field is added to them."""
    plain = make_pipeline(members=9, rounds=1)
    own = Execution(shots=20, gradient="parameter-shift")
    both = replace(own, dtype="complex128")
    mixed = replace(plain, client_executions={1: own})
    stated = replace(plain, execution=Execution(dtype="complex128"), client_executions={1: both})
    assert torch.equal(run(mixed, Executing()).params, run(stated).params)


def test_delegation_evaluates_the_clients_circuits(make_pipeline: Maker) -> None:
    """An honest quantum server that computes exact expectations changes nothing but the time."""
    pipeline = make_pipeline(n_qubits=2, members=6, rounds=1)
    assert torch.allclose(run(pipeline, Delegating(executor="exact")).params, run(pipeline).params, atol=1e-5)


def test_gradient_is_the_step_of_training(make_pipeline: Maker) -> None:
    """Its mean over the mask is plain training, and half of it is half the learning rate, bit for bit."""
    spread = PartitionSpec(kind="quantity-skew", alpha=1.0, min_records=2)
    pipeline = make_pipeline(members=20, local_steps=2, batch_size=3, partition=spread)
    halved = replace(pipeline, federation=replace(pipeline.federation, learning_rate=0.1))
    plain = run(pipeline)
    assert len({len(rows) for rows in plain.clients}) > 1, "unequal clients, so that there is padding"
    assert torch.allclose(run(pipeline, Graded()).params, plain.params, atol=1e-5)
    assert torch.equal(run(pipeline, Graded(factor=0.5)).params, run(halved, Graded()).params)


def test_shape_acts_on_the_update_and_in_order(make_pipeline: Maker, log: list[str]) -> None:
    pipeline = make_pipeline(members=9, rounds=1, local_steps=2)
    half = run(pipeline).initial + 0.5 * step(run(pipeline))
    assert torch.allclose(run(pipeline, Shaped(factor=0.5)).params, half, atol=1e-6)
    log.clear()
    run(pipeline, Shaped(factor=0.5, name=" a"), Shaped(factor=4.0, name=" b"))
    assert log == ["shape a", "shape b"]


def test_what_is_voluntary_does_not_bind_a_liar(make_pipeline: Maker) -> None:
    """All shapes to zero: the step is the liar's share of 100."""
    pipeline = make_pipeline(members=9, rounds=1)
    spec = RunSpec(seed=1, adversary=Hundred(), threat=LIAR)
    result = run(pipeline, Graded(factor=0.0), Shaped(factor=0.0), spec=spec)
    counts = [len(rows) for rows in result.clients]
    assert torch.allclose(step(result), torch.full_like(result.params, 100.0 * counts[0] / sum(counts)))


def test_aggregation_leaves_the_weighted_mean_of_what_was_sealed(make_pipeline: Maker) -> None:
    """The liar's update too: it is weighted, rounded to 2^-20, and lost in the sum."""
    pipeline = make_pipeline(members=20, rounds=1, partition=PartitionSpec(kind="quantity-skew", alpha=1.0))
    spec = RunSpec(seed=1, adversary=Hundred(), threat=LIAR)
    for each in (RunSpec(seed=1), spec):
        sealed, open_ = run(pipeline, Aggregated(), spec=each), run(pipeline, spec=each)
        assert torch.allclose(sealed.params, open_.params, atol=1e-5)
        assert not sent(sealed)
        assert set(sent(open_)) == {0, 1, 2}, "the control"


def test_links_change_no_number_and_close_the_wire(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(members=9)
    linked, bare = run(pipeline, Linked()), run(pipeline)
    assert torch.equal(linked.params, bare.params)
    wire = wire_eavesdropper()
    assert {item.form for item in linked.view(wire).items if item.kind in {"model", "update"}} == {"sealed"}
    assert {item.form for item in bare.view(wire).items if item.kind in {"model", "update"}} == {"plain"}
    assert torch.equal(sent(linked)[1], sent(bare)[1])


# -- the server's hooks --------------------------------------------------------------------------------


def test_bounds_bind_everybody(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(members=9, rounds=1)
    spec = RunSpec(seed=1, adversary=Hundred(), threat=LIAR)
    for each in (RunSpec(seed=1), spec):
        whole, bounded = run(pipeline, spec=each), run(pipeline, Bounded(factor=0.25), spec=each)
        assert torch.allclose(step(bounded), 0.25 * step(whole), rtol=1e-5, atol=1e-6)


def test_a_rule_keeps_its_state_over_rounds_and_by_run(make_pipeline: Maker, log: list[str]) -> None:
    """A rule that adds how many rounds it has seen: 0 + 1 + 2, in each run of a batch."""
    pipeline = make_pipeline(members=9, rounds=3, learning_rate=STILL)
    stack = Stack.from_layers("counting", [Ruled(counting=True)])
    runs = run_batch(pipeline, stack, [RunSpec(seed=seed) for seed in (1, 2)])
    assert log.count("start") == 2
    for result in runs:
        assert torch.allclose(step(result), torch.full_like(result.params, 3.0), atol=1e-5)


@pytest.mark.parametrize("layers", [(), (Aggregated(),)], ids=["updates", "sum"])
def test_noise_moves_the_step_before_the_servers_learning_rate(
    make_pipeline: Maker, layers: tuple[Layer, ...]
) -> None:
    pipeline = make_pipeline(members=9, rounds=2, learning_rate=STILL, server_learning_rate=0.5)
    result = run(pipeline, *layers, Noisy(shift=1.0), Noisy(shift=3.0))
    assert torch.allclose(step(result), torch.full_like(result.params, 2 * 0.5 * 4.0), atol=1e-5)


# -- the adversary's hooks -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Turning(Adversary):
    """Sends one client another model, or sends the negative of its clients' updates, or alters one model on its way."""

    how: str

    def broadcast(self, hands: ServerHands) -> torch.Tensor:
        models = hands.params[:, None, :].expand(-1, hands.n_clients, -1).clone()
        if self.how == "broadcast":
            models[:, 2] += 0.5
        return models

    def updates(self, hands: Hands) -> torch.Tensor:
        return -hands.honest if self.how == "updates" else hands.honest

    def tamper(self, tapped: Tapped) -> torch.Tensor | None:  # type: ignore[override]
        assert isinstance(tapped.payload, torch.Tensor)
        to_the_last = tapped.kind == "model" and str(tapped.receiver) == "client:2"
        if self.how == "drop" and to_the_last:
            return None
        return tapped.payload + 0.5 if self.how == "tamper" and to_the_last else tapped.payload

    def identity(self) -> dict[str, object]:
        return {"name": "turning", "how": self.how}


@pytest.mark.parametrize("how", ["broadcast", "tamper"])
def test_a_client_trains_from_the_model_that_it_received(make_pipeline: Maker, how: str) -> None:
    """The victim's update is that of a run which starts where its model was moved to; the others' are as before."""
    pipeline = make_pipeline(members=9, rounds=1)
    threat = malicious_server() if how == "broadcast" else wire_eavesdropper(active=True)
    turned = run(pipeline, spec=RunSpec(seed=1, adversary=Turning(how), threat=threat))
    honest = run(pipeline)
    assert torch.equal(sent(turned)[0], sent(honest)[0])
    assert torch.equal(sent(turned)[1], sent(honest)[1])
    records = honest.client_records(2)
    leaf = (honest.initial + 0.5).requires_grad_()
    loss = torch.nn.functional.cross_entropy(pipeline.model(leaf, records.features), records.labels)
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert torch.allclose(sent(turned)[2], -0.2 * gradient, atol=1e-6)
    assert not torch.allclose(sent(honest)[2], -0.2 * gradient, atol=1e-3), "the control"
    # what a client started from is never guessed: the model that it was sent, or none where the wire altered it
    view = turned.view(threat)
    bases = {min(i.about): view.base_of(i) for i in view.readable("update") if len(i.about) == 1}
    started = honest.initial + 0.5 if how == "broadcast" else None
    for index, expected in enumerate((honest.initial, honest.initial, started)):
        found = bases[index]
        assert (found is None) == (expected is None)
        assert found is None or torch.equal(found, expected)


def test_corrupted_clients_speak_for_themselves_alone(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(members=9, rounds=1)
    threat = coalition(n=2, active=True)
    turned = run(pipeline, spec=RunSpec(seed=1, adversary=Turning("updates"), threat=threat))
    honest = run(pipeline)
    for index, sign in enumerate((-1, -1, 1)):
        assert torch.equal(sent(turned)[index], sign * sent(honest)[index])


def test_a_client_without_a_model_takes_no_part(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(members=9, rounds=1)
    spec = RunSpec(seed=1, adversary=Turning("drop"), threat=wire_eavesdropper(active=True))
    turned = run(pipeline, spec=spec)
    assert turned.transcript.facts[0].participants[0] == frozenset({0, 1})
    assert set(sent(turned)) == {0, 1}


def test_adversaries_act_only_where_their_threat_model_lets_them(make_pipeline: Maker) -> None:
    """One adversary that would do everything, under three threat models that each corrupt somebody else."""
    pipeline = make_pipeline(members=9, rounds=1)
    honest = run(pipeline)
    for how, threat in (
        ("broadcast", wire_eavesdropper(active=True)),
        ("broadcast", corrupted_clients(n=1)),
        ("updates", malicious_server()),
        ("updates", wire_eavesdropper(active=True)),
        ("tamper", malicious_server()),
        ("tamper", corrupted_clients(n=3)),
    ):
        spec = RunSpec(seed=1, adversary=Turning(how), threat=threat)
        assert torch.equal(run(pipeline, spec=spec).params, honest.params), (how, threat)
