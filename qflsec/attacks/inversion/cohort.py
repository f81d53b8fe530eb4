"""Cohort inversion: the records of all clients behind one sum, or behind the sums of several rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from qflsec.attacks.challenges import CohortChallenge, InversionClaim
from qflsec.attacks.inversion.gradient_matching import GradientMatching
from qflsec.attacks.inversion.observation import Observation, disjoint_items, usable_item
from qflsec.attacks.needs import missing_architecture
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.threat import Item, View

__all__ = ["CohortInversion"]


@register("attack", "cohort")
@dataclass(frozen=True, kw_only=True)
class CohortInversion(GradientMatching):
    """Find the records of all clients at once: together they explain the sum exactly.

    What other clients add to a sum is noise to an attack on one of them. To this attack it is data: every client
    trains on its own part of the guess, and the parts are added up as the aggregation does it. A round gives as many
    equations as the model has parameters, and rounds are explained together, so that secure aggregation hides
    whose record is whose and not the records, as long as there are few enough of them. Where single updates or
    smaller sums can be read, they are used, and clients that no sum mixes are searched for apart.

    Args:
        rounds: How many rounds are explained together, the earliest ones.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, for a batch; the records of a cohort are one.
    """

    card = AttackCard(
        name="cohort",
        idea="Find the records of all clients whose sum is the observed one.",
        source=Source(
            paper="Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, arXiv:1906.08935",
            year=2019,
            where="algorithm 1, the batch being spread over clients",
        ),
        family="inversion",
        goal="confidentiality",
        needs=(
            "updates or sums of honest clients, and who is in them",
            "the models that they start from",
            "the model's architecture",
        ),
    )
    challenge_type = CohortChallenge
    rounds: int = 4
    restarts: int = 12

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        if self.rounds < 1:
            raise ConfigError("'rounds' is too small", got=self.rounds, expected="at least 1")

    def missing(self, view: View, challenge: CohortChallenge) -> str | None:
        """The architecture, or a sum of known honest clients with the model that it starts from."""
        reason = missing_architecture(view)
        if reason is None and not self._items(view, challenge):
            reason = "no update or sum of known honest clients can be read with the model that it starts from"
        return reason

    def observations(self, view: View, challenge: CohortChallenge) -> Sequence[Observation]:
        """The smallest sums of each round that overlap in no client."""
        return [usable_item(view, item) for item in self._items(view, challenge)]

    def run(self, view: View, challenge: CohortChallenge) -> InversionClaim:
        """The records of everybody, those of clients that no sum mixes in searches of their own."""
        seen = self.observations(view, challenge)
        claims, places = [], []
        for together in _mixed([one.about or frozenset() for one in seen], challenge.clients):
            pairs = [
                pair for pair in zip(challenge.clients, challenge.counts, strict=True) if pair[0] in together
            ]
            part = replace(
                challenge,
                clients=tuple(client for client, _ in pairs),
                counts=tuple(count for _, count in pairs),
            )
            own = _places(part)
            about = [one for one in seen if one.about and one.about <= together]
            groups = [[own[client] for client in sorted(one.about or ())] for one in about]
            claims.append(self.match_records(view, part, about, groups, least_noise=0.0))
            whole = _places(challenge)
            places.append([place for client in part.clients for place in whole[client]])
        return _joined(claims, places)

    def _items(self, view: View, challenge: CohortChallenge) -> list[Item]:
        return disjoint_items(view, challenge.clients, challenge.training, rounds=self.rounds)


def _places(challenge: CohortChallenge) -> dict[int, tuple[int, ...]]:
    """Where each client's records are in a guess."""
    ends = list(accumulate(challenge.counts))
    return {
        client: tuple(range(end - count, end))
        for client, count, end in zip(challenge.clients, challenge.counts, ends, strict=True)
    }


def _mixed(rosters: Sequence[frozenset[int]], clients: Sequence[int]) -> list[frozenset[int]]:
    """The clients in parts that no roster connects; those of no roster are with the first part."""
    parts: list[frozenset[int]] = []
    for roster in rosters:
        apart = [part for part in parts if not part & roster]
        parts = [*apart, roster.union(*(part for part in parts if part & roster))]
    parts.sort(key=min)
    return [parts[0] | (frozenset(clients) - frozenset().union(*parts)), *parts[1:]]


def _joined(claims: Sequence[InversionClaim], places: Sequence[list[int]]) -> InversionClaim:
    """The claims about parts as one about all: its objective is their mean."""
    if len(claims) == 1:
        return claims[0]
    order = torch.tensor([place for part in places for place in part]).argsort()

    def misfit(features: Tensor, labels: Tensor) -> float:
        found = [
            claim.misfit(features[part], labels[part])
            for claim, part in zip(claims, places, strict=True)
            if claim.misfit is not None
        ]
        return sum(found) / len(found)

    labels = [claim.labels for claim in claims if claim.labels is not None]
    return InversionClaim(
        features=torch.cat([claim.features for claim in claims])[order],
        labels=torch.cat(labels)[order],
        objective=sum(claim.objective for claim in claims) / len(claims),
        steps=sum(claim.steps for claim in claims),
        misfit=misfit,
    )
