"""Adversarial training: clients learn from records that are moved against the model as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.base import ConfigError, DefenseCard, Source, finite, register
from qflsec.defenses.evasion.ascent import feature_gradient, within_budget
from qflsec.federation import Pipeline, RecordLayer

__all__ = ["AdversarialTraining"]


@register("layer", "adversarial-training")
@finite
@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(RecordLayer):
    """At every local step, covered clients move their records up the loss and train on the moved ones.

    The steps are those of projected gradient descent without a random start: signed, ``2.5 epsilon / steps`` long, and
    one of length epsilon where there is only one. Clients compute them on an exact simulation of the circuit, also where
    they execute it with noise or shots. Moved records depend on the record and the received model alone, so that a
    clipped gradient is still that of one record.

    Attributes:
        epsilon: How far each feature may be moved.
        coverage: The fraction of clients that do so, spread evenly over their indices; the rest train as they are.
        steps: Gradient steps on the records.

    Units:
        epsilon: that of the features, radians for angles

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="adversarial-training",
        idea="Clients train on records that are moved against the model by gradient steps.",
        source=Source(
            paper="El Maouaki et al.: QFAL: quantum federated adversarial learning, arXiv:2502.21171; Madry et al., "
            "ICLR 2018, arXiv:1706.06083 (the steps)",
            year=2025,
            where="abstract: local adversarial examples with federated averaging, on 0 to 100 % of the clients",
        ),
        claim="None that is proved: the model is trained to answer well within the budget.",
        assumption="heuristic",
        hides="nothing",
        does_not=(
            "It does not certify any record.",
            "It does not stop corrupted clients, which leave it out.",
            "It does not stop a larger budget than it trains for.",
        ),
        cost="a gradient in the features for every step on every record, and accuracy on records that nobody moved",
    )

    topologies = None

    epsilon: float = 0.3
    coverage: float = 1.0
    steps: int = 5

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not self.epsilon > 0:
            raise ConfigError("'epsilon' is not positive", got=self.epsilon)
        if not 0 <= self.coverage <= 1:
            raise ConfigError("'coverage' is a fraction", got=self.coverage, expected="from 0 to 1")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ConfigError("too few 'steps'", got=self.steps, expected="a whole number from 1")

    def covered(self, client: int) -> bool:
        """Whether a client trains on moved records; of the first n it is ``floor(coverage n)``."""
        # a product such as 0.7 * 10 falls short of its whole number by rounding
        before, after = (math.floor(self.coverage * n + 1e-9) for n in (client, client + 1))
        return after > before

    def records(
        self,
        pipeline: Pipeline,
        params: torch.Tensor,
        features: torch.Tensor,
        labels: torch.Tensor,
        clients: Sequence[int],
    ) -> torch.Tensor:
        """The records, moved for the clients that are covered."""
        places = [place for place, client in enumerate(clients) if self.covered(client)]
        if not places:
            return features
        model, (low, high) = pipeline.model, pipeline.data.feature_range
        weights, right = params[:, places, None, :].detach(), labels[:, places]
        original = features[:, places]
        moved, size = original, self.epsilon * min(1.0, 2.5 / self.steps)
        for _ in range(self.steps):
            _, slope = feature_gradient(lambda x: model.loss.per_sample(model(weights, x), right), moved)
            moved = within_budget(moved + size * torch.sign(slope), original, self.epsilon, low, high)
        changed = features.clone()
        changed[:, places] = moved
        return changed
