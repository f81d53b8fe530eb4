"""Metrics that clients upload: what stands in an update behind its parameters, and what a server does with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.circuits import Circuit
from qflsec.federation.natural_gradient import NaturalGradient
from qflsec.models.natural_gradient import (
    mean_metric,
    metric_entries,
    metric_of,
    metric_places,
    precondition,
    within_limits,
    without_negative,
)

__all__ = ["UploadedMetric"]


@dataclass(frozen=True, kw_only=True)
class UploadedMetric:
    """The metrics of a pipeline whose server preconditions.

    Attributes:
        circuit: The model's circuit.
        natural: The natural gradient.
        dtype: Complex, of the simulated states.
    """

    circuit: Circuit
    natural: NaturalGradient
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """How many numbers a metric is, M: the entries on and above the diagonal, of its blocks alone where it has some."""
        return len(metric_places(self.circuit, self.natural.metric)[0])

    def made(self, models: torch.Tensor, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The entries of the mean metric of every client's records, at the model that it received.

        Args:
            models: The models.
            features: The clients' records, padded alike.
            mask: 1 for a record, 0 for padding.

        Shapes:
            models: ``(lane, client, P)``; features: ``(lane, client, B, F)``; mask: ``(lane, client, B)``;
            returns: ``(lane, client, M)``
        """
        weights = mask / mask.sum(dim=-1, keepdim=True).clamp(min=1.0)
        metric = mean_metric(self.circuit, models, features, weights, dtype=self.dtype)
        return metric_entries(self.circuit, metric, self.natural.metric).to(models.dtype)

    def limited(self, entries: torch.Tensor) -> torch.Tensor:
        """Entries of the nearest things to clients' metrics that the circuit can have.

        Shapes:
            entries: ``(n, M)``; returns the same, in double precision
        """
        metric = metric_of(self.circuit, entries.double(), self.natural.metric)
        return metric_entries(self.circuit, within_limits(self.circuit, metric), self.natural.metric)

    def step(
        self, step: torch.Tensor, entries: torch.Tensor, counts: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The mean plain step, preconditioned by the mean metric.

        Args:
            step: The mean of the clients' steps.
            entries: The entries of each client's metric, or of their mean.
            counts: The number of examples of each client; None where the entries are a mean already.

        Shapes:
            step: ``(P,)``; entries: ``(n, M)`` with counts ``(n,)``, or ``(M,)``; returns: ``(P,)``
        """
        mean = entries.double()
        if counts is not None:
            weights = counts.double()
            if self.natural.bounded:
                mean = self.limited(mean)
            mean = (mean * weights[:, None]).sum(dim=0) / weights.sum()
        kind, damping = self.natural.metric, self.natural.damping
        metric = without_negative(metric_of(self.circuit, mean, kind))
        return precondition(self.circuit, metric, step, kind=kind, damping=damping)
