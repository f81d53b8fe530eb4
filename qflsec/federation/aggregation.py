"""FedAvg: the weighted mean, the rule of a stack that names no other."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.base import DefenseCard, Source, register
from qflsec.federation.layers import AggregatorLayer
from qflsec.federation.updates import RoundUpdates, SummedUpdates

__all__ = ["FedAvg", "weighted_mean"]


def weighted_mean(
    updates: torch.Tensor, weights: torch.Tensor, sent: torch.Tensor | None = None
) -> torch.Tensor:
    """The weighted mean of rows, accumulated in double precision.

    Args:
        updates: The rows.
        weights: What each counts.
        sent: Which entries of each row count; a column without any is 0. All by default.

    Shapes:
        updates: ``(n, P)``; weights: ``(n,)``; sent: ``(n, P)``, boolean; returns: ``(P,)``
    """
    wide = weights.double()
    if sent is not None:
        each = wide[:, None] * sent
        total = each.sum(dim=0)
        mean = (updates.double() * each).sum(dim=0) / total
        return torch.where(total > 0, mean, 0.0).to(updates.dtype)
    return ((updates.double() * wide[:, None]).sum(dim=0) / wide.sum()).to(updates.dtype)


@register("layer", "fedavg")
@dataclass(frozen=True, kw_only=True)
class FedAvg(AggregatorLayer):
    """The mean of the updates, weighted by the number of examples."""

    card = DefenseCard(
        name="fedavg",
        idea="Mean of the updates, weighted by the number of examples.",
        source=Source(paper="McMahan et al., AISTATS 2017, arXiv:1602.05629", year=2017, where="Algorithm 1"),
        claim="No protection: the baseline rule.",
        assumption="none",
        hides="nothing",
        does_not=("It does not bound what a single client can do to the model.",),
        cost="one mean",
    )
    accepts = frozenset({"individual", "sum", "nothing"})
    topologies = None
    linear = True
    parts = True

    def start(self, n_params: int) -> object:
        """No state."""
        return None

    def aggregate(self, batch: RoundUpdates | SummedUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The weighted mean, or the mean that secure aggregation opened."""
        if isinstance(batch, SummedUpdates):
            return batch.mean, None
        return weighted_mean(batch.updates, batch.counts, batch.sent), None
