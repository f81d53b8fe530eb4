"""Words of a few bits, packed into bytes."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

__all__ = ["FLOAT_BITS", "index_bits", "pack", "read_float", "unpack", "write_float"]

FLOAT_BITS = 32
"""What a number of single precision takes."""

Words = npt.NDArray[np.int64]


def pack(words: Words, width: int) -> bytes:
    """Words of ``width`` bits, one behind the other, the last byte filled up with zeros.

    >>> unpack(pack(np.array([1, 6, 3]), 3), 3, 3).tolist()
    [1, 6, 3]
    """
    bits = (words[:, None] >> np.arange(width - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes()


def unpack(blob: bytes, width: int, count: int) -> Words:
    """The words of :func:`pack`."""
    bits = np.unpackbits(np.frombuffer(blob, dtype=np.uint8), count=width * count).astype(np.int64)
    found: Words = bits.reshape(count, width) @ (1 << np.arange(width - 1, -1, -1))
    return found


def index_bits(n_params: int) -> int:
    """How many bits say which of so many entries is meant.

    Units:
        bits
    """
    return max(1, (n_params - 1).bit_length())


def write_float(value: float) -> bytes:
    """A number in single precision."""
    return struct.pack("<f", value)


def read_float(blob: bytes) -> float:
    """The number of :func:`write_float`, at the beginning of a code."""
    (value,) = struct.unpack_from("<f", blob)
    return float(value)
