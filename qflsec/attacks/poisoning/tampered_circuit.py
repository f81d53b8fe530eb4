"""Training, or deploying, a circuit that is not the shared one: what such attacks share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.tampering import check_circuit, with_circuit
from qflsec.attacks.values import check_choice, check_positive
from qflsec.base import ConfigError
from qflsec.circuits import Circuit
from qflsec.federation import Hands, Pipeline
from qflsec.models import Model
from qflsec.threat import ThreatModel

__all__ = ["TamperedCircuit"]

Surface = Literal["training", "deployed", "both"]


@dataclass(frozen=True, kw_only=True)
class TamperedCircuit(Manipulation):
    """Honest records on a circuit that is tampered with.

    Attributes:
        surface: ``"training"``: the corrupted clients train on the tampered circuit. ``"deployed"``: they follow the
            protocol, and what is executed after training, which one of them hands out or executes for the others,
            is tampered with. Or ``"both"``.
        boost: The factor on the update.
        last_round: The last round in which training is tampered with; None for the last of the run.
        confesses: Whether the corrupted clients sign the circuit that they really train, where a layer asks: the control
            of such a layer. A liar signs the shared one.
    """

    surface: Surface = "training"
    boost: float = 1.0
    last_round: int | None = None
    confesses: bool = False

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        check_choice("surface", self.surface, get_args(Surface))
        check_positive("boost", self.boost)
        if self.last_round is not None and self.last_round < 0:
            raise ConfigError("'last_round' is negative", got=self.last_round, expected="0 or more, or none")

    @abstractmethod
    def tampered(self, circuit: Circuit) -> Circuit:
        """The circuit as it is executed.

        Raises:
            IncompatibleAttack: It cannot be tampered with in this way.
        """

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a model without a circuit that can be tampered with.

        Raises:
            IncompatibleAttack: There is none, or not in this way.
        """
        super().check(pipeline, threat)
        self.tampered(check_circuit(self.card.name, pipeline.model))

    def run(self, hands: Hands) -> torch.Tensor:
        """The update of training on the tampered circuit; the honest one where and when training is left alone."""
        over = self.last_round is not None and hands.round > self.last_round
        if over or self.surface == "deployed":
            return hands.honest
        return self.boost * hands.train(hands.features, hands.labels, model=self._of(hands.model))

    def stated(self, model: Model) -> Model:
        """The shared model, unless it confesses."""
        return self._of(model) if self.confesses and self.surface != "deployed" else model

    def deployed(self, model: Model, params: torch.Tensor, *, triggered: bool) -> Model:
        """The tampered circuit, unless only training is tampered with."""
        return model if self.surface == "training" else self._of(model)

    def _of(self, model: Model) -> Model:
        return with_circuit(model, self.tampered(check_circuit(self.card.name, model)))
