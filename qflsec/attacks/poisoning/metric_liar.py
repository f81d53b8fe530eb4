"""The metric liar: an uploaded metric that freezes the server's natural gradient, or takes all damping off it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.values import check_choice, check_positive
from qflsec.base import AttackCard, IncompatibleAttack, Source, register
from qflsec.federation import Hands, Pipeline
from qflsec.models.natural_gradient import metric_circuit, metric_entries
from qflsec.threat import ThreatModel

__all__ = ["MetricLiar"]


@register("attack", "metric-liar")
@dataclass(frozen=True, kw_only=True)
class MetricLiar(Manipulation):
    """Send the honest step, and a metric that decides what becomes of everybody's.

    The server solves with the mean of all metrics. A large multiple of the identity in it leaves no step. The negative of what the
    others send, which is near the client's own metric, leaves a mean that is nearly singular, so that the step is the
    plain one over the damping; of more than that nothing is left, as negative eigenvalues count as zero.

    Args:
        lie: ``"freeze"``: ``scale`` times the identity; ``"vanish"``: ``-scale`` times the own metric for each client that is
            honest, shared among the corrupted ones.
        scale: How much of it.

    Raises:
        ConfigError: The lie is unknown, or the scale is not positive and finite.
    """

    card = AttackCard(
        name="metric-liar",
        idea="Corrupted clients upload a metric that freezes the server's natural gradient, or cancels the others' metrics.",
        source=Source(
            paper="Qi, Zhang, Tejedor: Optimizing quantum federated learning based on federated quantum natural gradient "
            "descent, ICASSP 2023, arXiv:2303.08116",
            year=2023,
            where="the natural gradient that is lied to, solved at the server here; the lie is this package's",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients with records of their own", "clients that upload their metric"),
    )
    lie: Literal["freeze", "vanish"] = "freeze"
    scale: float = 1000.0

    def __post_init__(self) -> None:
        """Refuse an unknown lie, and a scale that is none."""
        check_choice("lie", self.lie, ("freeze", "vanish"))
        check_positive("scale", self.scale)

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a pipeline in which nobody uploads a metric.

        Raises:
            IncompatibleAttack: It is one.
        """
        super().check(pipeline, threat)
        if pipeline.uploaded is None:
            raise IncompatibleAttack(
                f"{self.card.name!r} lies about the metric that a client uploads, but none is uploaded",
                fix="set natural_gradient = { solved_by = 'server' } of the pipeline's federation",
            )

    def run(self, hands: Hands) -> torch.Tensor:
        """The honest updates."""
        return hands.honest

    def metrics(self, hands: Hands, honest: torch.Tensor) -> torch.Tensor:
        """The lie."""
        natural, circuit = hands.training.natural_gradient, metric_circuit(hands.model)
        assert natural is not None
        assert circuit is not None
        if self.lie == "vanish":
            return -self.scale * (hands.n_clients - len(hands.clients)) / len(hands.clients) * honest
        identity = torch.eye(circuit.n_weights, dtype=honest.dtype)
        return self.scale * metric_entries(circuit, identity, natural.metric).expand_as(honest)
