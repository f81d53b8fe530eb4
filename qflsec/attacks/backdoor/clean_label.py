"""Clean-label backdoor: the trigger on records of the target class, whose labels stay right."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.backdoor.feature_trigger import FeatureTrigger
from qflsec.attacks.records import drawn_records
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.federation import Hands

__all__ = ["CleanLabel"]


@register("attack", "clean-label")
@dataclass(frozen=True, kw_only=True)
class CleanLabel(FeatureTrigger):
    """Put the trigger on own records of the target class, made hard to learn otherwise; every label is right.

    Before the trigger is put on them, the records are moved so that the received model is less sure of them, by signed
    gradient steps within ``epsilon`` of each feature; so that the model learns the trigger in their place.

    Args:
        epsilon: How far a feature is moved at most; 0 leaves the records as they are.
        steps: Gradient steps.

    Units:
        epsilon: that of the features, radians for angles

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Turner, Tsipras, Madry: Label-consistent backdoor attacks, 2019, arXiv:1912.02771, section 4 (adversarial
        perturbations).
    """

    card = AttackCard(
        name="clean-label",
        idea="The trigger on records of the target class that are made hard to learn: no label is wrong.",
        source=Source(
            paper="Turner, Tsipras, Madry: Label-consistent backdoor attacks, arXiv:1912.02771",
            year=2019,
            where="section 4, adversarial perturbations",
        ),
        family="backdoor",
        goal="integrity",
        needs=("corrupted clients with records of the target class",),
    )
    epsilon: float = 0.5
    steps: int = 3

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        if self.epsilon < 0:
            raise ConfigError("'epsilon' is negative", got=self.epsilon, expected="0 or more")
        if self.steps < 1:
            raise ConfigError("too few 'steps'", got=self.steps, expected="at least 1")

    def poisoned(self, hands: Hands) -> tuple[torch.Tensor, torch.Tensor]:
        """Some records of the target class, moved and marked; every label as it was."""
        targets = hands.labels == self.target_class
        chosen = drawn_records(hands.mask, self.poison_fraction, hands.generators, among=targets)
        moved = self._moved(hands) if self.epsilon else hands.features
        marked = torch.stack(
            [self.trigger(lane, generator) for lane, generator in zip(moved, hands.generators, strict=True)]
        )
        return torch.where(chosen[..., None], marked, hands.features), hands.labels

    def _moved(self, hands: Hands) -> torch.Tensor:
        """Records of which the received model is less sure, within epsilon.

        Shapes:
            returns: ``(lane, m, N, F)``
        """
        features = hands.features.clone()
        params = hands.received[..., None, :]
        for _ in range(self.steps):
            leaf = features.detach().requires_grad_()
            loss = hands.model.loss.per_sample(hands.model(params, leaf), hands.labels)
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
            features = features + self.epsilon / self.steps * torch.sign(gradient)
        return features.detach()
