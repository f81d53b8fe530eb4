"""What is known of a run besides its messages."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from qflsec.threat.rosters import Rosters
from qflsec.threat.versions import Version, Versions
from qflsec.threat.view import Item

__all__ = ["LaneFacts"]


@dataclass(kw_only=True)
class LaneFacts:
    """What is known of a run besides its messages.

    The lab knows all of it; which participants a coalition may name is up to ``rosters``.

    Attributes:
        counts: The number of examples of each client.
        versions: How each model came about.
        participants: For each round, the clients whose updates were aggregated.
        rosters: Who learns who takes part in a round.
        beside: How many numbers stand behind the parameters of every update: the entries of a metric.
    """

    counts: tuple[float, ...]
    versions: Versions = field(default_factory=Versions)
    participants: dict[int, frozenset[int]] = field(default_factory=dict)
    rosters: Rosters = field(default_factory=Rosters)
    beside: int = 0

    def weight(self, item: Item) -> float:
        """How many examples are behind an update or a sum: what it says, else what its clients hold."""
        return item.weight if item.weight is not None else sum(self.counts[client] for client in item.named)

    def base(self, known: Version | None, round_index: int, clients: Collection[int]) -> Version | None:
        """What these clients of a sum started from: they may share a base although the sum has none."""
        return self.versions.base_of_round(round_index, clients) if known is None else known
