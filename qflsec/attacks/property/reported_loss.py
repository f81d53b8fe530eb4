"""Reported loss: what one number that clients report beside their updates tells of their classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.challenges import LabelSkewChallenge, PropertyChallenge
from qflsec.attacks.needs import missing_architecture
from qflsec.attacks.property.label_skew import LabelSkew
from qflsec.attacks.simulated_clients import mean_losses
from qflsec.base import AttackCard, Source, register
from qflsec.threat import Item, Records, View

__all__ = ["ReportedLoss"]


@register("attack", "reported-loss")
@dataclass(frozen=True, kw_only=True)
class ReportedLoss(LabelSkew):
    """Read the share of a class off the loss that every client reports, and off nothing else.

    A model that has learned one class better than another has a loss that falls with the share of that class. The
    adversary takes the loss of the model that was sent on clients that it makes from auxiliary records.

    Args:
        simulated: Simulated clients for each model and number of records.
        rounds: The most rounds that are read, the earliest ones.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Melis, Song, De Cristofaro, Shmatikov: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019,
        section V (a property classifier on simulated clients); that it reads a loss is this package's.
    """

    card = AttackCard(
        name="reported-loss",
        idea="Learn from simulated clients what a share of a class does to the loss, and read it off the reported one.",
        source=Source(
            paper="Melis et al.: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019, "
            "arXiv:1805.04049",
            year=2019,
            where="section V, with the reported loss in the place of the update",
        ),
        family="property",
        goal="confidentiality",
        needs=(
            "losses that known clients report",
            "the models that they start from",
            "the model's architecture",
            "auxiliary records of every class",
        ),
    )

    def missing(self, view: View, challenge: LabelSkewChallenge) -> str | None:
        """The architecture, a reported loss, or auxiliary records of the class and of others."""
        reason = missing_architecture(view)
        if reason is None and not any("loss" in item.reports for item in view.readable("update")):
            reason = "no reported loss is in the view"
        return reason or super().missing(view, challenge)

    def read(self, item: Item) -> Tensor:
        """The reported loss."""
        return torch.tensor([item.reports["loss"]], dtype=torch.float64)

    def made(
        self,
        view: View,
        challenge: LabelSkewChallenge,
        item: Item,
        auxiliary: Records,
        rows: list[Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """The loss of each simulated client, of which an item with a reported loss has one."""
        params = view.base_of(item)
        assert params is not None  # _items() has chosen such
        (own,) = rows
        return mean_losses(view, params, auxiliary, own, challenge.execution, generator)[:, None].double()

    def _items(self, view: View, challenge: PropertyChallenge) -> list[Item]:
        return [item for item in super()._items(view, challenge) if "loss" in item.reports]
