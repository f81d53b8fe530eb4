"""DP-SGD: sensitivity, noise, and the equivalence with plain SGD where it should hold."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.defenses.privacy import DpSgd, noisy_clipped_sum
from qflsec.federation import layer_from_config


def gradients(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), clip_norm=st.floats(1e-3, 1e2), log_scale=st.floats(-4, 8))
def test_adding_a_record_moves_the_sum_by_at_most_the_clip_norm(
    seed: int, clip_norm: float, log_scale: float
) -> None:
    per_sample = gradients(6, 12, seed=seed, scale=10.0**log_scale)
    none = torch.zeros(12)
    mask = torch.ones(6)
    for row in range(6):
        fewer = mask.clone()
        fewer[row] = 0
        # one record alone: no cancellation in the difference of two rounded sums
        alone = noisy_clipped_sum(per_sample, mask - fewer, clip_norm=clip_norm, noise=none)
        assert float(torch.linalg.vector_norm(alone.double())) <= clip_norm
        both = noisy_clipped_sum(per_sample, mask, clip_norm=clip_norm, noise=none)
        rest = noisy_clipped_sum(per_sample, fewer, clip_norm=clip_norm, noise=none)
        assert float(torch.linalg.vector_norm((both - rest).double())) <= clip_norm * (1 + 1e-5)


def test_clipping_is_per_sample_and_not_per_batch() -> None:
    """The control for the bound: clipping the batch mean lets one record move the sum by more than C."""
    per_sample = torch.tensor([[10.0, 0.0], [0.1, 0.0], [0.1, 0.0]])
    total = noisy_clipped_sum(per_sample, torch.ones(3), clip_norm=1.0, noise=torch.zeros(2))
    assert total[0] == pytest.approx(1.2, rel=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_record_without_a_finite_gradient_contributes_nothing(bad: float) -> None:
    per_sample = gradients(4, 5)
    per_sample[2, 3] = bad
    total = noisy_clipped_sum(per_sample, torch.ones(4), clip_norm=1.0, noise=torch.zeros(5))
    without = noisy_clipped_sum(per_sample[[0, 1, 3]], torch.ones(3), clip_norm=1.0, noise=torch.zeros(5))
    assert torch.allclose(total, without, atol=1e-6)


def test_padding_does_not_count(streams: Callable[..., Any]) -> None:
    per_sample = gradients(1, 2, 4, 5)
    mask = torch.tensor([[[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]])
    layer = DpSgd(noise_multiplier=0.0, clip_norm=1e6)
    result = layer.gradient(per_sample, mask, mask.sum(dim=-1), streams(0))
    assert torch.allclose(result[0, 0], per_sample[0, 0, :3].mean(dim=0), atol=1e-6)
    assert torch.allclose(result[0, 1], per_sample[0, 1, 0], atol=1e-6)


def test_the_sum_is_divided_by_the_expected_batch_size(streams: Callable[..., Any]) -> None:
    """Dividing by the drawn size would make the noise depend on who was drawn."""
    per_sample = gradients(1, 1, 4, 5)
    mask = torch.tensor([[[1.0, 0.0, 1.0, 0.0]]])
    layer = DpSgd(noise_multiplier=0.0, clip_norm=1e6)
    result = layer.gradient(per_sample, mask, torch.tensor([[3.0]]), streams(0))
    assert torch.allclose(result[0, 0], per_sample[0, 0, [0, 2]].sum(dim=0) / 3, atol=1e-6)


def test_an_empty_batch_is_noise_alone(streams: Callable[..., Any]) -> None:
    layer = DpSgd(noise_multiplier=1.0)
    result = layer.gradient(gradients(1, 1, 4, 50), torch.zeros(1, 1, 4), torch.tensor([[2.0]]), streams(5))
    noise = streams(5).normal("dp-sgd", (1, 50))
    assert torch.allclose(result, noise / 2)


def test_noise_has_the_stated_variance(streams: Callable[..., Any]) -> None:
    """Chi-square over 60,000 draws; false-alarm rate 1e-6 for each of the four moments and clients."""
    sigma, clip_norm, expected = 1.7, 0.3, 5.0
    lanes, clients, n_params = 20, 3, 1000
    layer = DpSgd(noise_multiplier=sigma, clip_norm=clip_norm)
    released = layer.gradient(
        torch.zeros(lanes, clients, 2, n_params),
        torch.ones(lanes, clients, 2),
        torch.full((lanes, clients), expected),
        streams(*range(lanes)),
    )
    scaled = released.double() * expected / (sigma * clip_norm)
    for index in range(clients):
        draws = scaled[:, index].flatten()
        n = draws.numel()
        low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], n)
        assert low < float((draws**2).sum()) < high
        assert abs(float(draws.sum())) < stats.norm.isf(5e-7) * n**0.5
    # clients and lanes have noise of their own: correlations of independent draws, false alarm 1e-6 each
    for a, b in ((scaled[:, 0], scaled[:, 1]), (scaled[0], scaled[1])):
        assert abs(float((a * b).sum())) < stats.norm.isf(5e-7) * a.numel() ** 0.5 * 1.05


def test_each_step_draws_fresh_noise(streams: Callable[..., Any]) -> None:
    layer, shared = DpSgd(), streams(0)
    arguments = (torch.zeros(1, 1, 1, 8), torch.ones(1, 1, 1), torch.ones(1, 1), shared)
    assert not torch.equal(layer.gradient(*arguments), layer.gradient(*arguments))
    assert set(shared.purposes) == {"dp-sgd"}


def test_without_noise_and_with_a_huge_clip_norm_it_is_the_mean(streams: Callable[..., Any]) -> None:
    per_sample = gradients(2, 3, 6, 10)
    layer = DpSgd(noise_multiplier=0.0, clip_norm=1e6)
    result = layer.gradient(per_sample, torch.ones(2, 3, 6), torch.full((2, 3), 6.0), streams(0, 1))
    assert torch.allclose(result, per_sample.mean(dim=2), atol=1e-6)


def test_all_at_once_equals_the_loop_over_lanes_bit_for_bit(streams: Callable[..., Any]) -> None:
    per_sample = gradients(4, 3, 8, 37, scale=3.0)
    mask = (gradients(4, 3, 8, seed=9) > 0).float()
    expected = torch.full((4, 3), 4.0)
    layer = DpSgd(noise_multiplier=1.0, clip_norm=2.0)
    at_once = layer.gradient(per_sample, mask, expected, streams(*range(4)))
    for lane in range(4):
        cut = slice(lane, lane + 1)
        single = layer.gradient(per_sample[cut].clone(), mask[cut], expected[cut], streams(lane))
        assert torch.equal(at_once[lane], single[0])


@pytest.mark.parametrize(
    "values",
    [
        {"clip_norm": 0.0},
        {"clip_norm": float("inf")},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": float("nan")},
        {"delta": 0.0},
        {"delta": 1.0},
    ],
)
def test_impossible_parameters_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        DpSgd(**values)


def test_batches_of_a_fixed_size_are_refused(make_pipeline: Callable[..., Any]) -> None:
    with pytest.raises(IncompatibleStack, match=r"fixed size.*poisson"):
        DpSgd().check(make_pipeline(batch_size=4))
    DpSgd().check(make_pipeline(batch_size=4, sampling="poisson"))
    DpSgd().check(make_pipeline())


def test_epochs_are_accepted_and_calibrated_like_full_batches(make_pipeline: Callable[..., Any]) -> None:
    shuffled, full = make_pipeline(batch_size=4, epochs=3), make_pipeline(local_steps=3)
    layer = DpSgd(target_epsilon=4.0)
    layer.check(shuffled)
    found = [layer.calibrated(pipeline, (10, 10, 10)).noise_multiplier for pipeline in (shuffled, full)]
    assert found[0] == found[1]


def test_it_is_a_public_value() -> None:
    layer = DpSgd(clip_norm=0.5, noise_multiplier=2.0, delta=1e-4)
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert hash(layer) == hash(DpSgd(clip_norm=0.5, noise_multiplier=2.0, delta=1e-4))
    assert layer_from_config(layer.to_config()) == layer
