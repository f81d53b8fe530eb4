"""Kept entries: what the places of the largest entries tell of a client's classes, without their values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.challenges import LabelSkewChallenge, PropertyChallenge
from qflsec.attacks.property.label_skew import LabelSkew
from qflsec.base import AttackCard, Source, register
from qflsec.defenses.compression import largest_entries
from qflsec.threat import Item, Records, View

__all__ = ["KeptEntries"]


@register("attack", "kept-entries")
@dataclass(frozen=True, kw_only=True)
class KeptEntries(LabelSkew):
    """Read the share of a class off which entries of an update a client sent, and off no value.

    A client that sends its largest entries tells which they are. The adversary keeps as many of the updates that it
    simulates.

    Args:
        simulated: Simulated clients for each model and number of records.
        rounds: The most rounds that are read, the earliest ones.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Melis, Song, De Cristofaro, Shmatikov: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019,
        section V (a property classifier on simulated updates); that it reads places alone is this package's.
    """

    card = AttackCard(
        name="kept-entries",
        idea="Learn what a share of a class does to the places of an update's largest entries, and read it off them.",
        source=Source(
            paper="Melis et al.: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019, "
            "arXiv:1805.04049",
            year=2019,
            where="section V, on the places of what is sent in place of its values",
        ),
        family="property",
        goal="confidentiality",
        needs=(
            "single updates of known clients, some of whose entries were left out",
            "the models that they start from",
            "the model's architecture",
            "auxiliary records of every class",
        ),
    )

    def missing(self, view: View, challenge: LabelSkewChallenge) -> str | None:
        """What every probe needs, and updates with entries that were left out."""
        reason = super().missing(view, challenge)
        if reason is not None and not self._items(view, challenge):
            return "no single updates of which clients left out different entries are in the view"
        return reason

    def read(self, item: Item) -> Tensor:
        """One for an entry that was sent, zero for one that was left out."""
        return (item.vector != 0).double()

    def made(
        self,
        view: View,
        challenge: LabelSkewChallenge,
        item: Item,
        auxiliary: Records,
        rows: list[Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """The places of as many largest entries of simulated updates."""
        updates = super().made(view, challenge, item, auxiliary, rows, generator)
        places = largest_entries(updates, int((item.vector != 0).sum()))
        return torch.zeros_like(updates).scatter(-1, places, 1.0)

    def kind(self, item: Item) -> object:
        """How many entries were sent."""
        return int((item.vector != 0).sum())

    def _items(self, view: View, challenge: PropertyChallenge) -> list[Item]:
        """Single updates, where clients sent different entries: what all of them lack may have no effect at all."""
        items = [
            item for item in super()._items(view, challenge) if len(item.named) == 1 and not item.derived
        ]
        places = {tuple((item.vector != 0).tolist()) for item in items}
        return items if len(places) > 1 else []
