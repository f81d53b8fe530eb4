"""Three kinds of randomness, kept apart.

*Experiment* randomness (data, initial values, batches, measurement outcomes) is seeded: one stream for
each (seed, purpose), derived by hashing, so that no run shares a stream with another and a batch of runs
draws exactly what each run draws alone. *Secrets* (keys, masks, nonces) come from the operating system
through :class:`Secrets`; a seeded source exists for tests and is branded as such. *DP noise* is drawn
from an experiment stream in the lab, and the ledger says so.
"""

from __future__ import annotations

import hashlib
import secrets as _os_secrets
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["OsSecrets", "Secrets", "SeededSecrets", "draw_anew", "numpy_stream", "stream", "stream_seed"]


def stream_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose of one run.

    Args:
        seed: The run's seed.
        purpose: What the stream is for, from the general to the particular.
    """
    text = "\x1f".join([str(int(seed)), *(f"{type(part).__name__}:{part}" for part in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *purpose: str | int) -> torch.Generator:
    """A torch generator for one purpose of one run."""
    import torch

    generator = torch.Generator()
    generator.manual_seed(stream_seed(seed, *purpose))
    return generator


def numpy_stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator for one purpose of one run."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(stream_seed(seed, *purpose)))


def draw_anew() -> None:
    """Seed the generators that a copy of a process (fork) has of its original, from the system's entropy.

    A process that starts anew has its own; copies would all draw the same, and with it the same noise, where a user's code or
    a library draws from NumPy's or torch's own generator. Python's does this by itself.
    """
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].seed()


class Secrets(Protocol):
    """A source of secret bytes; ``seeded`` brands everything that is made from it."""

    @property
    def seeded(self) -> bool:
        """Whether the bytes can be reproduced, and so protect nothing."""

    def draw(self, n_bytes: int) -> bytes:
        """The next ``n_bytes`` secret bytes."""


class OsSecrets:
    """Secret bytes of the operating system."""

    @property
    def seeded(self) -> bool:
        """Always false."""
        return False

    def draw(self, n_bytes: int) -> bytes:
        """The next ``n_bytes`` secret bytes."""
        return _os_secrets.token_bytes(n_bytes)


class SeededSecrets:
    """Reproducible bytes for tests and lab runs; they protect nothing.

    Args:
        seed: The run's seed.
        purpose: What the source is for.
    """

    def __init__(self, seed: int, *purpose: str | int) -> None:
        self._key = stream_seed(seed, "secrets", *purpose).to_bytes(8, "big")
        self._counter = 0

    @property
    def seeded(self) -> bool:
        """Always true."""
        return True

    def draw(self, n_bytes: int) -> bytes:
        """The next ``n_bytes`` bytes of the stream."""
        label = self._key + self._counter.to_bytes(8, "big")
        self._counter += 1
        return hashlib.shake_256(label).digest(n_bytes)
