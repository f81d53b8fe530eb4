"""Who holds which blocks of features, where clients hold some of them each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qflsec.data.blocks import feature_blocks
from qflsec.data.loading import Dataset

__all__ = ["Holdings", "client_holdings"]


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """The blocks of features that clients hold.

    Attributes:
        blocks: The block that each feature is made from.
        held: How many blocks each kind of client holds: kind m holds the blocks m, m + 1, ..., counted round.
        clients: The kind of each client; of one without records, 0.
        fill: What stands in for features that are not held, as far as it is public: the middle of published ranges, or the
            mean of the auxiliary records.

    Shapes:
        blocks: ``(F,)``; fill: ``(F,)``
    """

    blocks: torch.Tensor
    held: int
    clients: tuple[int, ...]
    fill: torch.Tensor

    @property
    def n_kinds(self) -> int:
        """How many kinds of clients there are: as many as blocks."""
        return int(self.blocks.max()) + 1

    def of(self, kind: int) -> torch.Tensor:
        """Which features a kind of client holds.

        Shapes:
            returns: ``(F,)``, boolean
        """
        return (self.blocks - kind) % self.n_kinds < self.held

    def lacks(self, kind: int, block: int) -> bool:
        """Whether a kind of client does not hold a block."""
        return (block - kind) % self.n_kinds >= self.held


def client_holdings(dataset: Dataset, clients: Sequence[torch.Tensor]) -> Holdings | None:
    """What each client of a data set holds; None where everybody holds everything.

    Args:
        dataset: The data.
        clients: The rows of each client.
    """
    spec, kinds = dataset.spec, dataset.holdings
    if kinds is None:
        return None
    assert spec.held_blocks is not None
    fill = dataset.features[dataset.auxiliary_idx].mean(dim=0)
    if spec.preprocessing == "fixed-range":
        fill = torch.full_like(fill, sum(spec.feature_range) / 2)
    return Holdings(
        blocks=torch.from_numpy(feature_blocks(spec).astype(np.int64)),
        held=spec.held_blocks,
        clients=tuple(int(kinds[rows[0]]) if len(rows) else 0 for rows in clients),
        fill=fill,
    )
