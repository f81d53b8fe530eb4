"""Shamir's secret sharing of 256-bit secrets in a prime field, with shares of constant width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qflsec.base import ConfigError, ProtocolAbort, Secrets

__all__ = ["PRIME", "SECRET_BYTES", "SHARE_BYTES", "combine_shares", "share_secret", "weights_at_zero"]

PRIME = 2**256 + 297
"""The smallest prime above 2^256: every 256-bit secret is an element of the field."""
SECRET_BYTES = 32
SHARE_BYTES = 33
_DRAW_BYTES = 64  # a draw of 512 bits is uniform in the field up to 2^-255


def share_secret(
    secret: bytes, *, threshold: int, points: Iterable[int], secrets: Secrets
) -> dict[int, bytes]:
    """One share for each point; any ``threshold`` of them determine the secret, fewer say nothing of it.

    Args:
        secret: 32 bytes.
        threshold: How many shares open it.
        points: Distinct points, 1 or more.
        secrets: Where the polynomial's coefficients come from.

    Source:
        Shamir: How to share a secret, CACM 22(11), 1979, section 2.

    Raises:
        ConfigError: The secret, the points or the threshold cannot be used.
    """
    where = tuple(points)
    if len(secret) != SECRET_BYTES:
        raise ConfigError("a secret has the wrong length", got=len(secret), expected=f"{SECRET_BYTES} bytes")
    if len(set(where)) != len(where) or any(not 1 <= point < 2**32 for point in where):
        raise ConfigError("points must be distinct and at least 1", got=list(where))
    if not 1 <= threshold <= len(where):
        raise ConfigError("a threshold is out of range", got=threshold, expected=f"1 to {len(where)}")
    coefficients = [int.from_bytes(secret, "big")]
    coefficients += [int.from_bytes(secrets.draw(_DRAW_BYTES), "big") % PRIME for _ in range(threshold - 1)]
    shares = {}
    for point in where:
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * point + coefficient) % PRIME
        shares[point] = value.to_bytes(SHARE_BYTES, "big")
    return shares


def weights_at_zero(points: Iterable[int]) -> dict[int, int]:
    """Lagrange's weights: the secret is the weighted sum of the shares at these points."""
    where = tuple(points)
    weights = {}
    for point in where:
        above = below = 1
        for other in where:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        weights[point] = above * pow(below, -1, PRIME) % PRIME
    return weights


def combine_shares(shares: Mapping[int, bytes], weights: Mapping[int, int]) -> bytes:
    """The secret behind shares.

    Args:
        shares: By point; exactly those of ``weights``.
        weights: As :func:`weights_at_zero` gives them.

    Raises:
        ProtocolAbort: A share is no element of the field, or together they open to no 256-bit secret.
    """
    total = 0
    for point, weight in weights.items():
        value = int.from_bytes(shares[point], "big")
        if len(shares[point]) != SHARE_BYTES or value >= PRIME:
            raise ProtocolAbort(f"the share at point {point} is no element of the field")
        total = (total + weight * value) % PRIME
    if total >= 1 << (8 * SECRET_BYTES):
        raise ProtocolAbort("shares do not open to a secret", fix="one of them was altered")
    return total.to_bytes(SECRET_BYTES, "big")
