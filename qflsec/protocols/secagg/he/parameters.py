"""Parameters of homomorphic encryption: chosen by security and precision, or refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from qflsec.base import ConfigError

__all__ = [
    "LARGEST_MODULUS",
    "BfvParameters",
    "CkksParameters",
    "Security",
    "bfv_parameters",
    "ckks_parameters",
    "prime_below",
    "slot_error",
]

Security = Literal["classical-128", "quantum-128"]
LARGEST_MODULUS: Mapping[Security, Mapping[int, int]] = {
    "classical-128": {4096: 109, 8192: 218, 16384: 438},
    "quantum-128": {4096: 101, 8192: 202, 16384: 411},
}
"""Bits of the whole modulus, the special prime included, by ring degree, for ternary secrets.

Source:
    Albrecht et al.: Homomorphic encryption standard (2018), tables 1 and 2, as in Microsoft SEAL's
    ``hestdparms.h``; the library itself enforces the classical row only.
"""
_LARGEST_PRIME = 60
_SIGMA = 3.2
_MARGIN = 8.0  # standard deviations: about 1e-15 for each coefficient


@dataclass(frozen=True, kw_only=True)
class BfvParameters:
    """Integers modulo ``plain_modulus``, as many in a ciphertext as the ring's degree.

    Attributes:
        degree: The ring's degree.
        sizes: The bits of the primes: one for data, and the special one.
        plain_modulus: A prime with room for the sum.
    """

    degree: int
    sizes: tuple[int, int]
    plain_modulus: int


@dataclass(frozen=True, kw_only=True)
class CkksParameters:
    """Real numbers, half as many in a ciphertext as the ring's degree.

    Attributes:
        degree: The ring's degree.
        sizes: The bits of the primes: one for data, and the special one.
        scale_bits: The scale is ``2^scale_bits``.
    """

    degree: int
    sizes: tuple[int, int]
    scale_bits: int

    @property
    def largest_value(self) -> float:
        """The largest absolute value that can be encoded at all: its coefficients stay below half the modulus."""
        return 2.0 ** (self.sizes[0] - self.scale_bits - 2)


def _chains(security: Security) -> Iterator[tuple[int, tuple[int, int]]]:
    """Ring degrees with the largest prime for data that the security row allows, smallest ring first."""
    if security not in LARGEST_MODULUS:
        raise ConfigError("unknown 'security'", got=repr(security), expected=list(LARGEST_MODULUS))
    for degree, most in LARGEST_MODULUS[security].items():
        data = min(_LARGEST_PRIME, most // 2)
        yield degree, (data, min(_LARGEST_PRIME, most - data))


def bfv_parameters(*, security: Security, n_clients: int, plain_bits: int) -> BfvParameters:
    """The smallest ring in which the sum of fresh ciphertexts decrypts exactly.

    Args:
        security: The row of the security table.
        n_clients: How many ciphertexts are added.
        plain_bits: The size of the plaintext modulus.

    Source:
        Fan and Vercauteren, eprint 2012/144, section 4 (noise of fresh ciphertexts, sums below q / 2t).

    Raises:
        ConfigError: No ring fits.
    """
    for degree, sizes in _chains(security):
        noise = _MARGIN * math.sqrt(n_clients) * _SIGMA * math.sqrt(4 * degree / 3 + 1) + n_clients
        if noise < 2.0 ** (sizes[0] - plain_bits - 3):
            return BfvParameters(degree=degree, sizes=sizes, plain_modulus=_plain_prime(plain_bits, degree))
    raise ConfigError(
        f"no parameters of BFV hold {plain_bits}-bit sums of {n_clients} clients at {security}",
        fix="lower 'plain_bits'",
    )


def slot_error(degree: int, scale_bits: int, n_clients: int) -> float:
    """The standard deviation of one slot of a sum of fresh CKKS ciphertexts.

    SEAL encrypts under the whole modulus and switches the special prime away, which leaves the rounding of the
    two components, one of them times the ternary secret.

    Source:
        Cheon, Kim, Kim and Song, ASIACRYPT 2017, lemma 2 (the term of the modulus switch).
    """
    rounding = math.sqrt((2 * degree / 3 + 1) / 12)
    return math.sqrt(n_clients * degree) * rounding / 2.0**scale_bits


def ckks_parameters(
    *,
    security: Security,
    n_clients: int,
    precision: float,
    largest: float,
    added_error: Callable[[CkksParameters], float] | None = None,
) -> CkksParameters:
    """The smallest ring in which a sum is precise enough and cannot wrap.

    Args:
        security: The row of the security table.
        n_clients: How many ciphertexts are added.
        precision: The largest error of a coordinate of the sum.
        largest: The largest absolute coordinate of each client.
        added_error: What is added on purpose to the error of a released coordinate, for these parameters.

    Raises:
        ConfigError: No ring fits.
    """
    best = math.inf
    for degree, sizes in _chains(security):
        scale_bits = math.floor(sizes[0] - 2 - math.log2(n_clients * largest))
        if scale_bits > 0:
            chosen = CkksParameters(degree=degree, sizes=sizes, scale_bits=scale_bits)
            error = _MARGIN * slot_error(degree, scale_bits, n_clients)
            error += added_error(chosen) if added_error else 0.0
            best = min(best, error)
            if error <= precision:
                return chosen
    raise ConfigError(
        f"no parameters of CKKS are that precise for {n_clients} clients at {security}",
        got=f"precision={precision:g}, largest={largest:g}",
        expected=f"a precision of {1.01 * best:.3g} or more" if math.isfinite(best) else "smaller numbers",
        fix="raise 'precision', lower 'largest', or use 'he-bfv', which is exact",
    )


def _plain_prime(bits: int, degree: int) -> int:
    """The largest prime below ``2^bits`` that is 1 modulo twice the degree, so that every slot is an integer."""
    return prime_below(1 << bits, 2 * degree)


def prime_below(limit: int, step: int) -> int:
    """The largest prime below a limit that is 1 modulo a step.

    Raises:
        ConfigError: There is none.
    """
    candidate = (limit - 2) // step * step + 1
    while candidate > step:
        if _is_prime(candidate):
            return candidate
        candidate -= step
    raise ConfigError("there is no such prime", got=f"below {limit}, 1 modulo {step}")


def _is_prime(n: int) -> bool:
    """Miller-Rabin, which is exact below 3.3e24 with these bases (Sorenson and Webster 2017)."""
    d, s = n - 1, 0
    while d % 2 == 0:
        d, s = d // 2, s + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41):
        x = pow(base, d, n)
        if x in {1, n - 1}:
            continue
        for _ in range(s - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True
