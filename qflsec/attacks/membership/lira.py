"""LiRA: is the confidence in a record more like that of models that saw it, or of models that did not?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qflsec.attacks.base import Inference, MembershipChallenge, MembershipClaim
from qflsec.attacks.needs import missing_answers, missing_architecture
from qflsec.attacks.shadows import missing_shadows, train_shadows
from qflsec.attacks.trainer import ShadowRequest
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.threat import View

__all__ = ["Lira", "likelihood_ratio"]

_LEAST_VARIANCE = 1e-12


@register("attack", "lira")
@dataclass(frozen=True, kw_only=True)
class Lira(Inference):
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
            advises where there are few shadow models.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Carlini, Chien, Nasr, Song, Terzis, Tramer: Membership inference attacks from first principles, IEEE S&P
        2022, arXiv:2112.03570: algorithm 1 (online), and its offline variant.
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
    )
    challenge_type = MembershipChallenge
    shadows: int = 64
    online: bool = True
    variance: Literal["record", "shared"] = "shared"

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if self.variance not in {"record", "shared"}:
            raise ConfigError("unknown 'variance'", got=repr(self.variance), expected="'record' or 'shared'")
        ShadowRequest(count=self.shadows, online=self.online)

    def shadow_request(self) -> ShadowRequest:
        """The shadow models that it uses."""
        return ShadowRequest(count=self.shadows, online=self.online)

    def missing(self, view: View, challenge: MembershipChallenge) -> str | None:
        """A model's answers, the architecture, or the means to train shadow models."""
        reason = missing_answers(view) or missing_architecture(view)
        return reason or missing_shadows(view, challenge, self.shadow_request())

    def run(self, view: View, challenge: MembershipChallenge) -> MembershipClaim:
        """The logarithm of the likelihood ratio of every candidate."""
        candidates = challenge.candidates
        found = train_shadows(view, challenge, self.shadow_request())
        logits = view.logits(candidates.features)
        assert logits is not None  # missing() said so
        with torch.no_grad():
            shadows = view.granted.model(found.params[:, None, :], candidates.features)
        return MembershipClaim(
            scores=likelihood_ratio(
                view.loss.confidence(logits, candidates.labels),
                view.loss.confidence(shadows, candidates.labels),
                found.inside,
                shared=self.variance == "shared",
            )
        )


def likelihood_ratio(observed: Tensor, shadows: Tensor, inside: Tensor, *, shared: bool) -> Tensor:
    """The logarithm of N(observed; mean_in, var_in) / N(observed; mean_out, var_out) of every record.

    Where no shadow model saw a record (offline), the one-sided test of the outside Gaussian takes its place: the
    number of standard deviations above its mean, which orders records as the tail probability does.

    Args:
        observed: The confidence of the model under attack in each record.
        shadows: That of each shadow model.
        inside: Whether the shadow model saw the record; for each record all, none, or at least two.
        shared: Whether one variance serves all records.

    Shapes:
        observed: ``(n,)``; shadows, inside: ``(s, n)``; returns: ``(n,)``
    """
    z_out, spread_out = _standardised(observed, shadows, ~inside, shared=shared)
    if not bool(inside.any()):
        return z_out
    z_in, spread_in = _standardised(observed, shadows, inside, shared=shared)
    return (z_out.square() - z_in.square()) / 2 + spread_out.log() - spread_in.log()


def _standardised(
    observed: Tensor, shadows: Tensor, chosen: Tensor, *, shared: bool
) -> tuple[Tensor, Tensor]:
    """How many standard deviations above the mean of the chosen shadows, and the standard deviation."""
    weight = chosen.double()
    counts = weight.sum(dim=0)
    mean = (weight * shadows).sum(dim=0) / counts
    squares = (weight * (shadows - mean).square()).sum(dim=0)
    # one mean is estimated for each record, which costs one degree of freedom each
    variance = squares.sum() / (counts - 1).sum() if shared else squares / (counts - 1)
    spread = variance.clamp_min(_LEAST_VARIANCE).sqrt().expand_as(mean)
    return (observed - mean) / spread, spread
