"""What tests of published claims share: twenty records a client, and means over seeds with their intervals."""

from __future__ import annotations

import torch
from scipy import stats

from qflsec.data import DataSpec

__all__ = ["BREAST_CANCER", "told"]

BREAST_CANCER = DataSpec(
    name="breast-cancer", n_features=4, balanced=True, members=200, nonmembers=0, auxiliary=80, test=140
)


def told(name: str, values: torch.Tensor) -> list[tuple[float, float]]:
    """Print the means over seeds with 95 % t intervals; the intervals.

    Shapes:
        values: ``(seed, n)``
    """
    count = len(values)
    means = values.mean(dim=0)
    half = stats.t.ppf(0.975, count - 1) * values.std(dim=0) / count**0.5
    found = [(float(mean - width), float(mean + width)) for mean, width in zip(means, half, strict=True)]
    print(  # noqa: T201
        name,
        *(f"{mean:.3f} [{low:.3f}, {high:.3f}]" for mean, (low, high) in zip(means, found, strict=True)),
    )
    return found
