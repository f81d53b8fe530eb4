"""A universal perturbation: one move of the features that fools the model on many records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qflsec.attacks.challenges import EvasionChallenge, EvasionClaim
from qflsec.attacks.evasion.base import Evasion, missing_white_box, projected, white_box_loss
from qflsec.base import AttackCard, ConfigError, Source, finite, register
from qflsec.defenses.evasion.ascent import Loss, feature_gradient, within_budget
from qflsec.threat import Records, View

__all__ = ["Universal", "universal_move"]

_CORNERS = 64
"""Of the budget, among which starts are chosen."""


@finite
@register("attack", "universal-perturbation")
@dataclass(frozen=True, kw_only=True)
class Universal(Evasion):
    """Add the same move to every record.

    The move raises the mean loss on records that the adversary has: its own ones, so that it never sees those that are
    moved, or those themselves. Signed gradient steps of the mean loss, which shrink and are projected back into the budget,
    from no move and from the best of some corners of the budget; the best move counts.

    Args:
        found_on: ``"auxiliary"``, records of the adversary's own; or ``"records"``, those that are moved.
        steps: Steps of each start.
        restarts: Starts; the first one from no move.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Moosavi-Dezfooli, Fawzi, Fawzi, Frossard, CVPR 2017, arXiv:1610.08401, with gradient steps on the mean loss in
        place of steps from record to record; for quantum classifiers Gong, Deng, National Science Review 9, 2022,
        arXiv:2102.07788.
    """

    card = AttackCard(
        name="universal-perturbation",
        idea="One and the same move of the features is added to every record.",
        source=Source(
            paper="Gong, Deng: Universal adversarial examples and perturbations for quantum classifiers, National "
            "Science Review 9, 2022, arXiv:2102.07788",
            year=2022,
            where="universal adversarial perturbations, here by gradient steps on the mean loss",
        ),
        family="evasion",
        goal="integrity",
        needs=(
            "a model that the adversary can read, at best the final one",
            "the model's architecture",
            "records of its own, unless the move is found on those that are moved",
        ),
    )
    found_on: Literal["auxiliary", "records"] = "auxiliary"
    steps: int = 30
    restarts: int = 4

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        if self.found_on not in {"auxiliary", "records"}:
            raise ConfigError("unknown 'found_on'", got=self.found_on, expected="'auxiliary' or 'records'")
        for name in ("steps", "restarts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"too few {name!r}", got=getattr(self, name), expected="at least 1")

    def missing(self, view: View, challenge: EvasionChallenge) -> str | None:
        """The model's parameters and architecture, and records to find the move on."""
        own = view.granted.auxiliary
        if self.found_on == "auxiliary" and (own is None or not len(own.labels)):
            return "the adversary has no records of its own to find a move on"
        return missing_white_box(view)

    def run(self, view: View, challenge: EvasionChallenge) -> EvasionClaim:
        """All records, moved alike as far as their range allows."""
        params = view.final_model()
        records = challenge.records if self.found_on == "records" else view.granted.auxiliary
        assert params is not None  # missing() said so
        assert records is not None
        move = universal_move(
            white_box_loss(view.granted.model, params, records.labels),
            records,
            epsilon=self.epsilon,
            feature_range=challenge.feature_range,
            steps=self.steps,
            restarts=self.restarts,
            generator=challenge.generator(),
        )
        return EvasionClaim(features=projected(challenge.records.features + move, challenge))


def universal_move(
    loss: Loss,
    records: Records,
    *,
    epsilon: float,
    feature_range: tuple[float, float],
    steps: int,
    restarts: int,
    generator: torch.Generator,
) -> Tensor:
    """The move of all records that raises their mean loss most, as far as was found.

    Args:
        loss: The loss of each record; rows of records may have further axes in front.
        records: The records.
        epsilon: How far each feature may be moved.
        feature_range: Where features lie; a record that would be moved out of it stays at its border.
        steps: Steps of each start.
        restarts: Starts; the first one from no move.
        generator: Of the corners among which the others are.

    Shapes:
        returns: ``(F,)``, each number between ``-epsilon`` and ``epsilon``
    """
    original = records.features

    def moved(move: Tensor) -> Tensor:
        return within_budget(original + move, original, epsilon, *feature_range)

    drawn = torch.rand(_CORNERS, original.shape[1], generator=generator)
    corners = torch.unique(torch.where(drawn < 0.5, -epsilon, epsilon).to(original.dtype), dim=0)
    with torch.no_grad():
        first = loss(moved(corners[:, None])).mean(dim=1).argsort(descending=True, stable=True)
    starts = torch.cat([torch.zeros_like(original[:1]), corners[first[: restarts - 1]]])
    best, most = starts[0], -torch.inf
    for start in starts:
        move = start
        for step in range(steps + 1):
            here = moved(move)
            value, slope = feature_gradient(loss, here)
            if float(value.mean()) > most:
                best, most = move, float(value.mean())
            if step < steps:
                size = 4 * epsilon / steps * (1 - step / steps)  # from one side of the budget to the other
                free = here == original + move  # a feature at its border moves no farther
                move = (move + size * (slope * free).sum(dim=0).sign()).clamp(-epsilon, epsilon)
    return best
