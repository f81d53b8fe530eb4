"""RMIA: is a record likelier at this model than at others, more so than records that nobody trained on?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from qflsec.attacks.challenges import MembershipChallenge, MembershipClaim
from qflsec.attacks.membership.shadowed import ShadowInference, shadow_logits
from qflsec.attacks.shadows import train_shadows
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.threat import Records, View

__all__ = ["Rmia", "relative_scores"]


@register("attack", "rmia")
@dataclass(frozen=True, kw_only=True)
class Rmia(ShadowInference):
    """Score a candidate by the share of population records over which its likelihood ratio stands out.

    The probability of a record's label at the model under attack is put in relation to its mean over models that were
    trained with the record or without it, each with the same weight. The candidate's ratio is then compared with those
    of records that nobody trained on: the adversary's auxiliary ones, which are no candidates.

    Where shadow models are trained offline, how likely a record is at models that saw it is not known, and is taken to
    be ``a`` times what it is at those that did not, plus ``1 - a``; so it is for the population throughout.

    Args:
        shadows: How many shadow models; an even number.
        online: Whether they are trained on the candidates, each in half of them; otherwise on the adversary's own
            records alone.
        gamma: By what factor a candidate's ratio must exceed that of a population record to count.
        a: How a record's probability at models that did not see it becomes that at models that did, from 0 to 1.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Zarifzadeh, Liu, Shokri: Low-cost high-power membership inference attacks, ICML 2024, arXiv:2312.03262. Formulas
        and defaults (gamma 1, a 0.3) are those of the authors' own code, the Privacy Meter.
    """

    card = AttackCard(
        name="rmia",
        idea="A record that is likelier at this model than at others, more so than what nobody trained on, is a member.",
        source=Source(
            paper="Zarifzadeh, Liu, Shokri: Low-cost high-power membership inference attacks, ICML 2024, "
            "arXiv:2312.03262",
            year=2024,
            where="the relative likelihood ratio, online and offline",
        ),
        family="membership",
        goal="confidentiality",
        needs=(
            "a model that the adversary can read and evaluate, at best the final one, or query access to it",
            "the model's architecture",
            "the pipeline, to train shadow models",
            "auxiliary records",
        ),
        adaptive=True,
    )
    gamma: float = 1.0
    a: float = 0.3

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        if not 0 < self.gamma < math.inf:
            raise ConfigError("'gamma' is out of range", got=self.gamma, expected="a positive factor")
        if not 0 <= self.a <= 1:
            raise ConfigError("'a' is out of range", got=self.a, expected="0 to 1")

    def missing(self, view: View, challenge: MembershipChallenge) -> str | None:
        """A model's answers, the architecture, the means to train shadow models, or records of its own."""
        reason = super().missing(view, challenge)
        if reason is None and (view.granted.auxiliary is None or not len(view.granted.auxiliary.labels)):
            return "the adversary has no records of its own to compare candidates with"
        return reason

    def run(self, view: View, challenge: MembershipChallenge) -> MembershipClaim:
        """The share of the population that every candidate stands out from."""
        candidates, population = challenge.candidates, view.granted.auxiliary
        assert population is not None  # missing() said so
        found = train_shadows(view, challenge, self.shadow_request())
        known = ~found.auxiliary.all(dim=0)
        if not bool(known.any()):
            raise IncompatibleAttack(
                "every shadow model was trained on all of the adversary's records, so that none is left for a population",
                got=f"{len(known)} auxiliary records",
                fix="raise 'auxiliary' of the pipeline's data",
            )
        population = Records(features=population.features[known], labels=population.labels[known])
        answers = [view.logits(records.features) for records in (candidates, population)]
        own, others = answers
        assert own is not None  # missing() said so
        assert others is not None
        return MembershipClaim(
            scores=relative_scores(
                _log_probability(own, candidates.labels),
                _log_probability(shadow_logits(view, found, candidates), candidates.labels),
                found.inside,
                population=_log_probability(others, population.labels),
                population_shadows=_log_probability(
                    shadow_logits(view, found, population), population.labels
                ),
                population_inside=found.auxiliary[:, known],
                gamma=self.gamma,
                a=self.a,
            )
        )


def relative_scores(
    observed: Tensor,
    shadows: Tensor,
    inside: Tensor,
    *,
    population: Tensor,
    population_shadows: Tensor,
    population_inside: Tensor,
    gamma: float,
    a: float,
) -> Tensor:
    """The share of population records z with [p(x | model) / p(x)] / [p(z | model) / p(z)] above gamma.

    Args:
        observed: Log probabilities of the candidates' labels at the model under attack.
        shadows: Those at each shadow model.
        inside: Whether the shadow model saw the candidate; of each candidate none did, or some did and some did not.
        population: Log probabilities of the population's labels at the model under attack.
        population_shadows: Those at each shadow model.
        population_inside: Whether the shadow model saw the record; of each record some did not.
        gamma: The factor.
        a: How likely a record is at models that saw it: a times what it is at others, plus 1 - a.

    Shapes:
        observed: ``(n,)``; shadows, inside: ``(s, n)``; population: ``(m,)``; population_shadows, population_inside:
        ``(s, m)``; returns: ``(n,)``, float64
    """
    ours = observed.double() - _log_mean(shadows.double(), inside, a)
    theirs = population.double() - _log_mean(population_shadows.double(), population_inside, a, offline=True)
    return (ours[:, None] - theirs > math.log(gamma)).double().mean(dim=1)


def _log_mean(logs: Tensor, inside: Tensor, a: float, *, offline: bool = False) -> Tensor:
    """The logarithm of the mean probability over models with the record and without it, each with weight 1/2."""
    outside = _log_mean_of(logs, ~inside)
    if offline or not bool(inside.any()):
        known = torch.log(torch.tensor([(1 + a) / 2, (1 - a) / 2], dtype=torch.float64))
        return torch.logaddexp(known[0] + outside, known[1])
    return torch.logaddexp(_log_mean_of(logs, inside), outside) - math.log(2)


def _log_mean_of(logs: Tensor, chosen: Tensor) -> Tensor:
    """The logarithm of the mean probability over the chosen models.

    Shapes:
        logs, chosen: ``(s, n)``; returns: ``(n,)``
    """
    return torch.logsumexp(logs.masked_fill(~chosen, -torch.inf), dim=0) - chosen.sum(dim=0).double().log()


def _log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """The logarithm of the softmax probability of the label.

    Shapes:
        logits: ``(..., n, K)``; labels: ``(n,)``; returns: ``(..., n)``, float64
    """
    chosen = labels.expand(logits.shape[:-1])[..., None]
    return log_softmax(logits.double(), dim=-1).gather(-1, chosen).squeeze(-1)
