"""Membership by loss: what a model was trained on, it fits better."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import MembershipChallenge, MembershipClaim
from qflsec.attacks.needs import missing_answers
from qflsec.base import AttackCard, Source, register
from qflsec.threat import View

__all__ = ["LossThreshold"]


@register("attack", "loss-threshold")
@dataclass(frozen=True, kw_only=True)
class LossThreshold(Inference):
    """Score a candidate by minus its loss at the last model that the view can read.

    Yeom et al. call a record a member where its loss is at most a threshold; the scores leave the threshold
    open, so that every false-positive rate can be read off them. Whoever can only query a model takes cross
    entropy for its loss. The attack is blocked where the view holds
    no model, or sealed ones only.

    Source:
        Yeom, Giacomelli, Fredrikson, Jha: Privacy risk in machine learning, CSF 2018, Adversary 2.
    """

    card = AttackCard(
        name="loss-threshold",
        idea="A record with a small loss was probably trained on.",
        source=Source(paper="Yeom et al., CSF 2018, arXiv:1709.01604", year=2018, where="Adversary 2"),
        family="membership",
        goal="confidentiality",
        needs=(
            "a model that the adversary can read and evaluate, at best the final one, or query access to it",
        ),
    )
    challenge_type = MembershipChallenge

    def missing(self, view: View, challenge: MembershipChallenge) -> str | None:
        """The architecture or a readable model, where the model cannot be queried."""
        return missing_answers(view)

    def run(self, view: View, challenge: MembershipChallenge) -> MembershipClaim:
        """Minus the loss of every candidate."""
        candidates = challenge.candidates
        logits = view.logits(candidates.features)
        assert logits is not None  # missing() said so
        return MembershipClaim(scores=-view.loss.per_sample(logits, candidates.labels))
