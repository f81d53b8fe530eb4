"""Streams and ledger contexts for layers that are tested without the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from qflsec.accounting import LedgerContext
from qflsec.federation import RoundUpdates, Streams


class FakeStreams(Streams):
    """One generator for each lane; notes for which purposes it was asked."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.purposes: list[str] = []

    def normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        self.purposes.append(purpose)
        return torch.stack([torch.randn(tuple(shape), generator=g) for g in self._generators])

    def uniform(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        self.purposes.append(purpose)
        return torch.stack([torch.rand(tuple(shape), generator=g) for g in self._generators])


@dataclass(frozen=True, kw_only=True)
class AdditiveContext(LedgerContext):
    """A context that also says whether releases are sums of single noisy gradients."""

    additive: bool = True


@pytest.fixture
def streams() -> Callable[..., FakeStreams]:
    return lambda *seeds: FakeStreams(seeds)


@pytest.fixture
def context() -> Callable[..., LedgerContext]:
    """A small run: 10 clients with 8 records, 15 rounds of one full step, seen by the server."""
    base = AdditiveContext(
        observer="server",
        corrupted=frozenset(),
        server=True,
        wire=False,
        sees_updates=True,
        sees_aggregates=True,
        sees_model=True,
        smallest_k=1,
        n_clients=10,
        counts=(8,) * 10,
        rounds=15,
        local_steps=1,
        batch_size=None,
        sampling="full",
        participation=1.0,
        n_params=36,
        fitted_on="auxiliary",
        seeded_secrets=False,
        seeded_noise=False,
    )
    return lambda **changes: replace(base, **changes)


@pytest.fixture
def round_updates() -> Callable[..., RoundUpdates]:
    def make(updates: torch.Tensor, counts: Sequence[float] | None = None, **changes: Any) -> RoundUpdates:
        n, n_params = updates.shape
        values: dict[str, Any] = {
            "round": 0,
            "updates": updates,
            "counts": torch.tensor(list(counts) if counts else [1.0] * n),
            "ids": tuple(range(n)),
            "broadcast": torch.zeros(n_params),
            "periods": (None,) * n_params,
            "f": 1,
            "generator": torch.Generator().manual_seed(0),
        }
        return RoundUpdates(**{**values, **changes})

    return make
