"""BFV on quantised integers: exact sums that only clients can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, DefenseCard, Secrets, Source, register
from qflsec.protocols.key_agreement import key_exchange
from qflsec.protocols.secagg.fixed_point import FixedPoint
from qflsec.protocols.secagg.he.layer import HeLayer
from qflsec.protocols.secagg.he.parameters import BfvParameters, bfv_parameters
from qflsec.protocols.secagg.he.sizes import HeSizes
from qflsec.protocols.secagg.he.state import Handle, refused
from qflsec.threat import Workload

__all__ = ["HeBfv", "PrimeFixedPoint"]


@dataclass(frozen=True, kw_only=True)
class PrimeFixedPoint(FixedPoint):
    """Fixed point for sums modulo a prime below ``2^bits``, held in 64-bit words.

    Attributes:
        modulus: The prime.
    """

    bits: int = 64
    modulus: int

    def share(self, n: int) -> int:
        """The largest absolute integer that each of ``n`` clients may send."""
        return ((self.modulus - 1) // 2) // n

    @property
    def limits(self) -> tuple[int, int]:
        """The integers nearest to zero that the modulus tells apart."""
        half = (self.modulus - 1) // 2
        return -half, half


@register("layer", "he-bfv")
@dataclass(frozen=True, kw_only=True)
class HeBfv(HeLayer):
    """Exact homomorphic sums; clients decrypt.

    Attributes:
        plain_bits: The size of the plaintext modulus: room for the sum of the weighted coordinates.
        fractional_bits: The resolution of a weighted coordinate is ``2^-fractional_bits``.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="he-bfv",
        idea="Clients encrypt integers under one key that they share; the server adds ciphertexts that it cannot "
        "read.",
        source=Source(
            paper="Fan and Vercauteren: Somewhat practical fully homomorphic encryption, eprint 2012/144; "
            "by TenSEAL, Benaissa et al., arXiv:2104.03152",
            year=2012,
            where="section 4 (textbook scheme, addition)",
        ),
        claim="The server and the network read no update, no sum and no model before the final one is "
        "published, provided that no client colludes with them.",
        assumption="computational",
        hides="updates, sums and intermediate models from the server and the network",
        does_not=(
            "It hides nothing once one client colludes: each holds the key that opens all updates.",
            "It does not hide who takes part, sizes, times, or numbers of records, which are taken as public.",
            "It does not let the server evaluate or bound anything.",
            "It does not bound what a client submits.",
        ),
        cost="about 59 kB for every 4096 parameters at quantum-128, in each direction; 0.2 MB of key for each client",
    )
    protocol = "qflsec/he-bfv/1"
    additive = True
    remote = True

    plain_bits: int = 28
    fractional_bits: int = 12

    def __post_init__(self) -> None:
        if not 20 <= self.plain_bits <= 45:
            raise ConfigError("'plain_bits' is out of range", got=self.plain_bits, expected="20 to 45")
        if not 1 <= self.fractional_bits <= self.plain_bits - 8:
            raise ConfigError(
                "'fractional_bits' is out of range",
                got=self.fractional_bits,
                expected=f"1 to {self.plain_bits - 8} with plain_bits={self.plain_bits}",
            )
        super().__post_init__()

    @property
    def grid(self) -> float:
        """The resolution of a weighted coordinate."""
        return 2.0**-self.fractional_bits

    def parameters(self, n_clients: int) -> BfvParameters:
        """The parameters for a number of clients.

        Raises:
            ConfigError: None fit.
        """
        return bfv_parameters(security=self.security, n_clients=n_clients, plain_bits=self.plain_bits)

    def sizes(self, load: Workload) -> HeSizes:
        """A ciphertext holds as many integers as the ring has coefficients."""
        degree = self.parameters(load.n_clients).degree
        exchange = key_exchange(self.agreement)
        return HeSizes(degree=degree, per_ciphertext=degree, ciphertext_bytes=exchange.ciphertext_bytes)

    def words(self, n_clients: int) -> PrimeFixedPoint:
        """How numbers become integers."""
        modulus = self.parameters(n_clients).plain_modulus
        return PrimeFixedPoint(fractional_bits=self.fractional_bits, modulus=modulus)

    def check_room(self, n_clients: int, max_count: int, n_values: int = 1) -> None:
        """Refuse sessions whose sums could not be held.

        Raises:
            ConfigError: The largest weight does not fit, or no parameters do.
        """
        largest = self.words(n_clients).largest(n_clients)
        if max_count > largest:
            raise ConfigError(
                f"the plaintexts of 'he-bfv' are too small for {n_clients} clients with up to {max_count} examples",
                got=f"plain_bits={self.plain_bits}, fractional_bits={self.fractional_bits}",
                expected=f"at most {largest:.6g} examples",
                fix="raise 'plain_bits' or lower 'fractional_bits'",
            )

    def new_context(self, n_clients: int, n_values: int = 1) -> Handle:
        """A fresh context with its secret key.

        Raises:
            ConfigError: No parameters fit.
        """
        import tenseal

        chosen = self.parameters(n_clients)
        return tenseal.context(
            tenseal.SCHEME_TYPE.BFV,
            poly_modulus_degree=chosen.degree,
            plain_modulus=chosen.plain_modulus,
            coeff_mod_bit_sizes=list(chosen.sizes),
        )

    def encrypt(
        self,
        context: Handle,
        update: torch.Tensor,
        weight: float,
        n_clients: int,
        *,
        secrets: Secrets,
        checked: bool = True,
    ) -> tuple[list[bytes], torch.Tensor]:
        """Ciphertexts of a weighted update and its weight, and what whoever decrypts them reads.

        Raises:
            UpdateError: A weighted coordinate exceeds its share of the plaintext modulus.
        """
        fixed = self.words(n_clients)
        words = fixed.encode(update, weight, n=n_clients, secrets=secrets, checked=checked)
        chunks = self.encrypt_integers(context, words.view(np.int64), n_clients)
        return chunks, fixed.inside(words, update)

    def encrypt_integers(
        self, context: Handle, integers: npt.NDArray[np.int64], n_clients: int
    ) -> list[bytes]:
        """Ciphertexts of integers between plus and minus half the plaintext modulus."""
        import tenseal

        degree = self.parameters(n_clients).degree
        with refused("an update cannot be encrypted under the clients' key"):
            return [
                bytes(tenseal.bfv_vector(context, integers[start : start + degree].tolist()).serialize())
                for start in range(0, len(integers), degree)
            ]

    def load(self, context: Handle, blob: bytes) -> Handle:
        """A ciphertext from bytes."""
        import tenseal

        return tenseal.bfv_vector_from(context, blob)

    def decrypt(
        self,
        context: Handle,
        blobs: Sequence[bytes],
        size: int,
        most: float,
    ) -> tuple[torch.Tensor, float]:
        """The weighted mean and the weight behind a sum.

        Raises:
            ProtocolAbort: The weight is impossible.
        """
        integers = self.opened_values(context, blobs, size)
        words = np.asarray(integers, dtype=np.int64).view(np.uint64)
        fixed = FixedPoint(bits=64, fractional_bits=self.fractional_bits)
        return fixed.read(words, most=most)
