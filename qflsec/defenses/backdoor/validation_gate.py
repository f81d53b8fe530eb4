"""A gate of clean records: an update counts if the model after it is no worse on records of the server."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.robust import RobustFilter, Robustness
from qflsec.defenses.server_records import need_server_records
from qflsec.federation import Pipeline, RoundUpdates

__all__ = ["ValidationGate"]


@register("layer", "validation-gate")
@dataclass(frozen=True, kw_only=True)
class ValidationGate(RobustFilter):
    """Leaves out updates after which, each taken alone, the model is worse on clean records of the server.

    The loss of broadcast model plus update may be above that of the broadcast model by ``tolerance`` at most. Where no
    update passes, the one of least loss does: a round has a result.

    Attributes:
        records: How many records of the auxiliary split the server holds, at most.
        tolerance: By how much the loss may rise.

    Units:
        tolerance: that of the model's loss, nats for cross entropy

    Raises:
        ConfigError: A value is out of range.
    """

    topologies = frozenset({"star"})
    card = DefenseCard(
        name="validation-gate",
        idea="The server tries each update on a few clean records and leaves out those that raise the loss.",
        source=Source(
            paper="Xie, Koyejo, Gupta: Zeno: distributed stochastic gradient descent with suspicion-based "
            "fault-tolerance, ICML 2019, arXiv:1805.10032",
            year=2019,
            where="the stochastic descent score, with a threshold in place of a rank and no penalty on length",
        ),
        claim="No update counts that alone raises the loss on the server's records by more than the tolerance.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not see a backdoor that leaves clean records alone.",
            "It does not stop an update that is shrunk until it passes.",
            "It does not help where the server's records differ from the clients'.",
            "It does not keep honest clients whose steps are too long to lower the loss.",
        ),
        cost="one evaluation of the records for each update; the server needs individual updates and records",
    )
    robustness = Robustness(breakdown="f any, with records of the server", needs=("server data",))

    records: int = 50
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.records < 1:
            raise ConfigError("'records' is too small", got=self.records, expected="1 or more")
        if not 0 <= self.tolerance < math.inf:
            raise ConfigError("'tolerance' is out of range", got=self.tolerance, expected="0 or more, finite")

    @property
    def validation_records(self) -> int:
        """The server's own records."""
        return self.records

    def check(self, pipeline: Pipeline) -> None:
        """Refuse pipelines in which the server has no records, or not the whole model.

        Raises:
            IncompatibleStack: It has not.
        """
        super().check(pipeline)
        need_server_records(self.card.name, pipeline, "tries updates")

    def act(self, batch: RoundUpdates) -> RoundUpdates:
        """The updates that pass; all of them where there are no records, as in an attacker's simulation."""
        if batch.validation is None:
            return batch
        losses = batch.validation(torch.cat([batch.broadcast[None], batch.broadcast + batch.updates]))
        before, after = losses[0], losses[1:]
        # a loss that is no number passes nowhere
        passes = after <= before + self.tolerance
        if not bool(passes.any()):
            passes = torch.arange(len(after)) == int(torch.nan_to_num(after, nan=math.inf).argmin())
        return batch.keep(passes)
