"""What an adversary on the line is to the protocol; the attacks themselves are in ``qflsec.attacks``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qflsec.protocols.bb84.channel import FibreChannel
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.signal import PulseTrain
from qflsec.protocols.bb84.transcript import Message

__all__ = ["Eavesdropper", "OpensEavesdropper"]


class Eavesdropper(ABC):
    """An adversary between Alice's door and Bob's, in one run."""

    @abstractmethod
    def intercept(self, train: PulseTrain, line: FibreChannel) -> PulseTrain:
        """Act on one block.

        Args:
            train: The pulses as they leave Alice.
            line: The line that Alice and Bob believe in; a train that passes by is sent through it.

        Returns:
            What reaches Bob.
        """

    def settle(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Let go what was kept of those pulses of the last block that Bob did not detect.

        Called for the sake of memory only: it must not change what the adversary does, since Bob announces
        his detections after the last pulse.

        Args:
            positions: The pulses that Bob detected.

        Returns:
            The pulses of which Alice will hear that they were detected.
        """
        return positions

    def relay(self, message: Message) -> bytes:
        """Hear a public message, and say what its receiver hears."""
        return message.payload


class OpensEavesdropper(Protocol):
    """An attack's public configuration, from which a run opens an adversary."""

    def open(self, config: QuantumConfig, *, seed: int) -> Eavesdropper:
        """The adversary of one run.

        Args:
            config: What Alice and Bob agreed in public.
            seed: The run's seed, for the adversary's own choices.
        """
