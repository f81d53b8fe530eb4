"""What Alice and Bob agree on in public before the first pulse."""

from __future__ import annotations

from dataclasses import dataclass, field

from qflsec.base import ConfigError, finite
from qflsec.protocols.bb84.bits import stated_probability
from qflsec.protocols.bb84.channel import FibreChannel
from qflsec.protocols.bb84.detector import DetectorModel
from qflsec.protocols.bb84.source import PhotonSource, SinglePhotonSource

__all__ = ["QuantumConfig"]

_MAX_BLOCK = 1 << 24


@finite
@dataclass(frozen=True, kw_only=True)
class QuantumConfig:
    """The quantum phase: a fixed number of pulses over a given line between given devices.

    Attributes:
        n_pulses: Pulses that are sent, whatever arrives.
        basis_probability: Probability with which each party chooses X, the basis of the key; Z is the test.
        source: Alice's source.
        channel: The line.
        detector: Bob's detectors.
        block_size: Pulses that are in memory at once; a multiple of 8.
    """

    n_pulses: int
    basis_probability: float = 0.5
    source: PhotonSource = field(default_factory=SinglePhotonSource)
    channel: FibreChannel = field(default_factory=FibreChannel)
    detector: DetectorModel = field(default_factory=DetectorModel)
    block_size: int = 1 << 20

    def __post_init__(self) -> None:
        if isinstance(self.n_pulses, bool) or not isinstance(self.n_pulses, int) or self.n_pulses < 1:
            raise ConfigError(
                "impossible number of pulses", got=self.n_pulses, expected="a whole number, 1 or more"
            )
        if not (0 < self.basis_probability < 1 and 0 < self.stated_basis_probability < 1):
            raise ConfigError("impossible basis bias", got=self.basis_probability, expected="between 0 and 1")
        if not (8 <= self.block_size <= _MAX_BLOCK and self.block_size % 8 == 0):
            raise ConfigError(
                "impossible block size", got=self.block_size, expected="a multiple of 8 up to 2^24"
            )

    @property
    def stated_basis_probability(self) -> float:
        """The basis bias that is realised exactly: a multiple of 2^-32."""
        return stated_probability(self.basis_probability)
