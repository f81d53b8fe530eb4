"""A client's experiment randomness: its own draws of the run's streams, or the operating system's."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
import torch

from qflsec.federation import Streams
from qflsec.federation.streams import RoundStreams

__all__ = ["DeployedStreams", "LabStreams"]

_BITS = 53


class LabStreams(Streams):
    """What one client draws in a run of the training loop with the same seed, bit for bit.

    Args:
        seed: The seed.
        round_index: The round.
        index: The client.
        n_clients: The number of clients.
    """

    def __init__(self, seed: int, round_index: int, index: int, n_clients: int) -> None:
        self._all = RoundStreams([seed], round_index)
        self._index, self._n = index, n_clients

    def normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal draws ``(1, 1, P)``: this client's row of everybody's."""
        return self._all.normal(purpose, (self._n, *shape[1:]))[:, self._index : self._index + 1]

    def uniform(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Uniform draws in [0, 1) ``(1, 1, P)``."""
        return self._all.uniform(purpose, (self._n, *shape[1:]))[:, self._index : self._index + 1]


class DeployedStreams(Streams):
    """Draws from the operating system: nobody can make them again.

    Normal draws come from uniform ones by the Box-Muller transform, in double precision: those of a real number that is
    rounded to a double, which proofs of differential privacy take for the real number itself.

    Source:
        Box, Muller: A note on the generation of random normal deviates, Ann. Math. Statist. 29(2), 1958.
    """

    def uniform(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Uniform draws in [0, 1), multiples of ``2^-53``."""
        size = math.prod(shape)
        words = np.frombuffer(os.urandom(8 * size), np.uint64) >> np.uint64(64 - _BITS)
        return torch.from_numpy(words * 2.0**-_BITS).reshape(1, *shape)

    def normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal draws."""
        radius = torch.sqrt(-2.0 * torch.log1p(-self.uniform(purpose, shape)))
        angle = 2.0 * math.pi * self.uniform(purpose, shape)
        drawn: torch.Tensor = radius * torch.cos(angle)
        return drawn
