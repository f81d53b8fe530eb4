"""Whether what a run claims of its key is true: the scorer sees both parties and the adversary."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.attacks.channel import ChannelEve
from qflsec.lab.scoring.channel import eve_information
from qflsec.protocols.bb84.run import BB84Result

__all__ = ["Judgement", "judge"]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What only the simulation can know of a run.

    Attributes:
        eve_information: What the adversary knows of each raw-key bit, before error correction.
        secret_bits: At most so many bits are secret: those that the adversary does not know of the raw key,
            less the parities that Alice announced. None if the run did not come to error correction.
        key_length: Bits of key that are claimed.
        keys_equal: Whether both ends hold the same key; None where there is none.

    Units:
        eve_information: bits per raw-key bit, measured.
    """

    eve_information: float
    secret_bits: float | None
    key_length: int
    keys_equal: bool | None

    @property
    def key_claimed(self) -> bool:
        """Whether a key is said to be secure."""
        return self.key_length > 0

    @property
    def claim_holds(self) -> bool:
        """Whether no more key is claimed than the adversary left; true where none is claimed."""
        return not self.key_claimed or (
            bool(self.keys_equal) and self.key_length <= (self.secret_bits or 0.0)
        )

    @property
    def sentence(self) -> str:
        """The judgement in words."""
        knows = f"Eve knows {self.eve_information:.3f} of each raw-key bit"
        if not self.key_claimed:
            return f"{knows}; no key is claimed."
        left = f"at most {max(0.0, self.secret_bits or 0.0):,.0f} bits are secret"
        if self.claim_holds:
            return f"{knows}; {left}, and the key of {self.key_length:,} bits that is claimed is shorter."
        return f"{knows}; {left}, and a key of {self.key_length:,} bits is claimed: the claim is FALSE."

    def to_dict(self) -> dict[str, object]:
        """Ready for JSON."""
        return {
            "eve_information_bits_per_raw_bit": self.eve_information,
            "secret_bits_at_most": self.secret_bits,
            "keys_equal": self.keys_equal,
            "key_claimed": self.key_claimed,
            "claim_holds": self.claim_holds,
        }


def judge(result: BB84Result) -> Judgement:
    """Score one run.

    Args:
        result: The run; its adversary measures what it kept, and guesses the raw key.
    """
    quantum, key = result.quantum, result.key
    eve = quantum.eve if isinstance(quantum.eve, ChannelEve) else None
    known = 0.0 if eve is None else eve_information(eve.guess(quantum.transcript), quantum.alice.key_bits)
    count = key.reconciliation
    alice, bob = result.alice_key, result.bob_key
    return Judgement(
        eve_information=known,
        secret_bits=None if count is None else key.config.n * (1 - known) - count.alice_bits,
        key_length=result.key_length,
        keys_equal=None if alice is None or bob is None else bool((alice == bob).all()),
    )
