"""q-FedAvg: clients with a large loss count more, so that the model serves all of them alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.weighting.base import LossRule
from qflsec.federation import Pipeline, RoundUpdates
from qflsec.threat import Traffic

__all__ = ["QFedAvg"]

_LEAST = 1e-12


@register("layer", "q-fedavg")
@dataclass(frozen=True, kw_only=True)
class QFedAvg(LossRule):
    """Descent on ``sum_k p_k F_k^(q+1) / (q+1)``, with a step size from an estimate of its Lipschitz constant.

    The gradient of a summand is ``F^q g``, with g that of F, and its Hessian ``q F^(q-1) g g^T + F^q H``. Where L bounds
    H, so does ``h = q F^(q-1) |g|^2 + L F^q`` bound the latter, and a step of ``-sum_k p_k F_k^q g_k / sum_k p_k h_k``
    descends. An update d_k stands for ``-g_k / L``.

    Attributes:
        q: How much more a client with a larger loss counts; 0 is FedAvg, bit for bit.
        lipschitz: L; one over the learning rate times the local steps makes an update the step of gradient descent
            that it stands for.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="q-fedavg",
        idea="Clients report their loss, and the server weighs them by a power of it.",
        source=Source(
            paper="Li, Sanjabi, Beirami, Smith: Fair resource allocation in federated learning, ICLR 2020, "
            "arXiv:1905.10497",
            year=2020,
            where="q-FedAvg; the step is derived anew in the docstring",
        ),
        claim="No protection: clients on whose records the model is bad count more.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not check the loss that a client reports.",
            "It does not bound a weight: whoever reports a large loss takes nearly all of it.",
            "It does not keep a client with a long update from shortening everybody's step.",
            "It does not hide the loss, which tells what a client holds.",
        ),
        cost="one number of each client; the server needs individual updates",
    )

    q: float = 1.0
    lipschitz: float = 2.0

    def __post_init__(self) -> None:
        if self.q < 0:
            raise ConfigError("'q' is out of range", got=self.q, expected="0 or more")
        if not self.lipschitz > 0:
            raise ConfigError("'lipschitz' is out of range", got=self.lipschitz, expected="above 0")

    def remarks(self, pipeline: Pipeline, traffic: Traffic | None = None) -> tuple[str, ...]:
        """A constant that does not fit how clients train."""
        config = pipeline.federation
        fitting = 1 / (config.learning_rate * config.uses)
        if self.q == 0 or 0.5 <= self.lipschitz / fitting <= 2:
            return ()
        remark = (
            f"'q-fedavg' has lipschitz = {self.lipschitz:g}, but clients train with a learning rate of "
            f"{config.learning_rate:g} and {config.uses} local steps: {fitting:g} would fit"
        )
        return (remark,)

    def weights(self, batch: RoundUpdates) -> torch.Tensor:
        """Examples times the loss to the power q; examples where every loss is 0."""
        return batch.counts.double() * self._powers(batch)

    def factor(self, batch: RoundUpdates) -> float:
        """By how much the step is shorter than the weighted mean: at most 1."""
        if self.q == 0:
            return 1.0
        losses, counts = self.losses(batch), batch.counts.double()
        lengths = batch.updates.double().square().sum(dim=1)
        # |g|^2 of a client without loss is 0, whatever it says
        slope = torch.where(losses > 0, self._powers(batch) / losses.clamp_min(_LEAST), 0.0)
        along = (counts * self._powers(batch)).sum()
        return float(along / (along + self.q * self.lipschitz * (counts * slope * lengths).sum()))

    def _powers(self, batch: RoundUpdates) -> torch.Tensor:
        """Losses to the power q, in units of the largest so that no report can overflow them."""
        losses = self.losses(batch)
        largest = float(losses.max())
        return torch.ones_like(losses) if self.q == 0 or largest == 0 else (losses / largest).pow(self.q)
