"""The body of an HTTP request: read to its end, whichever way it states its length, and parsed."""

from __future__ import annotations

import json
from email.message import Message
from io import BufferedIOBase
from typing import Any

from qflsec.protocols.keystore.etsi014_messages import ApiError

__all__ = ["parsed", "request_body"]

_MOST_BYTES = 1 << 16
_MOST_DRAINED = 1 << 22
_LONGEST_LINE = 1 << 10


def request_body(headers: Message, stream: BufferedIOBase) -> bytes:
    """The bytes of a body with a length or in chunks.

    A body that is too long is read and dropped, so that the answer arrives. A request that states its length
    twice is refused: whoever reads it in two ways can be made to see two requests.

    Raises:
        ApiError: The length is missing, contradictory or too large.
    """
    codings = [coding.strip().lower() for coding in headers.get_all("Transfer-Encoding", [])]
    lengths = set(headers.get_all("Content-Length", []))
    if codings:
        if codings != ["chunked"] or lengths:
            raise ApiError(400, "the request shall state its length once, or come in chunks")
        body = _chunks(stream)
    else:
        length = lengths.pop() if len(lengths) == 1 else ""
        if not (length.isascii() and length.isdecimal()):
            raise ApiError(400, f"the request shall state its length, at most {_MOST_BYTES} bytes")
        body = stream.read(min(int(length), _MOST_DRAINED))
    if len(body) > _MOST_BYTES:
        raise ApiError(400, f"the request shall have at most {_MOST_BYTES} bytes")
    return body


def _chunks(stream: BufferedIOBase) -> bytes:
    """RFC 9112, 7.1; extensions of chunks and the trailer are ignored."""
    body = b""
    while True:
        size = stream.readline(_LONGEST_LINE).partition(b";")[0].strip()
        if not size or size.strip(b"0123456789abcdefABCDEF") or len(body) + int(size, 16) > _MOST_DRAINED:
            raise ApiError(400, "the chunks of the request are malformed or too long")
        if not int(size, 16):
            break
        body += stream.read(int(size, 16))
        if stream.readline(_LONGEST_LINE).strip():
            raise ApiError(400, "the chunks of the request are malformed or too long")
    while stream.readline(_LONGEST_LINE).strip():
        pass
    return body


def parsed(raw: bytes) -> Any:  # noqa: ANN401 - parsed JSON
    """The JSON of a body; no body stands for an empty request.

    Raises:
        ApiError: It is not JSON.
    """
    try:
        return json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        raise ApiError(400, "the request is not JSON") from None
