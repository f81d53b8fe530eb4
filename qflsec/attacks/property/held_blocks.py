"""Held blocks: which clients lack a group of features?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.challenges import HoldingsChallenge
from qflsec.attacks.property.probe import PropertyProbe
from qflsec.attacks.simulated_clients import mixed_updates
from qflsec.base import AttackCard, Source, register
from qflsec.threat import Item, Records, View

__all__ = ["HeldBlocks"]


@register("attack", "held-blocks")
@dataclass(frozen=True, kw_only=True)
class HeldBlocks(PropertyProbe):
    """Read off every update and sum whether its clients hold a block of features, and attribute it to them.

    A client that lacks a block trains on the same value in each of its places for every record, and its update is that of such
    records. The adversary makes clients of every kind from whole auxiliary records, with classes in any shares, puts what
    stands in for a block in its place, trains them from the model that was sent, and learns by ridge regression what a
    missing block does to an update: its direction, and the logarithm of its length.

    Args:
        simulated: Simulated mixtures for each model and number of clients.
        rounds: The most rounds that are read, the earliest ones.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Melis, Song, De Cristofaro, Shmatikov: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019,
        section V (a property classifier on simulated updates); missing blocks as the property are this package's.
    """

    card = AttackCard(
        name="held-blocks",
        idea="Learn from simulated clients what a missing group of features does to an update, and read it off.",
        source=Source(
            paper="Melis et al.: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019, "
            "arXiv:1805.04049",
            year=2019,
            where="section V; the property is a missing block of features here",
        ),
        family="property",
        goal="confidentiality",
        needs=(
            "updates or sums of known clients",
            "the models that they start from",
            "the model's architecture",
            "whole auxiliary records, the blocks, and what stands in for a missing one",
        ),
    )
    challenge_type = HoldingsChallenge
    simulated: int = 192

    @property
    def spread(self) -> float:
        """The variance of a fair coin."""
        return 1 / 4

    def features(self, updates: Tensor) -> Tensor:
        """The direction of an update and the logarithm of its length, which say the same of it as the update does."""
        length = updates.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        return torch.cat([updates / length, length.log()], dim=-1)

    def simulate(
        self,
        view: View,
        challenge: HoldingsChallenge,
        auxiliary: Records,
        item: Item,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Mixtures of clients, more or fewer of which are of the kinds in question."""
        count, n = self.simulated, len(auxiliary.labels)
        pool = Records(
            features=torch.cat(
                [torch.where(held, auxiliary.features, challenge.fill) for held in challenge.kinds]
            ),
            labels=auxiliary.labels.repeat(len(challenge.kinds)),
        )
        share = torch.rand(count, generator=generator)
        yes, no = (
            torch.tensor([kind for kind, asked in enumerate(challenge.asked) if asked == wanted])
            for wanted in (True, False)
        )
        counts = dict(zip(challenge.clients, challenge.counts, strict=True))
        sizes = [counts[client] for client in sorted(item.named)]
        held, clients = torch.zeros(count, dtype=torch.float64), []
        for size in sizes:
            on = torch.rand(count, generator=generator) < share
            of = [kinds[torch.randint(len(kinds), (count,), generator=generator)] for kinds in (no, yes)]
            kind = torch.where(on, of[1], of[0])
            rows = _rows(auxiliary.labels, count, size, generator)
            clients.append((kind[:, None] * n + rows, challenge.execution))
            held = held + size * on.double()
        made = mixed_updates(view, challenge.training, item, pool, clients, generator)
        return self.features(made), held / sum(sizes)


def _rows(labels: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Rows of records for simulated clients, each with its own shares of the classes, which are equally likely to be anything.

    Shapes:
        labels: ``(n,)``; returns: ``(count, size)``
    """
    present, where, per_class = torch.unique(labels, return_inverse=True, return_counts=True)
    # exponential variables over their sum are uniform on the simplex
    shares = -torch.log1p(-torch.rand(count, len(present), generator=generator))
    weights = shares[:, where] / per_class[where]
    return torch.multinomial(weights, size, replacement=True, generator=generator)
