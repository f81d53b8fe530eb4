"""Layers on what clients state of their training before their updates count."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from qflsec.federation.control import Control
from qflsec.federation.layers import PayloadForm, SecretLayer
from qflsec.models import Model

__all__ = ["Asked", "StatementLayer"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What clients of a batch are asked.

    Attributes:
        agreed: The model that all of them shall train.
        of: The model that a client says it trains, by run and client.
    """

    agreed: Model
    of: Callable[[int, int], Model]


class StatementLayer(SecretLayer):
    """Has every client of a round state which model it trains, under its signature.

    A statement is words: an honest client's code states what it trains, and a corrupted client states what
    its adversary says (:meth:`~qflsec.federation.Adversary.stated`).
    """

    takes: ClassVar[frozenset[PayloadForm]] = frozenset(
        {"plain", "integers", "masked", "ciphertext", "sealed"}
    )

    @abstractmethod
    def collect(self, control: Control, asked: Asked, lane: int) -> Mapping[int, str]:
        """Carry the statements of a round to the server, before updates are sealed.

        Args:
            control: The parties, and their way to talk.
            asked: What is asked, and what each client says.
            lane: The run.

        Returns:
            The clients whose updates shall not count, by index, and what the server saw.

        Raises:
            ProtocolAbort: A link's check failed.
        """
