"""The baseline: updates as they are, so that what protection costs and hides has something to stand beside."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.accounting import LedgerContext, LedgerRow, RowWriter
from qflsec.base import DefenseCard, Source, register
from qflsec.federation import ShapeLayer, Streams

__all__ = ["Plain"]


@register("layer", "plain")
@dataclass(frozen=True, kw_only=True)
class Plain(ShapeLayer):
    """No protection: every update and number of examples goes to the server as it is.

    A stack with this layer computes what a stack without any layer computes, bit for bit, and says in the ledger
    that nothing is hidden.
    """

    card = DefenseCard(
        name="plain",
        idea="Send updates as they are: the baseline of the aggregation protocols.",
        source=Source(
            paper="McMahan et al.: Communication-efficient learning of deep networks from decentralized data, "
            "AISTATS 2017, arXiv:1602.05629",
            year=2017,
            where="algorithm 1",
        ),
        claim="Nothing is claimed: the server, and whoever hears the network, read every update.",
        assumption="none",
        hides="nothing",
        does_not=("It does not hide updates, numbers of examples, who takes part, who drops out, or sizes.",),
        cost="4 bytes for each parameter",
    )

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The update itself."""
        return update

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """Nothing is hidden from an observer who reads updates."""
        if not (context.honest and context.observer.reads_updates):
            return ()
        observer = context.observer
        guessed = bool(observer.uncounted) and not observer.read
        return (
            RowWriter.of(self.card.name, context).not_covered(
                "reads sums of clients whom it cannot name, of a single one at times: nothing hides that one's update"
                if guessed
                else "reads every honest client's update and number of examples",
                released="sums of updates" if guessed else "every update in every round",
            ),
        )
