"""Which records are the same, whatever types of numbers they are kept in.

Two arrays are compared by value, after both are rounded to the coarser of their two precisions: a number of 64 bits and
the same number kept in 32 are equal. Whole numbers are exact, and rounded as the floats that they are compared with.
-0 and 0 are the same, and one missing value (NaN) is like another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np

from qflsec.audit.check import NotApplicable
from qflsec.audit.parts import Array

__all__ = ["HOW", "copies", "held_in", "precision_of"]

HOW = "by value, after both are rounded to the coarser of their two precisions"
"""How records are compared, for cards."""

_HALF, _SINGLE, _DOUBLE, _EXACT = 16, 32, 64, 1000
_REAL = {_HALF: "<f2", _SINGLE: "<f4", _DOUBLE: "<f8"}


def precision_of(features: Array) -> int:
    """The bits of the numbers of an array: 16, 32 or 64, and 1000 of whole numbers and words, which are exact.

    An array of 64 bits whose every value fits 32, whole numbers apart, was rounded to 32 before: it has their precision.

    Raises:
        NotApplicable: It holds neither numbers nor words.
    """
    kind = features.dtype.kind
    if kind in "biuUS":
        return _EXACT
    if kind not in "fc":
        raise NotApplicable(f"records of the type {features.dtype} cannot be compared")
    bits = min(8 * features.dtype.itemsize // (2 if kind == "c" else 1), _DOUBLE)
    if bits < _DOUBLE:
        return bits
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = features.astype("<c8" if kind == "c" else "<f4").astype(features.dtype)
    finite = np.isfinite(features)
    if not finite.any():
        return bits
    fits = bool((rounded == features)[finite].all())
    return _SINGLE if fits and bool((features != np.round(features))[finite].any()) else bits


def _digests(features: Array, bits: int, *, complex_too: bool) -> list[bytes]:
    """A digest of each record, of its values at a precision.

    Shapes:
        features: ``(n, ...)``.
    """
    if not len(features):
        return []
    rows = features.reshape(len(features), -1)
    if rows.dtype.kind in "US":
        words = ["\0".join(row) for row in rows.astype(str).tolist()]
        return [hashlib.sha256(b"words" + one.encode()).digest() for one in words]
    if bits == _EXACT:
        signs = np.ascontiguousarray(rows < 0)
        whole = np.ascontiguousarray(rows.astype(np.int64 if rows.dtype.kind != "u" else np.uint64))
        return [
            hashlib.sha256(one.tobytes() + sign.tobytes()).digest()
            for one, sign in zip(whole, signs, strict=True)
        ]
    with np.errstate(over="ignore", invalid="ignore"):
        real = _REAL[bits]
        parts = (
            [np.real(rows).astype(real), np.imag(rows).astype(real)] if complex_too else [rows.astype(real)]
        )
    values = np.concatenate(parts, axis=1) + np.zeros((), dtype=real)
    values[np.isnan(values)] = np.nan
    return [hashlib.sha256(row.tobytes()).digest() for row in np.ascontiguousarray(values)]


class _Compared:
    """Arrays that are compared with each other, each digested once for a precision."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.arrays = [np.asarray(one) for one in arrays]
        complex_too = any(one.dtype.kind == "c" for one in self.arrays)
        self.bits = [precision_of(one) if len(one) else _EXACT for one in self.arrays]
        self.at = cache(
            lambda index, bits: _digests(self.arrays[index], bits, complex_too=complex_too)
        )  # of one object, which does not outlive the comparison


def held_in(some: Array, held: Sequence[Array]) -> Array:
    """Which records of an array are also in any of others.

    Raises:
        NotApplicable: Records of both have no size in common, or hold neither numbers nor words.

    Shapes:
        some: ``(n, ...)``; held: each ``(m, ...)``; returns: ``(n,)``
    """
    sizes = {_size(one) for one in held if len(one)}
    if len(some) and sizes and _size(some) not in sizes:
        raise NotApplicable(
            f"records have {_size(some)} features here and {', '.join(map(str, sorted(sizes)))} there, so that none can be equal"
        )
    compared = _Compared([some, *held])
    found = np.zeros(len(some), dtype=bool)
    for index, one in enumerate(held, start=1):
        if len(one):
            bits = min(compared.bits[0], compared.bits[index])
            there = set(compared.at(index, bits))
            found |= np.asarray([digest in there for digest in compared.at(0, bits)], dtype=bool)
    return found


def copies(held: Sequence[Array]) -> list[frozenset[int]]:
    """The different records of several holders, and for each who holds it, by index.

    Raises:
        NotApplicable: They hold neither numbers nor words.
    """
    compared = _Compared(held)
    parent: dict[tuple[int, bytes], tuple[int, bytes]] = {}

    def root(one: tuple[int, bytes]) -> tuple[int, bytes]:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    own = [compared.at(index, bits) for index, bits in enumerate(compared.bits)]
    for index, digests in enumerate(own):
        parent.update({(index, digest): (index, digest) for digest in digests})
    for bits in set(compared.bits):
        exact = {
            digest: (index, digest)
            for index, level in enumerate(compared.bits)
            if level == bits
            for digest in own[index]
        }
        for index, level in enumerate(compared.bits):
            if level < bits:  # these are compared at their own precision
                continue
            for digest, mine in zip(compared.at(index, bits), own[index], strict=True):
                if digest in exact:
                    parent[root((index, mine))] = root(exact[digest])
    holders: dict[tuple[int, bytes], set[int]] = {}
    for one in parent:
        holders.setdefault(root(one), set()).add(one[0])
    return [frozenset(one) for one in holders.values()]


def _size(features: Array) -> int:
    return int(np.prod(features.shape[1:]))
