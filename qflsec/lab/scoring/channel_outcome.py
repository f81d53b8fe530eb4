"""What came of a run of BB84 under attack."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ChannelOutcome"]


@dataclass(frozen=True, kw_only=True)
class ChannelOutcome:
    """One cell.

    Attributes:
        attack: The attack's name, or ``"none"``.
        countermeasures: What was done against it.
        detected_by: The checks that fired: ``test-errors``, ``decoy-gains``, ``detector-monitor``,
            ``authentication``, ``no-key-left``.
        n_key: Raw-key bits.
        qber: Error rate of the test bits, as Alice and whoever answers her find it.
        key_length: Bits of key that are claimed; 0 where the run aborts.
        eve_information: What the adversary knows of each raw-key bit, before error correction.
        secret_bits: At most so many bits are secret: n_key (1 - eve_information) less error correction.
        seeded: Whether the parties' secrets came from the seed: such a key protects nothing.
    """

    attack: str
    countermeasures: tuple[str, ...]
    detected_by: tuple[str, ...]
    n_key: int
    qber: float
    key_length: int
    eve_information: float
    secret_bits: float
    seeded: bool

    @property
    def detected(self) -> bool:
        """Whether the run aborts."""
        return bool(self.detected_by)

    @property
    def key_claimed(self) -> bool:
        """Whether a key is said to be secure."""
        return self.key_length > 0

    @property
    def claim_holds(self) -> bool:
        """Whether no more key is claimed than the adversary left; true where none is claimed."""
        return self.key_length <= max(0.0, self.secret_bits)
