"""Metric skew: what the metric that clients upload beside their updates tells of their classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.challenges import LabelSkewChallenge, PropertyChallenge
from qflsec.attacks.needs import missing_architecture
from qflsec.attacks.property.label_skew import LabelSkew
from qflsec.attacks.uploaded_metrics import metrics_of_records, missing_metric
from qflsec.base import AttackCard, Source, register
from qflsec.threat import Item, Records, View

__all__ = ["MetricSkew"]


@register("attack", "metric-skew")
@dataclass(frozen=True, kw_only=True)
class MetricSkew(LabelSkew):
    """Read the share of a class off the metric that clients upload, and off no gradient.

    No label enters a metric. It is a mean over the records of a function of their features, and where classes differ in
    their features, so do their metrics. The adversary takes means over records of its own with every share of the class.

    Args:
        simulated: Simulated mixtures for each model and number of clients.
        rounds: The most rounds that are read, the earliest ones.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Melis, Song, De Cristofaro, Shmatikov: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019,
        section V (a property classifier on simulated clients); that it reads a metric is this package's.
    """

    card = AttackCard(
        name="metric-skew",
        idea="Learn from simulated clients what a share of a class does to the mean metric, and read it off.",
        source=Source(
            paper="Melis et al.: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019, "
            "arXiv:1805.04049",
            year=2019,
            where="section V, with the uploaded metric in the place of the update",
        ),
        family="property",
        goal="confidentiality",
        needs=(
            "metrics that known clients upload, or sums of them",
            "the models that they start from",
            "the model's architecture",
            "auxiliary records of every class",
        ),
    )

    def missing(self, view: View, challenge: LabelSkewChallenge) -> str | None:
        """The architecture, an uploaded metric, or auxiliary records of the class and of others."""
        return missing_architecture(view) or missing_metric(view) or super().missing(view, challenge)

    def read(self, item: Item) -> Tensor:
        """The uploaded metric, or the mean of several."""
        assert item.metric is not None  # _items() has chosen such
        return item.metric.double()

    def made(
        self,
        view: View,
        challenge: LabelSkewChallenge,
        item: Item,
        auxiliary: Records,
        rows: list[Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """The mean metrics of simulated mixtures, in which every record counts alike."""
        params = view.base_of(item)
        assert params is not None  # _items() has chosen such
        assert item.metric is not None
        each = metrics_of_records(view.granted.model, len(item.metric), params, auxiliary.features)
        return each[torch.cat(rows, dim=1)].mean(dim=1)

    def _items(self, view: View, challenge: PropertyChallenge) -> list[Item]:
        return [item for item in super()._items(view, challenge) if item.metric is not None]
