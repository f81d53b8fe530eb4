"""How the leading axes of weights and features fall into rows and samples for the compiled kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from qflsec.circuits.errors import CircuitError

__all__ = ["Layout", "lay_out"]

Numbers = npt.NDArray[Any]
FEW = 4
"""Rows with fewer samples than this share blocks."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The broadcast axes of weights and features.

    Attributes:
        rows: The leading axes.
        samples: The trailing axes, along which all samples have one row of weights.
        distinct: For each row, which of the distinct rows of weights it has.
        apart: Whether the weights have an axis of samples, whose gradients stay apart.
        own_features: Whether features differ between rows.
        pick: What picks the distinct rows of weights; None where it is all of them.
        spread: The features' own axes of samples where they have to be expanded; None where they need not be.
    """

    rows: tuple[int, ...]
    samples: tuple[int, ...]
    distinct: npt.NDArray[np.int64]
    apart: bool
    own_features: bool
    pick: tuple[slice, ...] | None
    spread: tuple[int, ...] | None

    def weights_of(self, weights: Tensor) -> Numbers:
        """The distinct rows of weights ``(D, P)``."""
        own = weights.detach() if self.pick is None else weights.detach()[self.pick]
        return _array(own)

    def features_of(self, features: Tensor) -> Numbers:
        """The features ``(samples, F)``, of one row or of all."""
        features = features.detach()
        if self.spread is not None:
            size = features.shape[-1]
            if self.own_features:
                features = features.expand(*self.axes, size)
            else:
                features = features.reshape(*self.spread, size).expand(*self.samples, size)
        return _array(features)

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """All leading axes."""
        return self.rows + self.samples

    @cached_property
    def n_rows(self) -> int:
        """The number of rows."""
        return math.prod(self.rows)

    @cached_property
    def n_samples(self) -> int:
        """The samples of a row."""
        return math.prod(self.samples)

    @cached_property
    def shared(self) -> bool:
        """Whether blocks keep to one row; it follows from a row's own samples alone."""
        return self.n_samples >= FEW

    def n_blocks(self, width: int) -> int:
        """The blocks of so many lanes."""
        if self.shared:
            return self.n_rows * -(-self.n_samples // width)
        return -(-self.n_rows * self.n_samples // width)


def _array(tensor: Tensor) -> Numbers:
    """Rows of numbers, contiguous: by NumPy, whose calls take a fraction of torch's."""
    numbers = np.ascontiguousarray(tensor.numpy())
    return numbers.reshape(math.prod(numbers.shape[:-1]), numbers.shape[-1])


@lru_cache(maxsize=1024)
def lay_out(w_shape: tuple[int, ...], w_strides: tuple[int, ...], f_shape: tuple[int, ...]) -> Layout:
    """The layout of weights ``(..., P)`` with these strides and features ``(..., F)``.

    An axis along which weights were expanded counts as one of samples: their angles are computed once.

    Raises:
        CircuitError: The axes do not broadcast, or the batch is empty.
    """
    count = max(len(w_shape), len(f_shape)) - 1
    missing = count - len(w_shape) + 1
    w_axes = (1,) * missing + w_shape[:-1]
    f_axes = (1,) * (count - len(f_shape) + 1) + f_shape[:-1]
    if any(w != f and 1 not in (w, f) for w, f in zip(w_axes, f_axes, strict=True)):
        raise CircuitError("weights and features do not broadcast", got=f"{w_shape} and {f_shape}")
    axes = tuple(f if w == 1 else w for w, f in zip(w_axes, f_axes, strict=True))
    if 0 in axes:
        raise CircuitError("an empty batch", got=f"weights {w_shape}, features {f_shape}")
    strides = (0,) * missing + w_strides[:-1]
    own = tuple(1 if stride == 0 else size for size, stride in zip(w_axes, strides, strict=True))
    cut = count
    while cut and own[cut - 1] == 1:
        cut -= 1
    rows, samples = axes[:cut], axes[cut:]
    distinct = np.arange(math.prod(own))
    if own[:cut] != rows:
        distinct = np.broadcast_to(distinct.reshape(own[:cut]), rows).reshape(-1)
    pick = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in strides[missing:])
    own_features = math.prod(f_axes[:cut]) != 1
    return Layout(
        rows=rows,
        samples=samples,
        distinct=np.ascontiguousarray(distinct),
        apart=any(size > 1 for size in w_axes[cut:]),
        own_features=own_features,
        pick=pick if own != w_axes else None,
        spread=None
        if f_axes[0 if own_features else cut :] == (axes if own_features else samples)
        else f_axes[cut:],
    )
