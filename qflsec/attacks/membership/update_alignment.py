"""Membership from single updates: whose update points where a record pulls, round after round?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import MembershipChallenge, MembershipClaim
from qflsec.attacks.membership.descents import descents
from qflsec.attacks.needs import missing_architecture, missing_items
from qflsec.base import AttackCard, Source, register
from qflsec.threat import Item, View

__all__ = ["UpdateAlignment", "client_cosines", "single_updates"]


@register("attack", "update-alignment")
@dataclass(frozen=True, kw_only=True)
class UpdateAlignment(Inference):
    """Score a candidate by how well its gradient agrees with the updates of the client that it agrees with best.

    At each model that a client's update starts from, the attack takes the cosine of the update with the candidate's own
    descent direction, and its mean over the rounds of each client. Where it is not said whose record is in question, the
    score is the largest mean of all clients of whom single updates are read.

    Source:
        Li, Li, Ribeiro: Effective passive membership inference attacks in federated learning against
        overparameterized models, ICLR 2023: the attack by cosines on one client's updates.
    """

    card = AttackCard(
        name="update-alignment",
        idea="A record pulls the updates of the client that trained on it its own way.",
        source=Source(
            paper="Li, Li, Ribeiro: Effective passive membership inference attacks in federated learning against "
            "overparameterized models, ICLR 2023",
            year=2023,
            where="the attack by cosines",
        ),
        family="membership",
        goal="confidentiality",
        needs=(
            "single updates of some rounds",
            "the models that they start from",
            "the model's architecture",
        ),
    )
    challenge_type = MembershipChallenge
    reads = frozenset({"single update"})

    def missing(self, view: View, challenge: MembershipChallenge) -> str | None:
        """The architecture, a single client's update, or the model that it starts from."""
        what = "single client's update"
        reason = missing_architecture(view) or missing_items(view, "update", what=what)
        if reason is None and not any(_is_single(item) for item in view.readable("update")):
            return f"no {what} is in the view"
        if reason is None and not single_updates(view, challenge.target):
            return f"no model that a {what} starts from can be read"
        return reason

    def run(self, view: View, challenge: MembershipChallenge) -> MembershipClaim:
        """The mean cosine of every candidate with the updates of its best client."""
        return MembershipClaim(scores=client_cosines(view, challenge).max(dim=1).values)


def client_cosines(view: View, challenge: MembershipChallenge) -> torch.Tensor:
    """The mean cosine of every candidate's descent direction with the updates of every client.

    Shapes:
        returns: ``(n, c)``, float64, a column for each client of whom an update can be used
    """
    by_base: dict[str, list[Item]] = {}
    for item in single_updates(view, challenge.target):
        assert item.base is not None  # single_updates() saw to it
        by_base.setdefault(item.base, []).append(item)
    models = [view.model(base) for base in by_base]
    pulls = descents(
        view.granted.model, [params for params in models if params is not None], challenge.candidates
    )
    clients = sorted({_client(item) for items in by_base.values() for item in items})
    sums = torch.zeros(len(challenge.candidates.labels), len(clients), dtype=torch.float64)
    counts = torch.zeros(len(clients), dtype=torch.float64)
    for pull, items in zip(pulls, by_base.values(), strict=True):
        columns = torch.tensor([clients.index(_client(item)) for item in items])
        moved = torch.stack([item.vector.double() for item in items])
        found = torch.nn.functional.cosine_similarity(pull[:, None], moved[None], dim=-1)
        sums.index_add_(1, columns, found)
        counts += torch.bincount(columns, minlength=len(clients))
    return sums / counts


def single_updates(view: View, target: int | None) -> list[Item]:
    """Readable updates of one client each that moved, whose model can be read: of the target, or of anybody."""
    return [
        item
        for item in view.readable("update")
        if _is_single(item)
        and (target is None or target in item.named)
        and view.base_of(item) is not None
        and float(item.vector.norm()) > 0
    ]


def _client(item: Item) -> int:
    return next(iter(item.named))


def _is_single(item: Item) -> bool:
    return item.about is not None and len(item.about) == 1
