"""What a client does to its update before it is sent: run on known vectors, and its messages read."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Array, Cipher
from qflsec.base import CheckCard, Source, register

__all__ = ["Decryption", "KeystreamReuse", "PlaintextSent", "UnnoticedChange", "arrays_in", "bytes_in"]

_LENGTH = 64
_CLOSE = 1e-3
"""Of the spread: what counts as the same vector; homomorphic schemes with noise reach 1e-6."""
_KATZ = Source(
    paper="Katz, Lindell, Introduction to modern cryptography", year=2020, where="sections 3.2, 4.2 and 5.2"
)


def _vector(bench: Bench, purpose: str = "vector") -> Array:
    return bench.rng(purpose).normal(size=_LENGTH)


def arrays_in(message: Any) -> list[Array]:  # noqa: ANN401 - whatever is sent
    """All arrays of numbers that a message holds in the clear."""
    if isinstance(message, dict):
        return [one for value in message.values() for one in arrays_in(value)]
    if isinstance(message, tuple | list):
        if message and all(isinstance(value, int | float | np.number) for value in message):
            return [np.asarray(message, dtype=float)]
        return [one for value in message for one in arrays_in(value)]
    detach = getattr(message, "detach", None)
    value = detach().numpy() if callable(detach) else message
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return [value.astype(float)]
    return (
        [np.asarray(float(value))]
        if isinstance(value, int | float | np.number) and not isinstance(value, bool)
        else []
    )


def bytes_in(message: Any) -> bytes:  # noqa: ANN401 - whatever is sent
    """All bytes that a message holds, one after the other; homomorphic ciphertexts are written out."""
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message)
    if isinstance(message, dict):
        return b"".join(bytes_in(value) for value in message.values())
    if isinstance(message, tuple | list):
        return b"".join(bytes_in(value) for value in message)
    serialize = getattr(message, "serialize", None)
    if callable(serialize):
        return bytes(serialize())
    return b"".join(one.tobytes() for one in arrays_in(message))


@register("check", "plaintext-sent")
class PlaintextSent(Check):
    """An update that can be read off its own message."""

    looks_at = Cipher
    card = CheckCard(
        name="plaintext-sent",
        idea="Encrypt a known vector and look for it in the message: as it is, scaled, shifted, or by its own parts.",
        source=_KATZ,
        title="the update can be read off the message",
        severity="error",
        proves="The vector was rebuilt from the message alone, without any key.",
        cannot=("A message that nothing was read off is not thereby secure.",),
        consequence="Server and network see every update: what is called encryption hides nothing.",
        remedy="Use a cipher of a kept library (AESGCM, TenSEAL), and send no mask or scale beside the message.",
    )

    def run(self, part: Cipher, bench: Bench) -> Iterator[Finding]:
        """How the vector was read, if it was."""
        vector = _vector(bench)
        message = part.encrypt(vector.copy())
        raw = bytes_in(message)
        bench.measured["bytes of the message"] = len(raw)
        for kind in (np.float64, np.float32, ">f8", ">f4"):
            if vector.astype(kind).tobytes()[:32] in raw:
                yield Finding(what=f"the message holds the update as {np.dtype(kind).name}, byte by byte")
                return
        arrays = [one for one in arrays_in(message) if one.shape in {vector.shape, ()}]
        if how := _rebuilt(arrays, vector):
            yield Finding(what=f"the update is {how} in the message")
        elif how := _affine(arrays, vector, part, bench):
            yield Finding(what=how)


def _rebuilt(arrays: list[Array], vector: Array) -> str:
    """How parts of a message give the vector, in at most two steps."""
    simple = [(one, f"part {index + 1}") for index, one in enumerate(arrays)]
    for one, name in simple:
        if _same(one, vector):
            return name
    operations = (("-", np.subtract), ("+", np.add), ("/", np.divide), ("*", np.multiply))
    steps = list(simple)
    for _ in range(2):
        found = []
        for (one, name), (other, named) in itertools.product(steps, simple):
            for sign, operation in operations:
                with np.errstate(all="ignore"):
                    value = operation(one, other)
                if _same(value, vector):
                    return f"{name} {sign} {named}"
                found.append((value, f"({name} {sign} {named})"))
        steps = found[:400]
    return ""


def _affine(arrays: list[Array], vector: Array, part: Cipher, bench: Bench) -> str:
    """Whether a message is the vector times one number plus another, the same for every vector."""
    other = _vector(bench, "another")
    again = [one for one in arrays_in(part.encrypt(other.copy())) if one.shape == other.shape]
    for one, two in zip((a for a in arrays if a.shape == vector.shape), again, strict=False):
        slope, shift = np.polyfit(vector, one, 1)
        exact = (
            abs(slope) > 0 and _same((one - shift) / slope, vector) and _same((two - shift) / slope, other)
        )
        if exact:
            return f"every message is {slope:.6g} times the update plus {shift:.6g}: one known update opens all others"
    return ""


def _same(found: Array, vector: Array) -> bool:
    if np.shape(found) != vector.shape or not np.isfinite(found).all():
        return False
    return float(np.abs(found - vector).max()) < _CLOSE * float(np.ptp(vector))


@register("check", "keystream-reuse")
class KeystreamReuse(Check):
    """Two messages that are covered alike."""

    looks_at = Cipher
    card = CheckCard(
        name="keystream-reuse",
        idea="Encrypt the same vector twice, one that differs in one value, and one of zeros.",
        source=_KATZ,
        title="two messages are covered by the same key stream",
        severity="error",
        proves="Equal or nearly equal updates give equal or nearly equal messages, or one message repeats itself.",
        cannot=("Reuse after many messages, as of a short counter, is not seen.",),
        consequence="The difference of two messages is that of the updates: the network reads what changed, then both.",
        remedy="Draw a new nonce or pad for each message; never use one again.",
    )

    def run(self, part: Cipher, bench: Bench) -> Iterator[Finding]:
        """Whether messages show that they are covered alike."""
        vector = _vector(bench)
        first, second = part.encrypt(vector.copy()), part.encrypt(vector.copy())
        one, two = bytes_in(first), bytes_in(second)
        if one and one == two:
            yield Finding(
                what="the same update gives the same message, byte by byte", evidence={"bytes": len(one)}
            )
            return
        moved = vector.copy()
        moved[5] += 1.0
        three = bytes_in(part.encrypt(moved))
        alike = _alike(one, three)
        bench.measured["equal bytes of two messages"] = alike
        if alike > 0.5:
            yield Finding(
                what=f"two updates that differ in one value give messages that agree in {100 * alike:.0f} % of their bytes",
                evidence={"share": alike},
            )
        elif (period := _period(bytes_in(part.encrypt(np.zeros(4 * _LENGTH))))) and not arrays_in(first):
            yield Finding(
                what=f"the message of an update of zeros repeats itself every {period} bytes",
                evidence={"period": period},
            )


def _alike(one: bytes, two: bytes) -> float:
    """The share of equal bytes at equal places."""
    if len(one) != len(two) or not one:
        return 0.0
    return float(np.mean(np.frombuffer(one, np.uint8) == np.frombuffer(two, np.uint8)))


def _period(raw: bytes) -> int:
    """The period of the middle of a message; 0 where it has none of less than a third of its length."""
    middle = np.frombuffer(raw, np.uint8)[len(raw) // 8 : -(len(raw) // 8) or None]
    for period in range(8, len(middle) // 3):
        if np.array_equal(middle[period:], middle[:-period]):
            return period
    return 0


@register("check", "unnoticed-change")
class UnnoticedChange(Check):
    """A message with one bit flipped."""

    looks_at = Cipher
    card = CheckCard(
        name="unnoticed-change",
        idea="Flip one bit of a message of bytes at several places, and decrypt it.",
        source=_KATZ,
        title="a changed message is accepted",
        severity="error",
        proves="The receiver takes a message that the network changed, and gets another update.",
        cannot=("A message that is sent again, or in the place of another, is not tried.",),
        consequence="The network changes updates without any key, and nobody notices.",
        remedy="Use authenticated encryption (AESGCM, ChaCha20Poly1305) with sender and round as associated data.",
    )

    def run(self, part: Cipher, bench: Bench) -> Iterator[Finding]:
        """Where a flipped bit was not noticed."""
        if part.decrypt is None:
            raise NotApplicable("nothing decrypts, so that nothing can notice a change")
        message = part.encrypt(_vector(bench))
        if not any(isinstance(value, bytes) for value in _leaves(message)):
            raise NotApplicable(
                "the message is not of bytes: homomorphic ciphertexts can be changed by design"
            )
        accepted = []
        sizes = [len(value) for value in _leaves(message) if isinstance(value, bytes)]
        where = max(range(len(sizes)), key=sizes.__getitem__)
        for position in sorted({0, sizes[where] // 3, sizes[where] // 2, sizes[where] - 1}):
            try:
                part.decrypt(_flipped(copy.deepcopy(message), where, position))
            except Exception:  # noqa: BLE001, S112 - however it refuses, it refuses
                continue
            accepted.append(position)
        bench.measured["flipped bits that were accepted"] = len(accepted)
        if accepted:
            yield Finding(
                what=f"a bit flipped in byte {accepted[0]} of {sizes[where]} is accepted",
                evidence={"accepted": len(accepted)},
                reproduction=f"{part.name}, flip a bit of byte {accepted[0]}, decrypt",
            )


def _leaves(message: Any) -> Iterator[Any]:  # noqa: ANN401
    if isinstance(message, tuple | list):
        for value in message:
            yield from _leaves(value)
    elif isinstance(message, dict):
        for value in message.values():
            yield from _leaves(value)
    else:
        yield message


def _flipped(message: Any, where: int, position: int) -> Any:  # noqa: ANN401
    """The message with one bit of its ``where``-th part of bytes flipped."""
    seen = itertools.count()

    def change(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            return {name: change(one) for name, one in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(map(change, value))
        if isinstance(value, bytes) and next(seen) == where:
            return value[:position] + bytes([value[position] ^ 1]) + value[position + 1 :]
        return value

    return change(message)


@register("check", "decryption")
class Decryption(Check):
    """Whether what comes out is what went in, also for a sum."""

    looks_at = Cipher
    card = CheckCard(
        name="decryption",
        idea="Decrypt a message, and the sum of two messages where the kind has a sum.",
        source=Source(
            paper="Cheon et al., Homomorphic encryption for arithmetic of approximate numbers",
            year=2017,
            where="section 3.4",
        ),
        title="decryption does not give what was encrypted",
        severity="error",
        proves="The decrypted vector is off by more than a thousandth of its spread.",
        cannot=("Sums of many messages may lose more than a sum of two.",),
        consequence="The server aggregates other updates than the clients sent.",
        remedy="Choose scale and modulus for the sum, and compare with plain vectors in a test.",
    )

    def run(self, part: Cipher, bench: Bench) -> Iterator[Finding]:
        """Errors of one message and of a sum."""
        if part.decrypt is None:
            raise NotApplicable("nothing decrypts")
        first, second = _vector(bench), _vector(bench, "another")
        messages = part.encrypt(first.copy()), part.encrypt(second.copy())
        yield from _compare("a message", _decrypted(part, messages[0]), first, bench)
        total = None if part.add is None else part.add(*messages)
        if total is not None:
            yield from _compare("the sum of two messages", _decrypted(part, total), first + second, bench)


def _decrypted(part: Cipher, message: Any) -> Array:  # noqa: ANN401
    if part.decrypt is None:
        raise NotApplicable("nothing decrypts")
    return np.asarray(part.decrypt(message), dtype=float).ravel()


def _compare(what: str, found: Array, wanted: Array, bench: Bench) -> Iterator[Finding]:
    if found.shape != wanted.shape:
        yield Finding(what=f"{what} of {wanted.size} values decrypts to {found.size}")
        return
    error = float(np.abs(found - wanted).max() / np.ptp(wanted))
    bench.measured[f"error of {what}"] = error
    if not error < _CLOSE:
        yield Finding(
            what=f"{what} decrypts with an error of {error:.2g} of the spread", evidence={"error": error}
        )
