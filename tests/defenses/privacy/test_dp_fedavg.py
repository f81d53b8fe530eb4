"""DP-FedAvg: what one client can move, what the noise is, and what adaptive clipping spends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.defenses.privacy import DpFedAvg, sum_multiplier
from qflsec.defenses.robust import NormBound
from qflsec.federation import FedAvg, Pipeline, RoundUpdates, RunSpec, Stack, run_batch
from qflsec.protocols.secagg import Masked
from qflsec.protocols.secagg.groups.layer import ValidatedGroups

Maker = Callable[..., Pipeline]


def made(updates: torch.Tensor, seed: int = 0, **changes: Any) -> RoundUpdates:
    n, n_params = updates.shape
    values: dict[str, Any] = {
        "round": 0,
        "updates": updates,
        "counts": torch.ones(n),
        "ids": tuple(range(n)),
        "broadcast": torch.zeros(n_params),
        "periods": (None,) * n_params,
        "f": 1,
        "generator": torch.Generator().manual_seed(seed),
    }
    return RoundUpdates(**{**values, **changes})


def step(layer: DpFedAvg, batch: RoundUpdates, norm: float | None = None) -> tuple[torch.Tensor, float]:
    taken, after = layer.aggregate(batch, layer.clip_norm if norm is None else norm)
    assert isinstance(after, float)
    return taken, after


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    log_clip=st.floats(-3, 2),
    log_scale=st.floats(-4, 8),
    n=st.integers(1, 7),
    weight=st.floats(0, 1e9),
)
def test_one_client_moves_the_step_by_the_clip_norm_over_a_constant(
    seed: int, log_clip: float, log_scale: float, n: int, weight: float
) -> None:
    """Whatever its update and the number of records that it states, with or without the client."""
    clip = 10.0**log_clip
    updates = torch.randn(n, 12, generator=torch.Generator().manual_seed(seed)) * 10.0**log_scale
    layer = DpFedAvg(clip_norm=clip, noise_multiplier=0.0, expected_clients=5.0)
    counts = torch.ones(n)
    counts[0] = weight
    with_it, _ = step(layer, made(updates, counts=counts))
    without, _ = step(layer, made(updates[1:], ids=tuple(range(n - 1)), counts=torch.ones(n - 1)))
    moved = float(torch.linalg.vector_norm((with_it - without).double()))
    assert moved <= clip / 5 * (1 + 1e-5)
    alone, _ = step(layer, made(updates[:1], counts=counts[:1]))
    assert float(torch.linalg.vector_norm(alone.double())) * 5 <= clip * (1 + 1e-6)


def test_weights_by_stated_records_would_break_the_sensitivity() -> None:
    """The control: under FedAvg a client that states many records moves the step by nearly its whole update."""
    updates = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    batch = made(updates, counts=torch.tensor([1e6, 1.0]))
    weighted = FedAvg().aggregate(batch, None)[0]
    without = FedAvg().aggregate(made(updates[1:], ids=(1,), counts=torch.ones(1)), None)[0]
    bound = 1.0 / 2
    assert float((weighted - without).norm()) > 2 * bound
    fixed = DpFedAvg(noise_multiplier=0.0, expected_clients=2.0)
    moved = step(fixed, batch)[0] - step(fixed, made(updates[1:], ids=(1,), counts=torch.ones(1)))[0]
    assert float(moved.norm()) <= bound * (1 + 1e-6)


def test_the_noise_has_the_variance_it_claims() -> None:
    """Chi-square of 20,000 draws at two sides of 1e-6: a false alarm in one of a million changes of seed."""
    n, z, clip, clients = 20_000, 1.7, 0.4, 8.0
    layer = DpFedAvg(clip_norm=clip, noise_multiplier=z, expected_clients=clients)
    taken, _ = step(layer, made(torch.zeros(3, n), seed=11))
    scaled = (taken.double() * clients / (z * clip)) ** 2
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], n)
    assert low < float(scaled.sum()) < high
    assert not low < float(scaled.sum()) * 1.1 < high, "the test would notice five percent"


def test_a_round_of_nobody_is_noise() -> None:
    layer = DpFedAvg(clip_norm=1.0, noise_multiplier=1.0, expected_clients=4.0)
    taken, _ = step(layer, made(torch.zeros(0, 6), ids=(), counts=torch.zeros(0)))
    assert bool((taken != 0).all())


# -- adaptive clipping ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(z=st.floats(0.05, 20), ratio=st.floats(1.05, 50))
def test_the_split_spends_exactly_the_multiplier(z: float, ratio: float) -> None:
    """Andrew et al., arXiv:1905.03871, theorem 1: sum and count as one Gaussian mechanism of multiplier z."""
    sigma_b = ratio * z / 2
    z_delta = sum_multiplier(z, sigma_b)
    assert z_delta > z
    assert 1 / z_delta**2 + 1 / (2 * sigma_b) ** 2 == pytest.approx(1 / z**2, rel=1e-9)


def test_the_split_at_a_published_point() -> None:
    """Flower's test of the same formula: z 3, sigma_b 5 (a fortieth of 200 clients)."""
    assert sum_multiplier(3.0, 5.0) == pytest.approx((3.0**-2 - 10.0**-2) ** -0.5, rel=1e-12)
    assert sum_multiplier(3.0, 5.0) == pytest.approx(3.14485, abs=1e-5)


def test_a_count_that_spends_too_much_is_refused() -> None:
    with pytest.raises(ConfigError, match="count_noise"):
        DpFedAvg(noise_multiplier=1.0, quantile=0.5, count_noise=0.5)
    assert sum_multiplier(0.0, 0.1) == 0.0


def test_the_joint_release_moves_by_one_over_z_at_most() -> None:
    """The pair (sum, count) in units of its noise, for the worst client: an update at the clip norm."""
    z, sigma_b, clip = 1.0, 0.8, 0.5
    z_delta = sum_multiplier(z, sigma_b)
    of_sum, of_count = clip / (z_delta * clip), 0.5 / sigma_b
    assert math.hypot(of_sum, of_count) == pytest.approx(1 / z)


def test_the_clip_norm_follows_the_quantile() -> None:
    """Without noise it settles where the asked fraction of norms lies below it."""
    generator = torch.Generator().manual_seed(0)
    updates = torch.randn(200, 10, generator=generator)
    updates = updates / updates.norm(dim=1, keepdim=True) * torch.linspace(0.1, 3.0, 200)[:, None]
    layer = DpFedAvg(
        clip_norm=0.1, noise_multiplier=0.0, quantile=0.7, count_noise=1.0, expected_clients=200.0
    )
    norm = layer.clip_norm
    for _ in range(200):
        _, norm = step(layer, made(updates), norm)
    assert norm == pytest.approx(0.1 + 0.7 * 2.9, rel=0.02)


def test_one_geometric_step() -> None:
    """C exp(-eta (share - quantile)): 3 of 4 norms below C, eta 0.2, quantile one half."""
    updates = torch.diag(torch.tensor([0.1, 0.2, 0.3, 5.0]))
    layer = DpFedAvg(clip_norm=1.0, noise_multiplier=0.0, quantile=0.5, count_noise=1.0, expected_clients=4.0)
    assert step(layer, made(updates))[1] == pytest.approx(math.exp(-0.2 * (0.75 - 0.5)))


def test_the_count_has_the_noise_it_claims() -> None:
    """400 norms of the next round: chi-square at two sides of 1e-6."""
    sigma_b, eta = 2.0, 0.3
    layer = DpFedAvg(
        noise_multiplier=1.0, quantile=0.5, count_noise=sigma_b, clip_learning_rate=eta, expected_clients=4.0
    )
    shares = [
        -math.log(step(layer, made(torch.zeros(4, 2), seed=seed))[1]) / eta + 0.5 for seed in range(400)
    ]
    noise = [(share - 1.0) * 4 / sigma_b for share in shares]
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], 400)
    assert low < sum(value**2 for value in noise) < high


# -- in runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantile", [None, 0.5])
def test_batched_equals_single_bit_for_bit(make_pipeline: Maker, quantile: float | None) -> None:
    pipeline = make_pipeline(n_clients=4, participation=0.5, client_sampling="poisson", rounds=4)
    stack = Stack.from_layers("dp", [DpFedAvg(quantile=quantile, noise_multiplier=0.5)])
    specs = [RunSpec(seed=seed) for seed in range(4)]
    single = [run_batch(pipeline, stack, [spec])[0] for spec in specs]
    together = run_batch(pipeline, stack, specs, max_lanes=3)
    for alone, beside in zip(single, together, strict=True):
        assert alone.outcome == "completed"
        assert torch.equal(alone.params, beside.params)
    assert not torch.equal(single[0].params, single[1].params)


def test_poisson_rounds_hold_any_number_of_clients(make_pipeline: Maker) -> None:
    """320 coins at one half: a count outside 95 to 225 has probability below 1e-12; some round is of nobody."""
    pipeline = make_pipeline(n_clients=4, participation=0.5, client_sampling="poisson", rounds=20)
    results = run_batch(pipeline, Stack.from_layers("dp", [DpFedAvg()]), [RunSpec(seed=s) for s in range(4)])
    sizes = [len(m) for r in results for m in r.transcript.facts[r.lane].participants.values()]
    assert len(sizes) == 80
    assert {0, 1, 2, 3} <= set(sizes)
    assert 95 < sum(sizes) < 225
    quiet = run_batch(pipeline, Stack(name="none"), [RunSpec(seed=0)])[0]
    assert quiet.outcome == "completed", "without the layer a round of nobody moves nothing"


def test_without_noise_and_clipping_it_is_the_unweighted_mean(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=3, members=30, rounds=2)
    idle = Stack.from_layers("idle", [DpFedAvg(clip_norm=1e6, noise_multiplier=0.0)])
    plain = run_batch(pipeline, Stack(name="none"), [RunSpec(seed=0)])[0]
    mine = run_batch(pipeline, idle, [RunSpec(seed=0)])[0]
    assert torch.allclose(plain.params, mine.params, atol=1e-6), "equal counts: weights make no difference"


def test_stacks_in_which_the_sensitivity_would_not_hold_are_refused(make_pipeline: Maker) -> None:
    with pytest.raises(IncompatibleStack, match="no epsilon behind 'norm-bound'"):
        Stack.from_layers("median norm", [NormBound(), DpFedAvg()])
    Stack.from_layers("fixed bound", [NormBound(max_norm=1.0), DpFedAvg()])
    with pytest.raises(IncompatibleStack, match="needs individual updates"):
        Stack.from_layers("masked", [Masked(), DpFedAvg()])
    poisson = make_pipeline(participation=0.5, client_sampling="poisson")
    with pytest.raises(IncompatibleStack, match="known number of clients"):
        run_batch(poisson, Stack.from_layers("masked", [Masked()]), [RunSpec(seed=0)])


def test_one_update_moves_others_behind_a_median_norm() -> None:
    """The reason for the refusal: the client's norm decides how far the others are scaled down."""
    others = torch.tensor([[4.0, 0.0], [0.0, 6.0], [8.0, 0.0], [0.0, 8.0]])
    clip = 8.0
    layer = DpFedAvg(clip_norm=clip, noise_multiplier=0.0, expected_clients=1.0)
    small = NormBound().bound(made(torch.cat([others, torch.zeros(1, 2)])))
    without = NormBound().bound(made(others))
    moved = step(layer, small)[0] - step(layer, without)[0]
    assert float(moved.norm()) > 0, "an update of zero still moves the sum"


def test_it_needs_a_run(round_updates: Callable[..., RoundUpdates]) -> None:
    with pytest.raises(ConfigError, match="does not know the clients"):
        DpFedAvg().aggregate(round_updates(torch.zeros(2, 3)), 1.0)
    with pytest.raises(ConfigError, match="no noise yet"):
        DpFedAvg(target_epsilon=1.0).aggregate(round_updates(torch.zeros(2, 3)), 1.0)


@pytest.mark.parametrize(
    "values",
    [
        {"clip_norm": 0.0},
        {"noise_multiplier": -1.0},
        {"delta": 1.0},
        {"target_epsilon": 0.0},
        {"quantile": 1.5},
        {"count_noise": 0.0},
        {"expected_clients": -1.0},
        {"clip_learning_rate": math.inf},
    ],
)
def test_impossible_values_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        DpFedAvg(**values)


def test_noise_and_target_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        DpFedAvg(noise_multiplier=1.0, target_epsilon=1.0)


def test_means_of_groups_are_no_updates_to_it() -> None:
    """A group of two whose mean is clipped to S: without one of its clients it points the other way, 2 S from before,
    for which noise of z S has the multiplier z / 2. So the rule refuses groups as it refuses sums."""
    layer = DpFedAvg(clip_norm=1.0, noise_multiplier=0.0, expected_clients=1.0)
    alone = torch.tensor([[-3.0, 0.0]])
    together = (alone + torch.tensor([[9.0, 0.0]])) / 2
    moved = step(layer, made(together))[0] - step(layer, made(alone))[0]
    assert float(moved.norm()) == pytest.approx(2.0)
    with pytest.raises(IncompatibleStack, match="only sums over groups"):
        Stack.from_layers("groups", [ValidatedGroups(), DpFedAvg()])
    Stack.from_layers("groups", [ValidatedGroups(), NormBound(max_norm=1.0)])
