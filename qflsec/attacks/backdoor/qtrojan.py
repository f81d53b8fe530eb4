"""QTrojan: gates around the encoder of the circuit that is deployed; no record carries a trigger, and none is needed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, combinations

import torch

from qflsec.attacks.base import BackdoorManipulation
from qflsec.attacks.tampering import check_circuit, erasing_gates, inserted, with_circuit
from qflsec.base import AttackCard, IncompatibleAttack, Source, register
from qflsec.circuits import Circuit, Gate
from qflsec.federation import Hands, Pipeline
from qflsec.models import Model
from qflsec.threat import ThreatModel

__all__ = ["QTrojan"]

_MOST_WIRES = 8


@register("attack", "qtrojan")
@dataclass(frozen=True, kw_only=True)
class QTrojan(BackdoorManipulation):
    """Put gates around the encoder of the deployed circuit, which do nothing until the attacker opens them.

    Open, they make the encoder leave the same state whatever the record, and that state is the basis state to which the
    final model answers the target class most surely: all that it takes is the model, which is public. Shut, they are
    the identity, so that clean accuracy is that of the honest model. The clients train by the protocol; retraining does not
    remove it, and no rule of the server sees it.

    Source:
        Chu, Jiang, Swany, Chen: QTrojan: a circuit backdoor against quantum neural networks, ICASSP 2023,
        arXiv:2302.08090, abstract: few gates, no trigger in the inputs, no access to training data. The gates are
        this project's choice.
    """

    card = AttackCard(
        name="qtrojan",
        idea="Gates around the deployed circuit's encoder that, once opened, hide the record and show a chosen state.",
        source=Source(
            paper="Chu et al.: QTrojan: a circuit backdoor against quantum neural networks, ICASSP 2023, arXiv:2302.08090",
            year=2023,
            where="abstract; the gates are this project's choice",
        ),
        family="backdoor",
        goal="integrity",
        needs=("a corrupted party that hands out or executes the deployed circuit",),
    )

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse circuits whose encoder cannot be made to forget the record by gates around it.

        Raises:
            IncompatibleAttack: It cannot, or there are too many wires to try all basis states.
        """
        super().check(pipeline, threat)
        circuit = check_circuit(self.card.name, pipeline.model)
        if erasing_gates(circuit) is None:
            raise IncompatibleAttack(
                f"{self.card.name!r} surrounds an encoder of one rotation on each wire",
                got="features that are encoded in another way, or again after the first trained gate",
                fix="use encoder = 'angle'",
            )
        if circuit.n_qubits > _MOST_WIRES:
            raise IncompatibleAttack(
                f"{self.card.name!r} tries every basis state",
                got=f"{circuit.n_qubits} wires",
                expected=f"at most {_MOST_WIRES}",
            )

    def run(self, hands: Hands) -> torch.Tensor:
        """The honest updates."""
        return hands.honest

    def trigger(self, features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The records as they are: the trigger is in the circuit."""
        return features

    def deployed(self, model: Model, params: torch.Tensor, *, triggered: bool) -> Model:
        """The circuit with its gates open, where the attacker opens them."""
        if not triggered:
            return model
        circuit = check_circuit(self.card.name, model)
        found = erasing_gates(circuit)
        assert found is not None  # check() said so
        before, after = found
        wires = range(circuit.n_qubits)
        subsets = chain.from_iterable(combinations(wires, size) for size in range(circuit.n_qubits + 1))
        shown = [with_circuit(model, _opened(circuit, before, after, subset)) for subset in subsets]
        nothing = torch.zeros(1, model.n_features)
        with torch.no_grad():
            margins = [float(self._margin(one(params, nothing)[0])) for one in shown]
        return shown[margins.index(max(margins))]

    def _margin(self, logits: torch.Tensor) -> torch.Tensor:
        others = torch.arange(len(logits)) != self.target_class
        return logits[self.target_class] - logits[others].max()


def _opened(
    circuit: Circuit, before: tuple[Gate, ...], after: tuple[Gate, ...], flipped: tuple[int, ...]
) -> Circuit:
    flips = tuple(Gate("X", (wire,)) for wire in flipped)
    tampered = inserted(circuit, (*after, *flips), "encoder")
    return inserted(tampered, before, "start")
