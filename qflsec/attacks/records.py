"""Choosing own records to tamper with."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["drawn_records"]


def drawn_records(
    present: torch.Tensor,
    fraction: float,
    generators: Sequence[torch.Generator],
    among: torch.Tensor | None = None,
) -> torch.Tensor:
    """Some of each client's records, without replacement, each lane by its own stream.

    Args:
        present: 1 for a record, 0 for padding.
        fraction: The fraction of a client's records; rounded, and at least one record where there is any.
        generators: One for each lane.
        among: Only these may be drawn; the fraction is one of all records all the same, and all are taken where they
            are fewer.

    Shapes:
        present, among: ``(lane, m, N)``; returns the same, boolean
    """
    chosen = torch.zeros(present.shape, dtype=torch.bool)
    for lane, generator in enumerate(generators):
        for row, mask in enumerate(present[lane]):
            eligible = mask > 0 if among is None else (mask > 0) & among[lane, row]
            records = torch.nonzero(eligible).flatten()
            order = torch.randperm(len(records), generator=generator)
            count = max(1, round(fraction * int((mask > 0).sum())))
            chosen[lane, row, records[order[:count]]] = True
    return chosen
