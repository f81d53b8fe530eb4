"""Attacks on updates and sums: weights found again, noise on some parameters, and mechanisms that are broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from qflsec.accounting.predictions import predicted
from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks import Blocked, Inference, MembershipChallenge, MembershipClaim
from qflsec.attacks.membership import GradientRegression, SumAlignment, UpdateAlignment
from qflsec.attacks.membership.gradient_regression import as_columns, regressed
from qflsec.base import ConfigError
from qflsec.data import DataSpec
from qflsec.defenses.privacy import DpSgd
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import Model, build_model, per_sample_gradients
from qflsec.protocols.secagg import Masked
from qflsec.threat import Item, Records, View, honest_but_curious_server

SERVER = honest_but_curious_server()


def asked(n: int = 6, **change: Any) -> MembershipChallenge:
    generator = torch.Generator().manual_seed(0)
    candidates = Records(
        features=3 * torch.rand(n, 4, generator=generator),
        labels=torch.randint(0, 2, (n,), generator=generator),
    )
    return MembershipChallenge(seed=0, attack="any", candidates=candidates, **change)


def scores(attack: Inference, view: View, challenge: MembershipChallenge) -> torch.Tensor:
    claim = attack(view, challenge)
    assert isinstance(claim, MembershipClaim)
    return claim.scores


@pytest.mark.parametrize("noisy", [0, 20])
def test_weights_are_found_again(noisy: int) -> None:
    """Ten rounds of 36 parameters, 12 records of which five are in it; noise on some parameters stays there."""
    generator = torch.Generator().manual_seed(1)
    true = torch.zeros(12, dtype=torch.float64)
    true[:5] = torch.rand(5, generator=generator, dtype=torch.float64) + 0.5
    pulls = list(torch.randn(10, 12, 36, generator=generator, dtype=torch.float64))
    noise = torch.randn(10, 36, generator=generator, dtype=torch.float64)
    noise[:, noisy:] = 0
    moved = torch.stack([true @ part for part in pulls]) + 30 * noise
    plain, weighted = (regressed(moved, as_columns(pulls), refits=refits) for refits in (0, 3))
    assert torch.allclose(weighted, true, atol=0.1 if noisy else 1e-9)
    assert torch.allclose(plain, true, atol=1e-9) == (not noisy)


def test_nothing_sent_is_nothing_found() -> None:
    pulls = [torch.randn(4, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)]
    assert not regressed(torch.zeros(1, 9, dtype=torch.float64), as_columns(pulls), refits=3).any()


def test_records_alike_share_what_was_sent() -> None:
    """Two records with one gradient between them, more records than equations, and none that moves anything."""
    generator = torch.Generator().manual_seed(1)
    pull = torch.randn(6, 9, generator=generator, dtype=torch.float64)
    twice = torch.cat([pull, pull[:1]])
    moved = (2 * pull[0] + pull[1])[None]
    weights = regressed(moved, as_columns([twice]), refits=3)
    assert torch.allclose(weights[0] + weights[6], torch.tensor(2.0, dtype=torch.float64))
    assert torch.allclose(weights @ twice, moved[0])
    few = regressed(moved[:, :3], as_columns([twice[:, :3]]), refits=0)
    assert torch.allclose(few @ twice[:, :3], moved[0, :3])
    assert not regressed(moved, torch.zeros(1, 9, 4, dtype=torch.float64), refits=3).any()


def test_cosines_of_the_client_that_agrees_best(
    vqc: Model, item: Callable[..., Item], view: Callable[..., View]
) -> None:
    """Client 0 sends what record 0 makes of the model, client 1 what record 1 makes, each in two rounds of two models."""
    challenge = asked()
    items, cosines = [], torch.zeros(6, 2, dtype=torch.float64)
    for place in range(2):
        params = torch.linspace(place, 3, 36)
        gradients = per_sample_gradients(
            vqc, params, challenge.candidates.features, challenge.candidates.labels
        )
        items.append(item("model", params, round_index=place))
        for client in range(2):
            moved = -0.1 * gradients[client]
            items.append(item("update", moved, round_index=place, about=frozenset({client})))
            pull = torch.nn.functional.cosine_similarity(-gradients.double(), moved[None].double(), dim=-1)
            cosines[:, client] += pull / 2
    seen = view(*items, item("aggregate", torch.ones(36), about=frozenset({0, 1})), model=vqc)
    assert torch.allclose(scores(UpdateAlignment(), seen, challenge), cosines.max(dim=1).values)
    one = scores(UpdateAlignment(), seen, replace(challenge, target=1))
    assert torch.allclose(one, cosines[:, 1])
    weights = scores(GradientRegression(), seen, challenge)
    assert weights.argsort(descending=True)[:2].sort().values.tolist() == [0, 1]
    assert float(weights[2:].max()) < 1e-6


def test_why_they_are_blocked(vqc: Model, item: Callable[..., Item], view: Callable[..., View]) -> None:
    both = frozenset({0, 1})
    model, whole = item("model", torch.zeros(36)), item("update", torch.ones(36), about=both)
    single = item("update", torch.ones(36), about=frozenset({0}))
    cases = {
        "no single client's update is in the view": view(model, whole, model=vqc),
        "no model that a single client's update starts from can be read": view(single, model=vqc),
        "the adversary does not know the model's architecture": view(model, single, model=None),
        "every single client's update in the view is sealed": view(
            item("update", b"x", form="masked", about=frozenset({0})), model=vqc
        ),
    }
    for reason, seen in cases.items():
        assert UpdateAlignment()(seen, asked()) == Blocked(reason=reason)
    assert isinstance(
        GradientRegression()(cases["no single client's update is in the view"], asked()), MembershipClaim
    )
    with pytest.raises(ConfigError, match="'refits' is negative"):
        GradientRegression(refits=-1)


# The rest runs the loop: four clients of five records, ten rounds of one full step.

PIPELINE = Pipeline(
    data=DataSpec(
        name="breast-cancer", n_features=4, balanced=True, members=20, nonmembers=20, auxiliary=40, test=20
    ),
    model=build_model({"name": "vqc", "n_qubits": 4, "layers": 4, "encoder": "reuploading", "scale": 6.0}),
    federation=FederationConfig(n_clients=4, rounds=10, learning_rate=0.1),
)


def runs(*layers: Any, seeds: int = 3, pipeline: Pipeline = PIPELINE) -> list[RunResult]:
    stack = Stack.from_layers("tried", list(layers))
    specs = [RunSpec(seed=seed, evaluate="never") for seed in range(seeds)]
    return run_batch(pipeline, stack, specs, secrets="seeded")


def advantages(attack: Inference, made: list[RunResult]) -> list[float]:
    found = []
    for run in made:
        challenge, truth = challenge_for(attack, run, seed=run.spec.seed, threat=SERVER)
        claim = attack(run.view(SERVER), challenge)
        assert not isinstance(claim, Blocked)
        found.append(score_claim(claim, truth).advantage)
    return found


def test_sums_under_masks_tell_every_member() -> None:
    """Masks leave the sum, and ten sums tell all 20 members from 20 others; cosines with the same sums do not."""
    masked = runs(Masked(), seeds=1)
    assert min(advantages(GradientRegression(), masked)) > 0.99
    assert max(advantages(SumAlignment(), masked)) < 0.8


@dataclass(frozen=True, kw_only=True)
class NoiseOnSome(DpSgd):
    """Broken: noise on the first half of the parameters only."""

    def gradient(
        self, per_sample: torch.Tensor, mask: torch.Tensor, expected: torch.Tensor, streams: Any
    ) -> torch.Tensor:
        noisy = super().gradient(per_sample, mask, expected, streams)
        quiet = DpSgd(clip_norm=self.clip_norm, noise_multiplier=0.0).gradient(
            per_sample, mask, expected, streams
        )
        half = noisy.shape[-1] // 2
        return torch.cat([noisy[..., :half], quiet[..., half:]], dim=-1)


@dataclass(frozen=True, kw_only=True)
class ClipAfterNoise(DpSgd):
    """Broken: the noisy sum is clipped, and no record's gradient."""

    def gradient(
        self, per_sample: torch.Tensor, mask: torch.Tensor, expected: torch.Tensor, streams: Any
    ) -> torch.Tensor:
        total = (per_sample * mask[..., None]).sum(dim=-2)
        assert self.noise_multiplier is not None
        total = total + self.noise_multiplier * self.clip_norm * streams.normal("dp-sgd", total.shape[1:]).to(
            total
        )
        total = total * (self.clip_norm / total.norm(dim=-1, keepdim=True)).clamp(max=1)
        return total / expected[..., None].to(total)


CLAIM = {"clip_norm": 0.02, "target_epsilon": 0.2, "delta": 1e-5}


def above(found: list[float], ceiling: float) -> bool:
    """Whether the mean is above the ceiling at 5 % over the three broken mechanisms together."""
    return mean_over_seeds(found, within=(-1, 1), confidence=1 - 2 * 0.05 / 3).low > ceiling


@pytest.mark.parametrize(("kind", "broken"), [(DpSgd, False), (NoiseOnSome, True), (ClipAfterNoise, True)])
def test_a_broken_mechanism_is_caught(kind: Any, broken: bool) -> None:
    made = runs(kind(**CLAIM), seeds=5)
    proof = predicted(made[0].ledger(SERVER))
    assert proof is not None
    assert proof.advantage == pytest.approx(0.2, abs=0.01)
    assert above(advantages(GradientRegression(), made), proof.advantage) == broken


@pytest.mark.slow
def test_a_batch_that_is_not_poisson_is_caught() -> None:
    """The claim is of a draw of one record in twenty, and every step takes all: .38 where the proof allows .10."""
    config = replace(PIPELINE.federation, n_clients=1, rounds=60)
    drawn = replace(PIPELINE, federation=replace(config, batch_size=1, sampling="poisson"))
    layer = DpSgd(clip_norm=0.02, target_epsilon=0.1, delta=1e-5).calibrated(drawn, [20])
    honest = runs(layer, seeds=5, pipeline=drawn)
    proof = predicted(honest[0].ledger(SERVER))
    assert proof is not None
    assert not above(advantages(UpdateAlignment(), honest), proof.advantage)
    made = runs(layer, seeds=5, pipeline=replace(PIPELINE, federation=config))
    assert above(advantages(UpdateAlignment(), made), proof.advantage)
    told = predicted(made[0].ledger(SERVER))
    assert told is not None
    assert told.advantage > 0.9, "whoever says that all records are taken claims no such epsilon"
