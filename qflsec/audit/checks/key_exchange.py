"""Key distribution that is run: are two keys different, and does anybody say how the channel was?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from qflsec.audit.check import Bench, Check
from qflsec.audit.checks.source import words_of
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import KeyExchange
from qflsec.base import CheckCard, Source, register

__all__ = ["ConstantKey", "KeyWithoutChannel"]

_SHORTEST = 16
"""Bytes: a key that is shorter covers no message."""
_RATE = frozenset({"qber", "error", "errors", "rate", "ber"})
_RENNER = Source(
    paper="Renner, Security of quantum key distribution, arXiv:quant-ph/0512258",
    year=2005,
    where="section 6.4",
)


@register("check", "constant-key")
class ConstantKey(Check):
    """Two runs, one key."""

    looks_at = KeyExchange
    card = CheckCard(
        name="constant-key",
        idea="Make two keys, and compare them and their length.",
        source=_RENNER,
        title="the key is the same every time, or is none",
        severity="error",
        proves="Two runs gave the same key, or one of less than 128 bits.",
        cannot=("Two different keys may still come from a generator that can be predicted.",),
        consequence="Who has seen one run, or the code, has the key of every other.",
        remedy="Take the randomness of both ends from the operating system, in each run anew.",
    )

    def run(self, part: KeyExchange, bench: Bench) -> Iterator[Finding]:
        """Whether two runs differ."""
        first, second = _keys(part.exchange()), _keys(part.exchange())
        lengths = [len(key) for key in (*first, *second)]
        bench.measured["bytes of the shortest key"] = min(lengths, default=0)
        if not first or not second:
            yield Finding(what="a run gives nothing that can be a key: neither bytes nor bits")
        elif min(lengths) < _SHORTEST:
            yield Finding(what=f"a key has {8 * min(lengths)} bits", evidence={"bits": 8 * min(lengths)})
        elif first[0] == second[0]:
            yield Finding(what=f"two runs give the same key of {8 * len(first[0])} bits")


@register("check", "key-without-channel")
class KeyWithoutChannel(Check):
    """A "quantum" key without a word of the quantum channel."""

    looks_at = KeyExchange
    card = CheckCard(
        name="key-without-channel",
        idea="Look for an error rate in what a key distribution gives.",
        source=_RENNER,
        title="nothing is said of the channel that the key came over",
        severity="warning",
        proves="The run gives a key and no error rate: no statement about an eavesdropper can follow from it.",
        cannot=("A rate that is checked inside is not seen; the check of the code looks for that.",),
        consequence="The key is as secret as the generator that made it: quantum key distribution adds nothing.",
        remedy="Give back the measured error rate and the length that it leaves, or do not call it a quantum key.",
    )

    def run(self, part: KeyExchange, bench: Bench) -> Iterator[Finding]:
        """Whether the run says a rate."""
        said = part.exchange()
        rates = list(_rates(said))
        bench.measured["error rates"] = ", ".join(f"{rate:.3g}" for rate in rates) or "none"
        if not rates:
            yield Finding(what="a run gives no error rate", evidence={"gives": type(said).__name__})


def _keys(said: Any) -> list[bytes]:  # noqa: ANN401 - whatever is given
    """The keys among what a run gives, packed to bytes."""
    if isinstance(said, Mapping):
        named = [value for name, value in said.items() if words_of(str(name)) & {"key", "keys"}]
        return [key for value in named or said.values() for key in _keys(value)]
    if hasattr(said, "__dict__"):
        return _keys(vars(said))
    if (key := _key(said)) is not None:
        return [key]
    return [key for value in said for key in _keys(value)] if isinstance(said, tuple | list) else []


def _key(said: Any) -> bytes | None:  # noqa: ANN401
    """The one key that a value is; None where it is none."""
    if isinstance(said, bytes | bytearray):
        return bytes(said)
    if isinstance(said, str):
        return _packed([int(bit) for bit in said]) if said and set(said) <= {"0", "1"} else said.encode()
    bits = isinstance(said, list) and all(isinstance(bit, int | np.integer | bool) for bit in said)
    if isinstance(said, np.ndarray) or bits:
        found = np.asarray(said).ravel()
        return _packed(found) if found.dtype.kind in "iub" else None
    return None


def _packed(bits: Any) -> bytes:  # noqa: ANN401
    found = np.asarray(bits)
    if found.size and set(np.unique(found).tolist()) <= {0, 1}:
        return np.packbits(found.astype(np.uint8))[: found.size // 8].tobytes()
    return found.astype(np.int64).tobytes() if found.max(initial=0) > 255 else bytes(found.astype(np.uint8))


def _rates(said: Any) -> Iterator[float]:  # noqa: ANN401
    """Numbers between 0 and 1 that are called a rate, or that stand alone beside a key."""
    if isinstance(said, Mapping):
        for name, value in said.items():
            if words_of(str(name)) & _RATE and isinstance(value, int | float | np.number):
                yield float(value)
    elif isinstance(said, tuple):
        for value in said:
            if isinstance(value, float | np.floating) and 0 <= value <= 1:
                yield float(value)
    elif hasattr(said, "__dict__"):
        yield from _rates(vars(said))
