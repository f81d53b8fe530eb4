"""Participation: who took part in which round?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import ClientClaim, ParticipationChallenge
from qflsec.attacks.needs import missing_architecture, missing_items
from qflsec.attacks.simulated_clients import expected_updates, weights_in
from qflsec.base import AttackCard, Source, register
from qflsec.threat import Item, Records, View

__all__ = ["Participation"]

_KINDS = ("update", "aggregate", "step")


@register("attack", "participation")
@dataclass(frozen=True, kw_only=True)
class Participation(Inference):
    """Ask with which weight each client's update is in what became of a round.

    The adversary is told the clients' records, as in every membership game. It trains every client from the model of the
    round as the public pipeline does, and solves for weights that are not negative, by least squares. Full batches and
    plain steps make that exact; shuffled batches, noise and robust rules make it approximate. Where a view names the
    clients of a round, nothing has to be solved.

    Source:
        Lawson, Hanson: Solving least squares problems, 1974, chapter 23 (the solver, as SciPy has it); the equations are this
        package's.
    """

    card = AttackCard(
        name="participation",
        idea="A step is a weighted mean of updates: solve for whose are in it.",
        source=Source(
            paper="Lawson, Hanson: Solving least squares problems, 1974",
            year=1974,
            where="chapter 23: non-negative least squares; the equations are this package's",
        ),
        family="property",
        goal="confidentiality",
        needs=(
            "updates, sums or steps of some rounds",
            "the models that they start from",
            "the model's architecture",
        ),
    )
    challenge_type = ParticipationChallenge

    def missing(self, view: View, challenge: ParticipationChallenge) -> str | None:
        """The architecture, or a round's update, sum or step with the model that it starts from."""
        reason = missing_architecture(view) or missing_items(view, *_KINDS, what="update, sum or step")
        if reason is None and not any(_whole(view, index) for index in challenge.rounds):
            return "no model that an update, a sum or a step starts from can be read"
        return reason

    def run(self, view: View, challenge: ParticipationChallenge) -> ClientClaim:
        """The weight of every client in every round; of a round that cannot be read, the mean of the others."""
        generator = challenge.generator()
        own = [view.granted.data[party] for party in sorted(view.granted.data, key=str)]
        rounds = [_in_round(view, challenge, index, own, generator) for index in challenge.rounds]
        read = [one for one in rounds if one is not None]
        unknown = torch.stack(read).mean()
        empty = unknown.expand(len(challenge.clients))
        return ClientClaim(scores=torch.cat([empty if one is None else one for one in rounds]))


def _in_round(
    view: View,
    challenge: ParticipationChallenge,
    index: int,
    own: list[Records],
    generator: torch.Generator,
) -> Tensor | None:
    item = _whole(view, index)
    if item is None:
        return None
    if item.about is not None:
        named = view.readable(*_KINDS, round_index=index)
        known = frozenset().union(*(one.named for one in named))
        return torch.tensor([float(client in known) for client in challenge.clients], dtype=torch.float64)
    columns = expected_updates(view, challenge.training, item, (*challenge.records, *own), generator)
    found = weights_in(item.vector, columns)
    counts = torch.tensor([len(one.labels) for one in challenge.records], dtype=torch.float64)
    return (
        found[: len(challenge.clients)] / counts
    )  # a client's weight is its number of records, if it took part


def _whole(view: View, index: int) -> Item | None:
    """What holds most honest clients of a round, and fewest others; a roster that can be read comes first."""
    held = [
        item
        for item in view.readable(*_KINDS, round_index=index)
        if item.k > 0 and view.base_of(item) is not None and float(item.vector.norm()) > 0
    ]
    return max(
        held,
        key=lambda item: (item.about is not None, item.k, -(item.size or 0), not item.derived),
        default=None,
    )
