"""LiRA: is the confidence in a record more like that of models that saw it, or of models that did not?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from qflsec.attacks.challenges import MembershipChallenge, MembershipClaim
from qflsec.attacks.membership.likelihood import Variance, likelihood_ratio
from qflsec.attacks.membership.shadowed import ShadowInference, shadow_logits
from qflsec.attacks.shadows import train_shadows
from qflsec.base import AttackCard, ConfigError, Source, finite, register
from qflsec.threat import View

__all__ = ["LikelihoodInference", "Lira"]


@finite
@dataclass(frozen=True, kw_only=True)
class LikelihoodInference(ShadowInference):
    """An attack by a Gaussian likelihood ratio over shadow models.

    Args:
        variance: How the spread of confidences is estimated.

    Raises:
        ConfigError: A parameter is out of range.
    """

    variance: Variance = "auto"

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        if self.variance not in get_args(Variance):
            raise ConfigError(
                "unknown 'variance'",
                got=repr(self.variance),
                expected=" or ".join(map(repr, get_args(Variance))),
            )


@register("attack", "lira")
@dataclass(frozen=True, kw_only=True)
class Lira(LikelihoodInference):
    """Score a candidate by a Gaussian likelihood ratio over shadow models.

    A loss alone cannot tell a record that was trained on from one that is easy. Shadow models show how confident
    models are in each record when it was in their training set and when it was not. How confidence is measured
    follows from the loss; with cross entropy it is log(p / (1 - p)) as in the paper. Under defenses that the threat
    model knows of, they are trained under these defenses too.

    Args:
        shadows: How many shadow models; an even number.
        online: Whether they are trained on the candidates, each in half of them; otherwise on the adversary's own
            records alone, and a candidate is scored by how far it stands out from models that did not see it.
        variance: ``"record"`` estimates a variance for each candidate, ``"shared"`` one for all, which the paper
            advises where there are few shadow models; ``"auto"`` takes the first from 64 shadow models on and the second
            below. ``"bayes"`` shrinks the variance of each candidate towards that of all, by how much they differ,
            and takes a Student density for what is not known of it.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Carlini, Chien, Nasr, Song, Terzis, Tramer: Membership inference attacks from first principles, IEEE S&P
        2022, arXiv:2112.03570: algorithm 1 (online), and its offline variant, one-sided. ``"bayes"`` is in the manner of
        Brännvall: Exponential-family membership inference, arXiv:2603.11799, 2026 (a normal-inverse-gamma prior and a
        Student predictive density); the formulas, and how the prior follows from the candidates, are derived in
        :mod:`qflsec.attacks.membership.likelihood`.
    """

    card = AttackCard(
        name="lira",
        idea="Compare the model's confidence in a record with that of shadow models that did and did not see it.",
        source=Source(
            paper="Carlini et al.: Membership inference attacks from first principles, IEEE S&P 2022, arXiv:2112.03570",
            year=2022,
            where="algorithm 1, and its offline variant",
        ),
        family="membership",
        goal="confidentiality",
        needs=(
            "a model that the adversary can read and evaluate, at best the final one, or query access to it",
            "the model's architecture",
            "the pipeline, to train shadow models; own records where they are trained offline",
        ),
        adaptive=True,
    )

    def run(self, view: View, challenge: MembershipChallenge) -> MembershipClaim:
        """The logarithm of the likelihood ratio of every candidate."""
        candidates = challenge.candidates
        found = train_shadows(view, challenge, self.shadow_request())
        logits = view.logits(candidates.features)
        assert logits is not None  # missing() said so
        return MembershipClaim(
            scores=likelihood_ratio(
                view.loss.confidence(logits, candidates.labels),
                view.loss.confidence(shadow_logits(view, found, candidates), candidates.labels),
                found.inside,
                variance=self.variance,
            )
        )
