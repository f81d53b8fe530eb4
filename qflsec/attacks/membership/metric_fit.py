"""Metric fit: which records a mean of metrics is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import MembershipChallenge, MembershipClaim
from qflsec.attacks.needs import missing_architecture
from qflsec.attacks.simulated_clients import weights_in
from qflsec.attacks.uploaded_metrics import metrics_of_records, missing_metric
from qflsec.base import AttackCard, ConfigError, Source, finite, register
from qflsec.threat import Item, View

__all__ = ["MetricFit"]


@register("attack", "metric-fit")
@finite
@dataclass(frozen=True, kw_only=True)
class MetricFit(Inference):
    """Fit the mean metric that clients upload by the metrics of the candidates, with weights that are not negative.

    A client's metric is the plain mean of those of its records, and a sum over clients the mean over all of theirs: each
    of its entries is one linear equation in the weights of records, in every round others. A member has the weight of one
    record among all, another candidate none. No label is needed, and no noise or clipping stands between. Records of the
    adversary's own take up what members that are no candidates leave.

    Args:
        rounds: The most rounds that are read, the earliest ones.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Lawson, Hanson: Solving Least Squares Problems, 1974, chapter 23 (least squares with weights that are not negative);
        that metrics are means which candidates solve is this package's.
    """

    rounds: int = 10

    card = AttackCard(
        name="metric-fit",
        idea="The mean metric is a mixture of the metrics of the records: find the mixture among the candidates.",
        source=Source(
            paper="Lawson, Hanson: Solving Least Squares Problems, Prentice-Hall, 1974",
            year=1974,
            where="chapter 23, least squares without negative weights; the use on metrics is this package's",
        ),
        family="membership",
        goal="confidentiality",
        needs=(
            "metrics that clients upload, or sums of them",
            "the models that they start from",
            "the model's architecture",
        ),
    )
    challenge_type = MembershipChallenge
    reads = frozenset({"update", "aggregate"})

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if self.rounds < 1:
            raise ConfigError("'rounds' is too small", got=self.rounds, expected="at least 1")

    def missing(self, view: View, challenge: MembershipChallenge) -> str | None:
        """The architecture, an uploaded metric, or the model at which it was taken."""
        reason = missing_architecture(view) or missing_metric(view)
        if reason is None and not _groups(view, challenge.target, self.rounds):
            reason = "no uploaded metric of known clients can be read with the model at which it was taken"
        return reason

    def run(self, view: View, challenge: MembershipChallenge) -> MembershipClaim:
        """The weight of every candidate, in records, in the mean where it has most."""
        candidates, auxiliary = challenge.candidates.features, view.granted.auxiliary
        pool = candidates if auxiliary is None else torch.cat([candidates, auxiliary.features])
        scores = torch.zeros(len(candidates), dtype=torch.float64)
        for items in _groups(view, challenge.target, self.rounds):
            told, each = [], []
            for item in items:
                params = view.base_of(item)
                assert params is not None  # _groups() has chosen such
                assert item.metric is not None
                told.append(item.metric.double())
                each.append(metrics_of_records(view.granted.model, len(item.metric), params, pool))
            weights = weights_in(torch.cat(told), torch.cat(each, dim=1))[: len(candidates)]
            scores = torch.maximum(scores, (items[0].weight or 1.0) * weights)
        return MembershipClaim(scores=scores)


def _groups(view: View, target: int | None, rounds: int) -> list[list[Item]]:
    """The means that can be used, by the clients in them: the smallest, overlapping in no client, over the first rounds."""
    by_clients: dict[frozenset[int], dict[int, Item]] = {}
    for item in view.readable("update", "aggregate"):
        if item.metric is not None and item.named and view.base_of(item) is not None:
            by_clients.setdefault(item.named, {}).setdefault(item.round, item)
    found: list[list[Item]] = []
    taken: frozenset[int] = frozenset()
    for clients in sorted(by_clients, key=lambda one: (len(one), sorted(one))):
        if not clients & taken and (target is None or target in clients):
            found.append([by_clients[clients][one] for one in sorted(by_clients[clients])[:rounds]])
            taken |= clients
    return found
