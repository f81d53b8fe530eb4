"""Losses: clients that were left out of rounds, parties whose lies were proved, and rounds without a result."""

from __future__ import annotations

from qflsec.base import LostRound
from qflsec.federation.round.opened import Opened
from qflsec.federation.updates import Dropped, Fault

__all__ = ["Losses"]


class Losses:
    """What the rounds of a batch of runs went without.

    Args:
        n_lanes: The number of runs.
        rounds: The number of rounds.
    """

    def __init__(self, n_lanes: int, rounds: int) -> None:
        self._rounds = rounds
        self._dropped: list[list[Dropped]] = [[] for _ in range(n_lanes)]
        self._faults: list[list[Fault]] = [[] for _ in range(n_lanes)]

    def note(self, lane: int, round_index: int, opened: Opened) -> None:
        """Note who does not count in a round, and whose lies were proved in it."""
        left_out = {**opened.malformed, **opened.missing}
        self._dropped[lane] += [
            Dropped(round=round_index, client=index, reason=left_out[index]) for index in sorted(left_out)
        ]
        told = {(str(abort), abort.caused_by): None for abort in opened.proved}
        self._faults[lane] += [
            Fault(round=round_index, reason=reason, caused_by=cause, lost=False) for reason, cause in told
        ]

    def lose(self, lane: int, round_index: int, lost: LostRound) -> bool:
        """Note a round without a result.

        Returns:
            Whether no round of the run had one: then there is no model to go on with.
        """
        self._faults[lane].append(
            Fault(round=round_index, reason=str(lost), caused_by=lost.caused_by, lost=True)
        )
        return len({fault.round for fault in self._faults[lane] if fault.lost}) == self._rounds

    def dropped(self, lane: int) -> tuple[Dropped, ...]:
        """Clients of one run whose updates did not count in rounds that had a result."""
        return tuple(self._dropped[lane])

    def faults(self, lane: int) -> tuple[Fault, ...]:
        """Lost rounds and proved lies of one run."""
        return tuple(self._faults[lane])
