"""Evasion: budgets, closed forms, a model that any move fools and one that none does, and a small run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks import Blocked, EvasionChallenge, EvasionClaim
from qflsec.attacks.evasion import (
    AutoPgd,
    Evasion,
    Fgsm,
    Pgd,
    Queries,
    Transfer,
    Universal,
    projected,
    universal_move,
)
from qflsec.attacks.evasion.gradients import checkpoints
from qflsec.base import ConfigError, IncompatibleAttack, UpdateError
from qflsec.federation import Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for, check_challenge
from qflsec.lab.scoring import EvasionTruth, score_claim
from qflsec.lab.scoring.records import attainable, record_interval
from qflsec.models import CROSS_ENTROPY, Model, build_model
from qflsec.threat import Item, Records, View, public_final_model

RANGE = (0.0, math.pi)
ATTACKS = [
    Fgsm(),
    Pgd(steps=5),
    AutoPgd(steps=10),
    Queries(queries=20),
    Transfer(training_steps=10, steps=5),
    Universal(steps=5),
]


def asked(records: Records, epsilon: float = 0.3) -> EvasionChallenge:
    return EvasionChallenge(seed=0, attack="x", records=records, epsilon=epsilon, feature_range=RANGE)


def drawn(n: int = 12, f: int = 4, seed: int = 0) -> Records:
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(n, f, generator=generator) * math.pi
    return Records(features=features, labels=torch.randint(0, 2, (n,), generator=generator))


@pytest.fixture
def seen(vqc: Model, item: Callable[..., Item], view: Callable[..., View]) -> View:
    params = vqc.initial(torch.Generator().manual_seed(4))
    return view(item("final-model", params), model=vqc, auxiliary=drawn(seed=9))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.card.name)
def test_a_claim_stays_within_its_budget_and_repeats(attack: Evasion, seen: View) -> None:
    challenge = asked(drawn())
    claim, again = attack(seen, challenge), attack(seen, challenge)
    assert isinstance(claim, EvasionClaim)
    assert isinstance(again, EvasionClaim)
    assert torch.equal(claim.features, again.features)
    assert 0 < float((claim.features - challenge.records.features).abs().max()) <= 0.3 + 1e-5
    assert float(claim.features.min()) >= 0
    assert float(claim.features.max()) <= math.pi + 1e-6


@pytest.mark.parametrize("attack", [*ATTACKS[:4]], ids=lambda attack: attack.card.name)
def test_the_loss_rises(attack: Evasion, seen: View, vqc: Model) -> None:
    challenge = asked(drawn(40))
    claim = attack(seen, challenge)
    assert isinstance(claim, EvasionClaim)
    params = seen.final_model()
    assert params is not None
    before, after = (
        vqc.loss.per_sample(vqc(params, features), challenge.records.labels)
        for features in (challenge.records.features, claim.features)
    )
    assert float((after - before).mean()) > 0.01
    if not isinstance(attack, Fgsm):  # these keep the best place, so that no record gets better
        assert float((after - before).min()) >= -1e-5


def test_many_steps_beat_one(seen: View, vqc: Model) -> None:
    challenge = asked(drawn(60), epsilon=1.0)
    params = seen.final_model()
    assert params is not None
    losses = []
    for attack in (Fgsm(epsilon=1.0), Pgd(epsilon=1.0), AutoPgd(epsilon=1.0)):
        claim = attack(seen, challenge)
        assert isinstance(claim, EvasionClaim)
        losses.append(
            float(vqc.loss.per_sample(vqc(params, claim.features), challenge.records.labels).mean())
        )
    assert losses[1] > losses[0]
    assert losses[2] > losses[0]


@pytest.mark.parametrize("attack", [Fgsm(), Pgd(), AutoPgd()], ids=lambda attack: attack.card.name)
def test_of_a_linear_loss_all_find_the_corner(attack: Fgsm | Pgd | AutoPgd) -> None:
    """The loss ``w . x`` is largest at ``x + epsilon sign(w)``, clipped to the range."""
    slope = torch.tensor([1.0, -2.0, 0.5, -0.1])
    challenge = asked(drawn())
    found = attack.moved(lambda features: features @ slope, challenge)
    expected = (challenge.records.features + 0.3 * torch.sign(slope)).clamp(*RANGE)
    assert torch.allclose(found, expected, atol=1e-5)


def test_fgsm_by_finite_differences(seen: View, vqc: Model) -> None:
    challenge = asked(drawn(4))
    claim = Fgsm()(seen, challenge)
    assert isinstance(claim, EvasionClaim)
    params, records = seen.final_model(), challenge.records
    assert params is not None
    step = 1e-2
    for j in range(4):
        shift = torch.zeros(4)
        shift[j] = step
        up, down = (
            vqc.loss.per_sample(vqc(params, records.features + s * shift), records.labels) for s in (1, -1)
        )
        slope = ((up - down) / (2 * step)).detach()
        moved = (claim.features - records.features)[:, j]
        clear = slope.abs() > 1e-3
        free = (records.features[:, j] > 0.3) & (records.features[:, j] < math.pi - 0.3)
        assert torch.equal(torch.sign(moved)[clear & free], torch.sign(slope)[clear & free])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), epsilon=st.floats(0.01, 2.0))
def test_the_projection_is_the_nearest_allowed_record(seed: int, epsilon: float) -> None:
    rng = np.random.default_rng(seed)
    original, moved = rng.uniform(-0.5, 3.6, (6, 3)), rng.uniform(-5, 5, (6, 3))
    records = Records(features=torch.from_numpy(original), labels=torch.zeros(6, dtype=torch.long))
    found = projected(torch.from_numpy(moved), asked(records, epsilon)).numpy()
    low = np.maximum(original - epsilon, np.minimum(original, RANGE[0]))
    high = np.minimum(original + epsilon, np.maximum(original, RANGE[1]))
    assert np.allclose(found, np.clip(moved, low, high))


def test_the_checkpoints_of_the_paper() -> None:
    """p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 for a hundred steps."""
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]


def test_what_each_needs(vqc: Model, item: Callable[..., Item], view: Callable[..., View]) -> None:
    challenge = asked(drawn())
    params = vqc.initial(torch.Generator().manual_seed(4))
    answers = View(
        threat=public_final_model(),
        items=(),
        granted=view(model=None).granted,
        oracle=lambda features: vqc(params, features),
    )
    assert isinstance(Queries(queries=3)(answers, challenge), EvasionClaim)
    for attack in (Fgsm(), Pgd(), AutoPgd(), Transfer(), Universal()):
        assert isinstance(attack(answers, challenge), Blocked), "answers have no gradient"
    for attack in ATTACKS:
        assert isinstance(attack(view(model=vqc), challenge), Blocked), "there is no model"
    without = view(item("final-model", params), model=vqc)
    assert isinstance(Transfer()(without, challenge), Blocked), "nothing to train on"
    assert isinstance(Universal()(without, challenge), Blocked), "nothing to find a move on"
    assert isinstance(Universal(found_on="records", steps=2)(without, challenge), EvasionClaim)


def test_a_claim_beyond_the_budget_is_refused(seen: View) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Far(Fgsm):
        shift: float

        def moved(self, loss: Any, challenge: EvasionChallenge) -> torch.Tensor:
            return challenge.records.features + self.shift

    challenge = asked(drawn(60))
    for shift, reason in ((0.5, "too far"), (0.25, "out of the range")):
        with pytest.raises(UpdateError, match=reason):
            Far(shift=shift)(seen, challenge)


def truth(labels: list[int], as_they_are: list[int], moved: list[int], noisy: list[int]) -> float:
    """The advantage where a model answers as told: feature 0 picks the answers."""
    answers = [torch.tensor(row) for row in (as_they_are, moved, noisy)]
    features = [torch.full((len(labels), 1), float(k)) for k in range(3)]
    found = score_claim(
        EvasionClaim(features=features[1]),
        EvasionTruth(
            records=Records(features=features[0], labels=torch.tensor(labels)),
            predict=lambda records: answers[int(records[0, 0])],
            noisy=features[2],
        ),
    )
    if found.raw:
        interval = record_interval(found.advantage, found.metrics, found.raw)
        assert interval is not None
        assert interval[0] <= found.advantage <= interval[1]
        assert attainable(found.raw) == (-math.inf, 1.0)
    else:
        assert found.reason
    return found.advantage


def test_scores_by_counting() -> None:
    ones = [1] * 8
    assert truth(ones, ones, [0] * 8, ones) == 1.0
    assert truth(ones, ones, ones, ones) == 0.0
    assert truth(ones, ones, [0] * 4 + [1] * 4, [0] * 2 + [1] * 6) == pytest.approx(2 / 6)
    assert truth(ones, ones, ones, [0] * 2 + [1] * 6) == pytest.approx(-2 / 6), "worse than noise"
    # a record that was wrong from the start is nobody's success
    assert truth(ones, [0] * 4 + [1] * 4, [0] * 6 + [1] * 2, ones) == pytest.approx(2 / 4)
    assert math.isnan(truth(ones, [0] * 8, [0] * 8, [0] * 8))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fgsm(epsilon=0.0),
        lambda: Pgd(steps=0),
        lambda: Pgd(restarts=0),
        lambda: Pgd(step_size=0.0),
        lambda: Queries(queries=0),
        lambda: Transfer(surrogate="other"),  # type: ignore[arg-type]
        lambda: Transfer(training_steps=0),
        lambda: Universal(found_on="others"),  # type: ignore[arg-type]
        lambda: Universal(steps=0),
        lambda: Universal(restarts=0),
        lambda: Transfer(learning_rate=0.0),
    ],
)
def test_impossible_parameters_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_the_lab_asks_and_the_undefended_model_is_evaded(pipeline: Callable[..., Pipeline]) -> None:
    made, threat = pipeline(model={"layers": 2}, members=60, rounds=10, local_steps=2), public_final_model()
    runs = run_batch(made, Stack(name="none"), [RunSpec(seed=seed, evaluate="never") for seed in range(3)])
    for attack in (Pgd(epsilon=0.4, steps=8), Queries(epsilon=0.4, queries=30)):
        check_challenge(attack, made, threat)
        found = []
        for seed, run in enumerate(runs):
            challenge, answer = challenge_for(attack, run, seed=seed, threat=threat)
            claim = attack(run.view(threat), challenge)
            assert isinstance(claim, EvasionClaim)
            found.append(score_claim(claim, answer).advantage)
        assert mean_over_seeds(found).low > 0
    empty = SimpleNamespace(records=lambda _: drawn(0), feature_range=RANGE)
    with pytest.raises(IncompatibleAttack, match="test records"):
        challenge_for(Fgsm(), empty, seed=0)  # type: ignore[arg-type]


def test_a_surrogate_of_the_other_kind_transfers_something(seen: View, vqc: Model) -> None:
    """Trained on records that a line divides, both kinds learn the line, and its normal is the way to move."""
    generator = torch.Generator().manual_seed(3)
    features = torch.rand(60, 4, generator=generator) * math.pi
    labels = (features[:, 0] > math.pi / 2).long()
    records = Records(features=features, labels=labels)
    view = replace(seen, granted=replace(seen.granted, auxiliary=records))
    claim = Transfer(surrogate="classical", training_steps=60)(view, asked(records))
    assert isinstance(claim, EvasionClaim)
    moved = (claim.features - features)[:, 0]
    inside = (features[:, 0] > 0.3) & (features[:, 0] < math.pi - 0.3)
    assert float((torch.sign(moved) == torch.where(labels == 1, -1.0, 1.0))[inside].float().mean()) > 0.95
    assert vqc.loss == CROSS_ENTROPY
    assert build_model({"name": "classical", "n_features": 4, "n_classes": 2}).n_classes == 2


def move_of(loss: Callable[[torch.Tensor], torch.Tensor], records: Records, epsilon: float) -> torch.Tensor:
    return universal_move(
        loss,
        records,
        epsilon=epsilon,
        feature_range=RANGE,
        steps=30,
        restarts=4,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("epsilon", [0.3, 1.0])
def test_no_move_on_a_grid_is_worse_for_the_model(epsilon: float) -> None:
    """Two features, so that every move can be tried: none raises the mean loss by a hundredth of the rise more."""
    small = build_model({"name": "vqc", "n_qubits": 2, "layers": 2})
    params, records = small.initial(torch.Generator().manual_seed(1)), drawn(15, 2, seed=5)

    def loss(features: torch.Tensor) -> torch.Tensor:
        return small.loss.per_sample(small(params, features), records.labels)

    def mean(move: torch.Tensor) -> float:
        return float(loss(projected(records.features + move, asked(records, epsilon))).mean())

    axis = torch.linspace(-epsilon, epsilon, 21)
    tried = [mean(torch.stack([a, b])) for a in axis for b in axis]
    before, found = mean(torch.zeros(2)), mean(move_of(loss, records, epsilon))
    assert found - before >= 0.99 * (max(tried) - before) > 0.01


def test_the_move_is_one_for_all_and_comes_from_the_adversarys_records(seen: View) -> None:
    challenge = asked(drawn())
    wrong = asked(replace(challenge.records, labels=1 - challenge.records.labels))
    for attack, same in ((Universal(steps=8), True), (Universal(steps=8, found_on="records"), False)):
        claims = [attack(seen, one) for one in (challenge, wrong)]
        assert all(isinstance(claim, EvasionClaim) for claim in claims)
        first, other = (claim.features - challenge.records.features for claim in claims)  # type: ignore[union-attr]
        inside = (claims[0].features > 1e-6) & (claims[0].features < math.pi - 1e-6)  # type: ignore[union-attr]
        for j in range(4):
            moves = first[inside[:, j], j]
            assert float(moves.max() - moves.min()) < 1e-5, "one move"
        assert torch.equal(first, other) == same, "labels of the records that are moved"


def test_one_move_for_each_record_does_no_less(seen: View, vqc: Model) -> None:
    challenge, params = asked(drawn(40), epsilon=0.6), seen.final_model()
    assert params is not None
    losses = []
    for attack in (Universal(epsilon=0.6, found_on="records"), AutoPgd(epsilon=0.6)):
        claim = attack(seen, challenge)
        assert isinstance(claim, EvasionClaim)
        losses.append(vqc.loss.per_sample(vqc(params, claim.features), challenge.records.labels).mean())
    assert losses[0] < losses[1]


def test_of_two_slopes_that_cancel_there_is_no_move() -> None:
    """Records of which one half is fooled by what helps the other: no move raises their mean loss."""
    records = Records(features=torch.full((10, 3), math.pi / 2), labels=torch.zeros(10, dtype=torch.long))
    side = torch.tensor([1.0, -1.0]).repeat(5)
    assert torch.equal(move_of(lambda x: side * x.sum(dim=-1), records, 0.5), torch.zeros(3))
    assert torch.equal(move_of(lambda x: x.sum(dim=-1), records, 0.5), torch.full((3,), 0.5))
