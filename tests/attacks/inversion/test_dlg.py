"""DLG on exact gradients without the loop, with negative controls, and against the loop."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks import Blocked, InversionChallenge, InversionClaim
from qflsec.attacks.inversion import DeepLeakage, InvertingGradients
from qflsec.attacks.inversion.observation import observe
from qflsec.attacks.inversion.reconstruction import Prior, into_range, label_hypotheses
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Schedule, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import InversionTruth, TrialScore, score_claim, score_inversion
from qflsec.models import Execution, Model, per_sample_gradients
from qflsec.threat import (
    Item,
    Records,
    ThreatModel,
    View,
    coalition,
    honest_but_curious_server,
    public_final_model,
    wire_eavesdropper,
)

MakeItem = Callable[..., Item]
MakeView = Callable[..., View]
RATE = 0.1


def challenge(n_records: int = 1, seed: int = 0, **change: object) -> InversionChallenge:
    values = {
        "seed": seed,
        "attack": "dlg",
        "target": 0,
        "n_records": n_records,
        "n_features": 4,
        "feature_range": (0.0, math.pi),
        "training": FederationConfig(learning_rate=RATE),
    }
    return InversionChallenge(**{**values, **change})  # type: ignore[arg-type]


def victim(
    model: Model, n_records: int, seed: int, noise: float = 0.0
) -> tuple[Records, torch.Tensor, torch.Tensor]:
    """Records, parameters, and the update of one step, with Gaussian noise relative to its norm."""
    generator = torch.Generator().manual_seed(seed)
    params = model.initial(generator)
    features = math.pi * torch.rand(n_records, 4, generator=generator)
    labels = torch.randint(0, 2, (n_records,), generator=generator)
    gradient = per_sample_gradients(model, params, features, labels).mean(dim=0)
    draws = torch.randn(gradient.shape, generator=generator)
    gradient = gradient + noise * gradient.norm() * draws / draws.norm()
    return Records(features=features, labels=labels), params, -RATE * gradient


def attack_exactly(
    model: Model,
    item: MakeItem,
    view: MakeView,
    attack: DeepLeakage,
    n_records: int,
    seed: int,
    noise: float = 0.0,
) -> TrialScore:
    records, params, update = victim(model, n_records, seed, noise)
    seen = view(item("model", params), item("update", update, about=frozenset({0})), model=model)
    claim = attack(seen, challenge(n_records, seed))
    assert isinstance(claim, InversionClaim)
    truth = InversionTruth(records=records, angle_features=True, feature_range=(0.0, math.pi), auxiliary=None)
    return score_inversion(claim, truth)


def test_exact_gradients_of_one_record(vqc: Model, item: MakeItem, view: MakeView) -> None:
    """Our anchor: 100 % success (squared error modulo 2 pi below 1e-3) at batch 1 with L-BFGS and known labels.

    Here the labels are inferred too.
    """
    for seed in range(5):
        found = attack_exactly(vqc, item, view, DeepLeakage(), 1, seed)
        assert found.metrics["success_rate"].value == 1
        assert found.metrics["label_accuracy"].value == 1
        assert found.advantage > 0.999


def test_exact_gradients_of_two_records(vqc: Model, item: MakeItem, view: MakeView) -> None:
    """Our anchor: 88 % at batch 2 with four restarts of L-BFGS and known labels; more is welcome."""
    rates = [
        attack_exactly(vqc, item, view, DeepLeakage(), 2, seed).metrics["success_rate"].value
        for seed in range(5)
    ]
    assert sum(rates) / len(rates) >= 0.88


def test_noise_as_large_as_the_gradient_stops_it(vqc: Model, item: MakeItem, view: MakeView) -> None:
    """Negative control. That no record is found exactly does not make it private: the error stays small."""
    found = [attack_exactly(vqc, item, view, DeepLeakage(), 1, seed, noise=1.0) for seed in range(5)]
    assert sum(score.metrics["success_rate"].value for score in found) == 0


def test_in_noise_that_drowns_the_gradient_a_prior_is_better_than_none(
    vqc: Model, item: MakeItem, view: MakeView
) -> None:
    def scores(*, prior: bool) -> list[TrialScore]:
        attack = DeepLeakage(prior=prior)
        return [attack_exactly(vqc, item, view, attack, 1, seed, noise=10.0) for seed in range(5)]

    plain, bayesian = scores(prior=False), scores(prior=True)
    errors = [sum(one.metrics["mse"].value for one in found) for found in (plain, bayesian)]
    assert errors[1] < errors[0]
    guesses = sum(one.metrics["mse"].baseline for one in plain)
    assert min(errors) > 0.3 * guesses


def test_a_little_noise_is_no_privacy(vqc: Model, item: MakeItem, view: MakeView) -> None:
    for seed in range(4):
        assert attack_exactly(vqc, item, view, DeepLeakage(), 1, seed, noise=0.1).advantage > 0.9


def test_the_wrong_update_is_not_explained(vqc: Model, item: MakeItem, view: MakeView) -> None:
    """Control: another client's update gives other records, so the success is not the scorer's."""
    records, params, _ = victim(vqc, 1, 0)
    other = victim(vqc, 1, 1)[0]
    gradient = per_sample_gradients(vqc, params, other.features, other.labels)[0]
    seen = view(item("model", params), item("update", -RATE * gradient, about=frozenset({0})), model=vqc)
    claim = DeepLeakage()(seen, challenge())
    assert isinstance(claim, InversionClaim)
    assert float((claim.features - other.features).abs().max()) < 1e-3
    assert float((claim.features - records.features).abs().max()) > 0.1


def test_the_same_view_gives_the_same_claim_bit_for_bit(vqc: Model, item: MakeItem, view: MakeView) -> None:
    _, params, update = victim(vqc, 1, 0)
    items = (item("model", params), item("update", update, about=frozenset({0})))
    first = DeepLeakage()(view(*items, model=vqc), challenge())
    again = DeepLeakage()(view(*items, item("control", params), model=vqc), challenge())
    assert isinstance(first, InversionClaim)
    assert isinstance(again, InversionClaim)
    assert torch.equal(first.features, again.features)
    assert first.objective == again.objective


def test_which_item_is_read(vqc: Model, item: MakeItem, view: MakeView) -> None:
    """The fewest others first, then the earliest; a sum of known shares has k = 0 and is no better."""
    models = [item("model", torch.full((36,), float(t)), round_index=t) for t in (0, 1, 2)]
    everyone = frozenset({0, 1, 2})
    items = [
        item("aggregate", torch.zeros(36), about=everyone, round_index=0, k=0),
        item("update", torch.ones(36), about=frozenset({0}), round_index=2),
        item("update", torch.ones(36), about=frozenset({0}), round_index=1),
        item("update", torch.ones(36), about=frozenset({1}), round_index=0),
        item("update", b"", form="sealed", about=frozenset({0}), round_index=0),
    ]
    seen = observe(view(*models, *items, model=vqc), 0)
    assert (seen.round, seen.about) == (1, frozenset({0}))
    assert float(seen.params[0]) == 1
    only_sums = [entry for entry in items if entry.kind == "aggregate"]
    assert observe(view(*models, *only_sums, model=vqc), 0).about == everyone
    # an update whose start cannot be read is of no use
    assert observe(view(*models[2:], *items, model=vqc), 0).round == 2


def test_the_reasons_for_being_blocked(vqc: Model, item: MakeItem, view: MakeView) -> None:
    model, update = item("model", torch.zeros(36)), item("update", torch.zeros(36), about=frozenset({0}))
    sealed = item("update", b"", form="sealed", about=frozenset({0}))
    other = item("update", torch.zeros(36), about=frozenset({1}))
    cases = {
        "no update or sum that contains client 0 is in the view": view(model, other, model=vqc),
        "every update or sum that contains client 0 in the view is sealed": view(model, sealed, model=vqc),
        "no model that an update or sum that contains client 0 starts from can be read": view(
            item("model", torch.zeros(36), round_index=1), update, model=vqc
        ),
        "the adversary does not know the model's architecture": view(model, update, model=None),
    }
    for reason, seen in cases.items():
        assert DeepLeakage()(seen, challenge()) == Blocked(reason=reason)


def test_label_hypotheses_are_multisets() -> None:
    generator = torch.Generator().manual_seed(0)
    assert label_hypotheses(2, 2, most=16, generator=generator).tolist() == [[0, 0], [0, 1], [1, 1]]
    assert len(label_hypotheses(3, 3, most=16, generator=generator)) == 10
    many = label_hypotheses(8, 10, most=16, generator=generator)
    assert many.shape == (16, 8)
    assert torch.equal(many, many.sort(dim=1).values)


def test_angles_are_turned_into_the_range() -> None:
    points = torch.tensor([1 + 4 * math.pi, -0.2, math.pi + 0.3, 2 * math.pi - 0.1], dtype=torch.float64)
    expected = torch.tensor([1.0, 0.0, math.pi, 0.0], dtype=torch.float64)
    assert torch.allclose(into_range(points, (0.0, math.pi), angles=True), expected)
    assert float(into_range(points[:1], (0.0, math.pi), angles=False)) == pytest.approx(math.pi)


def test_the_prior_without_auxiliary_records_is_uniform() -> None:
    prior = Prior.of(None, (0.0, 2.0), 3)
    assert prior.mean.tolist() == [1.0] * 3
    assert prior.scale.tolist() == pytest.approx([2 / math.sqrt(12)] * 3)


@pytest.mark.parametrize(
    "bad",
    [{"restarts": 0}, {"restarts": 9, "screened": 8}, {"match": "manhattan"}, {"rounds": 0}, {"shots": 10}],
)
def test_impossible_parameters_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        DeepLeakage(**bad)  # type: ignore[arg-type]


# The rest runs the loop.

Judge = Callable[..., TrialScore | Blocked]


def judge(result: RunResult, threat: ThreatModel, attack: DeepLeakage | None = None) -> TrialScore | Blocked:
    chosen = attack or DeepLeakage()
    asked, truth = challenge_for(chosen, result, seed=result.spec.seed, threat=threat)
    claim = chosen(result.view(threat), asked)
    return claim if isinstance(claim, Blocked) else score_claim(claim, truth)


def score(result: RunResult, threat: ThreatModel, attack: DeepLeakage | None = None) -> TrialScore:
    found = judge(result, threat, attack)
    assert isinstance(found, TrialScore)
    return found


def runs(pipe: Pipeline, layers: Stack, n: int = 3) -> list[RunResult]:
    found = run_batch(pipe, layers, [RunSpec(seed=seed) for seed in range(n)])
    assert {result.outcome for result in found} == {"completed"}
    return found


def test_power_on_two_records_and_one_step(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]
) -> None:
    """Three seeds: clear of zero undefended, and stacks that leave the same view get the same rows bit for bit."""
    server = honest_but_curious_server()
    pipe = pipeline(members=20, rounds=2)
    undefended = [score(result, server) for result in runs(pipe, stack())]
    assert mean_over_seeds([found.advantage for found in undefended]).low > 0.5
    for layers in (stack("norm-bound"), stack("median"), stack("aes-gcm-link")):
        assert score(runs(pipe, layers, 1)[0], server).raw == undefended[0].raw
    # a clipped update has another length, but the same direction
    assert score(runs(pipe, stack("client-clip"), 1)[0], server).advantage > 0.99


def test_several_local_steps_are_unrolled(pipeline: Callable[..., Pipeline]) -> None:
    found = score(
        runs(pipeline(members=10, rounds=1, local_steps=3, learning_rate=0.2), Stack(name="none"), 1)[0],
        honest_but_curious_server(),
    )
    assert found.metrics["success_rate"].value == 1


def test_momentum_and_fedprox_are_unrolled(pipeline: Callable[..., Pipeline]) -> None:
    how = {"epochs": 3, "learning_rate": 0.2, "momentum": 0.8, "proximal": 2.0}
    found = score(
        runs(pipeline(members=10, rounds=1, **how), Stack(name="none"), 1)[0], honest_but_curious_server()
    )
    assert found.metrics["success_rate"].value == 1


def test_the_rate_is_that_of_the_round(vqc: Model, item: MakeItem, view: MakeView) -> None:
    """A Euclidean match knows the scale: the update of round 2 was made at a quarter of the learning rate."""
    _, params, update = victim(vqc, 1, 0)
    seen = view(
        item("model", params, round_index=2),
        item("update", update / 4, about=frozenset({0}), round_index=2),
        model=vqc,
    )
    falling = FederationConfig(learning_rate=RATE, schedule=Schedule(kind="step", step_size=1, gamma=0.5))
    found = []
    for training in (falling, FederationConfig(learning_rate=RATE)):
        claim = DeepLeakage(match="euclidean")(seen, challenge(1, 0, training=training))
        assert isinstance(claim, InversionClaim)
        found.append(claim.objective)
    assert found[0] < 1e-8
    assert found[1] > 1e-3


def test_withdrawn_and_sealed_views_block_it(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]
) -> None:
    pipe = pipeline(members=20, rounds=2)
    plain = runs(pipe, stack(), 1)[0]
    for threat in (honest_but_curious_server().withdrawn(), public_final_model()):
        found = judge(plain, threat)
        assert found == Blocked(reason="no update or sum that contains client 0 is in the view")
    linked = runs(pipe, stack("aes-gcm-link"), 1)[0]
    tapped = judge(linked, wire_eavesdropper())
    assert isinstance(tapped, Blocked)
    assert "sealed" in tapped.reason


def test_sums_are_attacked_and_say_so(pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]) -> None:
    """Masks leave the server the sum of ten clients: not blocked, but not explained by one record either."""
    masked = [
        score(result, honest_but_curious_server())
        for result in runs(pipeline(members=10, rounds=1), stack("masked"), 2)
    ]
    assert all(found.raw["objective"] > 1e-4 for found in masked)
    assert sum(found.metrics["success_rate"].value for found in masked) == 0


def test_a_coalition_that_knows_the_other_shares_sees_through_masks(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]
) -> None:
    """Server and nine of ten clients subtract their own shares; the target is the tenth."""
    result = runs(pipeline(members=20, rounds=2), stack("masked"), 1)[0]
    found = score(result, coalition(server=True, n=9))
    assert found.metrics["success_rate"].value == 1
    assert found.raw["original_labels"] == result.client_records(9).labels.tolist()


def test_dp_noise_stops_it(pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]) -> None:
    for result in runs(pipeline(members=10, rounds=1), stack("dp-sgd"), 2):
        assert score(result, honest_but_curious_server()).metrics["success_rate"].value == 0


MODELLED = [
    {"batch_size": 1, "local_steps": 3},
    {"batch_size": 1, "epochs": 2},
    {"batch_size": 1, "local_steps": 3, "sampling": "poisson"},
]


@pytest.mark.slow
@pytest.mark.parametrize("federation", MODELLED, ids=str)
def test_batches_are_modelled_where_the_pipeline_is_public(
    pipeline: Callable[..., Pipeline], federation: dict[str, object]
) -> None:
    """Two records in batches of one: which came when is guessed, and the objective tells the right guess."""
    result = runs(pipeline(members=20, rounds=1, **federation), Stack(name="none"), 1)[0]
    assert score(result, honest_but_curious_server()).metrics["success_rate"].value == 1


def test_adam_gives_a_record_away_in_two_steps_and_keeps_it_vague_in_one(
    pipeline: Callable[..., Pipeline],
) -> None:
    """One step of Adam has the size of the learning rate: its 32 signs fit many records. A second step fits one."""
    found = []
    for steps in (1, 2):
        how = {"optimizer": "adam", "local_steps": steps, "learning_rate": 0.05}
        result = runs(pipeline(members=10, rounds=1, **how), Stack(name="none"), 1)[0]
        found.append(score(result, honest_but_curious_server(), DeepLeakage(restarts=8)))
    assert [one.metrics["success_rate"].value for one in found] == [0, 1]
    assert "other records explain" in str(found[0].raw["why"])
    assert found[1].raw["why"] == ["every record was found"]


def test_an_optimiser_with_a_state_is_modelled_in_its_first_round_only(
    vqc: Model, item: MakeItem, view: MakeView
) -> None:
    training = FederationConfig(momentum=0.5, optimizer_state="run")
    target = frozenset({0})
    models = [item("model", torch.zeros(36), round_index=t) for t in (0, 1)]
    first = item("aggregate", torch.ones(36), about=frozenset({0, 1}), round_index=0)
    second = item("update", torch.ones(36), about=target, round_index=1)
    reason = DeepLeakage().missing(view(*models, first, second, model=vqc), challenge(training=training))
    assert reason is not None
    assert "optimiser keeps its state" in reason
    assert DeepLeakage().missing(view(*models, first, model=vqc), challenge(training=training)) is None


def exactly(model: Model, item: MakeItem, view: MakeView, attack: DeepLeakage, seed: int) -> float:
    """The largest error of a feature, from one record's gradient in double precision."""
    generator = torch.Generator().manual_seed(seed)
    params = model.initial(generator).double()
    features = math.pi * torch.rand(1, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 2, (1,), generator=generator)
    exact = Execution(dtype="complex128")
    gradient = per_sample_gradients(model, params, features, labels, execution=exact)[0]
    seen = view(item("model", params), item("update", -RATE * gradient, about=frozenset({0})), model=model)
    claim = attack(seen, challenge(1, seed))
    assert isinstance(claim, InversionClaim)
    return float((claim.features - features).abs().max())


def test_one_record_is_recovered_to_a_millionth(vqc: Model, item: MakeItem, view: MakeView) -> None:
    for seed in range(3):
        assert exactly(vqc, item, view, DeepLeakage(restarts=8, screened=128), seed) < 1e-6


@pytest.mark.slow
def test_one_record_is_recovered_to_a_millionth_in_nearly_all_of_fifty_runs(
    vqc: Model, item: MakeItem, view: MakeView
) -> None:
    errors = [exactly(vqc, item, view, DeepLeakage(), seed) for seed in range(50)]
    assert sum(error < 1e-6 for error in errors) >= 48


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [
        DeepLeakage(solver="lbfgs", match="euclidean", labels="joint", prior=False),
        InvertingGradients(),
        DeepLeakage(derivatives="finite-differences", prior=False),
    ],
    ids=["paper", "geiping", "finite-differences"],
)
def test_the_published_searches_find_one_record(
    vqc: Model, item: MakeItem, view: MakeView, attack: DeepLeakage
) -> None:
    for seed in range(3):
        assert exactly(vqc, item, view, attack, seed) < 1e-3


def test_a_target_must_be_honest(pipeline: Callable[..., Pipeline]) -> None:
    result = runs(pipeline(members=20, rounds=1), Stack(name="none"), 1)[0]
    with pytest.raises(IncompatibleAttack, match="honest client"):
        challenge_for(DeepLeakage(), result, seed=0, threat=coalition(server=True, n=10))
