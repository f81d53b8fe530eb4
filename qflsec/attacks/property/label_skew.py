"""Label skew: whose records are of one class more often than those of others?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.challenges import LabelSkewChallenge
from qflsec.attacks.property.probe import PropertyProbe
from qflsec.attacks.simulated_clients import mixed_updates
from qflsec.base import AttackCard, Source, register
from qflsec.threat import Item, Records, View

__all__ = ["LabelSkew", "missing_classes"]


@register("attack", "label-skew")
@dataclass(frozen=True, kw_only=True)
class LabelSkew(PropertyProbe):
    """Read the share of a class off every update and sum, and attribute it to clients.

    The adversary makes clients of its own from auxiliary records with every share of the class, trains them as the public
    pipeline does from the model that was sent, and learns by ridge regression what a share does to a mean of as many
    updates as an item mixes.

    Args:
        simulated: Simulated mixtures for each model and number of clients.
        rounds: The most rounds that are read, the earliest ones.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Melis, Song, De Cristofaro, Shmatikov: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019,
        section V (a property classifier on simulated updates); the regression, and its use on sums, are this package's.
    """

    card = AttackCard(
        name="label-skew",
        idea="Learn from simulated clients what a share of a class does to an update, and read it off.",
        source=Source(
            paper="Melis et al.: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019, "
            "arXiv:1805.04049",
            year=2019,
            where="section V, with a regression over single updates and sums",
        ),
        family="property",
        goal="confidentiality",
        needs=(
            "updates or sums of known clients",
            "the models that they start from",
            "the model's architecture",
            "auxiliary records of every class",
        ),
    )
    challenge_type = LabelSkewChallenge

    @property
    def spread(self) -> float:
        """The variance of a share that is equally likely to be anything."""
        return 1 / 12

    def features(self, updates: Tensor) -> Tensor:
        """The update as it is."""
        return updates

    def missing(self, view: View, challenge: LabelSkewChallenge) -> str | None:
        """What every probe needs, and auxiliary records of the class and of others."""
        return super().missing(view, challenge) or missing_classes(view, challenge.label)

    def simulate(
        self,
        view: View,
        challenge: LabelSkewChallenge,
        auxiliary: Records,
        item: Item,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Mixtures whose clients all have the same share, so that mixtures differ as much as clients do."""
        chosen = auxiliary.labels == challenge.label
        pools = [torch.nonzero(~chosen)[:, 0], torch.nonzero(chosen)[:, 0]]
        share = torch.rand(self.simulated, 1, generator=generator)
        held = torch.zeros(self.simulated, dtype=torch.float64)

        def records(size: int) -> Tensor:
            has = torch.rand(self.simulated, size, generator=generator) < share
            held.add_(has.sum(dim=1))
            drawn = [pool[torch.randint(len(pool), has.shape, generator=generator)] for pool in pools]
            return torch.where(has, drawn[1], drawn[0])

        counts = dict(zip(challenge.clients, challenge.counts, strict=True))
        sizes = [counts[client] for client in sorted(item.named)]
        rows = [records(size) for size in sizes]
        return self.made(view, challenge, item, auxiliary, rows, generator), held / sum(sizes)

    def made(
        self,
        view: View,
        challenge: LabelSkewChallenge,
        item: Item,
        auxiliary: Records,
        rows: list[Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """What the regression gets of simulated mixtures.

        Args:
            view: The view.
            challenge: The question.
            item: The item that they are to be like.
            auxiliary: The adversary's records.
            rows: For each client of a mixture, its rows of ``auxiliary``.
            generator: Of batches and shots.

        Shapes:
            rows: ``(s, B)`` each; returns: ``(s, D)``
        """
        clients = [(own, challenge.execution) for own in rows]
        return self.features(mixed_updates(view, challenge.training, item, auxiliary, clients, generator))


def missing_classes(view: View, label: int) -> str | None:
    """Why no client can be made that holds a share of a class, or None.

    Args:
        view: The view.
        label: The class.
    """
    auxiliary = view.granted.auxiliary
    if auxiliary is None:
        return "the adversary has no auxiliary records to simulate clients with"
    if not 0 < float((auxiliary.labels == label).double().mean()) < 1:
        return f"the adversary has no auxiliary records of class {label} and of others"
    return None
