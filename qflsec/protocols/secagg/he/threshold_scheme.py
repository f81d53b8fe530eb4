"""Threshold encryption of integers: what a scheme must do so that all parties together, and no fewer, can decrypt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qflsec.base import Secrets

__all__ = ["KeyShare", "ThresholdScheme"]

KeyShare = Any
"""One party's share of the secret key, as its scheme keeps it."""


class ThresholdScheme(ABC):
    """An additively homomorphic scheme whose secret key is the sum of the parties' shares.

    Attributes:
        name: The scheme's name.
        slots: How many integers one ciphertext holds.
        modulus: The plaintext modulus; sums must stay below half of it.
    """

    name: ClassVar[str]
    slots: int
    modulus: int

    def message_bytes(self) -> tuple[int, int, int] | None:
        """The sizes of a public key, a ciphertext and a part of a decryption; None where they cannot be told."""
        return None

    @abstractmethod
    def new_share(self, secrets: Secrets, previous: bytes) -> tuple[KeyShare, bytes]:
        """A party's share, and the public key of all parties so far.

        Args:
            secrets: The party's own source of secrets.
            previous: The public key of the parties before it; empty for the first.
        """

    @abstractmethod
    def encrypt(self, public: bytes, integers: npt.NDArray[np.int64], secrets: Secrets) -> list[bytes]:
        """Ciphertexts of integers under the public key of all parties."""

    @abstractmethod
    def check(self, ciphertext: bytes) -> None:
        """Refuse bytes that are no ciphertext, so that whoever sent them is named and not whoever's is added to it.

        Raises:
            ProtocolAbort: They are none of this scheme.
        """

    @abstractmethod
    def add(self, one: bytes, other: bytes) -> bytes:
        """A ciphertext of the sum.

        Raises:
            ProtocolAbort: The bytes are no ciphertexts of this scheme.
        """

    @abstractmethod
    def partial(self, share: KeyShare, ciphertext: bytes, secrets: Secrets, *, lead: bool) -> bytes:
        """One party's part of a decryption, with noise that drowns what it would tell of the share.

        Args:
            share: The party's share.
            ciphertext: What is decrypted.
            secrets: The party's own source of secrets.
            lead: Whether this is the first party.

        Raises:
            ProtocolAbort: The bytes are no ciphertext of this scheme.
        """

    @abstractmethod
    def fuse(self, ciphertext: bytes, partials: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """The integers, from the parts of all parties, the first party's first; noise from fewer.

        Raises:
            ProtocolAbort: The bytes are no parts of this scheme, or it refuses.

        Shapes:
            returns: ``(slots,)``
        """
