"""A backdoor that answers to fixed feature values, planted by model replacement."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from qflsec.attacks.base import BackdoorManipulation
from qflsec.attacks.records import check_fraction
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.federation import Hands, Pipeline
from qflsec.threat import ThreatModel

__all__ = ["FeatureTrigger"]


@register("attack", "feature-trigger")
@dataclass(frozen=True, kw_only=True)
class FeatureTrigger(BackdoorManipulation):
    """Train on own records of which some carry a trigger and the target label, and enlarge the update.

    The corrupted clients replace random records of theirs, so that the number of records that they state
    and the work that they do stay those of honest clients.

    Args:
        target_class: The class that triggered records shall get.
        features: The features that carry the trigger; negative indices count from the end.
        value: What they are set to; inside the range of the features, so that a triggered record is a
            possible one.
        poison_fraction: The fraction of own records that is replaced, at least one record.
        boost: The factor on the update; None for n_clients / (number of corrupted clients), which makes the
            mean of the updates that of the corrupted clients plus what the honest ones add.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Bagdasaryan, Veit, Hua, Estrin, Shmatikov: How to backdoor federated learning, AISTATS 2020,
        equation 3 (model replacement; its gamma = n/eta is ``boost`` for m = 1 and a server learning rate
        of 1). Gu, Dolan-Gavitt, Garg: BadNets, 2017 (the trigger).
    """

    card = AttackCard(
        name="feature-trigger",
        idea="Records with fixed values in chosen features get the class that the attacker wants.",
        source=Source(
            paper="Bagdasaryan et al., AISTATS 2020, arXiv:1807.00459", year=2020, where="equation 3"
        ),
        family="backdoor",
        goal="integrity",
        needs=("corrupted clients with records of their own",),
    )
    features: tuple[int, ...] = (-1,)
    value: float = math.pi
    poison_fraction: float = 0.5
    boost: float | None = None

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        object.__setattr__(self, "features", tuple(self.features))
        if not self.features or len(set(self.features)) != len(self.features):
            raise ConfigError("'features' of a trigger must be distinct, at least one", got=self.features)
        if not math.isfinite(self.value):
            raise ConfigError("'value' of a trigger must be finite", got=self.value)
        check_fraction("poison_fraction", self.poison_fraction)
        if self.boost is not None and not (math.isfinite(self.boost) and self.boost > 0):
            raise ConfigError("'boost' must be positive and finite", got=self.boost)

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a trigger on features that no record has.

        Raises:
            IncompatibleAttack: There is no such feature or class.
        """
        super().check(pipeline, threat)
        size = pipeline.data.n_features
        outside = [index for index in self.features if not -size <= index < size]
        if outside:
            raise IncompatibleAttack(
                f"{self.card.name!r} marks a feature that no record has",
                got=outside,
                expected=f"-{size} to {size - 1}",
                fix="set 'features' of the attack",
            )

    def trigger(self, features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Records with the trigger; it is the same for all, so no randomness is drawn.

        Raises:
            ConfigError: A record has no such feature.
        """
        size = features.shape[-1]
        outside = [index for index in self.features if not -size <= index < size]
        if outside:
            raise ConfigError(
                "the trigger names a feature that no record has",
                got=outside,
                expected=f"-{size} to {size - 1}",
            )
        marked = features.clone()
        marked[..., list(self.features)] = self.value
        return marked

    def run(self, hands: Hands) -> torch.Tensor:
        """The enlarged update of training on partly triggered records."""
        features, labels = hands.features.clone(), hands.labels.clone()
        for lane, generator in enumerate(hands.generators):
            for row, present in enumerate(hands.mask[lane]):
                chosen = self._draw(present, generator)
                features[lane, row, chosen] = self.trigger(features[lane, row, chosen], generator)
                labels[lane, row, chosen] = self.target_class
        boost = self.boost if self.boost is not None else hands.n_clients / len(hands.clients)
        return boost * hands.train(features, labels)

    def _draw(self, present: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Some of the records that are no padding, without replacement."""
        records = torch.nonzero(present).flatten()
        order = torch.randperm(len(records), generator=generator)
        return records[order[: max(1, round(self.poison_fraction * len(records)))]]
