"""An n-of-n threshold sum on ring learning with errors, small enough to read. Labelled teaching.

With a public polynomial ``a``, party ``i`` draws a ternary share ``s_i`` and publishes ``b_i = -a s_i + e_i``;
``b``, the sum of them, is the public key that belongs to ``s``, the sum of the shares, which nobody holds. Whoever
encrypts draws ``u, e_0, e_1`` and sends ``(b u + e_0 + D m, a u + e_1)``; ciphertexts add. To decrypt
``(c_0, c_1)`` party ``i`` gives ``c_1 s_i`` plus noise, and ``c_0`` plus all of these is ``D m`` plus an error.

The noise in a part is uniform in an interval ``2^k`` times longer than the error that it drowns, so that all
parts of one decryption can be made from the sum and the other parties' shares alone up to a statistical
distance of ``2^-k`` for each coefficient. The distances of all coefficients of all parts of a session add up: by the
union bound ``P C R`` ciphertexts, for ``P`` parties, ``C`` of a sum and ``R`` rounds, leave ``k - log2(4096 P C R)``
bits. All of this assumes parties that follow the protocol. One that chooses its public key after it saw the others'
can cancel them. A part of the decryption of a ciphertext of somebody's choice, with a second component above the noise,
is the share itself: parties must only decrypt what they added up themselves, and ciphertexts that no party crafted.

Source:
    Asharov, Jain, López-Alt, Tromer, Vaikuntanathan and Wichs: Multiparty computation with low communication,
    computation and interaction via threshold FHE, EUROCRYPT 2012, eprint 2011/613 (key generation and smudging,
    there for BGV); Mouchet, Troncoso-Pastoriza, Bossuat and Hubaux, PoPETs 2021, eprint 2020/304 (for BFV).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qflsec.base import ConfigError, ProtocolAbort, Secrets
from qflsec.protocols.secagg.he.parameters import LARGEST_MODULUS, Security, prime_below
from qflsec.protocols.secagg.he.ring import negacyclic
from qflsec.protocols.secagg.he.sampling import centred_binomial, ternary, uniform_words
from qflsec.protocols.secagg.he.threshold_scheme import KeyShare, ThresholdScheme

__all__ = ["DEGREE", "RlweScheme", "RlweShare"]

DEGREE = 4096
_RESIDUE_BYTES = 4
_PRIME_BITS = 25
_ERROR_SIGMA = math.sqrt(21 / 2)
_DEVIATIONS = 8.0
Residues = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RlweShare:
    """A share of the secret key, as values modulo each prime.

    Shapes:
        values: ``(primes, degree)``
    """

    values: Residues = field(repr=False)


class RlweScheme(ThresholdScheme):
    """The scheme for a number of parties.

    Args:
        session: A public name, from which the common polynomial follows.
        n_parties: The number of parties.
        plain_bits: The plaintext modulus is ``2^plain_bits``.
        smudging_bits: By how many bits the noise of a part exceeds the error that it drowns.
        security: The row of the security table.

    Raises:
        ConfigError: The sums, the errors and the noise do not fit into the modulus.
    """

    name = "rlwe"

    def __init__(
        self,
        *,
        session: bytes,
        n_parties: int,
        plain_bits: int,
        smudging_bits: int,
        security: Security,
    ) -> None:
        self.slots, self.modulus = DEGREE, 1 << plain_bits
        bits = LARGEST_MODULUS[security][DEGREE] // _PRIME_BITS * _PRIME_BITS
        self.primes = _primes(bits // _PRIME_BITS)
        self.ciphertext_modulus = math.prod(self.primes)
        self._step = self.ciphertext_modulus // self.modulus
        self.error = error_bound(n_parties)
        self.smudging = math.ceil(math.log2(self.error)) + smudging_bits
        most = self.error + n_parties * 2.0 ** (self.smudging - 1)
        if n_parties < 1 or 2 * most + self.modulus >= self._step:
            raise ConfigError(
                f"threshold sums of {n_parties} parties do not fit into {bits} bits at {security}",
                got=f"plain_bits={plain_bits}, smudging_bits={smudging_bits}",
                fix="lower 'plain_bits' or 'smudging_bits'",
            )
        self._rings = [negacyclic(DEGREE, prime) for prime in self.primes]
        self._column = np.array(self.primes, dtype=np.int64)[:, None]
        self._common = np.stack([_uniform(session, prime) for prime in self.primes])

    def _values(self, coefficients: npt.NDArray[np.int64]) -> Residues:
        return np.stack([ring.values(coefficients) for ring in self._rings])

    def message_bytes(self) -> tuple[int, int, int]:
        """One, two and one polynomials of 32-bit residues."""
        one = _RESIDUE_BYTES * len(self.primes) * DEGREE
        return one, 2 * one, one

    def new_share(self, secrets: Secrets, previous: bytes) -> tuple[KeyShare, bytes]:
        """A ternary share, and the sum of the public keys so far."""
        share = self._values(ternary(secrets, DEGREE))
        error = self._values(centred_binomial(secrets, DEGREE))
        public = (error - self._common * share) % self._column
        if previous:
            public = (public + self._read(previous, 1)[0]) % self._column
        return RlweShare(values=share), _write(public[None])

    def encrypt(self, public: bytes, integers: npt.NDArray[np.int64], secrets: Secrets) -> list[bytes]:
        """Ciphertexts of integers, as coefficients.

        Raises:
            ProtocolAbort: The public key is malformed.
        """
        (key,) = self._read(public, 1)
        found = []
        for start in range(0, len(integers), DEGREE):
            part = np.zeros(DEGREE, dtype=np.int64)
            part[: len(integers[start : start + DEGREE])] = integers[start : start + DEGREE]
            scaled = np.stack(
                [
                    ring.values(part % prime * (self._step % prime) % prime)
                    for ring, prime in zip(self._rings, self.primes, strict=True)
                ]
            )
            once = self._values(ternary(secrets, DEGREE))
            errors = [self._values(centred_binomial(secrets, DEGREE)) for _ in range(2)]
            first = (key * once + errors[0] + scaled) % self._column
            second = (self._common * once + errors[1]) % self._column
            found.append(_write(np.stack([first, second])))
        return found

    def check(self, ciphertext: bytes) -> None:
        """Refuse another size, and numbers that are no residues."""
        self._read(ciphertext, 2)

    def add(self, one: bytes, other: bytes) -> bytes:
        """A ciphertext of the sum."""
        return _write((self._read(one, 2) + self._read(other, 2)) % self._column)

    def partial(self, share: KeyShare, ciphertext: bytes, secrets: Secrets, *, lead: bool) -> bytes:
        """The second component times the share, and uniform noise."""
        assert isinstance(share, RlweShare)
        noise = np.array(uniform_words(secrets, DEGREE, self.smudging), dtype=object)
        drowned = np.stack([ring.values((noise % ring.prime).astype(np.int64)) for ring in self._rings])
        return _write(((self._read(ciphertext, 2)[1] * share.values + drowned) % self._column)[None])

    def fuse(self, ciphertext: bytes, partials: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """The integers nearest to what all parts add up to."""
        total = self._read(ciphertext, 2)[0]
        for part in partials:
            total = (total + self._read(part, 1)[0]) % self._column
        whole = np.zeros(DEGREE, dtype=object)
        q = self.ciphertext_modulus
        for ring, residues in zip(self._rings, total, strict=True):
            rest = q // ring.prime
            whole += ring.coefficients(residues).astype(object) * (rest * pow(rest, -1, ring.prime))
        whole %= q
        rounded = [(2 * self.modulus * int(x) + q) // (2 * q) % self.modulus for x in whole]
        half = self.modulus // 2
        return np.array([m - self.modulus if m >= half else m for m in rounded], dtype=np.int64)

    def _read(self, blob: bytes, n_polynomials: int) -> Residues:
        if len(blob) != _RESIDUE_BYTES * n_polynomials * len(self.primes) * DEGREE:
            raise ProtocolAbort("a threshold message has the wrong size")
        found = np.frombuffer(blob, dtype="<u4").astype(np.int64)
        shaped = found.reshape(n_polynomials, len(self.primes), DEGREE)
        if bool((shaped >= self._column).any()):
            raise ProtocolAbort("a threshold message holds numbers out of range")
        return shaped


def error_bound(n_parties: int) -> float:
    """Eight standard deviations of a coefficient's error in the sum of all parties' fresh ciphertexts.

    The error of one is ``e_0 + e_1 s + e u``, with the sums ``s`` and ``e`` over the parties. What a part of a decryption
    tells depends on its mean magnitude, by Cauchy and Schwarz at most an eighth of this bound, so that no tail of its law
    enters the distance. Only that sums decrypt rests on the tail, below 1e-14 for each coefficient as if it were Gaussian.
    """
    one = 1 + 2 * DEGREE * (2 / 3) * n_parties
    return _DEVIATIONS * _ERROR_SIGMA * math.sqrt(n_parties * one)


def _write(polynomials: Residues) -> bytes:
    return polynomials.astype("<u4").tobytes()


def _primes(count: int) -> tuple[int, ...]:
    """The largest primes of 25 bits that split the ring."""
    found: list[int] = []
    limit = 1 << _PRIME_BITS
    while len(found) < count:
        limit = prime_below(limit, 2 * DEGREE)
        found.append(limit)
    return tuple(found)


def _uniform(session: bytes, prime: int) -> Residues:
    """Public values, uniform modulo a prime, from a hash of the session's name."""
    label = b"qflsec/he-threshold/common" + session + prime.to_bytes(8, "big")
    words = np.frombuffer(hashlib.shake_256(label).digest(16 * DEGREE), dtype="<u4") >> np.uint32(
        32 - _PRIME_BITS
    )
    accepted = words[words < prime].astype(np.int64)
    assert accepted.size >= DEGREE
    return accepted[:DEGREE]
