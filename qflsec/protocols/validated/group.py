"""The group: the prime-order subgroup of Ed25519, from PyNaCl, and Pedersen commitments in it.

Points from outside are accepted only if libsodium finds them canonical and in the subgroup of prime order, so that
no component of small order can hide in a commitment. The second generator comes from hashing, so that nobody knows
its logarithm. Not constant time in Python: research code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from nacl import bindings

from qflsec.base import ProtocolAbort, Secrets
from qflsec.base.framing import pack_fields

__all__ = [
    "IDENTITY",
    "ORDER",
    "POINT_BYTES",
    "SCALAR_BYTES",
    "VALUE_BASE",
    "Point",
    "add",
    "blind",
    "challenge",
    "commitment",
    "draw_scalar",
    "negate",
    "pack_scalar",
    "read_point",
    "read_scalar",
    "subtract",
    "times",
    "total",
]

Point = bytes
ORDER = 2**252 + 27742317777372353535851937790883648493
POINT_BYTES = SCALAR_BYTES = 32
IDENTITY: Point = bytes([1]) + bytes(31)


def _hash_to_point(label: bytes) -> Point:
    return bindings.crypto_core_ed25519_from_uniform(hashlib.sha512(label).digest()[:32])


VALUE_BASE: Point = _hash_to_point(b"qflsec/validated/1/value base")
"""The base of values; blinding factors have the standard base point, which libsodium multiplies fastest."""


def pack_scalar(scalar: int) -> bytes:
    """A scalar as 32 bytes, little endian."""
    return (scalar % ORDER).to_bytes(SCALAR_BYTES, "little")


def times(scalar: int, point: Point) -> Point:
    """A multiple of a point of prime order."""
    if scalar % ORDER == 0 or point == IDENTITY:
        return IDENTITY
    return bindings.crypto_scalarmult_ed25519_noclamp(pack_scalar(scalar), point)


def blind(scalar: int) -> Point:
    """A multiple of the base point."""
    if scalar % ORDER == 0:
        return IDENTITY
    return bindings.crypto_scalarmult_ed25519_base_noclamp(pack_scalar(scalar))


def add(one: Point, other: Point) -> Point:
    """The sum of two points."""
    return bindings.crypto_core_ed25519_add(one, other)


def subtract(one: Point, other: Point) -> Point:
    """The difference of two points."""
    return bindings.crypto_core_ed25519_sub(one, other)


def negate(point: Point) -> Point:
    """Minus a point."""
    return subtract(IDENTITY, point)


def total(points: Iterable[Point]) -> Point:
    """The sum of points."""
    found = IDENTITY
    for point in points:
        found = add(found, point)
    return found


def commitment(value: int, blinding: int) -> Point:
    """A Pedersen commitment: perfectly hiding, binding while discrete logarithms are hard.

    Source:
        Pedersen, CRYPTO 1991, section 3.
    """
    return add(times(value, VALUE_BASE), blind(blinding))


def draw_scalar(secrets: Secrets) -> int:
    """A uniform scalar, within 2^-260 of it."""
    return int.from_bytes(secrets.draw(64), "little") % ORDER


def challenge(*parts: bytes) -> int:
    """The hash of everything that was said, as a scalar."""
    said = pack_fields("qflsec/validated/2", *parts)
    return int.from_bytes(hashlib.sha512(said).digest(), "little") % ORDER


def read_point(packed: bytes) -> Point:
    """A point from outside.

    Raises:
        ProtocolAbort: It is not a point of prime order in its one encoding.
    """
    if len(packed) != POINT_BYTES or not bindings.crypto_core_ed25519_is_valid_point(packed):
        raise ProtocolAbort("a proof holds bytes that are no point of prime order")
    return packed


def read_scalar(packed: bytes) -> int:
    """A scalar from outside.

    Raises:
        ProtocolAbort: It is not below the order.
    """
    scalar = int.from_bytes(packed, "little")
    if len(packed) != SCALAR_BYTES or scalar >= ORDER:
        raise ProtocolAbort("a proof holds a scalar that is not below the order")
    return scalar
