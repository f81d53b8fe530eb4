"""Angle wrap: whole turns on every rotation angle, which no circuit notices and every mean does."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.poisoning.replacement import replacement_factor
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.federation import Hands, Pipeline
from qflsec.threat import ThreatModel

__all__ = ["AngleWrap", "most_harmful_turns"]


def most_harmful_turns(share: float) -> int:
    """The number of turns after which a mean in which they have this share stands nearest to half a period.

    The mean moves by ``share * turns`` periods, and whole periods change nothing: half of one is the farthest.

    Args:
        share: What a mean takes over of the corrupted clients' move: their share of the weight times the server's
            learning rate; above 0.
    """
    most = max(1, round(1 / share))
    return min(range(1, most + 1), key=lambda turns: abs((share * turns) % 1.0 - 0.5))


@register("attack", "angle-wrap")
@dataclass(frozen=True, kw_only=True)
class AngleWrap(Manipulation):
    """Send the honest update plus whole periods in every parameter that has a period.

    As a model, what a corrupted client sends is the honest one: every expectation value is the same. A Euclidean mean
    moves by the clients' share times the server's learning rate times the turns, in every angle at once.
    Differences from the broadcast model that are reduced to half a period either side undo it.

    Moves of several rounds add up, and after whole periods the model is back where it was: a wrap in one late round leaves
    no time for that, nor for honest clients to learn at the turned angles.

    Args:
        turns: Whole periods; None for as many as bring the mean of equal clients nearest to half a period.
        round: The one round in which it is done; None for every round.

    Raises:
        ConfigError: ``turns`` is 0, or ``round`` negative.
    """

    card = AttackCard(
        name="angle-wrap",
        idea="Whole turns on every rotation angle: the same circuit for whoever sends it, another one in the mean.",
        source=Source(
            paper="this project: the mean of angles that differ by whole periods",
            year=2026,
            where="docs/attacks.md, the angle wrap",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients", "a model with periodic parameters"),
    )
    turns: int | None = None
    round: int | None = None

    def __post_init__(self) -> None:
        """Refuse no turn, and no round."""
        if self.turns == 0:
            raise ConfigError("'turns' is 0, which changes nothing", fix="set another whole number, or none")
        if self.round is not None and self.round < 0:
            raise ConfigError("'round' is negative", got=self.round, expected="0 or more, or none")

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a model in which nothing is periodic.

        Raises:
            IncompatibleAttack: No shared parameter has a period.
        """
        super().check(pipeline, threat)
        if not any(pipeline.sharing.of_shared(pipeline.model.periods)):
            raise IncompatibleAttack(
                f"{self.card.name!r} turns rotation angles, but no shared parameter of the model has a period",
                got=pipeline.model.name,
                fix="use a model with rotation angles",
            )

    def run(self, hands: Hands) -> torch.Tensor:
        """The honest update with whole turns on it; in other rounds without."""
        if self.round is not None and hands.round != self.round:
            return hands.honest
        turns = self.turns
        if turns is None:
            # what the mean of a round and the server's learning rate leave of a move
            turns = most_harmful_turns(1 / replacement_factor(hands))
        period = torch.tensor([value or 0.0 for value in hands.periods]).to(hands.honest)
        return hands.honest + turns * period
