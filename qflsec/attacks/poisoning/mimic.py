"""Mimic: all corrupted clients copy one honest client, whom the rule then counts far too often."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.poisoning.benign import sights
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.federation import Hands, Moved, Pipeline
from qflsec.threat import ThreatModel

__all__ = ["Mimic"]


@dataclass(frozen=True, kw_only=True)
class _Watch:
    """What was seen of the honest clients so far.

    Attributes:
        seen: Rounds.
        mean: The running mean of their updates.
        direction: The running direction of largest variance.
        along: For each, its updates along that direction, added up.

    Shapes:
        mean, direction: ``(S,)``; along: ``(b,)``
    """

    seen: int = 0
    mean: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    direction: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    along: torch.Tensor = field(default_factory=lambda: torch.zeros(0))

    def after(self, updates: torch.Tensor, generator: torch.Generator) -> _Watch:
        """What is known after another round: one step of the power iteration over all rounds so far."""
        old, new = self.seen / (self.seen + 1), 1 / (self.seen + 1)
        before, direction, along = self.mean, self.direction, self.along
        if not self.seen:
            before, along = torch.zeros_like(updates[0]), torch.zeros_like(updates[:, 0])
            direction = torch.randn(updates.shape[1], generator=generator, dtype=torch.float64)
        mean = old * before + new * updates.mean(dim=0)
        centred = updates - mean
        direction = old * direction + new * (centred.T @ (centred @ direction))
        direction = direction / direction.norm().clamp(min=torch.finfo(torch.float64).tiny)
        if len(along) == len(updates):  # in rounds with other clients there is nobody to add to
            along = along + updates @ direction
        return _Watch(seen=self.seen + 1, mean=mean, direction=direction, along=along)


@register("attack", "mimic")
@dataclass(frozen=True, kw_only=True)
class Mimic(Manipulation):
    """Send what one honest client sends: the one that lies farthest along the direction of largest variance.

    The corrupted clients follow the protocol while they watch, and find direction and client by a running power
    iteration; from then on they copy that client. What they send is an honest update, so that no rule can tell it
    from one; where clients' data differ, the model follows one of them.

    Args:
        warm_up: Rounds of watching, at least one. The copying begins in the last of them.

    Raises:
        ConfigError: It is no round.

    Source:
        Karimireddy, He, Jaggi: Byzantine-robust learning on heterogeneous datasets via bucketing, ICLR 2022,
        arXiv:2006.09365, section 3.2 and appendix B.
    """

    card = AttackCard(
        name="mimic",
        idea="All corrupted clients copy the honest client that lies farthest along the largest variance.",
        source=Source(
            paper="Karimireddy, He, Jaggi: Byzantine-robust learning on heterogeneous datasets via bucketing, "
            "ICLR 2022, arXiv:2006.09365",
            year=2022,
            where="section 3.2, the mimic attack, and appendix B",
        ),
        family="poisoning",
        goal="availability",
        needs=("honest updates",),
    )
    warm_up: int = 1

    def __post_init__(self) -> None:
        """Refuse a warm-up without a round."""
        if self.warm_up < 1:
            raise ConfigError("'warm_up' is too short", got=self.warm_up, expected="at least 1")

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a threat model that shows nobody who could be copied.

        Raises:
            IncompatibleAttack: Honest updates are not granted.
        """
        super().check(pipeline, threat)
        if "honest-updates" not in threat.knows:
            raise IncompatibleAttack(
                f"{self.card.name!r} copies an honest client, and sees none",
                got=f"a threat model that knows {', '.join(threat.knows) or 'nothing'}",
                expected="one that knows 'honest-updates'",
                fix='set knows = ["honest-updates"] in the threat model',
            )

    def start(self, n_params: int) -> _Watch:
        """Nothing was seen."""
        return _Watch()

    def run(self, hands: Hands) -> Moved:
        """The honest updates while watching, then copies of one client's."""
        sent, states = hands.honest.clone(), []
        for lane, (sight, watch) in enumerate(zip(sights(hands), hands.states, strict=True)):
            if not sight.exact:  # no honest client took part
                states.append(watch)
                continue
            now = watch if watch.seen >= self.warm_up else watch.after(sight.updates, sight.generator)
            states.append(now)
            if now.seen >= self.warm_up and len(now.along) == len(sight.updates):
                sent[lane] = sight.updates[int(now.along.abs().argmax())].to(sent.dtype)
        return sent, states
