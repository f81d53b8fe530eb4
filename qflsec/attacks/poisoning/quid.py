"""QUID: labels that are farthest off by the distance of encoded states."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.records import drawn_records
from qflsec.attacks.tampering import check_circuit, encoder_of
from qflsec.attacks.values import check_fraction
from qflsec.base import AttackCard, IncompatibleAttack, Source, register
from qflsec.circuits import Circuit, statevector
from qflsec.federation import Hands, Pipeline
from qflsec.models import Vqc
from qflsec.threat import ThreatModel

__all__ = ["Quid", "farthest_labels", "state_distances"]


def state_distances(encoder: Circuit, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Frobenius distances of encoded states, ``||rho - sigma||_F = sqrt(2 (1 - F))`` for pure ones.

    Args:
        encoder: A circuit without weights.
        first: Records.
        second: Records.

    Shapes:
        first: ``(n, F)``; second: ``(m, F)``; returns: ``(n, m)``, double
    """
    none = torch.zeros(0, dtype=torch.float64)
    one, other = (
        statevector(encoder, none, records.double(), dtype=torch.complex128) for records in (first, second)
    )
    fidelity = (one @ other.conj().T).abs().square()
    return (2 * (1 - fidelity)).clamp(min=0).sqrt()


def farthest_labels(
    encoder: Circuit, features: torch.Tensor, labels: torch.Tensor, n_classes: int
) -> torch.Tensor:
    """For each record the class whose records are farthest from it on average; absent classes are not chosen.

    Shapes:
        features: ``(n, F)``; labels: ``(n,)``; returns: ``(n,)``
    """
    away = state_distances(encoder, features, features)
    members = torch.nn.functional.one_hot(labels, n_classes).double()
    counts = members.sum(dim=0)
    mean = (away @ members) / counts.clamp(min=1)
    return mean.masked_fill(counts == 0, -1.0).argmax(dim=1)


@register("attack", "quid")
@dataclass(frozen=True, kw_only=True)
class Quid(Manipulation):
    """Train on labels that are as wrong as the encoder makes them: of the class that is farthest in state space.

    No training is needed to find them, only the circuit's encoder. The distances are those between the records of all
    corrupted clients of a run. For two classes it flips all records but those that lie nearer to the other class.

    Args:
        fraction: The fraction of the own records that get another label, drawn anew in each round; at least one.

    Raises:
        ConfigError: The fraction is out of range.

    Source:
        Kundu, Ghosh: Adversarial data poisoning attacks on quantum machine learning in the NISQ era, 2024,
        arXiv:2411.14412 (QUID).
    """

    card = AttackCard(
        name="quid",
        idea="Corrupted clients label records with the class whose encoded states are farthest from theirs.",
        source=Source(
            paper="Kundu, Ghosh: Adversarial data poisoning attacks on quantum machine learning in the NISQ era, "
            "arXiv:2411.14412",
            year=2024,
            where="QUID: labels by the distance of encoded states",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients with records of their own", "the circuit's encoder"),
    )
    fraction: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no fraction."""
        check_fraction("fraction", self.fraction)

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a model whose features do not enter a circuit before anything is trained.

        Raises:
            IncompatibleAttack: There is no such encoder.
        """
        super().check(pipeline, threat)
        encoder = encoder_of(check_circuit(self.card.name, pipeline.model))
        if not isinstance(pipeline.model, Vqc) or not encoder.reads_features:
            raise IncompatibleAttack(
                f"{self.card.name!r} compares encoded records, but the model trains before it encodes",
                got=pipeline.model.name,
                fix="use a 'vqc' whose encoder comes first",
            )

    def run(self, hands: Hands) -> torch.Tensor:
        """The update of training on these labels."""
        encoder = encoder_of(check_circuit(self.card.name, hands.model))
        wrong = hands.labels.clone()
        for lane in range(len(hands.generators)):
            present = hands.mask[lane] > 0
            features, labels = hands.features[lane][present], hands.labels[lane][present]
            if len(labels):
                wrong[lane][present] = farthest_labels(encoder, features, labels, hands.model.n_classes)
        if self.fraction < 1:
            wrong = torch.where(
                drawn_records(hands.mask, self.fraction, hands.generators), wrong, hands.labels
            )
        return hands.train(hands.features, wrong)
