"""Clipping: the bound holds for every vector, and what needs no clipping is not touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.defenses.clipping import clip_to_norm


def norms(vectors: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1, dtype=torch.float64)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    log_scale=st.floats(-20, 30),
    bound=st.floats(1e-6, 1e6),
    n_params=st.integers(1, 300),
)
def test_no_norm_exceeds_the_bound(seed: int, log_scale: float, bound: float, n_params: int) -> None:
    draws = np.random.default_rng(seed).normal(size=(5, n_params)) * 10.0**log_scale
    vectors = torch.from_numpy(np.clip(draws, -3e38, 3e38).astype(np.float32))
    clipped = clip_to_norm(vectors, bound)
    assert bool((norms(clipped) <= bound).all())
    short = norms(vectors) <= bound
    assert torch.equal(clipped[short], vectors[short])
    long = norms(vectors) > bound
    assert torch.allclose(
        norms(clipped)[long], torch.tensor(bound, dtype=torch.float64), rtol=1e-5, atol=1e-40
    )


def test_direction_is_kept() -> None:
    vectors = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    clipped = clip_to_norm(vectors, 0.1)
    assert torch.allclose(torch.nn.functional.cosine_similarity(clipped, vectors), torch.ones(4), atol=1e-6)


def test_the_naive_scale_exceeds_the_bound() -> None:
    """The control: without the margin, rounding puts some norms above the bound."""
    vectors = torch.randn(2000, 36, generator=torch.Generator().manual_seed(2))
    naive = vectors * (1.0 / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True))
    assert bool((norms(naive) > 1.0).any())
    assert bool((norms(clip_to_norm(vectors, 0.5)) <= 0.5).all())


def test_zero_vectors_and_zero_bounds() -> None:
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch.equal(clip_to_norm(vectors, 1.0)[0], torch.zeros(2))
    assert torch.equal(clip_to_norm(vectors, 0.0), torch.zeros(2, 2))


def test_a_bound_for_each_vector() -> None:
    vectors = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]])
    clipped = clip_to_norm(vectors, torch.tensor([1.0, 2.5, 50.0]))
    assert norms(clipped).tolist() == pytest.approx([1.0, 2.5, 5.0], rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_at_once_equals_the_loop_bit_for_bit(dtype: torch.dtype) -> None:
    vectors = torch.randn(4, 10, 37, generator=torch.Generator().manual_seed(3)).to(dtype)
    at_once = clip_to_norm(vectors, 3.0)
    assert at_once.dtype == dtype
    for lane in range(4):
        assert torch.equal(at_once[lane], clip_to_norm(vectors[lane : lane + 1].clone(), 3.0)[0])
        for index in range(10):
            assert torch.equal(at_once[lane, index], clip_to_norm(vectors[lane, index].clone(), 3.0))
