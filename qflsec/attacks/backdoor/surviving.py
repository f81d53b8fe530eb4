"""A trigger that is planted so that it survives what the server does to the final model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.backdoor.feature_trigger import FeatureTrigger
from qflsec.attacks.poisoning.simulated_server import known_stacks
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.federation import Hands, ServingLayer, Stack
from qflsec.threat import Records

__all__ = ["SurvivingTrigger"]


@register("attack", "surviving-trigger")
@dataclass(frozen=True, kw_only=True)
class SurvivingTrigger(FeatureTrigger):
    """Train the trigger into the model as it will be once the server has pruned and tuned it.

    Where the threat model grants the defenses, the corrupted clients put their records together, prune and tune their model as the
    server will, on their own clean records in the place of the server's, and take the step that plants the trigger in what is
    left: the gradient there is taken as the one before pruning and tuning, and parameters that are pruned stay as they are. Where
    the defenses are not known, or do nothing to the final model, it is ``feature-trigger``.

    Args:
        plans: How many such steps are taken in a round.
        plan_rate: Their length.

    Raises:
        ConfigError: There is none, or the length is not positive.

    Source:
        After Liu, Dolan-Gavitt, Garg, RAID 2018, arXiv:1805.12185, who plant in units that pruning leaves, with simulated tuning in the
        place of their decoy units; the step is that of Finn, Abbeel, Levine, ICML 2017, arXiv:1703.03400, of first order.
    """

    card = AttackCard(
        name="surviving-trigger",
        idea="A trigger planted so that it is still there after the server's pruning and tuning of the final model.",
        source=Source(
            paper="Liu, Dolan-Gavitt, Garg: Fine-pruning, RAID 2018, arXiv:1805.12185",
            year=2018,
            where="the pruning-aware attack, with simulated tuning in the place of decoy units",
        ),
        family="backdoor",
        goal="integrity",
        needs=("corrupted clients with records of their own",),
        adaptive=True,
    )
    plans: int = 20
    plan_rate: float = 0.5

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        if self.plans < 1 or not 0 < self.plan_rate < float("inf"):
            raise ConfigError(
                "'plans' or 'plan_rate' is out of range",
                got=f"{self.plans}, {self.plan_rate}",
                expected="1 or more, above 0",
            )

    def run(self, hands: Hands) -> torch.Tensor:
        """The enlarged way to a model that carries the trigger after the server's last work on it."""
        if not self.acts(hands.round):
            return hands.honest
        features, labels = self.poisoned(hands)
        sent = self.factor(hands) * hands.train(features, labels)
        for lane, stack in enumerate(known_stacks(hands)):
            layer = _last_work(stack)
            if layer is None or hands.base.shape != hands.received.shape:
                continue
            own = hands.mask[lane] > 0
            clean = Records(features=hands.features[lane][own], labels=hands.labels[lane][own])
            poisoned = Records(features=features[lane][own], labels=labels[lane][own])
            begin = hands.received[lane, 0]
            planned = self.planned(hands, layer, begin, clean, poisoned)
            sent[lane] = self.factor(hands) * (planned - begin)
        return sent

    def planned(
        self, hands: Hands, layer: ServingLayer, params: torch.Tensor, clean: Records, poisoned: Records
    ) -> torch.Tensor:
        """The model with the trigger where the layer leaves it.

        Args:
            hands: What the corrupted clients hold.
            layer: What the server will do.
            params: The model that they received.
            clean: Their records.
            poisoned: Some of them with the trigger.

        Shapes:
            params: ``(P,)``; returns the same
        """
        model, found = hands.model, params.detach().clone()
        for _ in range(self.plans):
            after = layer.readied(model, found, clean).detach()
            removed = (after == 0.0) & (found != 0.0)
            with torch.enable_grad():
                at = after.requires_grad_()
                loss = model.loss.per_sample(model(at, poisoned.features), poisoned.labels).mean()
                (gradient,) = torch.autograd.grad(loss, at)
            found = found - self.plan_rate * gradient.masked_fill(removed, 0.0)
        return found


def _last_work(stack: Stack | None) -> ServingLayer | None:
    """The layer that changes the final model with records of the server, if there is one."""
    layer = None if stack is None else stack.serving
    return layer if layer is not None and layer.clean_records else None
