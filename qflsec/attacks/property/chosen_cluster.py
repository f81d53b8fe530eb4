"""Chosen cluster: what the choice of a model, one small number, tells of a client's classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.challenges import LabelSkewChallenge, PropertyChallenge
from qflsec.attacks.needs import missing_architecture
from qflsec.attacks.property.label_skew import LabelSkew, missing_classes
from qflsec.attacks.simulated_clients import mean_losses
from qflsec.base import AttackCard, Source, register
from qflsec.threat import Item, Records, View

__all__ = ["ChosenCluster"]


@register("attack", "chosen-cluster")
@dataclass(frozen=True, kw_only=True)
class ChosenCluster(LabelSkew):
    """Read the share of a class off which cluster's model a client chose, and off nothing else.

    The adversary lets clients that it makes from auxiliary records choose among the models of the round.

    Args:
        simulated: Simulated clients for each round and number of records.
        rounds: The most rounds that are read, the earliest ones.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Melis, Song, De Cristofaro, Shmatikov: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019,
        section V (a property classifier on simulated clients); that it reads choices is this package's.
    """

    card = AttackCard(
        name="chosen-cluster",
        idea="Learn from simulated clients who chooses which cluster's model, and read it off the choices.",
        source=Source(
            paper="Melis et al.: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019, "
            "arXiv:1805.04049",
            year=2019,
            where="section V, with the choice of a cluster in the place of the update",
        ),
        family="property",
        goal="confidentiality",
        needs=(
            "choices of known clients among several models",
            "these models",
            "the model's architecture",
            "auxiliary records of every class",
        ),
    )

    def missing(self, view: View, challenge: LabelSkewChallenge) -> str | None:
        """The architecture, auxiliary records of the class and of others, or a choice with the models."""
        reason = missing_architecture(view) or missing_classes(view, challenge.label)
        if reason is not None:
            return reason
        items = self._items(view, challenge)
        if not items:
            return "no choice among models is in the view with all of these"
        if max(item.receiver.index for item in items) >= _MOST:
            return f"clients choose among more than {_MOST} models"
        return None

    def kind(self, item: Item) -> object:
        """The round, in which all choose among the same models."""
        return item.round

    def read(self, item: Item) -> Tensor:
        """The place of the chosen cluster, as numbers of which one is 1."""
        return _one_hot(torch.tensor(item.receiver.index))

    def made(
        self,
        view: View,
        challenge: LabelSkewChallenge,
        item: Item,
        auxiliary: Records,
        rows: list[Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """What simulated clients choose."""
        (own,) = rows
        models = _models(view, item.round)
        losses = [
            mean_losses(view, models[node], auxiliary, own, challenge.execution, generator)
            for node in sorted(models)
        ]
        nodes = torch.tensor(sorted(models))
        return _one_hot(nodes[torch.stack(losses).argmin(dim=0)])

    def _items(self, view: View, challenge: PropertyChallenge) -> list[Item]:
        """Choices of clients in question, in rounds of which several models can be read."""
        told = [
            item
            for item in view.readable("control")
            if item.receiver.role == "edge"
            and len(item.named) == 1
            and item.named <= set(challenge.clients)
            and len(_models(view, item.round)) > 1
        ]
        rounds = sorted({item.round for item in told})[: self.rounds]
        return [item for item in told if item.round in rounds]


_MOST = 64
"""A choice is written as so many numbers, whatever the round's models are."""


def _one_hot(nodes: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(nodes, _MOST).double()


def _models(view: View, round_index: int) -> dict[int, Tensor]:
    """The model of each cluster in a round, where it can be read."""
    return {
        item.sender.index: item.vector
        for item in view.readable("model", round_index=round_index)
        if item.sender.role == "edge"
    }
