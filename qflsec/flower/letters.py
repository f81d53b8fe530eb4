"""Letters: what the two sides say to each other inside a Flower message, as one sequence of bytes.

A letter has parts in order, each with a name. One message carries several, so that a protocol of many phases needs no
more exchanges than it has answers to wait for. What a link seals is the letter as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flwr.app import ConfigRecord, RecordDict

from qflsec.base import ProtocolAbort
from qflsec.base.framing import pack_entries, pack_named, unpack_entries, unpack_named

__all__ = ["Letter", "Part", "read_letter", "write_letter"]

_RECORD, _ROUND, _BODY = "qflsec", "round", "letter"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a letter.

    Attributes:
        name: What it is.
        body: Its bytes.
    """

    name: str
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """What one side says at once.

    Attributes:
        round: The round, from 0; -1 before the first.
        parts: In order.
    """

    round: int
    parts: tuple[Part, ...]

    def get(self, name: str) -> bytes | None:
        """The body of the first part of a name; None where there is none."""
        return next((part.body for part in self.parts if part.name == name), None)


def write_letter(letter: Letter, seal: Callable[[bytes], bytes]) -> RecordDict:
    """The content of a message.

    Args:
        letter: The letter.
        seal: What links make of its bytes.
    """
    body = pack_entries(
        {place: pack_named({part.name: part.body}) for place, part in enumerate(letter.parts)}
    )
    return RecordDict({_RECORD: ConfigRecord({_ROUND: letter.round, _BODY: seal(body)})})


def read_letter(content: RecordDict, unseal: Callable[[int, bytes], bytes]) -> Letter | None:
    """The letter in a message; None where there is none.

    Args:
        content: What arrived.
        unseal: What links make of sealed bytes of a round.

    Raises:
        ProtocolAbort: It is no letter, or a link refuses it.
    """
    record = content.config_records.get(_RECORD)
    if record is None:
        return None
    index, body = record.get(_ROUND), record.get(_BODY)
    if not isinstance(index, int) or isinstance(index, bool) or not isinstance(body, bytes):
        raise ProtocolAbort("a message holds no letter", got="other fields than a round and bytes")
    parts = []
    for blob in unpack_entries(unseal(index, body)).values():
        named = unpack_named(blob)
        if len(named) != 1:
            raise ProtocolAbort("a letter has a part without one name", got=f"{len(named)} names")
        ((name, held),) = named.items()
        parts.append(Part(name=name, body=held))
    return Letter(round=index, parts=tuple(parts))
