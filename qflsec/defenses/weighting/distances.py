"""Weights from distances: clients whose updates lie near those of others count more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.weighting.base import WeightedRule
from qflsec.federation import RoundUpdates, affinities

__all__ = ["DistanceWeighted", "distance_weights"]

Metric = Literal["euclidean", "cosine", "cityblock"]


def distance_weights(
    updates: torch.Tensor, counts: torch.Tensor, *, beta: float, metric: Metric
) -> torch.Tensor:
    """The weight of each client in the mean of the personal models that all clients would make.

    The personal model of client k has weights ``a_kj ~ n_j exp(-beta d_kj / d)``, where d is the mean distance of a round;
    the mean over k of these models is one model, with the mean over k of ``a_kj`` as the weight of client j.

    Args:
        updates: A row for each client.
        counts: The numbers of examples.
        beta: How fast a weight falls with the distance.
        metric: The distance; a row of zeros has cosine distance 1 from all others.

    Shapes:
        updates: ``(n, P)``; counts: ``(n,)``; returns: ``(n,)``, double
    """
    return torch.from_numpy(affinities(updates, counts, beta=beta, metric=metric).mean(axis=0))


@register("layer", "distance-weighted")
@dataclass(frozen=True, kw_only=True)
class DistanceWeighted(WeightedRule):
    """The mean of the updates, weighted by the number of examples and by how near other updates are.

    Attributes:
        metric: The distance between two updates.
        beta: How fast a weight falls with the distance, in units of the mean distance of a round; 0 is FedAvg, bit for bit.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="distance-weighted",
        idea="The server weighs clients by how near their updates lie to those of the others.",
        source=Source(
            paper="Gurung, Pokhrel: wpQFL, IEEE Transactions on Artificial Intelligence 6, 2025",
            year=2025,
            where="after its Euclidean, cosine and Manhattan weights, which make a model for each client; here the mean "
            "of those models, with a softmin of distances",
        ),
        claim="An update far from all others counts less.",
        assumption="heuristic",
        hides="nothing",
        does_not=(
            "It does not stop corrupted clients that send the same update.",
            "It does not keep honest clients whose data point elsewhere.",
            "It does not bound the length of an update.",
        ),
        cost="all distances; the server needs individual updates",
    )

    metric: Metric = "euclidean"
    beta: float = 1.0

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric):
            raise ConfigError(
                "unknown 'metric'", got=repr(self.metric), expected=" or ".join(map(repr, get_args(Metric)))
            )
        if self.beta < 0:
            raise ConfigError("'beta' is out of range", got=self.beta, expected="0 or more")

    def weights(self, batch: RoundUpdates) -> torch.Tensor:
        """The mean over clients of what each would weigh the others by."""
        if self.beta == 0:
            return batch.counts.double()
        return distance_weights(batch.updates, batch.counts, beta=self.beta, metric=self.metric)
