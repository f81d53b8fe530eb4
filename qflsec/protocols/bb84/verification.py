"""Verification: after reconciliation the parties compare a universal hash of their keys."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from qflsec.base import ConfigError

__all__ = ["verification_bits", "verification_seed_bits", "verification_tag"]

Bits = npt.NDArray[np.uint8]


def verification_bits(eps_cor: float) -> int:
    """Length of a hash that unequal keys share with probability at most ``eps_cor``.

    Source:
        Tomamichel, Lim, Gisin, Renner, Nat. Commun. 3, 634 (2012), protocol step "error correction".
    """
    if not 0.0 < eps_cor < 1.0:
        raise ConfigError("impossible eps_cor", got=eps_cor, expected="between 0 and 1")
    return math.ceil(-math.log2(eps_cor))


def verification_seed_bits(n: int, n_tag: int) -> int:
    """Public random bits that choose the hash of an ``n``-bit key."""
    return n + n_tag - 1


def verification_tag(bits: Bits, seed: Bits, n_tag: int) -> bytes:
    """The hash of a key: ``n_tag`` parities of the key under a window that slides along the seed.

    The rows seed[i : i + n] form a Hankel matrix: for a uniform seed, two different keys agree on all
    parities with probability exactly 2^-n_tag.

    Args:
        bits: The key, 0/1.
        seed: Public uniform bits, drawn after reconciliation.
        n_tag: Number of parities.

    Shapes:
        bits [n]; seed [n + n_tag - 1].
    """
    if seed.size != verification_seed_bits(bits.size, n_tag):
        raise ConfigError(
            "the seed does not fit the key", got=seed.size, expected=verification_seed_bits(bits.size, n_tag)
        )
    packed = np.packbits(bits)
    parities = np.empty(n_tag, dtype=np.uint8)
    for phase in range(min(8, n_tag)):
        window = np.packbits(seed[phase:])
        for row in range(phase, n_tag, 8):
            start = row // 8
            parities[row] = np.bitwise_xor.reduce(window[start : start + packed.size] & packed)
    return np.packbits(np.bitwise_count(parities) & 1).tobytes()
