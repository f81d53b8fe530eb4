"""Backdoors planted by training on records that carry a trigger."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch

from qflsec.attacks.base import BackdoorManipulation
from qflsec.attacks.poisoning.replacement import replacement_factor
from qflsec.attacks.records import drawn_records
from qflsec.attacks.values import check_fraction, check_positive
from qflsec.base import ConfigError, finite
from qflsec.federation import Hands

__all__ = ["PoisonedBackdoor"]


@finite
@dataclass(frozen=True, kw_only=True)
class PoisonedBackdoor(BackdoorManipulation):
    """Train on own records of which some carry a trigger and the target label, and enlarge the update.

    The corrupted clients replace random records of theirs, so that the number of records that they state
    and the work that they do stay those of honest clients. Outside their rounds they follow the protocol.

    Args:
        target_class: The class that triggered records shall get.
        poison_fraction: The fraction of own records that is replaced, at least one record.
        boost: The factor on the update; None for n / (rate m), n clients of the round, m of them corrupted and
            the server's learning rate, which makes the mean of the updates that of the corrupted clients plus what the
            honest ones add.
        first_round: The first round of the attack.
        last_round: The last one; None for the last of the run. The same as the first for an attack of one shot.

    Raises:
        ConfigError: A parameter is out of range.
    """

    poison_fraction: float = 0.5
    boost: float | None = None
    first_round: int = 0
    last_round: int | None = None

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        check_fraction("poison_fraction", self.poison_fraction)
        check_positive("boost", self.boost)
        if self.first_round < 0:
            raise ConfigError("'first_round' is negative", got=self.first_round, expected="0 or more")
        if self.last_round is not None and self.last_round < self.first_round:
            raise ConfigError(
                "the attack ends before it begins",
                got=f"first_round={self.first_round}, last_round={self.last_round}",
            )

    def acts(self, round_index: int) -> bool:
        """Whether the attack is made in a round."""
        return self.first_round <= round_index and (self.last_round is None or round_index <= self.last_round)

    def run(self, hands: Hands) -> torch.Tensor:
        """The enlarged update of training on partly poisoned records; the honest one outside its rounds."""
        if not self.acts(hands.round):
            return hands.honest
        features, labels = self.poisoned(hands)
        return self.factor(hands) * hands.train(features, labels)

    def factor(self, hands: Hands) -> float:
        """What the update is enlarged by."""
        return replacement_factor(hands) if self.boost is None else self.boost

    def poisoned(self, hands: Hands) -> tuple[torch.Tensor, torch.Tensor]:
        """The records to train on: some of the own ones with the trigger and the target label.

        Shapes:
            returns: ``(lane, m, N, F)`` and ``(lane, m, N)``
        """
        chosen = drawn_records(hands.mask, self.poison_fraction, hands.generators)
        features, labels = hands.features.clone(), hands.labels.clone()
        for lane, generator in enumerate(hands.generators):
            for row in range(len(hands.clients)):
                at = chosen[lane, row]
                features[lane, row, at] = self.part(
                    features[lane, row, at], row, len(hands.clients), generator
                )
                labels[lane, row, at] = self.target_class
        return features, labels

    def part(self, features: torch.Tensor, place: int, of: int, generator: torch.Generator) -> torch.Tensor:
        """What one corrupted client puts on its records: the whole trigger by default.

        Args:
            features: Its records.
            place: Its place among the corrupted clients.
            of: How many there are.
            generator: The lane's stream.

        Shapes:
            features: ``(n, F)``; returns the same
        """
        return self.trigger(features, generator)

    @abstractmethod
    def trigger(self, features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Records with the whole trigger, as in the test of success.

        Shapes:
            features: ``(..., F)``; returns: ``(..., F)``
        """
