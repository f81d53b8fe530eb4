"""Payloads as bytes and back: what a link encrypts."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import torch

from qflsec.base import ProtocolAbort
from qflsec.threat.message import Payload

__all__ = ["ENCODING_BYTES", "decode", "encode"]

ENCODING_BYTES = 5
"""What an encoding adds to the values."""

_DTYPES: dict[int, np.dtype[Any]] = {
    code: np.dtype(name) for code, name in enumerate(("<f4", "<f8", "<u4", "<u8", "<i8"))
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_BYTES = 255


def encode(payload: Payload) -> bytes:
    """A payload as self-describing bytes: one type byte, a 4-byte length, little-endian values."""
    if isinstance(payload, bytes):
        return struct.pack("<BI", _BYTES, len(payload)) + payload
    array = payload.detach().cpu().numpy() if isinstance(payload, torch.Tensor) else payload
    flat = np.ascontiguousarray(array).reshape(-1)
    code = _CODES[flat.dtype.newbyteorder("<")]
    body: bytes = flat.astype(_DTYPES[code], copy=False).tobytes()
    return struct.pack("<BI", code, flat.size) + body


def decode(blob: bytes) -> Payload:
    """The payload that :func:`encode` wrote; vectors come back one-dimensional.

    Raises:
        ProtocolAbort: The bytes are not such an encoding.
    """
    if len(blob) < 5:
        raise ProtocolAbort("a message is too short to be a payload", got=f"{len(blob)} bytes")
    code, size = struct.unpack("<BI", blob[:5])
    body = blob[5:]
    if code == _BYTES and len(body) == size:
        return body
    dtype = _DTYPES.get(code)
    if dtype is None or len(body) != size * dtype.itemsize:
        raise ProtocolAbort("a message is not a payload", got=f"type {code}, {len(body)} bytes")
    array = np.frombuffer(body, dtype=dtype).copy()
    return torch.from_numpy(array) if dtype.kind == "f" else array
