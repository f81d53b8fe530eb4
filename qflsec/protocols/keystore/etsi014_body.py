"""The body of an HTTP request: read to its end, whichever way it states its length, and parsed."""

from __future__ import annotations

import json
from email.message import Message
from io import BufferedIOBase
from typing import Any

from qflsec.protocols.keystore.etsi014_messages import ApiError

__all__ = ["parsed", "request_body", "whole_number"]

_MOST_BYTES = 1 << 16
_MOST_DRAINED = 1 << 22
_LONGEST_LINE = 1 << 10
_MOST_DIGITS = 18


def whole_number(text: str) -> int | None:
    """A number of few decimal digits, as addresses and headers hold it; None where it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None


def request_body(headers: Message, stream: BufferedIOBase) -> bytes:
    """The bytes of a body with a length or in chunks.

    A body that is too long is read and dropped, so that the answer arrives. A request that states its length
    twice is refused: whoever reads it in two ways can be made to see two requests. So is one that ends before its
    time: what came of it may be another request, and nothing at all asks for a key of the default size.

    Raises:
        ApiError: The length is missing, contradictory or too large, or the body is shorter.
    """
    codings = [coding.strip().lower() for coding in headers.get_all("Transfer-Encoding", [])]
    lengths = set(headers.get_all("Content-Length", []))
    if codings:
        if codings != ["chunked"] or lengths:
            raise ApiError(400, "the request shall state its length once, or come in chunks")
        body = _chunks(stream)
    else:
        length = whole_number(lengths.pop()) if len(lengths) == 1 else None
        if length is None:
            raise ApiError(400, f"the request shall state its length, at most {_MOST_BYTES} bytes")
        body = stream.read(min(length, _MOST_DRAINED))
        if len(body) < min(length, _MOST_DRAINED):
            raise ApiError(400, "the request was cut short")
    if len(body) > _MOST_BYTES:
        raise ApiError(400, f"the request shall have at most {_MOST_BYTES} bytes")
    return body


def _chunks(stream: BufferedIOBase) -> bytes:
    """RFC 9112, 7.1; extensions of chunks and the trailer are ignored."""
    body = bytearray()  # many small chunks are appended in place
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
    return bytes(body)


def parsed(raw: bytes) -> Any:  # noqa: ANN401 - parsed JSON
    """The JSON of a body; no body stands for an empty request.

    NaN and infinity are no JSON. A fraction is none of the parameters and stands for itself: as text, it gets into an
    answer whatever its size.

    Raises:
        ApiError: It is not JSON.
    """
    try:
        return json.loads(raw, parse_constant=_refuse, parse_float=str) if raw else {}
    except (ValueError, RecursionError):
        raise ApiError(400, "the request is not JSON") from None


def _refuse(constant: str) -> None:
    raise ValueError(constant)
