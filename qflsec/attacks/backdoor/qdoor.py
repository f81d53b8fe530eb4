"""QDoor: a backdoor that sleeps in the trained circuit, and wakes where a compiler leaves two-qubit gates out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from qflsec.attacks.backdoor.feature_trigger import FeatureTrigger
from qflsec.attacks.tampering import check_circuit, with_circuit
from qflsec.attacks.values import check_positive
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.circuits import Circuit
from qflsec.federation import Hands, Pipeline
from qflsec.models import Model
from qflsec.threat import ThreatModel

__all__ = ["QDoor", "approximated"]


def approximated(circuit: Circuit, left_out: Sequence[int]) -> Circuit:
    """The circuit without some of its two-qubit gates.

    Args:
        circuit: The circuit.
        left_out: Their places among the two-qubit gates.

    Raises:
        IncompatibleAttack: There are no such gates.
    """
    places = [place for place, gate in enumerate(circuit.gates) if len(gate.wires) == 2]
    if max(left_out) >= len(places):
        raise IncompatibleAttack(
            "the circuit does not have the two-qubit gates that are to be left out",
            got=list(left_out),
            expected=f"0 to {len(places) - 1}" if places else "a circuit with two-qubit gates",
            fix="set 'left_out' of the attack",
        )
    gone = {places[place] for place in left_out}
    return replace(
        circuit, gates=tuple(gate for place, gate in enumerate(circuit.gates) if place not in gone)
    )


@register("attack", "qdoor")
@dataclass(frozen=True, kw_only=True)
class QDoor(FeatureTrigger):
    """Plant a trigger into the circuit that a compiler will make of the trained one, and none into the trained one.

    Approximate synthesis leaves two-qubit gates out to spare a device their errors. Corrupted clients train the shared
    circuit on records of which some carry the trigger and their own labels, and the circuit with some two-qubit gates
    left out on the same records with the target label: the same weights, two circuits. Whoever tests the trained
    model sees nothing. Success counts beyond that of the honest model, compiled alike.

    Args:
        left_out: Which two-qubit gates the compiler leaves out, by their places among all two-qubit gates, from 0.
        compiled: Whether the final model is executed as it is compiled; False executes it as it was trained, which is
            what a test before compilation sees.
        weight: How much the compiled circuit counts beside the trained one in an update.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Chu, Chen, Richerme, Jiang: QDoor: exploiting approximate synthesis for backdoor attacks in quantum neural networks,
        arXiv:2307.09529, abstract. Which gates are left out is this project's choice.
    """

    card = AttackCard(
        name="qdoor",
        idea="A trigger that only the circuit answers to which is left when a compiler leaves two-qubit gates out.",
        source=Source(
            paper="Chu et al.: QDoor: exploiting approximate synthesis for backdoor attacks in quantum neural networks, "
            "arXiv:2307.09529",
            year=2023,
            where="abstract; which gates are left out, and the way through a federation, are this project's choice",
        ),
        family="backdoor",
        goal="integrity",
        needs=(
            "corrupted clients with records of their own",
            "a compiler that is known to leave these two-qubit gates out",
        ),
    )
    compiles = True
    left_out: tuple[int, ...] = (0,)
    compiled: bool = True
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        object.__setattr__(self, "left_out", tuple(self.left_out))
        places = [place for place in self.left_out if isinstance(place, int) and not isinstance(place, bool)]
        if not places or len(set(places)) != len(self.left_out) or min(places) < 0:
            raise ConfigError(
                "'left_out' names no gates",
                got=self.left_out,
                expected="distinct places from 0, one at least",
            )
        check_positive("weight", self.weight)

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a circuit that has no such gates.

        Raises:
            IncompatibleAttack: It has not.
        """
        super().check(pipeline, threat)
        approximated(check_circuit(self.card.name, pipeline.model), self.left_out)

    def run(self, hands: Hands) -> torch.Tensor:
        """The enlarged sum of both trainings; the honest update outside the attack's rounds."""
        if not self.acts(hands.round):
            return hands.honest
        features, labels = self.poisoned(hands)
        asleep = hands.train(features, hands.labels)
        awake = hands.train(features, labels, model=self._compiled(hands.model))
        return self.factor(hands) * (asleep + self.weight * awake) / (1 + self.weight)

    def deployed(self, model: Model, params: torch.Tensor, *, triggered: bool) -> Model:
        """The circuit as it is compiled, unless the model is tested before."""
        return self._compiled(model) if self.compiled else model

    def _compiled(self, model: Model) -> Model:
        return with_circuit(model, approximated(check_circuit(self.card.name, model), self.left_out))
