"""White-box evasion by gradients: one signed step, many, and many with steps that adapt."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.challenges import EvasionChallenge
from qflsec.attacks.evasion.base import Ascent, WhiteBox, projected
from qflsec.base import AttackCard, ConfigError, Source, finite, register
from qflsec.defenses.evasion.ascent import Loss, feature_gradient

__all__ = ["AutoPgd", "Fgsm", "Pgd", "checkpoints"]

_NEEDS = ("a model that the adversary can read, at best the final one", "the model's architecture")


@register("attack", "fgsm")
@dataclass(frozen=True, kw_only=True)
class Fgsm(WhiteBox):
    """Move every feature by ``epsilon`` along the sign of the loss's gradient.

    Source:
        Goodfellow, Shlens, Szegedy: Explaining and harnessing adversarial examples, ICLR 2015, arXiv:1412.6572,
        section 4.
    """

    card = AttackCard(
        name="fgsm",
        idea="Every feature is moved by epsilon along the sign of the loss's gradient.",
        source=Source(
            paper="Goodfellow, Shlens, Szegedy: Explaining and harnessing adversarial examples, ICLR 2015, "
            "arXiv:1412.6572",
            year=2015,
            where="section 4, the fast gradient sign method",
        ),
        family="evasion",
        goal="integrity",
        needs=_NEEDS,
    )

    def moved(self, loss: Loss, challenge: EvasionChallenge) -> Tensor:
        """One step."""
        _, slope = feature_gradient(loss, challenge.records.features)
        return projected(challenge.records.features + self.epsilon * torch.sign(slope), challenge)


@finite
@dataclass(frozen=True, kw_only=True)
class _Steps(WhiteBox):
    """Several steps, and several starts.

    Attributes:
        steps: Steps of each start.
        restarts: Starts; the first one where the record is, the others drawn around it.
    """

    steps: int = 20
    restarts: int = 2

    def __post_init__(self) -> None:
        """Refuse fewer than one."""
        super().__post_init__()
        for name in ("steps", "restarts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"too few {name!r}", got=getattr(self, name), expected="at least 1")

    def moved(self, loss: Loss, challenge: EvasionChallenge) -> Tensor:
        """The best of all starts."""
        generator, original = challenge.generator(), challenge.records.features
        with torch.no_grad():
            best = Ascent(features=original, loss=loss(original))
        for start in range(self.restarts):
            offset = torch.zeros_like(original)
            if start:
                offset = self.epsilon * (2 * torch.rand(original.shape, generator=generator) - 1)
            self.climb(loss, projected(original + offset, challenge), best, challenge)
        return best.features

    @abstractmethod
    def climb(self, loss: Loss, start: Tensor, best: Ascent, challenge: EvasionChallenge) -> None:
        """Climb from a start and keep what is best.

        Shapes:
            start: ``(n, F)``
        """


@register("attack", "pgd")
@dataclass(frozen=True, kw_only=True)
class Pgd(_Steps):
    """Many signed gradient steps, each projected back into the budget.

    Args:
        step_size: The size of a step; None for ``2.5 epsilon / steps``.

    Raises:
        ConfigError: It is not positive.

    Source:
        Madry, Makelov, Schmidt, Tsipras, Vladu: Towards deep learning models resistant to adversarial attacks,
        ICLR 2018, arXiv:1706.06083.
    """

    card = AttackCard(
        name="pgd",
        idea="Many signed gradient steps within the budget.",
        source=Source(
            paper="Madry et al.: Towards deep learning models resistant to adversarial attacks, ICLR 2018, "
            "arXiv:1706.06083",
            year=2018,
            where="section 2.1, projected gradient descent",
        ),
        family="evasion",
        goal="integrity",
        needs=_NEEDS,
    )
    step_size: float | None = None

    def __post_init__(self) -> None:
        """Refuse a step that is none."""
        super().__post_init__()
        if self.step_size is not None and not self.step_size > 0:
            raise ConfigError("'step_size' is not positive", got=self.step_size)

    def climb(self, loss: Loss, start: Tensor, best: Ascent, challenge: EvasionChallenge) -> None:
        """Steps of one size."""
        size = 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size
        features = start
        for _ in range(self.steps):
            value, slope = feature_gradient(loss, features)
            best.keep(features, value)
            features = projected(features + size * torch.sign(slope), challenge)
        with torch.no_grad():
            best.keep(features, loss(features))


def checkpoints(steps: int) -> list[int]:
    """The steps at which AutoPGD looks back.

    They are ``ceil(p_j N)`` with p_0 = 0, p_1 = 0.22 and ``p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06)``.

    Source:
        Croce, Hein, ICML 2020, arXiv:2003.01690, section 3.
    """
    shares = [0.0, 0.22]
    while shares[-1] <= 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return sorted({math.ceil(round(share * steps, 9)) for share in shares if share <= 1})


@register("attack", "auto-pgd")
@dataclass(frozen=True, kw_only=True)
class AutoPgd(_Steps):
    """Gradient steps with momentum whose size is halved where they no longer help.

    At each checkpoint a record's step is halved, and it goes back to its best place, where fewer than three of four
    steps since the last one raised the loss, or neither step nor best loss changed since.

    Source:
        Croce, Hein: Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks,
        ICML 2020, arXiv:2003.01690, algorithm 1 (alpha = 0.75, rho = 0.75).
    """

    card = AttackCard(
        name="auto-pgd",
        idea="Gradient steps with momentum, halved where they no longer help.",
        source=Source(
            paper="Croce, Hein: Reliable evaluation of adversarial robustness, ICML 2020, arXiv:2003.01690",
            year=2020,
            where="algorithm 1, APGD",
        ),
        family="evasion",
        goal="integrity",
        needs=_NEEDS,
    )
    steps: int = 30

    def climb(self, loss: Loss, start: Tensor, best: Ascent, challenge: EvasionChallenge) -> None:
        """Algorithm 1 from one start, for all records at once."""
        looks = set(checkpoints(self.steps))
        n, last = len(start), 0
        size = torch.full((n, 1), 2 * self.epsilon)
        value, slope = feature_gradient(loss, start)
        own = Ascent(features=start, loss=value)
        before, now = start, start
        raised, halved, best_then = torch.zeros(n), torch.zeros(n, dtype=torch.bool), value
        for step in range(1, self.steps + 1):
            plain = projected(now + size * torch.sign(slope), challenge)
            ahead = plain
            if step > 1:
                ahead = projected(now + 0.75 * (plain - now) + 0.25 * (now - before), challenge)
            before, now = now, ahead
            old, (value, slope) = value, feature_gradient(loss, now)
            raised += (value > old).float()
            own.keep(now, value)
            if step in looks:
                stale = ~halved & (own.loss <= best_then)
                halved = (raised < 0.75 * (step - last)) | stale
                size = torch.where(halved[:, None], size / 2, size)
                now = torch.where(halved[:, None], own.features, now)
                value, slope = feature_gradient(loss, now)
                raised, best_then, last = torch.zeros(n), own.loss, step
        best.keep(own.features, own.loss)
