"""Label flips: honest training on wrong labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from qflsec.attacks.base import BackdoorManipulation, Manipulation
from qflsec.attacks.records import drawn_records
from qflsec.attacks.values import check_choice, check_fraction, check_positive
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.federation import Hands, Pipeline
from qflsec.threat import Records, ThreatModel

__all__ = ["LabelFlip", "TargetedLabelFlip", "flipped_labels"]

FixedRule = Literal["reverse", "next", "random"]
FlipRule = Literal[FixedRule, "least-likely"]


def flipped_labels(
    labels: torch.Tensor, n_classes: int, rule: FixedRule, generators: list[torch.Generator]
) -> torch.Tensor:
    """Labels that are wrong.

    Args:
        labels: The labels.
        n_classes: K.
        rule: See :class:`LabelFlip`.
        generators: One for each lane; only ``"random"`` draws.

    Shapes:
        labels: ``(lane, m, N)``; returns the same
    """
    if rule == "reverse":
        return n_classes - 1 - labels
    if rule == "next":
        return (labels + 1) % n_classes
    shifts = [torch.randint(1, n_classes, labels.shape[1:], generator=generator) for generator in generators]
    return (labels + torch.stack(shifts)) % n_classes


def _least_likely(hands: Hands) -> torch.Tensor:
    with torch.no_grad():
        logits = hands.model(hands.received[..., None, :], hands.features)
    return logits.scatter(-1, hands.labels[..., None], torch.inf).argmin(dim=-1)


@register("attack", "label-flip")
@dataclass(frozen=True, kw_only=True)
class LabelFlip(Manipulation):
    """Train as the protocol says, on wrong labels.

    Args:
        rule: ``"reverse"`` turns class y into K-1-y (with an odd K the middle class stays), ``"next"`` into
            y+1 modulo K, ``"random"`` into any other class, drawn anew in each round, ``"least-likely"`` into the wrong
            class that the received model finds least likely, found anew in each round. For two classes they are the same.
        fraction: The fraction of the own records whose labels are flipped, drawn anew in each round; at least one.

    Raises:
        ConfigError: The rule is unknown, or the fraction out of range.

    Source:
        Fang, Cao, Jia, Gong: Local model poisoning attacks to Byzantine-robust federated learning, USENIX
        Security 2020, section 4.1 (``reverse``). ``least-likely`` is after the dynamic flips of Shejwalkar, Houmansadr,
        Kairouz, Ramage: Back to the drawing board, IEEE S&P 2022, as recalled; they are of a model that the attacker trains.
    """

    card = AttackCard(
        name="label-flip",
        idea="Corrupted clients train on flipped labels.",
        source=Source(
            paper="Fang et al., USENIX Security 2020, arXiv:1911.11815",
            year=2020,
            where="section 4.1, label flipping attack",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients with records of their own",),
    )
    rule: FlipRule = "reverse"
    fraction: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an unknown rule and a fraction that is none."""
        check_choice("rule", self.rule, get_args(FlipRule))
        check_fraction("fraction", self.fraction)

    def run(self, hands: Hands) -> torch.Tensor:
        """The update of training on the flipped labels."""
        wrong = (
            _least_likely(hands)
            if self.rule == "least-likely"
            else flipped_labels(hands.labels, hands.model.n_classes, self.rule, list(hands.generators))
        )
        if self.fraction < 1:
            chosen = drawn_records(hands.mask, self.fraction, hands.generators)
            wrong = torch.where(chosen, wrong, hands.labels)
        return hands.train(hands.features, wrong)


@register("attack", "targeted-label-flip")
@dataclass(frozen=True, kw_only=True)
class TargetedLabelFlip(BackdoorManipulation):
    """Train as the protocol says, with all own records of one class labelled as another.

    Success is the share of test records of the source class that the model gives the target class.

    Args:
        source_class: The class whose records are mislabelled.
        target_class: The class that they get.
        boost: The factor on the update; 1 leaves it as an honest client would send it.

    Raises:
        ConfigError: The two classes are the same, or ``boost`` is not positive.
    """

    card = AttackCard(
        name="targeted-label-flip",
        idea="Corrupted clients label all their records of one class as another.",
        source=Source(
            paper="Tolpegin, Truex, Gursoy, Liu: Data poisoning attacks against federated learning systems, "
            "ESORICS 2020, arXiv:2007.08432",
            year=2020,
            where="section 3.2, label flipping from a source class to a target class",
        ),
        family="backdoor",
        goal="integrity",
        needs=("corrupted clients with records of their own",),
    )
    source_class: int = 0
    boost: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a flip that changes nothing."""
        super().__post_init__()
        if self.source_class == self.target_class:
            raise ConfigError(
                "'source_class' and 'target_class' are the same",
                got=self.source_class,
                fix="set two different classes",
            )
        check_positive("boost", self.boost)

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse classes that the model does not know.

        Raises:
            IncompatibleAttack: There is no such class.
        """
        super().check(pipeline, threat)
        if not 0 <= self.source_class < pipeline.model.n_classes:
            raise IncompatibleAttack(
                f"{self.card.name!r} mislabels a class that the model does not have",
                got=f"source_class={self.source_class}",
                expected=f"0 to {pipeline.model.n_classes - 1}",
                fix="set 'source_class' of the attack",
            )

    def trigger(self, features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The records as they are: there is no mark on them."""
        return features

    def victims(self, records: Records) -> torch.Tensor:
        """The records of the source class."""
        return records.labels == self.source_class

    def run(self, hands: Hands) -> torch.Tensor:
        """The update of training on the mislabelled records."""
        target = torch.full_like(hands.labels, self.target_class)
        labels = torch.where(hands.labels == self.source_class, target, hands.labels)
        return self.boost * hands.train(hands.features, labels)
