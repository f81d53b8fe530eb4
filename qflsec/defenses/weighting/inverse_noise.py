"""Weights that fall with the noise of a client's device, as the client reports it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from qflsec.base import DefenseCard, IncompatibleStack, Source, UpdateError, register
from qflsec.defenses.weighting.base import WeightedRule, check_power
from qflsec.federation import Pipeline, RoundUpdates
from qflsec.models import benchmark_circuit

__all__ = ["InverseNoise"]


@register("layer", "inverse-noise")
@dataclass(frozen=True, kw_only=True)
class InverseNoise(WeightedRule):
    """The mean of the updates, weighted by the number of examples over a power of the reported error of the device.

    Clients report ``quality = 1 - error``, between 0 and 1, with the error of a public benchmark
    (:func:`~qflsec.models.device_error`). With the power 2, weights are those that make the variance of a mean of
    independent errors least.

    Attributes:
        epsilon: What is added to an error, so that a perfect device has a weight.
        power: The power; 0 is FedAvg, bit for bit.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="inverse-noise",
        idea="Clients report how good their device is, and the server weighs them by one over its error.",
        source=Source(
            paper="McMahan et al., AISTATS 2017, arXiv:1602.05629; Aitken: On least squares and linear combination of "
            "observations, Proc. Royal Society of Edinburgh 55, 1936",
            year=2017,
            where="the weighted mean, and weights by inverse variances; of what clients report here",
        ),
        claim="No protection: clients on better devices count more.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not check the quality that a client reports.",
            "It does not bound a weight: whoever reports a perfect device takes most of it.",
            "It does not hide the quality, which names the device.",
        ),
        cost="one number of each client; the server needs individual updates",
    )
    asks: ClassVar[frozenset[str]] = frozenset({"quality"})
    topologies = frozenset({"star"})

    epsilon: float = 0.01
    power: float = 2.0

    def __post_init__(self) -> None:
        check_power(self.epsilon, self.power)

    def check(self, pipeline: Pipeline) -> None:
        """Refuse models on whose circuit no device can be benchmarked.

        Raises:
            IncompatibleStack: There is no circuit that can be read.
        """
        if benchmark_circuit(pipeline.model) is None:
            raise IncompatibleStack(
                f"{self.card.name!r} asks for the error of a device, but the model {pipeline.model.name!r} has no circuit "
                "that can be read",
                fix="use a variational circuit, a hybrid, or a QNode of affine angles",
            )

    def weights(self, batch: RoundUpdates) -> torch.Tensor:
        """Examples over the power of the error.

        Shapes:
            returns: ``(n,)``, double

        Raises:
            UpdateError: The clients reported no quality.
        """
        if "quality" not in batch.reports:
            raise UpdateError(
                f"{self.card.name!r} weighs by the quality of devices, and the clients reported none",
                got=sorted(batch.reports) or "no reports",
                expected="'quality'",
                fix="use the rule in a stack, whose clients are asked for it",
            )
        errors = 1 - batch.reports["quality"].double().clamp(0.0, 1.0)
        return batch.counts.double() * (errors + self.epsilon).pow(-self.power)
