"""Compression: codes that say what their length claims, norms that keep their bound, and what is left to read."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.attacks import Blocked, ClientClaim
from qflsec.attacks.property import KeptEntries
from qflsec.data import DataSpec, PartitionSpec
from qflsec.defenses.compression import GradientPruning, MeanSign, Ternary, UpdateQuantization
from qflsec.defenses.privacy import ClientClip, GradientNoise
from qflsec.federation import FederationConfig, Layer, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.federation.compression import CompressionLayer
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import build_model
from qflsec.protocols.secagg import Masked
from qflsec.threat import honest_but_curious_server

LAYERS: list[CompressionLayer] = [
    GradientPruning(keep=0.1),
    GradientPruning(keep=0.6),
    UpdateQuantization(bits=2),
    UpdateQuantization(bits=5),
    MeanSign(),
    Ternary(),
    Ternary(threshold=50.0),
]


class Draws:
    """Uniform numbers of one seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, _: str, shape: Any) -> torch.Tensor:
        return torch.rand(1, *shape, generator=self.generator)


def released(layer: CompressionLayer, update: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return layer.shape(update[None, None], Draws(seed))[0, 0]  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    layer=st.sampled_from(LAYERS),
    seed=st.integers(0, 10**6),
    n_params=st.integers(1, 70),
    scale=st.sampled_from((0.0, 1e-4, 1.0, 300.0)),
)
def test_a_code_is_as_long_as_it_says_and_gives_the_update_back(
    layer: CompressionLayer, seed: int, n_params: int, scale: float
) -> None:
    update = scale * torch.randn(n_params, generator=torch.Generator().manual_seed(seed))
    sent = released(layer, update, seed)
    blob = layer.encode(sent)
    assert len(blob) == math.ceil(layer.coded_bits(n_params) / 8)
    assert torch.allclose(layer.decode(blob, n_params), sent, rtol=1e-5, atol=0.0)
    # what DP and sums of integers may count on
    assert float(sent.norm()) <= layer.norm_factor(n_params) * float(update.norm()) * (1 + 1e-5)
    assert float(sent.abs().max()) <= float(update.abs().max()) * (1 + 1e-5)


def test_the_norm_bound_of_rounding_is_needed() -> None:
    """The control: rounding at random does lengthen an update, so that a factor of 1 would be wrong."""
    update = torch.cat([torch.ones(1), torch.full((63,), 0.2)])
    assert max(float(released(UpdateQuantization(bits=2), update, seed).norm()) for seed in range(5)) > float(
        update.norm()
    )


def test_a_clip_in_front_still_holds_behind() -> None:
    update = 7 * torch.randn(36, generator=torch.Generator().manual_seed(1))
    clipped = ClientClip(clip_norm=1.0).shape(update[None, None], Draws(0))[0, 0]  # type: ignore[arg-type]
    for layer in (GradientPruning(), MeanSign(), Ternary()):
        assert 0.3 < float(released(layer, clipped).norm()) <= 1 + 1e-6


def test_bits_of_36_parameters() -> None:
    """Of 1152 bits in single precision."""
    found = {
        "8 bits": UpdateQuantization(bits=8).coded_bits(36),
        "4 bits": UpdateQuantization(bits=4).coded_bits(36),
        "2 bits": UpdateQuantization(bits=2).coded_bits(36),
        "ternary": Ternary().coded_bits(36),
        "signs": MeanSign().coded_bits(36),
        "a quarter": GradientPruning(keep=0.25).coded_bits(36),
    }
    assert found == {
        "8 bits": 320,
        "4 bits": 176,
        "2 bits": 104,
        "ternary": 96,
        "signs": 68,
        "a quarter": 9 * 32 + 36,
    }


def test_signs_and_three_values_are_what_they_say() -> None:
    update = torch.tensor([3.0, -1.0, 0.5, 0.0])
    assert torch.allclose(released(MeanSign(), update), torch.tensor([1.125, -1.125, 1.125, 1.125]))
    assert torch.allclose(released(Ternary(), update), torch.tensor([2.0, -2.0, 0.0, 0.0]))
    # of all updates with the same signs and one size, none is nearer
    sent = released(Ternary(), update)
    for factor in (0.9, 1.1):
        assert float((update - sent).norm()) < float((update - factor * sent).norm())


@cache
def trained(*layers: Layer, n_clients: int = 8) -> RunResult:
    pipeline = Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=2,
            balanced=True,
            members=24,
            nonmembers=24,
            auxiliary=40,
            test=40,
        ),
        partition=PartitionSpec(kind="label-skew"),
        model=build_model({"name": "vqc", "n_qubits": 2, "layers": 4}),
        federation=FederationConfig(n_clients=n_clients, rounds=5, learning_rate=0.1),
    )
    (run,) = run_batch(pipeline, Stack.from_layers("s", layers), [RunSpec(seed=0)], secrets="seeded")
    assert run.outcome == "completed"
    return run


def test_costs_say_what_the_code_takes() -> None:
    """Twenty-four parameters, eight clients, five rounds; where something acts behind, there is no code."""
    assert trained(MeanSign()).costs["coded_update_bytes"] == 5 * 8 * 7
    for layers in ((), (MeanSign(), GradientNoise()), (MeanSign(), Masked())):
        assert "coded_update_bytes" not in trained(*layers).costs


@pytest.mark.parametrize("layer", [GradientPruning(keep=0.25), Ternary()], ids=["top-k", "ternary"])
def test_the_places_of_what_is_sent_say_what_a_client_holds(layer: Layer) -> None:
    threat = honest_but_curious_server(knows=("architecture", "auxiliary"))
    attack, run = KeptEntries(simulated=64), trained(layer)
    challenge, truth = challenge_for(attack, run, seed=0, threat=threat)
    claim = attack(run.view(threat), challenge)
    assert isinstance(claim, ClientClaim)
    assert score_claim(claim, truth).advantage >= 0.5
    plain = trained()
    challenge, _ = challenge_for(attack, plain, seed=0, threat=threat)
    blocked = attack(plain.view(threat), challenge)
    assert isinstance(blocked, Blocked)
    assert "left out" in blocked.reason


@pytest.mark.parametrize("make", [lambda: Ternary(threshold=-1.0), lambda: Ternary(threshold=math.nan)])
def test_parameters_out_of_range_are_refused(make: Callable[[], object]) -> None:
    from qflsec.base import ConfigError

    with pytest.raises(ConfigError):
        make()
