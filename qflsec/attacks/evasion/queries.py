"""Black-box evasion: by the model's answers alone, or by a model of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qflsec.attacks.challenges import EvasionChallenge, EvasionClaim
from qflsec.attacks.evasion.base import Ascent, Evasion, projected, white_box_loss
from qflsec.attacks.evasion.gradients import Pgd
from qflsec.attacks.needs import missing_answers, missing_architecture
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.models import Model, classical_like
from qflsec.threat import View

__all__ = ["Queries", "Transfer"]


@register("attack", "query-evasion")
@dataclass(frozen=True, kw_only=True)
class Queries(Evasion):
    """Random steps to corners of the budget, kept where the model's answer gets worse.

    In each query some features of a record, at first all and in the end one, are moved to one end of what the budget
    allows or the other. No gradient and no parameter is read.

    Args:
        queries: Queries for each record.

    Raises:
        ConfigError: There are none.

    Source:
        Andriushchenko, Croce, Flammarion, Hein: Square attack: a query-efficient black-box adversarial attack via random
        search, ECCV 2020, arXiv:1912.00049; its squares of pixels are sets of features here.
    """

    card = AttackCard(
        name="query-evasion",
        idea="Random steps to corners of the budget, kept where the model's answer gets worse.",
        source=Source(
            paper="Andriushchenko, Croce, Flammarion, Hein: Square attack, ECCV 2020, arXiv:1912.00049",
            year=2020,
            where="algorithm 1, random search at the corners of the budget, on sets of features",
        ),
        family="evasion",
        goal="integrity",
        needs=("a model that the adversary can query",),
    )
    queries: int = 100

    def __post_init__(self) -> None:
        """Refuse an attack that may not ask."""
        super().__post_init__()
        if self.queries < 1:
            raise ConfigError("too few 'queries'", got=self.queries, expected="at least 1")

    def run(self, view: View, challenge: EvasionChallenge) -> EvasionClaim:
        """The worst answers that were found."""
        generator, original = challenge.generator(), challenge.records.features
        n, size = original.shape
        best = Ascent(features=original, loss=self._loss(view, challenge, original))
        for query in range(self.queries):
            count = max(1, round(size * (1 - query / self.queries)))
            chosen = torch.rand(n, size, generator=generator).argsort(dim=1) < count
            signs = torch.where(torch.rand(n, size, generator=generator) < 0.5, -1.0, 1.0)
            tried = projected(torch.where(chosen, original + self.epsilon * signs, best.features), challenge)
            best.keep(tried, self._loss(view, challenge, tried))
        return EvasionClaim(features=best.features)

    def _loss(self, view: View, challenge: EvasionChallenge, features: Tensor) -> Tensor:
        logits = view.logits(features)
        assert logits is not None  # missing() said so
        return view.loss.per_sample(logits, challenge.records.labels)


@register("attack", "transfer-evasion")
@dataclass(frozen=True, kw_only=True)
class Transfer(Evasion):
    """Projected gradient steps on a model of the adversary's own, trained on its own records.

    The model under attack is neither read nor queried while records are moved.

    Args:
        surrogate: ``"same"`` trains the architecture under attack from another start, ``"classical"`` a classical
            network with about as many parameters.
        training_steps: Adam steps with all records.
        learning_rate: Of Adam.
        steps: Gradient steps on the records that are moved.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Papernot, McDaniel, Goodfellow: Transferability in machine learning, 2016, arXiv:1605.07277.
    """

    card = AttackCard(
        name="transfer-evasion",
        idea="Gradient steps on a model of the adversary's own, quantum or classical.",
        source=Source(
            paper="Papernot, McDaniel, Goodfellow: Transferability in machine learning: from phenomena to black-box "
            "attacks using adversarial samples, arXiv:1605.07277",
            year=2016,
            where="cross-technique transferability",
        ),
        family="evasion",
        goal="integrity",
        needs=("auxiliary records", "the model's architecture"),
    )
    surrogate: Literal["same", "classical"] = "classical"
    training_steps: int = 100
    learning_rate: float = 0.1
    steps: int = 20

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        if self.surrogate not in {"same", "classical"}:
            raise ConfigError("unknown 'surrogate'", got=self.surrogate, expected="'same' or 'classical'")
        for name in ("training_steps", "steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"too few {name!r}", got=getattr(self, name), expected="at least 1")
        if not self.learning_rate > 0:
            raise ConfigError("'learning_rate' is not positive", got=self.learning_rate)

    def missing(self, view: View, challenge: EvasionChallenge) -> str | None:
        """Own records and the architecture, and a model to be wrong."""
        if view.granted.auxiliary is None or not len(view.granted.auxiliary.labels):
            return "the adversary has no records of its own to train a model on"
        return missing_architecture(view) or missing_answers(view)

    def run(self, view: View, challenge: EvasionChallenge) -> EvasionClaim:
        """Records that are wrong for the model of one's own."""
        model: Model = view.granted.model
        if self.surrogate == "classical":
            model = classical_like(model, report=lambda _: None)
        loss = white_box_loss(model, self._trained(model, view, challenge), challenge.records.labels)
        return EvasionClaim(features=Pgd(epsilon=self.epsilon, steps=self.steps).moved(loss, challenge))

    def _trained(self, model: Model, view: View, challenge: EvasionChallenge) -> Tensor:
        records = view.granted.auxiliary
        assert records is not None  # missing() said so
        params = model.initial(challenge.generator("surrogate")).requires_grad_()
        optimiser = torch.optim.Adam([params], lr=self.learning_rate)
        for _ in range(self.training_steps):
            loss = model.loss.per_sample(model(params, records.features), records.labels).mean()
            (params.grad,) = torch.autograd.grad(loss, params)
            optimiser.step()
        return params.detach()
