"""The terms of a round, which the server proposes, and the floors below which a client refuses them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from qflsec.base import ConfigError, ProtocolAbort, finite
from qflsec.base.framing import cut, pack_indices, unpack_indices

__all__ = ["TERMS_BYTES", "Policy", "Terms", "default_threshold", "no_drop_out", "session_digest"]

_NUMBERS = struct.Struct("<HIB")
TERMS_BYTES = 32 + _NUMBERS.size
"""Terms without their list of participants."""


def session_digest(session: bytes) -> bytes:
    """The name of a session, at constant width."""
    return hashlib.sha256(b"qflsec/secagg/session" + session).digest()


def default_threshold(n: int) -> int:
    """More than two thirds: safe against an active server with fewer than a third of the clients.

    Source:
        Bonawitz et al., CCS 2017, section 6.2 and theorem 6.5 (t >= floor(2n/3) + 1).
    """
    return 2 * n // 3 + 1


def no_drop_out(layer: str, thresholds: Mapping[int, int]) -> tuple[str, ...]:
    """What is to be said of rounds whose threshold is all of their clients.

    Args:
        layer: The layer's name.
        thresholds: The threshold of a round by its number of clients.
    """
    return tuple(
        f"{layer!r}: {n} clients with a threshold of {t} survive no drop-out: one that is not heard loses the round"
        for n, t in thresholds.items()
        if t >= n
    )


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the server proposes for one round.

    Attributes:
        session: The session's name, as :func:`session_digest` makes it.
        participants: The indices of the clients that are asked, ascending.
        threshold: How many of them must remain, and how many shares open a secret.
        size: The number of words of a masked vector.
        bits: The size of a word.
    """

    session: bytes
    participants: tuple[int, ...]
    threshold: int
    size: int
    bits: int

    def to_bytes(self) -> bytes:
        """The terms as the body of a message."""
        numbers = _NUMBERS.pack(self.threshold, self.size, self.bits)
        return self.session + numbers + pack_indices(self.participants)

    @classmethod
    def from_bytes(cls, body: bytes) -> Terms:
        """What :meth:`to_bytes` wrote.

        Raises:
            ProtocolAbort: The bytes are no terms.
        """
        session, numbers, rest = cut(body, 32, _NUMBERS.size)
        threshold, size, bits = _NUMBERS.unpack(numbers)
        participants, left = unpack_indices(rest)
        if left or list(participants) != sorted(participants):
            raise ProtocolAbort("the terms of a round are malformed")
        return cls(session=session, participants=participants, threshold=threshold, size=size, bits=bits)

    def digest(self) -> bytes:
        """A hash of the terms."""
        return hashlib.sha256(b"qflsec/secagg/terms" + self.to_bytes()).digest()


@finite
@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a client insists on, whatever the server proposes.

    Attributes:
        min_clients: The smallest number of clients in a round. With two, the sum shows each the other's update.
        min_threshold: The smallest threshold.
        colluders: How many clients may collude with an active server: the threshold must exceed half of the
            clients and the colluders together.
        two_thirds: Whether the threshold must be that of :func:`default_threshold` at least: a server that lowers
            it needs fewer colluders to show clients two lists of survivors.

    Raises:
        ConfigError: A floor is too low to mean anything.
    """

    min_clients: int = 3
    min_threshold: int = 2
    colluders: int = 0
    two_thirds: bool = False

    def __post_init__(self) -> None:
        for name, low in (("min_clients", 2), ("min_threshold", 2), ("colluders", 0)):
            if getattr(self, name) < low:
                raise ConfigError(
                    f"{name!r} is too small", got=getattr(self, name), expected=f"at least {low}"
                )

    def check(self, terms: Terms, *, me: int, size: int, bits: int) -> None:
        """Refuse terms below the floors.

        Args:
            terms: What the server proposes.
            me: The client's own index.
            size: The number of words that the client will mask.
            bits: The size of its words.

        Raises:
            ProtocolAbort: The terms are not acceptable.
        """
        n, t = len(terms.participants), terms.threshold
        if me not in terms.participants:
            raise ProtocolAbort(f"client:{me} was given terms of a round without it")
        if n < self.min_clients:
            raise ProtocolAbort(
                f"client:{me} refuses a round with too few clients",
                got=n,
                expected=f"at least {self.min_clients}",
            )
        low = max(self.min_threshold, (n + self.colluders) // 2 + 1)
        if self.two_thirds:
            low = max(low, default_threshold(n))
        if not low <= t <= n:
            raise ProtocolAbort(
                f"client:{me} refuses a threshold of {t} with {n} clients",
                expected=f"{low} to {n} with {self.colluders} colluders",
            )
        if (terms.size, terms.bits) != (size, bits):
            raise ProtocolAbort(
                f"client:{me} was asked for another vector",
                got=f"{terms.size} words of {terms.bits} bits",
                expected=f"{size} words of {bits} bits",
            )
