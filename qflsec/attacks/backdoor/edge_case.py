"""Edge-case backdoor: records from the tail of a class get the class that the attacker wants."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.backdoor.poisoned import PoisonedBackdoor
from qflsec.attacks.records import drawn_records
from qflsec.attacks.values import check_fraction, check_positive
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.federation import Hands
from qflsec.threat import Records

__all__ = ["EdgeCase", "in_the_tail"]


def in_the_tail(
    features: torch.Tensor, labels: torch.Tensor, target_class: int, fraction: float
) -> torch.Tensor:
    """The records of other classes that lie farthest from the middle of their class, in standard deviations.

    Args:
        features: Records.
        labels: Their classes.
        target_class: The class whose records are never chosen.
        fraction: The fraction of each other class that is its tail, at least one record of it.

    Shapes:
        features: ``(n, F)``; labels: ``(n,)``; returns: ``(n,)``, boolean
    """
    tail = torch.zeros(len(labels), dtype=torch.bool)
    for value in sorted(set(labels.tolist())):
        rows = torch.nonzero(labels == value).flatten()
        if value == target_class:
            continue
        own = features[rows].double()
        spread = own.std(dim=0, correction=0).clamp(min=1e-9)
        away = ((own - own.mean(dim=0)) / spread).norm(dim=1)
        count = max(1, round(fraction * len(rows)))
        tail[rows[away.argsort(descending=True)[:count]]] = True
    return tail


@register("attack", "edge-case")
@dataclass(frozen=True, kw_only=True)
class EdgeCase(PoisonedBackdoor):
    """Label rare records as the target class: nothing marks them, and honest clients have few that disagree.

    The tail of a class are its records farthest from its mean. The corrupted clients pool theirs, and each replaces
    some of its records by copies with a little noise. Success is measured on the tail of the test records.

    Args:
        tail: The fraction of a class that is its tail.
        noise: The standard deviation of the noise on copies.
        max_norm: The largest length of the update after ``boost``, as the projection of the paper; None for any.

    Units:
        noise: that of the features, radians for angles

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Wang et al.: Attack of the tails: yes, you really can backdoor federated learning, NeurIPS 2020,
        arXiv:2007.05084.
    """

    card = AttackCard(
        name="edge-case",
        idea="Rare records of other classes, as they are, get the class that the attacker wants.",
        source=Source(
            paper="Wang et al.: Attack of the tails: yes, you really can backdoor federated learning, NeurIPS 2020, "
            "arXiv:2007.05084",
            year=2020,
            where="section 3, edge-case backdoors and the projected attack",
        ),
        family="backdoor",
        goal="integrity",
        needs=("corrupted clients with records of another class than the target class",),
    )
    tail: float = 0.2
    noise: float = 0.05
    max_norm: float | None = None

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        check_fraction("tail", self.tail)
        if self.noise < 0:
            raise ConfigError("'noise' is negative", got=self.noise, expected="0 or more")
        check_positive("max_norm", self.max_norm)

    def trigger(self, features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The records as they are: there is no mark on them."""
        return features

    def victims(self, records: Records) -> torch.Tensor:
        """The tails of the other classes."""
        return in_the_tail(records.features, records.labels, self.target_class, self.tail)

    def run(self, hands: Hands) -> torch.Tensor:
        """The update, no longer than it may be."""
        sent = super().run(hands)
        if self.max_norm is None or not self.acts(hands.round):
            return sent
        lengths = sent.norm(dim=-1, keepdim=True)
        scaled: torch.Tensor = sent * (self.max_norm / lengths.clamp(min=self.max_norm))
        return scaled

    def poisoned(self, hands: Hands) -> tuple[torch.Tensor, torch.Tensor]:
        """Some records replaced by noisy copies of the tail with the target label; none where there is no tail."""
        chosen = drawn_records(hands.mask, self.poison_fraction, hands.generators)
        features, labels = hands.features.clone(), hands.labels.clone()
        for lane, generator in enumerate(hands.generators):
            present = hands.mask[lane] > 0
            own, classes = hands.features[lane][present], hands.labels[lane][present]
            pool = own[in_the_tail(own, classes, self.target_class, self.tail)]
            if not len(pool):
                continue
            at = chosen[lane]
            drawn = torch.randint(len(pool), (int(at.sum()),), generator=generator)
            copies = pool[drawn]
            features[lane][at] = copies + self.noise * torch.randn(copies.shape, generator=generator)
            labels[lane][at] = self.target_class
        return features, labels
