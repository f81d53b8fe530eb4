"""Membership by calibrated loss: how much smaller is a loss than it is at models that did not see the record?"""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.attacks.challenges import MembershipChallenge, MembershipClaim
from qflsec.attacks.membership.shadowed import ShadowInference, outside_mean, shadow_logits
from qflsec.attacks.shadows import train_shadows
from qflsec.base import AttackCard, Source, register
from qflsec.threat import View

__all__ = ["CalibratedLoss"]


@register("attack", "calibrated-loss")
@dataclass(frozen=True, kw_only=True)
class CalibratedLoss(ShadowInference):
    """Score a candidate by its mean loss at models that did not see it, less its loss at the model under attack.

    A small loss alone may mean that a record is easy. The loss at models that were trained without the record says how
    easy it is.

    Args:
        shadows: How many shadow models; an even number.
        online: Whether they are trained on the candidates, each in half of them, of which those are used that did not
            see the record; otherwise on the adversary's own records alone, and all are used.

    Raises:
        ConfigError: The number is odd or too small.

    Source:
        Watson, Guo, Cormode, Sablayrolles: On the importance of difficulty calibration in membership inference attacks,
        ICLR 2022: the calibrated score, with the loss for the score.
    """

    card = AttackCard(
        name="calibrated-loss",
        idea="A record whose loss is smaller than at models that did not see it was probably trained on.",
        source=Source(
            paper="Watson et al.: On the importance of difficulty calibration in membership inference attacks, ICLR "
            "2022, arXiv:2111.08440",
            year=2022,
            where="the calibrated score",
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
        """The calibrated score of every candidate."""
        candidates = challenge.candidates
        found = train_shadows(view, challenge, self.shadow_request())
        logits = view.logits(candidates.features)
        assert logits is not None  # missing() said so
        losses = view.loss.per_sample(shadow_logits(view, found, candidates).double(), candidates.labels)
        own = view.loss.per_sample(logits.double(), candidates.labels)
        return MembershipClaim(scores=outside_mean(losses, found.inside) - own)
