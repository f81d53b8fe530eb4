"""How the leading axes of weights and features fall into rows and samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from qflsec.circuits.errors import CircuitError

__all__ = ["Batch", "fold"]


@dataclass(frozen=True)
class Batch:
    """The broadcast axes of weights and features.

    Attributes:
        rows: The leading axes.
        samples: The trailing axes, along which the weights have size 1.
        distinct: The weights' own sizes along the row axes.
    """

    rows: tuple[int, ...]
    samples: tuple[int, ...]
    distinct: tuple[int, ...]

    def spread(self, values: Tensor) -> Tensor:
        """One entry for each row, from one for each distinct row of weights; a single one stays single."""
        if self.distinct == self.rows or values.size(0) == 1:
            return values
        shape = values.shape[1:]
        return (
            values.reshape(*self.distinct, *shape)
            .expand(*self.rows, *shape)
            .reshape(math.prod(self.rows), *shape)
        )

    def gather(self, gradients: Tensor, rows: int) -> Tensor:
        """The adjoint of :meth:`spread`, to ``rows`` entries."""
        if gradients.size(0) == rows:
            return gradients
        axes = [
            axis for axis, (own, all_) in enumerate(zip(self.distinct, self.rows, strict=True)) if own != all_
        ]
        shape = gradients.shape[1:]
        return gradients.reshape(*self.rows, *shape).sum(axes).reshape(rows, *shape)

    def unfold(self, values: Tensor) -> Tensor:
        """``(rows or 1, K, samples or 1)`` -> ``(..., K)``."""
        rows, size, samples = values.shape
        if size > 1:
            values = values.transpose(1, 2)
        if rows * samples != math.prod(self.rows) * math.prod(self.samples):
            values = values.reshape(rows, samples, size).expand(
                math.prod(self.rows), math.prod(self.samples), size
            )
        return values.reshape(*self.rows, *self.samples, size)


def fold(weights: Tensor, features: Tensor) -> tuple[Batch, Tensor, Tensor]:
    """Split the axes, flatten weights to (distinct rows, P, 1) and features to (rows or 1, F, samples).

    Raises:
        CircuitError: The axes do not broadcast, or the batch is empty.
    """
    w_axes, f_axes = tuple(weights.shape[:-1]), tuple(features.shape[:-1])
    count = max(len(w_axes), len(f_axes))
    w_axes, f_axes = (1,) * (count - len(w_axes)) + w_axes, (1,) * (count - len(f_axes)) + f_axes
    if any(w != f and 1 not in (w, f) for w, f in zip(w_axes, f_axes, strict=True)):
        raise CircuitError(
            "weights and features do not broadcast", got=f"{tuple(weights.shape)} and {tuple(features.shape)}"
        )
    axes = tuple(f if w == 1 else w for w, f in zip(w_axes, f_axes, strict=True))
    if 0 in axes:
        raise CircuitError(
            "an empty batch", got=f"weights {tuple(weights.shape)}, features {tuple(features.shape)}"
        )
    cut = count
    while cut and w_axes[cut - 1] == 1:
        cut -= 1
    batch = Batch(axes[:cut], axes[cut:], w_axes[:cut])
    if math.prod(f_axes[:cut]) == 1:
        features = features.reshape(1, math.prod(batch.samples), features.shape[-1])
    else:
        flat = math.prod(batch.rows), math.prod(batch.samples), features.shape[-1]
        features = features.expand(*axes, -1).reshape(flat)
    return (
        batch,
        weights.reshape(math.prod(batch.distinct), weights.shape[-1], 1),
        features.transpose(1, 2).contiguous(),
    )
