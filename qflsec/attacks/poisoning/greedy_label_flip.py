"""Greedy label flips: the wrong labels that undo most of an honest step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.values import check_fraction
from qflsec.base import AttackCard, IncompatibleAttack, Source, register
from qflsec.federation import Hands, Pipeline
from qflsec.models import Model
from qflsec.threat import ThreatModel

__all__ = ["GreedyLabelFlip", "label_slopes"]


def label_slopes(
    model: Model, params: torch.Tensor, features: torch.Tensor, direction: torch.Tensor
) -> torch.Tensor:
    """How fast each record's loss changes along a direction of the parameters, for every label that it might have.

    Shapes:
        params, direction: ``(..., P)``; features: ``(..., N, F)``; returns: ``(..., N, K)``
    """
    with torch.enable_grad():
        leaf = params.detach()[..., None, :].requires_grad_()
        logits = model(leaf, features)
        # the pullback is linear in its argument: its own derivative along the direction is the push-forward
        along = torch.zeros_like(logits, requires_grad=True)
        (back,) = torch.autograd.grad((logits * along).sum(), leaf, create_graph=True)
        (moved,) = torch.autograd.grad((back * direction[..., None, :]).sum(), along)
    values = logits.detach().requires_grad_()
    slopes = []
    for label in range(logits.shape[-1]):
        wanted = torch.full(logits.shape[:-1], label)
        (slope,) = torch.autograd.grad(model.loss.per_sample(values, wanted).sum(), values)
        slopes.append((slope * moved).sum(dim=-1))
    return torch.stack(slopes, dim=-1)


@register("attack", "greedy-label-flip")
@dataclass(frozen=True, kw_only=True)
class GreedyLabelFlip(Manipulation):
    """Train on wrong labels whose gradient points most against the honest step, chosen anew in every round.

    The honest step is the mean of what the corrupted clients would send if they followed the protocol. A record's part in the
    gradient adds up with those of the others, so that the best labels under a budget are found record by
    record: each gets the label under which the honest step would raise its loss fastest, and those records are
    relabelled that gain most. It is optimal for the inner product of the first step of all records with the honest
    step, and says nothing of later steps.

    Args:
        fraction: The fraction of the own records that may get another label; at least one.

    Raises:
        ConfigError: The fraction is out of range.
    """

    card = AttackCard(
        name="greedy-label-flip",
        idea="Corrupted clients relabel the records that undo most of an honest step.",
        source=Source(
            paper="El-Kabid, El-Mhamdi: Approaching the harm of gradient attacks while only flipping labels, "
            "arXiv:2503.00140",
            year=2025,
            where="abstract: flips under a budget, greedy and optimal at each step of logistic regression; any differentiable "
            "model here, by the same linearity",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients with records of their own", "the model's architecture"),
    )
    fraction: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no fraction."""
        check_fraction("fraction", self.fraction)

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse clients that keep a part of the model: what they send is no step of the whole.

        Raises:
            IncompatibleAttack: They do.
        """
        super().check(pipeline, threat)
        if pipeline.personal:
            raise IncompatibleAttack(
                f"{self.card.name!r} follows steps of the whole model, of which clients keep a part"
            )

    def run(self, hands: Hands) -> torch.Tensor:
        """The update of training on these labels."""
        step = hands.honest.mean(dim=1, keepdim=True).expand_as(hands.received)
        slopes = label_slopes(hands.model, hands.received, hands.features, step)
        fastest, worst = slopes.max(dim=-1)
        gain = fastest - slopes.gather(-1, hands.labels[..., None])[..., 0]
        present = hands.mask > 0
        budget = (self.fraction * present.sum(dim=-1, keepdim=True)).round().clamp(min=1)
        order = gain.masked_fill(~present, -torch.inf).argsort(dim=-1, descending=True, stable=True)
        chosen = (order.argsort(dim=-1) < budget) & present
        return hands.train(hands.features, torch.where(chosen, worst, hands.labels))
