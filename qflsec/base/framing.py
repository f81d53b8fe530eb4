"""Framing: fields, lists and named blobs as bytes, one way for all messages and all keys."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from qflsec.base.errors import ProtocolAbort

__all__ = [
    "cut",
    "entries_bytes",
    "indices_bytes",
    "pack_entries",
    "pack_fields",
    "pack_indices",
    "pack_named",
    "unpack_entries",
    "unpack_indices",
    "unpack_named",
]

_ENTRY = struct.Struct("<HI")


def pack_fields(*fields: object) -> bytes:
    """Fields, each behind its length, so that no two lists of fields give the same bytes.

    Args:
        fields: Bytes as they are; anything else, such as a number or a party, as its name in UTF-8.
    """
    parts: list[bytes] = []
    for field in fields:
        raw = field if isinstance(field, bytes) else str(field).encode()
        parts += (len(raw).to_bytes(4, "little"), raw)
    return b"".join(parts)


def pack_named(blobs: Mapping[str, bytes]) -> bytes:
    """Blobs by name."""
    parts: list[bytes] = []
    for name, blob in blobs.items():
        raw = name.encode()
        parts += (_ENTRY.pack(len(raw), len(blob)), raw, blob)
    return b"".join(parts)


def unpack_named(packed: bytes) -> dict[str, bytes]:
    """What :func:`pack_named` wrote, as far as it can be read."""
    found: dict[str, bytes] = {}
    while len(packed) >= _ENTRY.size:
        n_name, n_blob = _ENTRY.unpack_from(packed)
        name = packed[_ENTRY.size : _ENTRY.size + n_name]
        rest = packed[_ENTRY.size + n_name :]
        found[name.decode(errors="replace")] = rest[:n_blob]
        packed = rest[n_blob:]
    return found


def cut(body: bytes, *sizes: int) -> tuple[bytes, ...]:
    """A body cut into fields of these sizes; the last takes the rest.

    Raises:
        ProtocolAbort: The body is too short.
    """
    if len(body) < sum(sizes):
        raise ProtocolAbort(
            "a message is malformed", got=f"{len(body)} bytes", expected=f"{sum(sizes)} or more"
        )
    found, start = [], 0
    for size in sizes:
        found.append(body[start : start + size])
        start += size
    return (*found, body[start:])


def pack_entries(entries: Mapping[int, bytes]) -> bytes:
    """Blobs by client index."""
    parts = [struct.pack("<H", len(entries))]
    parts += [_ENTRY.pack(index, len(blob)) + blob for index, blob in sorted(entries.items())]
    return b"".join(parts)


def entries_bytes(n: int, each: int) -> int:
    """The size of so many packed entries of this size."""
    return 2 + n * (_ENTRY.size + each)


def indices_bytes(n: int) -> int:
    """The size of so many packed indices."""
    return 2 + 2 * n


def unpack_entries(body: bytes) -> dict[int, bytes]:
    """What :func:`pack_entries` wrote.

    Raises:
        ProtocolAbort: The bytes are not such a list, or an index stands twice.
    """
    count_bytes, _ = cut(body, 2)
    entries: dict[int, bytes] = {}
    place = 2
    for _ in range(int.from_bytes(count_bytes, "little")):
        if place + _ENTRY.size > len(body):
            raise ProtocolAbort("a message is malformed", got="an entry that is cut short")
        index, size = _ENTRY.unpack_from(body, place)
        place += _ENTRY.size
        if index in entries:
            raise ProtocolAbort(f"a message names client:{index} twice")
        if place + size > len(body):
            raise ProtocolAbort("a message is malformed", got="an entry that is cut short")
        entries[index] = body[place : place + size]
        place += size
    if place != len(body):
        raise ProtocolAbort("a message is malformed", got=f"{len(body) - place} bytes too many")
    return entries


def pack_indices(indices: Iterable[int]) -> bytes:
    """Client indices."""
    listed = tuple(indices)
    return struct.pack(f"<H{len(listed)}H", len(listed), *listed)


def unpack_indices(body: bytes) -> tuple[tuple[int, ...], bytes]:
    """What :func:`pack_indices` wrote, and what follows it.

    Raises:
        ProtocolAbort: The bytes are no such list, or an index stands twice.
    """
    count_bytes, rest = cut(body, 2)
    count = int.from_bytes(count_bytes, "little")
    listed, rest = cut(rest, 2 * count)
    indices = struct.unpack(f"<{count}H", listed)
    if len(set(indices)) != count:
        raise ProtocolAbort("a message names a client twice", got=list(indices))
    return indices, rest
