"""A cap on weights: whatever a client reports, its share of the mean stays below a bound."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.weighting.base import capped_shares
from qflsec.federation import BoundLayer, RoundUpdates

__all__ = ["WeightCap"]


@register("layer", "weight-cap")
@dataclass(frozen=True, kw_only=True)
class WeightCap(BoundLayer):
    """The server bounds the share of the weight that one client may have.

    It bounds the numbers of examples that clients state, and what a rule makes of what they report of themselves.

    Attributes:
        factor: The largest share, as a multiple of that of equal clients.

    Raises:
        ConfigError: It is below 1.
    """

    card = DefenseCard(
        name="weight-cap",
        idea="The server bounds the share of one client in the mean, whatever the client says of itself.",
        source=Source(
            paper="Portnoy, Tirosh, Hendler: Towards federated learning with Byzantine-robust client weighting, "
            "arXiv:2004.04986",
            year=2020,
            where="truncation of the numbers of examples that clients state; for reported losses as well here",
        ),
        claim="No client has more than the factor over the number of clients of a round as its share of a weighted mean.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not bound the length of an update: a norm bound must follow.",
            "It does not bound rules that weigh nobody, such as a median.",
            "It does not stop a liar from taking its share.",
        ),
        cost="honest clients with many examples or good losses count less; the server needs individual updates",
    )
    over_groups = False

    factor: float = 2.0

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ConfigError("'factor' is out of range", got=self.factor, expected="1 or more")

    def bound(self, batch: RoundUpdates) -> RoundUpdates:
        """The round with capped numbers of examples, and with the cap for a rule that weighs by reports."""
        if bool((batch.counts <= 0).all()) or bool((batch.counts < 0).any()):
            return batch
        cap = min(1.0, self.factor / len(batch.ids))
        total = batch.counts.double().sum()
        counts = batch.counts
        if bool((counts.double() / total > cap).any()):
            counts = (capped_shares(counts, cap) * total).to(batch.updates.dtype)
        return replace(batch, counts=counts, max_share=cap)
