"""Membership by trajectory: does the confidence in a record grow over the rounds as it does where it is trained on?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.challenges import MembershipChallenge, MembershipClaim
from qflsec.attacks.membership.shadowed import ShadowInference
from qflsec.attacks.shadows import train_shadows
from qflsec.attacks.trainer import ShadowRequest
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.threat import MODELS, View

__all__ = ["Trajectory", "trajectory_ratio"]

_LEAST = 1e-9
"""The least variance of a direction, in units of the largest: rounds that say the same count once."""


@register("attack", "trajectory")
@dataclass(frozen=True, kw_only=True)
class Trajectory(ShadowInference):
    """Score a candidate by a likelihood ratio of its confidences at the models of several rounds together.

    Whoever sees every round sees how the confidence in a record grew, not only where it ended. Of each shadow training
    the models of the same rounds are kept, with candidates in half of them. The confidences of a record over the rounds
    are taken as normal, with means of its own where it was trained on and where it was not, and one covariance for all
    records. From a view of the last model alone this is LiRA with a shared variance.

    Args:
        shadows: How many shadow trainings; an even number.
        online: Always true: a trajectory with the record is needed to compare with.
        points: Of how many rounds at most, spread evenly up to the last that can be read.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Zari, Xu, Neglia: Efficient passive membership inference attack in federated learning, 2021 (the models of
        several rounds as features); the likelihood ratio is that of Carlini et al., IEEE S&P 2022, in several dimensions.
    """

    card = AttackCard(
        name="trajectory",
        idea="The confidence in a record that is trained on grows over the rounds in its own way.",
        source=Source(
            paper="Zari, Xu, Neglia: Efficient passive membership inference attack in federated learning, 2021, "
            "arXiv:2111.00430",
            year=2021,
            where="models of several rounds as features, here with the likelihood ratio of LiRA",
        ),
        family="membership",
        goal="confidentiality",
        needs=(
            "models that the adversary can read, at best of every round",
            "the model's architecture",
            "the pipeline, to train shadow models",
        ),
        adaptive=True,
    )
    points: int = 8

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        if not self.online:
            raise ConfigError(
                "a trajectory is compared with those of records that were trained on",
                got="online=False",
                fix="leave it out",
            )
        if self.points < 1:
            raise ConfigError("'points' is too small", got=self.points, expected="at least 1")

    def shadow_request(self) -> ShadowRequest:
        """The shadow models that it uses, with those of every round."""
        return ShadowRequest(count=self.shadows, online=True, every_round=True)

    def missing(self, view: View, challenge: MembershipChallenge) -> str | None:
        """The architecture, a model whose round is known, or the means to train shadow models."""
        reason = super().missing(view, challenge)
        if reason is None and not self._rounds(view):
            return "no model of a round can be read"
        return reason

    def run(self, view: View, challenge: MembershipChallenge) -> MembershipClaim:
        """The logarithm of the likelihood ratio of every candidate."""
        candidates, rounds = challenge.candidates, self._rounds(view)
        found = train_shadows(view, challenge, self.shadow_request())
        assert found.trace is not None  # it was asked for
        observed, shadows = [], []
        for index in rounds:
            logits = view.logits(candidates.features, round_index=index)
            assert logits is not None  # _rounds() saw to it
            observed.append(view.loss.confidence(logits, candidates.labels))
            with torch.no_grad():
                answers = view.granted.model(found.trace[:, index][:, None, :], candidates.features)
            shadows.append(view.loss.confidence(answers, candidates.labels))
        ratio = trajectory_ratio(torch.stack(observed, dim=-1), torch.stack(shadows, dim=-1), found.inside)
        return MembershipClaim(scores=ratio)

    def _rounds(self, view: View) -> list[int]:
        """Rounds whose model can be read, the first apart, which no record has moved yet: evenly spread, the last among them."""
        known = sorted({item.round for item in view.readable(*MODELS) if item.round > 0})
        known = [index for index in known if view.model_at(index) is not None]
        step = max(1, -(-len(known) // self.points))
        return known[::-1][::step][::-1]


def trajectory_ratio(observed: Tensor, shadows: Tensor, inside: Tensor) -> Tensor:
    """The logarithm of N(observed; mean_in, C) / N(observed; mean_out, C) of every record, C pooled over all records.

    Args:
        observed: The confidences of the models under attack in each record.
        shadows: Those of the models of each shadow training.
        inside: Whether the record was trained on there; at least two of either kind for each record.

    Shapes:
        observed: ``(n, M)``; shadows: ``(s, n, M)``; inside: ``(s, n)``; returns: ``(n,)``, float64
    """
    observed, shadows = observed.double(), shadows.double()
    means, scatter, freedom = (
        [],
        torch.zeros(observed.shape[-1], observed.shape[-1], dtype=torch.float64),
        0.0,
    )
    for chosen in (inside, ~inside):
        weight = chosen.double()[..., None]
        counts = weight.sum(dim=0)
        mean = (weight * shadows).sum(dim=0) / counts
        residuals = (weight * (shadows - mean)).reshape(-1, observed.shape[-1])
        scatter += residuals.T @ residuals
        freedom += float((counts - 1).sum())
        means.append(mean)
    values, vectors = torch.linalg.eigh(scatter / freedom)
    # records whose confidence never moves have no spread at all
    spread = values.clamp_min(max(_LEAST * float(values.max()), 1e-12)).sqrt()
    far = [(((observed - mean) @ vectors) / spread).square().sum(dim=-1) for mean in means]
    ratio: Tensor = (far[1] - far[0]) / 2
    return ratio
