"""Wrong cluster: join the clients that one is least like, and push their model away."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.values import check_positive
from qflsec.base import AttackCard, IncompatibleAttack, Source, register
from qflsec.federation import Hands, Pipeline
from qflsec.threat import ThreatModel

__all__ = ["WrongCluster"]


@register("attack", "wrong-cluster")
@dataclass(frozen=True, kw_only=True)
class WrongCluster(Manipulation):
    """Choose the model that is worst on the own records, and send the update of training on these, enlarged.

    Nothing is forged but the choice: in a cluster of clients whose records say the contrary an honest update is poison, and
    there are fewer others to outweigh it than in the whole federation.

    Args:
        boost: The factor on the update.

    Raises:
        ConfigError: It is not positive and finite.
    """

    card = AttackCard(
        name="wrong-cluster",
        idea="Join the cluster whose model fits one's records worst, and send an enlarged update there.",
        source=Source(
            paper="Ghosh, Chung, Yin, Ramchandran: An efficient framework for clustered federated learning, NeurIPS 2020, "
            "arXiv:2006.04088",
            year=2020,
            where="the choice of a cluster, which nobody checks; the attack is this package's",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients", "several models, among which clients choose"),
    )
    boost: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a factor that is none."""
        check_positive("boost", self.boost)

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a topology in which nobody chooses.

        Raises:
            IncompatibleAttack: It is one.
        """
        super().check(pipeline, threat)
        if not pipeline.topology.chosen:
            raise IncompatibleAttack(
                f"{self.card.name!r} chooses a wrong model, but clients have no choice",
                got=f"clients that are connected as {pipeline.topology.words}",
                fix="set topology = { name = 'clusters' }",
            )

    def chooses(self, losses: torch.Tensor) -> int:
        """The model of the largest loss."""
        return int(losses.argmax())

    def run(self, hands: Hands) -> torch.Tensor:
        """The honest update, enlarged."""
        return self.boost * hands.honest
