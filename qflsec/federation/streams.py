"""Experiment randomness of a batch: one generator per (run, purpose, round), never one per batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from qflsec.base import stream

__all__ = ["RoundStreams", "Streams"]


class Streams(ABC):
    """Experiment randomness for the runs of a batch: one stream per (run, purpose, round)."""

    @abstractmethod
    def normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal draws.

        Shapes:
            returns: ``(lanes, *shape)``
        """

    @abstractmethod
    def uniform(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Uniform draws in [0, 1).

        Shapes:
            returns: ``(lanes, *shape)``
        """


class RoundStreams(Streams):
    """The streams of one round.

    Args:
        seeds: The seed of each run of the batch.
        round_index: The round.
        device: Where draws end up; they are always made on the CPU, so that devices agree.
    """

    def __init__(self, seeds: Sequence[int], round_index: int, device: torch.device | None = None) -> None:
        self._seeds = tuple(seeds)
        self.round = round_index
        self._device = device
        self._generators: dict[tuple[int, str], torch.Generator] = {}

    def generator(self, lane: int, purpose: str) -> torch.Generator:
        """The generator of one run for one purpose; it goes on within the round."""
        key = (lane, purpose)
        if key not in self._generators:
            self._generators[key] = stream(self._seeds[lane], purpose, self.round)
        return self._generators[key]

    def normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal draws ``(lane, *shape)``."""
        return self._stack(
            [torch.randn(tuple(shape), generator=self.generator(lane, purpose)) for lane in self._lanes]
        )

    def uniform(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Uniform draws in [0, 1) ``(lane, *shape)``."""
        return self._stack(
            [torch.rand(tuple(shape), generator=self.generator(lane, purpose)) for lane in self._lanes]
        )

    @property
    def _lanes(self) -> range:
        return range(len(self._seeds))

    def _stack(self, draws: list[torch.Tensor]) -> torch.Tensor:
        stacked = torch.stack(draws)
        return stacked if self._device is None else stacked.to(self._device)
