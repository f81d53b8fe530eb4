"""Model replacement: the adversary's own model in the place of the server's."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.poisoning.label_flip import flipped_labels
from qflsec.attacks.values import check_positive
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.federation import Hands

__all__ = ["ModelReplacement", "replacement_factor"]


def replacement_factor(hands: Hands) -> float:
    """How much an update is enlarged so that the mean of equal clients makes the model the adversary's own.

    It is ``n / (rate m)`` for n clients of the round, m corrupted ones and the server's learning rate: then the model
    becomes the adversary's plus what the honest clients add, which is little near the end of training.

    Source:
        Bagdasaryan et al., AISTATS 2020, arXiv:1807.00459, equation 3, whose gamma is n / eta for one client.
    """
    participants = hands.training.n_participants
    corrupted = max(1.0, len(hands.clients) * participants / hands.n_clients)
    return participants / (hands.training.server_learning_rate * corrupted)


@register("attack", "model-replacement")
@dataclass(frozen=True, kw_only=True)
class ModelReplacement(Manipulation):
    """Put a model that was trained on reversed labels in the place of the server's, by enlarging the update.

    Args:
        round: The one round in which it is done; None for every round.
        boost: The factor on the update; None for :func:`replacement_factor`.

    Raises:
        ConfigError: A parameter is out of range.
    """

    card = AttackCard(
        name="model-replacement",
        idea="An update so enlarged that the mean becomes the model that the adversary trained on wrong labels.",
        source=Source(
            paper="Bagdasaryan, Veit, Hua, Estrin, Shmatikov: How to backdoor federated learning, AISTATS 2020, "
            "arXiv:1807.00459",
            year=2020,
            where="equation 3, model replacement",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients with records of their own",),
    )
    round: int | None = None
    boost: float | None = None

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if self.round is not None and self.round < 0:
            raise ConfigError("'round' is negative", got=self.round, expected="0 or more, or none")
        check_positive("boost", self.boost)

    def run(self, hands: Hands) -> torch.Tensor:
        """The enlarged update; the honest one in other rounds."""
        if self.round is not None and hands.round != self.round:
            return hands.honest
        wrong = flipped_labels(hands.labels, hands.model.n_classes, "reverse", list(hands.generators))
        factor = replacement_factor(hands) if self.boost is None else self.boost
        return factor * hands.train(hands.features, wrong)
