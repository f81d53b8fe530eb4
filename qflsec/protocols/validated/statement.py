"""What is proved: integers, their ranges and the bound on their norm, for one client in one round."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from qflsec.base import ConfigError, finite
from qflsec.protocols.validated.group import ORDER

__all__ = ["Statement"]

_MOST_DIMENSIONS = 64
_NUMBERS = struct.Struct("<IIHHdI")


@finite
@dataclass(frozen=True, kw_only=True)
class Statement:
    """The committed integers lie in ``[-2^r, 2^r)`` and their squares add up to at most ``(2^r - 1)^2``.

    Both are statements on integers and not modulo the order of the group: squares of integers in that range add up
    to at most ``d 2^(2r)``, which is far below the order, so that nothing wraps; and the difference to the bound is
    shown to lie in ``[0, 2^(2r))``, which no negative number does.

    Attributes:
        dimension: The number of integers, d.
        resolution_bits: r; the bound on the norm is ``2^r - 1``.
        max_norm: What that bound stands for: the integers are steps of ``max_norm / (2^r - 1)``. It is hashed with
            the rest, so that a proof for one bound is none for another.
        session: The public name of the session.
        round: The round.
        client: Whose integers they are.
        context: What else the proof is bound to, such as the hash of the model.

    Raises:
        ConfigError: A number is out of range.
    """

    dimension: int
    resolution_bits: int
    max_norm: float
    session: bytes
    round: int
    client: int
    context: bytes = b""

    def __post_init__(self) -> None:
        if not 1 <= self.dimension <= _MOST_DIMENSIONS:
            raise ConfigError(
                "a proof of the norm is for few parameters",
                got=self.dimension,
                expected=f"1 to {_MOST_DIMENSIONS}",
            )
        if not 2 <= self.resolution_bits <= 24:
            raise ConfigError(
                "'resolution_bits' is out of range", got=self.resolution_bits, expected="2 to 24"
            )
        if not 0 < self.max_norm < math.inf:
            raise ConfigError("'max_norm' is out of range", got=self.max_norm, expected="positive and finite")
        assert self.dimension * 4**self.resolution_bits + 4**self.resolution_bits < ORDER

    @property
    def bound(self) -> int:
        """The largest L2 norm of the integers."""
        return (1 << self.resolution_bits) - 1

    @property
    def offset(self) -> int:
        """What is added to a coordinate to make it non-negative."""
        return 1 << self.resolution_bits

    @property
    def coordinate_bits(self) -> int:
        """The bits of a coordinate with its offset."""
        return self.resolution_bits + 1

    @property
    def slack_bits(self) -> int:
        """The bits of what is left to the bound on the squares."""
        return 2 * self.resolution_bits

    @property
    def n_bits(self) -> int:
        """The number of bits that are committed to."""
        return self.dimension * self.coordinate_bits + self.slack_bits

    def holds(self, values: tuple[int, ...]) -> bool:
        """Whether it is true of these integers."""
        return (
            len(values) == self.dimension
            and all(-self.offset <= value < self.offset for value in values)
            and sum(value * value for value in values) <= self.bound**2
        )

    def to_bytes(self) -> bytes:
        """Everything that it says, for the hash."""
        numbers = _NUMBERS.pack(
            self.round, self.client, self.dimension, self.resolution_bits, self.max_norm, len(self.session)
        )
        return numbers + self.session + self.context
