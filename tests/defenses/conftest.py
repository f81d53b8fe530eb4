"""Streams and ledger contexts for layers that are tested without the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
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


@pytest.fixture
def streams() -> Callable[..., FakeStreams]:
    return lambda *seeds: FakeStreams(seeds)


@pytest.fixture
def context(ledger_context: Callable[..., LedgerContext]) -> Callable[..., LedgerContext]:
    """A small run: 10 clients with 8 records, 15 rounds of one full step, seen by the server."""
    return partial(ledger_context, name="server", additive=True)


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
