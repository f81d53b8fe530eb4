"""Three circuits on amplitudes, each one class against the rest, and a mean that trusts updates near the middle."""

from __future__ import annotations

from dataclasses import dataclass

import pennylane as qml
import torch
from torch import nn

from qflsec.base import DefenseCard, Source, register
from qflsec.defenses.robust import RobustRule

N_QUBITS, N_LAYERS, N_CLASSES = 2, 2, 3


@qml.qnode(qml.device("default.qubit", wires=N_QUBITS))
def circuit(weights: torch.Tensor, feat: torch.Tensor) -> object:
    qml.AmplitudeEmbedding(feat, wires=range(N_QUBITS), normalize=True)
    qml.StronglyEntanglingLayers(weights, wires=range(N_QUBITS))
    return qml.expval(qml.PauliZ(0))


class OneVersusRest(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(N_LAYERS, N_QUBITS, 3)) for _ in range(N_CLASSES)
        )
        self.bias = nn.Parameter(torch.zeros(N_CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([circuit(weights, x) for weights in self.weights], dim=-1) + self.bias


def make_model() -> nn.Module:
    return OneVersusRest()


@register("layer", "p3-distances")
@dataclass(frozen=True, kw_only=True)
class Distances(RobustRule):
    """The mean of the updates, weighted by one over the distance from their mean."""

    card = DefenseCard(
        name="p3-distances",
        idea="Weight updates by how close they are to the mean.",
        source=Source(paper="a shape of published pipelines", year=2024, where="tests"),
        claim="Updates far from the mean count less.",
        assumption="heuristic",
        hides="nothing",
        does_not=("It does not withstand clients that move the mean.",),
        cost="a distance for each client",
    )

    def rule(self, updates: torch.Tensor, *, f: int) -> torch.Tensor:
        weights = 1 / (1e-3 + (updates - updates.mean(dim=0)).norm(dim=-1, keepdim=True))
        return (weights * updates).sum(dim=0) / weights.sum()
