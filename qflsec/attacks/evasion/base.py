"""Evasion: records that are moved a little so that the trained model answers wrongly."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import Challenge, EvasionChallenge, EvasionClaim
from qflsec.attacks.needs import missing_answers, missing_architecture, missing_items
from qflsec.base import ConfigError, finite
from qflsec.defenses.evasion.ascent import Loss, within_budget
from qflsec.threat import View

__all__ = ["Ascent", "Evasion", "WhiteBox", "missing_white_box", "projected", "white_box_loss"]


@finite
@dataclass(frozen=True, kw_only=True)
class Evasion(Inference):
    """An attack on the answers of the last model.

    Args:
        epsilon: How far each feature of a record may be moved.

    Units:
        epsilon: that of the features, radians for angles

    Raises:
        ConfigError: ``epsilon`` is not positive.
    """

    challenge_type: ClassVar[type[Challenge]] = EvasionChallenge
    epsilon: float = 0.3

    def __post_init__(self) -> None:
        """Refuse a budget of nothing."""
        if not self.epsilon > 0:
            raise ConfigError("'epsilon' is not positive", got=self.epsilon)

    def missing(self, view: View, challenge: EvasionChallenge) -> str | None:
        """A model that answers."""
        return missing_answers(view)


@dataclass(frozen=True, kw_only=True)
class WhiteBox(Evasion):
    """An evasion that follows the gradient of the model itself."""

    def missing(self, view: View, challenge: EvasionChallenge) -> str | None:
        """The model's parameters and architecture; answers alone have no gradient."""
        return missing_white_box(view)

    def run(self, view: View, challenge: EvasionChallenge) -> EvasionClaim:
        """The moved records."""
        params = view.final_model()
        assert params is not None  # missing() said so
        loss = white_box_loss(view.granted.model, params, challenge.records.labels)
        return EvasionClaim(features=self.moved(loss, challenge))

    @abstractmethod
    def moved(self, loss: Loss, challenge: EvasionChallenge) -> Tensor:
        """The records, moved so that the loss rises.

        Shapes:
            returns: ``(n, F)``
        """


def missing_white_box(view: View) -> str | None:
    """Why a model's gradient cannot be followed; None where it can."""
    return missing_architecture(view) or missing_items(view, "model", "final-model", what="model")


def white_box_loss(model: Any, params: Tensor, labels: Tensor) -> Loss:  # noqa: ANN401 - a model of the granted kind
    """The training loss of each record at these parameters.

    Shapes:
        params: ``(P,)``; labels: ``(n,)``
    """

    def loss(features: Tensor) -> Tensor:
        found: Tensor = model.loss.per_sample(model(params, features), labels)
        return found

    return loss


def projected(moved: Tensor, challenge: EvasionChallenge) -> Tensor:
    """The nearest records that the challenge allows.

    Shapes:
        moved: ``(n, F)``; returns the same
    """
    low, high = challenge.feature_range
    return within_budget(moved, challenge.records.features, challenge.epsilon, low, high)


@dataclass(kw_only=True)
class Ascent:
    """The best records so far, by their loss.

    Attributes:
        features: The records.
        loss: Their losses.

    Shapes:
        features: ``(n, F)``; loss: ``(n,)``
    """

    features: Tensor
    loss: Tensor

    def keep(self, features: Tensor, loss: Tensor) -> Tensor:
        """Keep what is better, and say where.

        Shapes:
            returns: ``(n,)``, boolean
        """
        better = loss > self.loss
        self.features = torch.where(better[:, None], features, self.features)
        self.loss = torch.where(better, loss, self.loss)
        return better
