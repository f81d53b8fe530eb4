"""Defenses and protocol layers inside whole runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from qflsec.attacks import Manipulation
from qflsec.base import AttackCard, IncompatibleStack, Source
from qflsec.data import PartitionSpec
from qflsec.defenses.privacy import ClientClip, DpSgd
from qflsec.defenses.robust import Median, NormBound
from qflsec.federation import Adversary, Hands, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.protocols.links import OVERHEAD_BYTES, AesGcmLink
from qflsec.protocols.secagg import Masked
from qflsec.threat import (
    Payload,
    Tapped,
    ThreatModel,
    corrupted_clients,
    honest_but_curious_server,
    public_final_model,
    wire_eavesdropper,
)

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
MASK = Stack.from_layers("mask", [Masked()])
LINK = Stack.from_layers("link", [AesGcmLink()])
MASK_LINK = Stack.from_layers("mask+link", [Masked(), AesGcmLink()])
SKEWED = PartitionSpec(kind="dirichlet", alpha=0.5, min_records=1)


def run(pipeline: Pipeline, stack: Stack, seed: int = 0, **options: Any) -> RunResult:
    return run_batch(pipeline, stack, [RunSpec(seed=seed)], **options)[0]


# -- masks and links --------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [Masked(), Masked(bits=32, fractional_bits=16)])
def test_masked_equals_none_up_to_rounding(make_pipeline: Maker, layer: Masked) -> None:
    """One round: a unit of each client over the weight, and float32 rounding of the model."""
    pipeline = make_pipeline(n_clients=5, members=40, rounds=1, partition=SKEWED)
    plain, masked = run(pipeline, NONE), run(pipeline, Stack.from_layers("mask", [layer]))
    weight = sum(len(rows) for rows in plain.clients)
    bound = 5 * 2.0**-layer.fractional_bits / weight + 1e-6
    gap = float((plain.params - masked.params).abs().max())
    assert gap <= bound
    assert masked.outcome == "completed"
    assert float((plain.params - plain.initial).abs().max()) > 1e3 * bound, "the model must have moved"
    if layer.bits == 32:
        assert gap > 0, "sixteen fractional bits must show"


def test_masked_equals_none_over_a_whole_run(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=5, members=40, rounds=6, participation=0.6, partition=SKEWED)
    plain, masked = run(pipeline, NONE), run(pipeline, MASK)
    assert torch.allclose(plain.params, masked.params, atol=2e-5)
    assert plain.accuracy == masked.accuracy


@pytest.mark.parametrize("stack", [MASK, LINK, MASK_LINK], ids=lambda stack: stack.name)
def test_secrets_change_the_model_by_what_is_rounded_alone(make_pipeline: Maker, stack: Stack) -> None:
    """Seeded secrets repeat a run bit for bit; others round the words under masks another way, and nothing else."""
    pipeline = make_pipeline(n_clients=4, rounds=3)
    first, second = (run(pipeline, stack, secrets="os") for _ in range(2))
    seeded = [run(pipeline, stack, secrets="seeded") for _ in range(2)]
    for other in (second, *seeded):
        rounds = 3 * 4 * 2.0**-20 / sum(len(rows) for rows in first.clients)
        assert torch.allclose(
            first.params, other.params, rtol=0.0, atol=0.0 if stack is LINK else rounds + 1e-6
        )
        assert first.accuracy == other.accuracy
    assert torch.equal(seeded[0].params, seeded[1].params)
    assert not first.seeded_secrets
    assert seeded[0].seeded_secrets

    def sent(result: RunResult) -> list[bytes]:
        outer = [m.layers[-1] for m in result.transcript.messages if m.kind == "update"]
        return [np.asarray(layer.at(0, 0)).tobytes() for layer in outer]

    assert sent(first) != sent(second)
    assert sent(seeded[0]) == sent(seeded[1])


@pytest.mark.parametrize("inner", [[], [Masked()], [Median()]], ids=["plain", "masked", "median"])
def test_links_do_not_change_the_model(make_pipeline: Maker, inner: list[Any]) -> None:
    pipeline = make_pipeline(n_clients=4, rounds=3, participation=0.75)
    off = run(pipeline, Stack.from_layers("off", inner))
    on = run(pipeline, Stack.from_layers("on", [*inner, AesGcmLink()]))
    exact = not inner or not isinstance(inner[0], Masked)  # what is masked is rounded by fresh secrets
    assert torch.allclose(off.params, on.params, rtol=0.0, atol=0.0 if exact else 1e-5)
    assert off.accuracy == on.accuracy


def test_bytes_on_the_network(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=4, rounds=2)
    n_params = pipeline.model.n_params

    def size(stack: Stack) -> set[int]:
        uploads = [m for m in run(pipeline, stack).transcript.messages if m.kind == "update"]
        outer = [m.layers[-1].at(0, i) for m in uploads for i in range(4)]
        return {len(p) if isinstance(p, bytes) else p.nbytes for p in outer}

    assert size(NONE) == {4 * (n_params + 1)}
    assert size(MASK) == {8 * (n_params + 1)}
    assert size(Stack.from_layers("m32", [Masked(bits=32, fractional_bits=16)])) == {4 * (n_params + 1)}
    assert size(MASK_LINK) == {8 * (n_params + 1) + 5 + OVERHEAD_BYTES}


@dataclass(frozen=True, kw_only=True)
class Tamper(Adversary):
    """A network that interferes with one kind of message in one round, from one client or to one."""

    how: str
    kind: str = "update"
    round: int = 1

    def tamper(self, tapped: Tapped) -> Payload | tuple[Payload | None, object] | None:
        if tapped.kind != self.kind or "client:1" not in (str(tapped.sender), str(tapped.receiver)):
            return tapped.payload
        if tapped.round != self.round:
            return tapped.payload, tapped.payload if tapped.state is None else tapped.state
        if self.how == "drop":
            return None
        return tapped.state if self.how == "replay" else _altered(tapped.payload)

    def identity(self) -> dict[str, object]:
        return {"name": "tamper", "how": self.how, "kind": self.kind, "round": self.round}


def _altered(payload: Payload) -> Payload:
    if isinstance(payload, bytes):
        return payload[:30] + bytes([payload[30] ^ 1]) + payload[31:]
    altered = payload.clone() if isinstance(payload, torch.Tensor) else payload.copy()
    altered[-1] = altered[-1] + altered.dtype.type(1 << 62) if isinstance(altered, np.ndarray) else 50.0
    return altered


def attacked(pipeline: Pipeline, stack: Stack, tamper: Tamper) -> RunResult:
    threat = wire_eavesdropper(active=True)
    specs = [RunSpec(seed=0, adversary=tamper, threat=threat), RunSpec(seed=0)]
    broken, spared = run_batch(pipeline, stack, specs, secrets="seeded")
    assert spared.outcome == "completed", "the run beside it must not notice"
    assert torch.equal(spared.params, run(pipeline, stack, secrets="seeded").params)
    return broken


@pytest.mark.parametrize("kind", ["update", "model"])
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("alter", "was altered on its way"),
        ("replay", "was altered on its way"),  # the round is in the authenticated header
        ("drop", "preceded by one that is missing"),
    ],
)
@pytest.mark.parametrize("stack", [LINK, MASK_LINK], ids=lambda stack: stack.name)
def test_a_tampered_network_stops_the_run(
    make_pipeline: Maker, kind: str, how: str, says: str, stack: Stack
) -> None:
    pipeline = make_pipeline(n_clients=4, rounds=3)
    result = attacked(pipeline, stack, Tamper(how=how, kind=kind))
    assert result.outcome.startswith("aborted: ")
    assert says in result.outcome
    assert "client:1" in result.outcome
    assert len(result.accuracy) == 3, "the curve goes on flat after the abort"


def test_a_tampered_network_is_not_noticed_without_a_link(make_pipeline: Maker) -> None:
    """The control: without authentication the same network changes the model in silence."""
    pipeline = make_pipeline(n_clients=4, rounds=3)
    result = attacked(pipeline, NONE, Tamper(how="alter"))
    assert result.outcome == "completed"
    assert not torch.equal(result.params, run(pipeline, NONE).params)


def test_masks_alone_notice_a_dropout_and_an_impossible_weight(make_pipeline: Maker) -> None:
    """Either loses the round, and no other."""
    pipeline = make_pipeline(n_clients=4, rounds=3)
    for how, says in (("drop", "got nothing from client:1"), ("alter", "impossible weight")):
        result = attacked(pipeline, MASK, Tamper(how=how))
        assert result.outcome == "completed"
        assert [(fault.round, fault.lost, says in fault.reason) for fault in result.faults] == [
            (1, True, True)
        ]


@pytest.mark.parametrize("stack", [MASK, LINK], ids=lambda stack: stack.name)
def test_a_forged_announcement_stops_the_run(make_pipeline: Maker, stack: Stack) -> None:
    tamper = Tamper(how="alter", kind="announcement", round=-1)
    result = attacked(make_pipeline(n_clients=4), stack, tamper)
    assert result.outcome.startswith("aborted: ")
    assert torch.equal(result.params, result.initial)


def test_masks_refuse_rounds_of_one(make_pipeline: Maker) -> None:
    with pytest.raises(IncompatibleStack, match="two clients"):
        run(make_pipeline(participation=0.1), MASK)


# -- DP-SGD -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "federation",
    [{"partition": SKEWED}, {"local_steps": 3}, {"participation": 0.67}],
)
def test_dp_sgd_without_noise_and_clipping_is_plain_training(
    make_pipeline: Maker, federation: dict[str, Any]
) -> None:
    # SGD only: Adam turns the rounding noise of a parameter without gradient into whole steps
    pipeline = make_pipeline(members=31, rounds=3, **federation)
    plain = run(pipeline, NONE)
    idle = run(pipeline, Stack.from_layers("idle", [DpSgd(noise_multiplier=0.0, clip_norm=1e4)]))
    assert torch.allclose(plain.params, idle.params, atol=1e-4)
    assert not torch.allclose(plain.params, plain.initial, atol=1e-2)
    noisy = run(pipeline, Stack.from_layers("noisy", [DpSgd(noise_multiplier=1.0, clip_norm=1.0)]))
    assert not torch.allclose(plain.params, noisy.params, atol=1e-2)


@pytest.mark.parametrize("batch", [{}, {"batch_size": 4, "sampling": "poisson", "local_steps": 2}])
def test_dp_sgd_batched_equals_single_bit_for_bit(make_pipeline: Maker, batch: dict[str, Any]) -> None:
    pipeline = make_pipeline(members=36, partition=SKEWED, **batch)
    stack = Stack.from_layers("dp", [DpSgd(), ClientClip(clip_norm=0.5), Masked(), AesGcmLink()])
    specs = [RunSpec(seed=seed) for seed in range(4)]
    single = [run_batch(pipeline, stack, [spec], secrets="seeded")[0] for spec in specs]
    for lanes in (2, 3, 16):
        together = run_batch(pipeline, stack, specs, max_lanes=lanes, secrets="seeded")
        assert all(torch.equal(a.params, b.params) for a, b in zip(single, together, strict=True))
    assert not torch.equal(single[0].params, single[1].params)


def test_dp_sgd_refuses_batches_of_a_fixed_size(make_pipeline: Maker) -> None:
    stack = Stack.from_layers("dp", [DpSgd()])
    with pytest.raises(IncompatibleStack, match="fixed size"):
        run(make_pipeline(batch_size=4), stack)


def test_a_released_first_update_is_within_the_sensitivity(make_pipeline: Maker) -> None:
    """Without noise, SGD's first update of a client is at most rate * C long, whatever its records."""
    pipeline = make_pipeline(rounds=1, learning_rate=0.2)
    result = run(pipeline, Stack.from_layers("dp", [DpSgd(noise_multiplier=0.0, clip_norm=0.05)]))
    view = result.view(honest_but_curious_server())
    lengths = [float(torch.linalg.vector_norm(i.vector.double())) for i in view.readable("update")]
    assert len(lengths) == 3
    assert max(lengths) <= 0.2 * 0.05 * (1 + 1e-4)  # differences of float32 models
    assert max(lengths) > 0.2 * 0.05 * 0.5


def epsilons(result: RunResult, threat: ThreatModel) -> list[float]:
    return [
        row.epsilon or 0.0
        for row in result.ledger(threat)
        if row.layer == "dp-sgd" and row.accountant.startswith("RDP")
    ]


def test_the_ledger_follows_the_observer(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=4, members=40)
    layer = DpSgd(noise_multiplier=2.0, delta=1e-4)
    open_run = run(pipeline, Stack.from_layers("dp", [layer]))
    hidden = run(pipeline, Stack.from_layers("dp+mask+link", [layer, Masked(), AesGcmLink()]))
    server, public = honest_but_curious_server(), public_final_model()
    single = epsilons(open_run, server)[0]
    for result, threat in ((open_run, server), (open_run, public), (hidden, server), (hidden, public)):
        assert epsilons(result, threat)[0] == single, "the client's own noise covers everybody"
        assert all(epsilon <= single for epsilon in epsilons(result, threat))
    assert len(epsilons(open_run, server)) == 1, "single updates get no credit for others' noise"
    wire = {row.layer for row in hidden.ledger(wire_eavesdropper())}
    assert {"dp-sgd", "aes-gcm-link"} <= wire
    kinds = {(row.layer, row.guarantee) for row in hidden.ledger(server)}
    assert {("masked", "secrecy"), ("masked", "anonymity"), ("aes-gcm-link", "not covered")} <= kinds
    seeded = run(pipeline, MASK, secrets="seeded")
    assert {row.assumption for row in seeded.ledger(server) if row.layer == "masked"} == {"none"}


# -- manipulation -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ScaledSignFlip(Manipulation):
    """Sends the honest update backwards, scaled."""

    card: ClassVar[AttackCard] = AttackCard(
        name="scaled-sign-flip-of-a-test",
        idea="test",
        source=Source(paper="test", year=2026, where="here"),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients",),
    )
    factor: float = 10.0

    def run(self, hands: Hands) -> torch.Tensor:
        return -self.factor * hands.honest


def flipped(make_pipeline: Maker, *layers: Any, **federation: Any) -> tuple[list[RunResult], list[RunResult]]:
    values = {"n_clients": 10, "rounds": 15, "learning_rate": 0.5, "members": 100, "layers": 2, "test": 100}
    pipeline = make_pipeline(**{**values, **federation})
    threat = corrupted_clients(n=2)
    specs = [RunSpec(seed=seed) for seed in range(3)]
    specs += [RunSpec(seed=seed, adversary=ScaledSignFlip(), threat=threat) for seed in range(3)]
    results = run_batch(pipeline, Stack.from_layers("stack", list(layers)), specs)
    assert all(result.outcome == "completed" for result in results)
    return results[:3], results[3:]


def harm(honest: list[RunResult], attacked: list[RunResult]) -> float:
    """Mean rise of the test loss over the honest run of the same stack and seed."""
    return float(np.mean([b.loss[-1] - a.loss[-1] for a, b in zip(honest, attacked, strict=True)]))


def test_client_clip_does_not_stop_a_scaled_sign_flip_and_the_norm_bound_does(make_pipeline: Maker) -> None:
    undefended = harm(*flipped(make_pipeline))
    clipped = harm(*flipped(make_pipeline, ClientClip(clip_norm=0.1)))
    bounded = harm(*flipped(make_pipeline, NormBound(max_norm=0.1)))
    adaptive = harm(*flipped(make_pipeline, NormBound()))
    median = harm(*flipped(make_pipeline, Median()))
    assert undefended > 0.5
    assert clipped > 0.3
    assert max(bounded, adaptive, median) < 0.1
    assert min(bounded, adaptive, median) < clipped / 4


def test_what_a_liar_can_do_to_one_step(make_pipeline: Maker) -> None:
    """Liars move one step by factor * C under the client's clip, and by their share of C under the bound."""
    C, share = 0.05, 2 / 10
    moved = {}
    for layer in (ClientClip(clip_norm=C), NormBound(max_norm=C)):
        honest, attacked = flipped(make_pipeline, layer, rounds=1)
        moved[layer.card.name] = [
            float(torch.linalg.vector_norm(b.params - a.params))
            for a, b in zip(honest, attacked, strict=True)
        ]
    assert max(moved["norm-bound"]) <= 2 * share * C * (1 + 1e-3)
    assert min(moved["client-clip"]) > 2 * share * C * 2


@pytest.mark.parametrize("rule", [Median(), NormBound(max_norm=1.0)], ids=lambda rule: rule.card.name)
def test_rules_on_single_updates_do_not_work_behind_masks(rule: Any) -> None:
    with pytest.raises(
        IncompatibleStack, match="needs individual updates, but 'masked' leaves only their sum"
    ):
        Stack.from_layers("wrong", [Masked(), rule])
