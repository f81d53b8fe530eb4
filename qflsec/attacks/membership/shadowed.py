"""What membership attacks with shadow models have in common: which they train, and when they cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import Challenge, MembershipChallenge
from qflsec.attacks.needs import missing_answers, missing_architecture
from qflsec.attacks.shadows import Shadows, missing_shadows, refuse_few_records
from qflsec.attacks.trainer import ShadowRequest
from qflsec.federation import Pipeline
from qflsec.threat import Records, ThreatModel, View

__all__ = ["ShadowInference", "outside_mean", "shadow_logits"]


@dataclass(frozen=True, kw_only=True)
class ShadowInference(Inference):
    """A membership attack that trains models of its own and reads the last model of the view.

    Args:
        shadows: How many shadow models; an even number.
        online: Whether they are trained on the candidates, each in half of them; otherwise on the adversary's own
            records alone.
    """

    challenge_type: ClassVar[type[Challenge]] = MembershipChallenge
    shadows: int = 64
    online: bool = True

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        ShadowRequest(count=self.shadows, online=self.online)

    def shadow_request(self) -> ShadowRequest:
        """The shadow models that it uses."""
        return ShadowRequest(count=self.shadows, online=self.online)

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a pipeline whose adversary has too few records, where that follows from the sizes of the splits.

        Raises:
            IncompatibleAttack: It has.
        """
        super().check(pipeline, threat)
        data = pipeline.data
        auxiliary = data.auxiliary if "auxiliary" in threat.knows else 0
        if threat.clients or not (self.online or auxiliary):
            return  # what honest clients hold is for the partition to say; without records the attack is blocked
        refuse_few_records(
            self.shadow_request(),
            n_members=data.members,
            candidates=2 * (data.canaries or min(data.members, data.nonmembers)),
            auxiliary=auxiliary,
        )

    def missing(self, view: View, challenge: Any) -> str | None:  # noqa: ANN401 - the subclass names its own kind
        """A model's answers, the architecture, or the means to train shadow models."""
        reason = missing_answers(view) or missing_architecture(view)
        return reason or missing_shadows(view, challenge, self.shadow_request())


def shadow_logits(view: View, found: Shadows, records: Records) -> Tensor:
    """What every shadow model answers to every record.

    Shapes:
        returns: ``(s, n, K)``
    """
    with torch.no_grad():
        answers: Tensor = view.granted.model(found.params[:, None, :], records.features)
    return answers


def outside_mean(values: Tensor, inside: Tensor) -> Tensor:
    """The mean over the shadow models that did not see a record; NaN where all did.

    Shapes:
        values: ``(s, n)``; inside: ``(s, n)``, boolean; returns: ``(n,)``
    """
    outside = ~inside
    return values.masked_fill(inside, 0.0).sum(dim=0) / outside.sum(dim=0)
