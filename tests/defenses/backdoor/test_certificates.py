"""Certificates of votes: exact for half spaces, never above what an attacker can reach, wrong no more often than alpha."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from qflsec.accounting.statistics import clopper_pearson_lower
from qflsec.base import ConfigError, IncompatibleStack
from qflsec.circuits import NoiseModel
from qflsec.data import DataSpec, PartitionSpec, load
from qflsec.defenses.backdoor import (
    Decided,
    ModelSmoothing,
    RandomisedSmoothing,
    certified_shift,
    certified_training,
    certify_training,
    contraction,
    corrupted_share,
    decide,
    noisy_votes,
    smoothing_radius,
    training_votes,
)
from qflsec.defenses.robust import Crfl, Mean, Median, NormBound
from qflsec.federation import (
    REFUSED,
    AggregatorLayer,
    FedAvg,
    FederationConfig,
    OwnModels,
    Pipeline,
    RoundUpdates,
    RunSpec,
    Sporadic,
    Stack,
    run_batch,
)
from qflsec.federation.moving import Satellites
from qflsec.federation.natural_gradient import NaturalGradient
from qflsec.federation.topology import Tree
from qflsec.models import Execution, build_model
from qflsec.protocols.secagg.groups.layer import ValidatedGroups

SHARES = st.floats(0.51, 0.999)


@dataclass(frozen=True)
class HalfSpace:
    """Class 1 where ``params . features > 0``."""

    n_classes: int = 2

    def __call__(self, params: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        score = (params * features).sum(dim=-1)
        return torch.stack([-score, score], dim=-1)


NORMAL = torch.tensor([3.0, -4.0])


def test_the_radius_of_a_half_space_is_the_distance_to_its_boundary() -> None:
    """Independent of sigma, which is what makes it exact: p is the weight of the half space at this distance."""
    record = torch.tensor([[1.0, 0.25], [0.2, 0.3], [-0.5, 0.5]])
    distance = (record @ NORMAL).abs() / 5
    for sigma in (0.3, 0.7):
        share = torch.from_numpy(ndtr(distance.double().numpy() / sigma))
        decided = Decided(classes=torch.tensor([1, 0, 0]), lower=share)
        assert torch.allclose(smoothing_radius(decided, noise_std=sigma).float(), distance, atol=1e-5)


@pytest.mark.parametrize("layer", [RandomisedSmoothing(noise_std=0.5, samples=2000), None])
def test_certified_answers_of_a_half_space_hold_up_to_the_boundary(layer: RandomisedSmoothing | None) -> None:
    generator = torch.Generator().manual_seed(0)
    records = torch.randn(40, 2, generator=generator)
    distance = (records @ NORMAL).abs() / 5
    truth = (records @ NORMAL > 0).long()
    if layer is not None:
        classes, radii = layer.certify_records(HalfSpace(), NORMAL, records, generator)  # type: ignore[arg-type]
    else:  # noise on the parameters: the boundary is that of the record, as the form is bilinear
        votes = noisy_votes(
            HalfSpace(),  # type: ignore[arg-type]
            NORMAL,
            records,
            noise_std=1.0,
            samples=2000,
            generator=generator,
            of="parameters",
        )
        decided = decide(votes, alpha=0.001)
        classes, radii = decided.classes, smoothing_radius(decided, noise_std=1.0)
        distance = (records @ NORMAL).abs() / records.norm(dim=1)
    sure = classes != REFUSED
    assert int(sure.sum()) > 25
    assert torch.equal(classes[sure], truth[sure])
    assert bool((radii[sure] <= distance[sure] + 1e-6).all())
    assert bool((radii[sure] > 0.7 * distance[sure].clamp(max=0.8 if layer else 2.0) - 0.1).all()), (
        "not vacuous"
    )
    assert not bool(radii[~sure].any())


def test_limits_fail_no_more_often_than_alpha() -> None:
    """All outcomes of 60 votes of a class with share 0.55: the limit is above it with probability alpha / 2 at most."""
    share, n = 0.55, 60
    hits = np.arange(n + 1)
    limits = decide(torch.from_numpy(np.stack([n - hits, hits], axis=1)), alpha=0.1)
    wrong = (limits.classes.numpy() == 1) & (limits.lower.numpy() > share)
    assert 0 < binom.pmf(hits[wrong], n, share).sum() <= 0.05
    chosen_wrongly = limits.classes.numpy() == 0
    assert binom.pmf(hits[chosen_wrongly], n, share).sum() <= 0.05
    assert float(limits.lower[55]) == pytest.approx(clopper_pearson_lower(55, n, alpha=0.05))
    assert int(limits.classes[30]) == REFUSED


@settings(max_examples=60, deadline=None)
@given(SHARES, st.integers(1, 5), st.floats(0.05, 2.0), st.floats(0.5, 30.0), st.integers(0, 6))
def test_a_certified_shift_is_below_what_a_half_space_loses(
    share: float, rounds: int, sigma: float, rho: float, later: int
) -> None:
    """Without later rounds the worst set of models is a half space: r steps of the shift just reach its boundary."""
    now = certified_shift(share, noise_std=sigma, max_norm=rho, attacked_rounds=rounds)
    reached = sigma * math.sqrt(rounds) * float(ndtri(share)) / rounds
    assert now == pytest.approx(reached, rel=1e-9), "the bound is tight"
    after = certified_shift(share, noise_std=sigma, max_norm=rho, attacked_rounds=rounds, later_rounds=later)
    assert after >= now - 1e-12
    assert certified_shift(share, noise_std=sigma, max_norm=rho, attacked_rounds=rounds + 1) < now


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.01, 1.0), min_size=3, max_size=5),
    st.lists(st.floats(0.01, 1.0), min_size=5, max_size=5),
)
def test_no_distribution_changes_places_below_the_entropy(weights: list[float], other: list[float]) -> None:
    """Relative entropy of any answer distribution in which the second class has caught up."""
    p = np.sort(np.array(weights) / sum(weights))[::-1]
    q = np.array(other[: len(p)]) / sum(other[: len(p)])
    q[0] = q[1] = min(q[0], q[1])
    q /= q.sum()
    least = -math.log(1 - (math.sqrt(p[0]) - math.sqrt(p[1])) ** 2)
    assert float((q * np.log(q / p)).sum()) >= least - 1e-9
    best = np.concatenate([[math.sqrt(p[0] * p[1])] * 2, p[2:]])
    best /= best.sum()
    assert float((best * np.log(best / p)).sum()) == pytest.approx(least, abs=1e-9), "and one attains it"


def test_later_rounds_forget_by_the_factor_between_two_ends_of_a_ball() -> None:
    """A chain on a line: clip to [-rho, rho], add noise; total variation by integration on a grid."""
    rho, sigma, shift = 1.0, 0.8, 1.2
    grid = np.linspace(-8, 8, 1601)
    width = grid[1] - grid[0]
    kernel = np.exp(-((grid[:, None] - np.clip(grid, -rho, rho)[None]) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum(axis=0) * width
    one = np.exp(-((grid - 0.1) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    two = np.exp(-((grid - 0.1 - shift) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    bound = 2 * ndtr(shift / (2 * sigma)) - 1
    for _ in range(4):
        variation = 0.5 * np.abs(one - two).sum() * width
        assert variation <= bound + 1e-6
        one, two = kernel @ one * width, kernel @ two * width
        bound *= contraction(rho, sigma)
    # so a class of which 0.9 of all trainings are sure is never lost, whatever is sent, once enough is forgotten
    assert certified_shift(0.9, noise_std=sigma, max_norm=rho, later_rounds=6) == math.inf
    assert certified_shift(0.9, noise_std=0.01, max_norm=15.0, later_rounds=100) == pytest.approx(
        certified_shift(0.9, noise_std=0.01, max_norm=15.0)
    ), "a clip norm of 1,500 standard deviations forgets nothing"


def test_no_majority_no_certificate() -> None:
    values = {"noise_std": 0.1, "max_norm": 5.0}
    assert certified_shift(0.5, **values) == 0  # type: ignore[arg-type]
    assert certified_shift(0.3, 0.4, **values) == 0  # type: ignore[arg-type]
    assert certified_shift(0.4, 0.3, **values) > 0  # type: ignore[arg-type]
    classes, shifts = certify_training(torch.tensor([[30, 30], [60, 0]]), noise_std=0.1, max_norm=5.0)
    assert classes.tolist() == [REFUSED, 0]
    assert float(shifts[0]) == 0 < float(shifts[1])
    assert corrupted_share(0.3, norm=0.5) == pytest.approx(0.3)
    assert corrupted_share(math.inf, norm=0.5) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomisedSmoothing(noise_std=0.0),
        lambda: ModelSmoothing(samples=0),
        lambda: decide(torch.ones(1, 2, dtype=torch.long), alpha=0.0),
        lambda: contraction(0.0, 1.0),
        lambda: certified_shift(0.9, 0.9, noise_std=1.0, max_norm=1.0),
        lambda: certified_shift(0.9, noise_std=1.0, max_norm=1.0, attacked_rounds=0),
        lambda: corrupted_share(0.1, norm=0.0),
    ],
)
def test_impossible_values_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def small(rounds: int) -> Pipeline:
    return Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2, members=60, nonmembers=0, auxiliary=20, test=100),
        model=build_model({"name": "vqc", "n_qubits": 2, "layers": 2}),
        federation=FederationConfig(n_clients=10, rounds=rounds, local_steps=2, learning_rate=1.0),
    )


def test_a_stack_serves_its_votes_everywhere() -> None:
    """Accuracy after the last round and predictions are those of the votes; the model is that of no defense."""
    specs = [RunSpec(seed=seed) for seed in (0, 1)]
    plain = run_batch(small(3), Stack(name="none"), specs)
    served = run_batch(
        small(3),
        Stack.from_layers("smoothed", [ModelSmoothing(noise_std=1.5, samples=20)]),
        specs,
    )
    for one, two in zip(plain, served, strict=True):
        assert torch.equal(one.params, two.params)
        assert one.accuracy[:-1] == two.accuracy[:-1]
        test = two.records("test")
        answers = two.predict(test.features)
        assert two.accuracy[-1] == float((answers == test.labels).double().mean())
        assert not torch.equal(answers, one.predict(test.features))
    single = run_batch(small(3), served[0].stack, specs[:1])
    assert single[0].accuracy == served[0].accuracy, "a run alone is the run beside others"


def test_a_training_is_certified_against_a_client_that_sends_anything() -> None:
    """One of ten clients may send anything within the norm bound, in the last round, without another answer."""
    sigma, norm, made = 0.1, 0.4, small(15)
    stack = behind_crfl(norm=norm, sigma=sigma)
    dataset = load(made.data, 0)
    test = dataset.test_idx
    votes = training_votes(made, stack, dataset, dataset.features[test], samples=40, seed=1)
    assert votes.sum(dim=1).tolist() == [40] * 100
    classes, shifts = certify_training(votes, noise_std=sigma, max_norm=20.0)
    right = classes == dataset.labels[test]
    standing = (shifts > 2 * norm / 10) & right
    assert 0.5 < float(standing.double().mean()) < 1
    assert torch.equal(standing, (corrupted_shares(shifts, norm) > 0.1) & right)
    found = certified_training(made, stack, dataset, samples=40, seed=1)
    assert [found.stand(k) for k in range(2)] == [int((right & (shifts > 0)).sum()), int(standing.sum())]
    assert found.stand(10) == 0, "the mean may then be anything"
    assert found.weight == 1 / 10


def behind_crfl(*, norm: float = 0.4, rho: float = 20.0, sigma: float = 0.1) -> Stack:
    return Stack.from_layers("crfl", [NormBound(max_norm=norm), Mean(), Crfl(max_norm=rho, noise_std=sigma)])


def test_what_the_certificate_of_a_training_does_not_cover() -> None:
    made, crfl = small(2), Crfl(max_norm=20.0, noise_std=0.1)
    dataset = load(made.data, 0)
    for server in (
        [],
        [crfl],
        [NormBound(max_norm=0.4)],
        [NormBound(), crfl],  # the median norm is the clients' to move
        [NormBound(max_norm=0.4), Median(), crfl],
        [NormBound(max_norm=0.4), Crfl(noise_std=0.0)],
    ):
        with pytest.raises(IncompatibleStack, match="covers"):
            certified_training(made, Stack.from_layers("other", server), dataset, samples=1)  # type: ignore[arg-type]
    drawn = replace(made, federation=replace(made.federation, client_sampling="poisson", participation=0.5))
    stack = Stack.from_layers("crfl", [NormBound(max_norm=0.4), Mean(), crfl])
    with pytest.raises(IncompatibleStack, match="random number"):
        certified_training(drawn, stack, dataset, samples=1)
    own = replace(made, federation=replace(made.federation, own_models=OwnModels(pull=0.3)))
    with pytest.raises(IncompatibleStack, match="all clients share"):
        certified_training(own, stack, dataset, samples=1)


@pytest.mark.parametrize("rule", [[], [FedAvg()]], ids=["no rule", "fedavg"])
def test_a_server_that_weighs_by_what_clients_state_is_refused(rule: list[AggregatorLayer]) -> None:
    made, crfl = small(2), Crfl(max_norm=20.0, noise_std=0.1)
    stack = Stack.from_layers("crfl", [NormBound(max_norm=0.4), *rule, crfl])
    with pytest.raises(IncompatibleStack, match=r"state.*'fedavg'.*'mean'.*put \{ name = \"mean\" \}"):
        certified_training(made, stack, load(made.data, 0), samples=1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    honest=st.integers(1, 8),
    sent=st.integers(0, 4),
    dropped=st.integers(0, 4),
    stated=st.floats(0.0, 1e9),
    length=st.floats(1e-3, 1e6),
    norm=st.floats(0.01, 10.0),
)
def test_corrupted_clients_move_the_mean_by_no_more_than_their_share(
    seed: int, honest: int, sent: int, dropped: int, stated: float, length: float, norm: float
) -> None:
    """Whatever they send and state, or where nothing of them arrives."""
    generator, corrupted = torch.Generator().manual_seed(seed), sent + dropped
    n = honest + corrupted
    followed = 3 * norm * torch.randn(n, 5, generator=generator)
    attacked = followed[dropped:].clone()
    attacked[:sent] = length * torch.randn(sent, 5, generator=generator)
    counts = torch.full((n - dropped,), 6.0)
    counts[:sent] = stated
    before = clipped_mean(followed, torch.full((n,), 6.0), norm, Mean())
    moved = float((clipped_mean(attacked, counts, norm, Mean()) - before).norm())
    assert moved <= 2 * norm * corrupted / n * (1 + 1e-5) + 1e-6


def test_a_client_that_states_more_records_moves_the_weighted_mean_by_more_than_its_share() -> None:
    """Why the weighted mean is refused: one of ten that states a hundred times the records reaches 1.8 of 2 clip norms."""
    followed = torch.eye(10)
    attacked, counts = followed.clone(), torch.full((10,), 6.0)
    attacked[0] = -followed.sum(dim=0)

    def moved(stated: float, rule: AggregatorLayer) -> float:
        said = counts.clone()
        said[0] = stated
        after, before = clipped_mean(attacked, said, 0.4, rule), clipped_mean(followed, counts, 0.4, rule)
        return float((after - before).norm())

    assert moved(6.0, FedAvg()) <= 2 * 0.4 / 10, "who states as many as the others weighs as much"
    assert moved(600.0, FedAvg()) > 4 * 2 * 0.4 / 10
    assert moved(600.0, Mean()) == moved(6.0, Mean()) <= 2 * 0.4 / 10


def clipped_mean(
    updates: torch.Tensor, counts: torch.Tensor, norm: float, rule: AggregatorLayer
) -> torch.Tensor:
    n, n_params = updates.shape
    batch = RoundUpdates(
        round=0,
        updates=updates,
        counts=counts,
        ids=tuple(range(n)),
        broadcast=torch.zeros(n_params),
        periods=(None,) * n_params,
        f=0,
        generator=torch.Generator(),
    )
    return rule.aggregate(NormBound(max_norm=norm).bound(batch), None)[0]


def test_rows_that_are_not_so_many_single_clients_are_refused() -> None:
    """A group's mean is one client's to spoil, and a client without records leaves its weight to the others."""
    made, stack = small(2), behind_crfl()
    dataset = load(made.data, 0)
    grouped = replace(made, federation=replace(made.federation, declared_corrupted=1))
    groups = Stack.from_layers("groups", [ValidatedGroups(), *stack.server])
    groups.check(grouped)  # the layers fit each other
    with pytest.raises(IncompatibleStack, match=r"means of groups.*'validated-groups'"):
        certified_training(grouped, groups, dataset, samples=1)
    some = replace(made, partition=PartitionSpec(kind="dirichlet", alpha=0.05, min_records=0))
    with pytest.raises(IncompatibleStack, match=r"sits out.*min_records = 0"):
        certified_training(some, stack, dataset, samples=1)
    uneven = replace(some, partition=replace(some.partition, min_records=1))
    assert certified_training(uneven, stack, dataset, samples=1).weight == 1 / 10


def test_clients_that_sit_out_are_refused_and_slower_ones_are_not() -> None:
    """One of five that step weighs 1/5, and no longer 1/10."""
    made, stack = small(2), behind_crfl()
    dataset = load(made.data, 0)
    noisy = Execution(noise=NoiseModel(kind="local-depolarizing", p=0.2, where="every-gate"))
    devices = replace(made, client_executions=dict.fromkeys(range(5), noisy))
    for threshold, refused in ((0.9, True), (0.0, False)):
        sporadic = Sporadic(gamma=5.0, threshold=threshold)
        some = replace(devices, federation=replace(made.federation, sporadic=sporadic))
        assert (0.0 in some.factors) is refused
        if refused:
            with pytest.raises(IncompatibleStack, match=r"sits out.*clients \[0, 1, 2, 3, 4\]"):
                certified_training(some, stack, dataset, samples=1)
        else:
            assert certified_training(some, stack, dataset, samples=1).weight == 1 / 10


def test_votes_of_trainings_with_another_partition_are_refused() -> None:
    made, stack = small(2), behind_crfl()
    dataset = load(made.data, 0)
    filed = replace(made, partition=PartitionSpec(kind="files"))
    with pytest.raises(IncompatibleStack, match=r"spread anew.*'files'"):
        certified_training(filed, stack, dataset, samples=1)
    held = replace(dataset, holdings=torch.zeros(len(dataset.labels), dtype=torch.long))
    with pytest.raises(IncompatibleStack, match=r"spread anew.*held_blocks"):
        certified_training(made, stack, held, samples=1)


KEEPING = [{"momentum": 0.9}, {"optimizer": "adam", "learning_rate": 0.1}]


@pytest.mark.parametrize("kept", KEEPING, ids=["momentum", "adam"])
def test_later_rounds_forget_nothing_where_clients_keep_their_optimisers(kept: dict[str, Any]) -> None:
    """Without later rounds, and with optimisers that live for one round, the certificate holds as it did."""
    made = small(4)
    dataset, stack = load(made.data, 0), behind_crfl(rho=0.1)
    run = replace(made, federation=replace(made.federation, optimizer_state="run", **kept))
    assert run.federation.keeps_state
    with pytest.raises(
        IncompatibleStack, match=r"later rounds forget.*optimizer_state = 'run' and 3 later.*leave out"
    ):
        certified_training(run, stack, dataset, samples=1, later_rounds=3)
    assert certified_training(run, stack, dataset, samples=1).later_rounds == 0
    assert certified_training(run, stack, dataset, samples=1, attacked_rounds=4).attacked_rounds == 4
    fresh = replace(run, federation=replace(run.federation, optimizer_state="round"))
    assert certified_training(fresh, stack, dataset, samples=1, later_rounds=3).later_rounds == 3


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"parts": Satellites(train_rounds=1)}, "parts of the model"),
        ({"topology": Tree()}, "as a tree"),
        (
            {"federation": {"natural_gradient": NaturalGradient(solved_by="server"), "local_steps": 1}},
            "metric",
        ),
        ({"federation": {"server_learning_rate": 0.5}}, "server_learning_rate"),
    ],
    ids=["late uploads", "edge servers", "uploaded metrics", "server rate"],
)
def test_what_else_could_reach_a_round_past_the_noise_is_refused(changed: dict[str, Any], why: str) -> None:
    made = small(4)
    dataset, parts = load(made.data, 0), dict(changed)
    federation = replace(made.federation, **parts.pop("federation", {}))
    other = replace(made, federation=federation, **parts)
    with pytest.raises(IncompatibleStack, match=why):
        certified_training(other, behind_crfl(), dataset, samples=1)


def test_a_training_has_no_more_rounds_than_it_has() -> None:
    """More later rounds than there are would forget everything."""
    made, stack = small(4), behind_crfl(rho=0.1)
    dataset = load(made.data, 0)
    for rounds in ({"later_rounds": 4}, {"attacked_rounds": 5}, {"attacked_rounds": 3, "later_rounds": 2}):
        with pytest.raises(ConfigError, match=r"not so many rounds.*at most 4"):
            certified_training(made, stack, dataset, samples=1, **rounds)
    assert certified_training(made, stack, dataset, samples=1, attacked_rounds=3, later_rounds=1).samples == 1


@pytest.mark.parametrize(("keeps", "holds"), [(True, False), (False, True)], ids=["over the run", "afresh"])
def test_momentum_carries_an_attack_past_the_noise(keeps: bool, holds: bool) -> None:
    """One angle with the loss cos: pushed to one side or the other in one round, and twelve rounds later still known."""
    rho = sigma = 1.0
    rounds, n = 13, 20_000

    def trained(push: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        generator = np.random.default_rng(abs(int(10 * push)) + (push > 0))
        angle, momentum = np.zeros(n), np.zeros(n)
        for index in range(rounds):
            momentum = 0.9 * momentum * keeps - np.sin(angle)
            step = np.clip(-momentum, -0.9, 0.9) + (push if index == 0 else 0.0)
            angle = np.clip(angle + step, -rho, rho) + sigma * generator.standard_normal(n)
        return angle

    one, two = trained(1.8), trained(-1.8)
    apart = abs(
        float((one > 0).mean() - (two > 0).mean())
    )  # no more than the total variation, up to sampling
    bound = contraction(rho, sigma) ** (rounds - 1) * (2 * float(ndtr(3.6 / sigma / 2)) - 1)
    assert bound < 0.01
    assert (apart <= bound + 4 / math.sqrt(2 * n)) is holds
    if not holds:
        assert apart > 0.2


@settings(max_examples=80, deadline=None)
@given(
    pushes=st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=6),
    decay=st.floats(0.0, 0.99),
    gain=st.floats(-2.0, 2.0),
    earlier=st.integers(0, 3),
    sigma=st.floats(0.1, 2.0),
)
def test_what_honest_clients_keep_adds_nothing_in_the_last_rounds(
    pushes: list[float], decay: float, gain: float, earlier: int, sigma: float
) -> None:
    """A linear training with momentum, so that the last model is Gaussian: what tells it is at most sqrt(r) D / sigma."""
    # model and momentum: momentum' = decay momentum + gain model, model' = model + momentum' + push + noise
    step = np.array([[1 + gain, decay], [gain, decay]])
    noise = np.diag([sigma**2, 0.0])
    shift, spread = np.zeros(2), np.zeros((2, 2))
    for push in [0.0] * earlier + pushes:
        shift = step @ shift + np.array([push, 0.0])
        spread = step @ spread @ step.T + noise
    most = max(map(abs, pushes))
    assert abs(shift[0]) / math.sqrt(spread[0, 0]) <= math.sqrt(len(pushes)) * most / sigma * (1 + 1e-9)


def corrupted_shares(shifts: torch.Tensor, norm: float) -> torch.Tensor:
    return torch.tensor([corrupted_share(shift, norm=norm) for shift in shifts.tolist()])
