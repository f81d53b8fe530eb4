"""What is attacked: all that challenges and scorers need of it, whoever trained it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from qflsec.data import Holdings
from qflsec.federation import FederationConfig
from qflsec.models import Execution
from qflsec.threat import Records, ThreatModel, View

__all__ = ["Subject"]


class Subject(Protocol):
    """A trained model with the records that it was trained on, and what an observer saw of the training.

    A run of the lab is one (:class:`qflsec.federation.RunResult`); somebody's recorded training is another. It
    knows the truth, so it stays with the lab: an attack gets a challenge and a view.
    """

    @property
    def training(self) -> FederationConfig:
        """How the clients trained together, as everybody knows."""

    @property
    def angle_features(self) -> bool:
        """Whether the model has the period 2 pi in every feature."""

    @property
    def feature_range(self) -> tuple[float, float]:
        """Where features lie."""

    @property
    def holdings(self) -> Holdings | None:
        """Which blocks of features each client holds; None where everybody holds everything, or nothing is known of blocks."""

    @property
    def executions(self) -> Sequence[Execution]:
        """How each client executes the model."""

    @property
    def participants(self) -> Mapping[int, frozenset[int]]:
        """For each round, the clients whose updates were aggregated."""

    def records(self, split: str) -> Records:
        """The records of a split, ``member``, ``nonmember``, ``auxiliary``, ``test`` or ``canary``; it may be empty.

        Canaries are members and non-members that an auditor made unlike the others.
        """

    def client_records(self, index: int) -> Records:
        """The training records of one client."""

    def view(self, threat: ThreatModel) -> View:
        """What the coalition of ``threat`` holds."""

    def predict(self, features: torch.Tensor) -> torch.Tensor:
        """The class that the last model gives to each record.

        Shapes:
            features: ``(n, F)``; returns: ``(n,)``
        """
