"""Membership from sums: a record that was trained on pulls the sum of the updates its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import MembershipChallenge, MembershipClaim
from qflsec.attacks.membership.descents import descents
from qflsec.attacks.needs import missing_architecture, missing_items
from qflsec.base import AttackCard, Source, register
from qflsec.models import Model
from qflsec.threat import Item, Records, View

__all__ = ["SumAlignment", "directions", "mean_cosines", "mean_move"]

_KINDS = ("update", "aggregate", "step")


@register("attack", "sum-alignment")
@dataclass(frozen=True, kw_only=True)
class SumAlignment(Inference):
    """Score a candidate by how well its gradient agrees with what the clients sent, over all rounds.

    For each model that clients started from, the attack takes what it can read of what they made of it, an update, a
    sum of some or the step of the model, and its cosine with the candidate's own descent direction there. The
    gradient of a member is a part of the sum; that of another record is not. Masks that leave the sum leave this.

    Source:
        Li, Li, Ribeiro: Effective passive membership inference attacks in federated learning against
        overparameterized models, ICLR 2023: the attack by cosines, there on one client's update, here on sums.
    """

    card = AttackCard(
        name="sum-alignment",
        idea="The gradient of a record that was trained on is a part of the sum of the updates.",
        source=Source(
            paper="Li, Li, Ribeiro: Effective passive membership inference attacks in federated learning against "
            "overparameterized models, ICLR 2023",
            year=2023,
            where="the attack by cosines, applied to sums",
        ),
        family="membership",
        goal="confidentiality",
        needs=(
            "updates, sums or steps of some rounds",
            "the models that they start from",
            "the model's architecture",
        ),
    )
    challenge_type = MembershipChallenge
    reads = frozenset({"update", "aggregate", "step"})

    def missing(self, view: View, challenge: MembershipChallenge) -> str | None:
        """The architecture, an update or sum, or the model that it starts from."""
        reason = missing_architecture(view) or missing_items(view, *_KINDS, what="update, sum or step")
        if reason is None and not directions(view):
            return "no model that an update or a sum starts from can be read"
        return reason

    def run(self, view: View, challenge: MembershipChallenge) -> MembershipClaim:
        """The mean cosine of every candidate."""
        return MembershipClaim(
            scores=mean_cosines(view.granted.model, challenge.candidates, directions(view))
        )


def mean_cosines(
    model: Model, candidates: Records, moves: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """The mean cosine of each candidate's descent direction with what became of the models.

    Args:
        model: The model.
        candidates: The candidates.
        moves: Models, and where they went from there.

    Shapes:
        moves: pairs of ``(P,)``; returns: ``(n,)``, float64
    """
    pulls = descents(model, [params for params, _ in moves], candidates)
    moved = torch.stack([move for _, move in moves]).double()
    return torch.nn.functional.cosine_similarity(pulls, moved[:, None], dim=-1).mean(dim=0)


def directions(view: View) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each model that clients started from and that can be read, where they went from there.

    Shapes:
        returns: pairs of ``(P,)``
    """
    by_base: dict[str, list[Item]] = {}
    for item in view.readable(*_KINDS):
        if item.base is not None:
            by_base.setdefault(item.base, []).append(item)
    found = []
    for items in by_base.values():
        params = view.base_of(items[0])
        if params is None:
            continue
        moved = mean_move(items)
        if float(moved.norm()) > 0:
            found.append((params, moved))
    return found


def mean_move(items: Sequence[Item]) -> torch.Tensor:
    """The largest sum of a round, as a mean; that of the single updates where no sum holds as many.

    Shapes:
        returns: ``(P,)``
    """
    whole = max(items, key=lambda item: (item.size or 0, not item.derived))
    singles = [item for item in items if item.kind == "update" and item.size == 1 and not item.derived]
    if len(singles) > (whole.size or 0):
        return torch.stack([item.vector for item in singles]).mean(dim=0)
    return whole.vector
