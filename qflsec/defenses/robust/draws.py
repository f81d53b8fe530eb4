"""Randomness of rules: from a generator that the caller gives, of NumPy or torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError
from qflsec.defenses.robust.rows import Array

__all__ = ["Generator", "normal", "permutation", "uniform"]

Generator = np.random.Generator | torch.Generator
"""A seeded generator; a rule gives the same result for the same state."""


def permutation(n: int, generator: Generator) -> npt.NDArray[np.int64]:
    """A random order of ``n`` things.

    Raises:
        ConfigError: The generator is none.
    """
    if isinstance(generator, torch.Generator):
        return np.asarray(torch.randperm(n, generator=generator).numpy())
    return _checked(generator).permutation(n)


def normal(d: int, generator: Generator) -> Array:
    """Standard normal numbers in double precision.

    Raises:
        ConfigError: The generator is none.
    """
    if isinstance(generator, torch.Generator):
        return np.asarray(torch.randn(d, generator=generator, dtype=torch.float64).numpy())
    return _checked(generator).standard_normal(d)


def uniform(shape: tuple[int, ...], generator: Generator) -> Array:
    """Numbers drawn evenly between 0 and 1 in double precision.

    Raises:
        ConfigError: The generator is none.
    """
    if isinstance(generator, torch.Generator):
        return np.asarray(torch.rand(shape, generator=generator, dtype=torch.float64).numpy())
    return _checked(generator).random(shape)


def _checked(generator: np.random.Generator) -> np.random.Generator:
    given: object = generator  # a caller need not be typed
    if not isinstance(given, np.random.Generator):
        raise ConfigError(
            "the rule draws at random and needs a generator",
            got=type(given).__name__,
            expected="a numpy.random.Generator or a torch.Generator",
            fix="pass generator=numpy.random.default_rng(seed)",
        )
    return given
