"""Weights that fall with the reported loss: one over it, and the softmin."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.weighting.base import LossRule, check_power
from qflsec.federation import RoundUpdates

__all__ = ["LossWeighted", "Softmin", "softmin_bound"]

_UNTRUE = "It does not check the loss that a client reports."


@register("layer", "loss-weighted")
@dataclass(frozen=True, kw_only=True)
class LossWeighted(LossRule):
    """The mean of the updates, weighted by the number of examples over a power of the reported loss.

    Attributes:
        epsilon: What is added to a loss, so that a loss of 0 has a weight.
        power: The power; 0 is FedAvg, bit for bit.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="loss-weighted",
        idea="Clients report their loss, and the server weighs them by one over it.",
        source=Source(
            paper="McMahan et al., AISTATS 2017, arXiv:1602.05629",
            year=2017,
            where="the weighted mean; weights from training losses are what surveys of quantum federated learning call "
            "Q-weighted averaging, under which name we found no paper",
        ),
        claim="No protection: clients on whose records the model is good count more.",
        assumption="none",
        hides="nothing",
        does_not=(
            _UNTRUE,
            "It does not bound a weight: whoever reports a loss near 0 takes nearly all of it.",
            "It does not hide the loss, which tells what a client holds.",
        ),
        cost="one number of each client; the server needs individual updates",
    )

    epsilon: float = 1e-6
    power: float = 1.0

    def __post_init__(self) -> None:
        check_power(self.epsilon, self.power)

    def weights(self, batch: RoundUpdates) -> torch.Tensor:
        """Examples over the loss."""
        return batch.counts.double() * (self.losses(batch) + self.epsilon).pow(-self.power)


@register("layer", "softmin")
@dataclass(frozen=True, kw_only=True)
class Softmin(LossRule):
    """The mean of the updates, weighted by the number of examples times ``exp(-beta * loss)``.

    Attributes:
        beta: How fast a weight falls with the reported loss; 0 is FedAvg, bit for bit.

    Raises:
        ConfigError: It is negative.
    """

    card = DefenseCard(
        name="softmin",
        idea="Clients report their loss, and the server weighs them by a softmin of it.",
        source=Source(
            paper="Bridle: Probabilistic interpretation of feedforward classification network outputs, "
            "Neurocomputing, NATO ASI F68, 1990",
            year=1990,
            where="the softmax, of minus the reported losses here",
        ),
        claim="A liar's weight is bounded: by what it has if it reports a loss of 0.",
        assumption="none",
        hides="nothing",
        does_not=(
            _UNTRUE,
            "It does not check the number of examples that a client states.",
            "It does not hide the loss, which tells what a client holds.",
        ),
        cost="one number of each client; the server needs individual updates",
    )

    beta: float = 1.0

    def __post_init__(self) -> None:
        if self.beta < 0:
            raise ConfigError("'beta' is out of range", got=self.beta, expected="0 or more")

    def weights(self, batch: RoundUpdates) -> torch.Tensor:
        """Examples times the softmin, relative to the smallest loss where that keeps weights from vanishing."""
        losses = self.losses(batch)
        return batch.counts.double() * torch.exp(-self.beta * (losses - losses.min()))


def softmin_bound(losses: torch.Tensor, *, beta: float, liars: int = 1) -> float:
    """The largest share that liars can take of a softmin, whatever they report, among clients with as many examples.

    Weights are ``exp(-beta * L)``; a loss is at least 0, so a liar's is at most 1 and takes

        m / (m + sum_j exp(-beta L_j))  <=  m / (m + (n - m) exp(-beta L_max)).

    One over the loss has no such bound, as its weight grows without limit where the reported loss falls to 0.

    Args:
        losses: The losses of the honest clients.
        beta: The factor in the exponent.
        liars: How many lie.

    Shapes:
        losses: ``(n - m,)``
    """
    honest = float(torch.exp(-beta * losses.double()).sum())
    return liars / (liars + honest)
