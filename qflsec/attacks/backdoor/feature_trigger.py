"""Backdoors that answer to fixed feature values: planted whole, in parts, or where learning does not look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.attacks.backdoor.poisoned import PoisonedBackdoor
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.federation import Hands, Moved, Pipeline
from qflsec.threat import ThreatModel

__all__ = ["DistributedTrigger", "FeatureTrigger", "Neurotoxin"]


@register("attack", "feature-trigger")
@dataclass(frozen=True, kw_only=True)
class FeatureTrigger(PoisonedBackdoor):
    """Train on own records of which some carry a trigger and the target label, and enlarge the update.

    Args:
        features: The features that carry the trigger; negative indices count from the end.
        value: What they are set to; inside the range of the features, so that a triggered record is a
            possible one.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Bagdasaryan, Veit, Hua, Estrin, Shmatikov: How to backdoor federated learning, AISTATS 2020,
        equation 3 (model replacement; its gamma = n/eta is ``boost`` for m = 1). Gu, Dolan-Gavitt, Garg: BadNets, 2017
        (the trigger).
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

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        object.__setattr__(self, "features", tuple(self.features))
        if not self.features or len(set(self.features)) != len(self.features):
            raise ConfigError("'features' of a trigger must be distinct, at least one", got=self.features)
        if not math.isfinite(self.value):
            raise ConfigError("'value' of a trigger must be finite", got=self.value)

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
        return self._marked(features, self.features)

    def _marked(self, features: torch.Tensor, marks: Sequence[int]) -> torch.Tensor:
        size = features.shape[-1]
        outside = [index for index in marks if not -size <= index < size]
        if outside:
            raise ConfigError(
                "the trigger names a feature that no record has",
                got=outside,
                expected=f"-{size} to {size - 1}",
            )
        marked = features.clone()
        marked[..., list(marks)] = self.value
        return marked


@register("attack", "distributed-trigger")
@dataclass(frozen=True, kw_only=True)
class DistributedTrigger(FeatureTrigger):
    """Every corrupted client plants its own part of the trigger; the whole of it opens the backdoor (DBA).

    The features of the trigger are dealt to the corrupted clients in turn. With fewer features than clients, several
    plant the same part.

    Source:
        Xie, Huang, Chen, Li: DBA: distributed backdoor attacks against federated learning, ICLR 2020.
    """

    card = AttackCard(
        name="distributed-trigger",
        idea="Each corrupted client plants a part of the trigger, and the whole of it opens the backdoor.",
        source=Source(
            paper="Xie, Huang, Chen, Li: DBA: distributed backdoor attacks against federated learning, ICLR 2020",
            year=2020,
            where="section 2.2, local triggers and the global trigger",
        ),
        family="backdoor",
        goal="integrity",
        needs=("two corrupted clients with records of their own",),
    )
    features: tuple[int, ...] = (-2, -1)

    def __post_init__(self) -> None:
        """Refuse a trigger that cannot be divided."""
        super().__post_init__()
        if len(self.features) < 2:
            raise ConfigError(
                "a distributed trigger has at least two features", got=self.features, fix="name another one"
            )

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a single corrupted client, which has nobody to divide the trigger with.

        Raises:
            IncompatibleAttack: There is only one.
        """
        super().check(pipeline, threat)
        if len(threat.clients) < 2:
            raise IncompatibleAttack(
                f"{self.card.name!r} divides its trigger between corrupted clients",
                got=f"{len(threat.clients)} corrupted clients",
                expected="at least 2",
                fix="raise 'n' of the threat model, or use 'feature-trigger'",
            )

    def part(self, features: torch.Tensor, place: int, of: int, generator: torch.Generator) -> torch.Tensor:
        """The features of the trigger that are dealt to this client."""
        parts = min(of, len(self.features))
        return self._marked(features, self.features[place % parts :: parts])


@register("attack", "neurotoxin")
@dataclass(frozen=True, kw_only=True)
class Neurotoxin(FeatureTrigger):
    """Plant the trigger in the parameters that honest training moves least, so that it stays when the attacker is gone.

    The parameters that the last step of the model moved most, by magnitude, are left alone. The paper projects every
    local step; this projects the update after local training, which is the same for one step. In the first
    round no step is known, and nothing is left alone.

    Args:
        ratio: The fraction of parameters that is left alone.

    Raises:
        ConfigError: It is no fraction.

    Source:
        Zhang, Panda, Song, Yang, Mahoney, Mittal, Ramchandran, Gonzalez: Neurotoxin: durable backdoors in federated
        learning, ICML 2022, arXiv:2206.10341, algorithm 1.
    """

    card = AttackCard(
        name="neurotoxin",
        idea="A trigger planted in the parameters that honest training moves least.",
        source=Source(
            paper="Zhang et al.: Neurotoxin: durable backdoors in federated learning, ICML 2022, arXiv:2206.10341",
            year=2022,
            where="algorithm 1",
        ),
        family="backdoor",
        goal="integrity",
        needs=("corrupted clients with records of their own",),
    )
    ratio: float = 0.25

    def __post_init__(self) -> None:
        """Refuse what is no fraction."""
        super().__post_init__()
        if not 0 <= self.ratio < 1:
            raise ConfigError("'ratio' is a fraction", got=self.ratio, expected="from 0 to below 1")

    def run(self, hands: Hands) -> Moved:  # type: ignore[override]  # beside the updates, the model received
        """The projected update, and the model that was received."""
        sent = super().run(hands)
        if self.acts(hands.round):
            for lane, before in enumerate(hands.states):
                if before is not None:
                    sent[lane] = sent[lane] * self.quiet(hands.base[lane] - before)
        return sent, list(hands.base.clone())

    def quiet(self, step: torch.Tensor) -> torch.Tensor:
        """1 for the parameters that a step moved least, by magnitude, and 0 for the fraction that it moved most.

        Shapes:
            step: ``(m, S)``; returns the same
        """
        left = round(self.ratio * step.shape[-1])
        mask = torch.ones_like(step)
        if left:
            mask.scatter_(-1, step.abs().topk(left, dim=-1).indices, 0.0)
        return mask
