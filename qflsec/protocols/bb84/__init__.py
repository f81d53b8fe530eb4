"""BB84 quantum key distribution, prepare and measure."""

from __future__ import annotations

from qflsec.protocols.bb84.channel import FibreChannel
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.detector import DetectorModel
from qflsec.protocols.bb84.eavesdropper import Eavesdropper
from qflsec.protocols.bb84.parties import Alice, Bob
from qflsec.protocols.bb84.quantum import QuantumPhase, run_quantum
from qflsec.protocols.bb84.run import BB84Result, run_bb84
from qflsec.protocols.bb84.run_config import BB84Config
from qflsec.protocols.bb84.sifting import AliceSifted, BobSifted, SiftedCounts
from qflsec.protocols.bb84.source import SinglePhotonSource, WeakCoherentSource
from qflsec.protocols.bb84.transcript import Message, PublicChannel, Transcript, TranscriptError

__all__ = [
    "Alice",
    "AliceSifted",
    "BB84Config",
    "BB84Result",
    "Bob",
    "BobSifted",
    "DetectorModel",
    "Eavesdropper",
    "FibreChannel",
    "Message",
    "PublicChannel",
    "QuantumConfig",
    "QuantumPhase",
    "SiftedCounts",
    "SinglePhotonSource",
    "Transcript",
    "TranscriptError",
    "WeakCoherentSource",
    "run_bb84",
    "run_quantum",
]
