"""Norms: how long the vectors are that clients release."""

from __future__ import annotations

import math

import torch

from qflsec.federation.payloads import Sent

__all__ = ["Norms"]


class Norms:
    """Takes down the L2 norm of what each client of a batch of runs releases in each round.

    Args:
        n_lanes: The number of runs.
        rounds: The number of rounds.
        n_clients: The number of clients.
    """

    def __init__(self, n_lanes: int, rounds: int, n_clients: int) -> None:
        self._norms = torch.full((n_lanes, rounds, n_clients), math.nan)

    def note(self, round_index: int, sent: Sent, present: torch.Tensor) -> None:
        """Take down what the clients of one turn release; what is no update has no norm.

        Args:
            round_index: The round.
            sent: What they release, where the corrupted ones have had their turn.
            present: Who releases something.

        Shapes:
            present: ``(lane, client)``
        """
        released = present.clone()
        for place in sent.irregular:
            released[place] = False
        # In double precision, so that a lie near the largest single-precision number does not overflow when squared;
        # lane by lane, so that no sum can depend on what else is in the batch.
        for lane, rows in enumerate(released):
            self._norms[lane, round_index, rows] = torch.linalg.vector_norm(
                sent.updates[lane, rows].double(), dim=-1
            ).float()

    def of(self, lane: int) -> torch.Tensor:
        """The norms of one run.

        Shapes:
            returns: ``(round, client)``
        """
        return self._norms[lane].clone()
