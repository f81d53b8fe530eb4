"""The hidden state of light on its way, and the handles that stand for it.

Only the physics of this package (:mod:`~qflsec.protocols.bb84.signal` and
:mod:`~qflsec.protocols.bb84.tampering`) imports this module; a test holds the others to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from qflsec.base import QflsecError, numpy_stream
from qflsec.protocols.bb84.bits import Bits

__all__ = ["Light", "Nature", "PulseTrain", "SignalError", "handle", "peek", "spend"]


class SignalError(QflsecError):
    """A quantum signal was read, copied or used twice."""


class Nature:
    """The randomness of measurement outcomes: seeded, since it is no party's secret.

    Args:
        seed: The run's seed.
        purpose: What the stream is for.
    """

    def __init__(self, seed: int, *purpose: str | int) -> None:
        self._rng = numpy_stream(seed, "bb84", "physics", *purpose)


class PulseTrain:
    """A train of pulses, as a handle that is spent by whatever acts on it."""

    __slots__ = ("__weakref__",)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise SignalError("a quantum signal has no readable content", got=name, fix="measure it, once")

    def __copy__(self) -> NoReturn:
        raise SignalError("a quantum signal cannot be copied", fix="measure it, once")

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> NoReturn:
        self.__copy__()

    def __len__(self) -> int:
        return peek(self).n


@dataclass(frozen=True, kw_only=True)
class Light:
    """The state of a train: planes of packed bits and one code for each pulse.

    The Bloch angle of a pulse, in eighths of a turn from Z's 0, is 4 sign + 2 x + half.
    """

    n: int
    sign: Bits
    x: Bits
    half: Bits | None
    code: Bits | int
    means: tuple[float, ...]
    nature: Nature
    transmittance: float = 1.0
    misalignment: float = 0.0
    slot: Bits | None = None
    isolation_db: float | None = None

    @property
    def rng(self) -> np.random.Generator:
        """Where outcomes come from."""
        return self.nature._rng  # noqa: SLF001 - nature is only the name of this module's own stream

    def codes(self) -> Bits:
        """The code of each pulse."""
        return np.full(self.n, self.code, dtype=np.uint8) if isinstance(self.code, int) else self.code

    def present(self) -> npt.NDArray[np.intp]:
        """The codes that occur."""
        if isinstance(self.code, int):
            return np.array([self.code])
        return np.flatnonzero(np.bincount(self.code, minlength=256))


_vault: WeakKeyDictionary[PulseTrain, Light] = WeakKeyDictionary()


def handle(light: Light) -> PulseTrain:
    """A fresh handle."""
    train = PulseTrain()
    _vault[train] = light
    return train


def peek(train: PulseTrain) -> Light:
    """What a handle stands for.

    Raises:
        SignalError: The handle is spent.
    """
    try:
        return _vault[train]
    except KeyError:
        raise SignalError(
            "this quantum signal is spent", fix="measure or transform a train only once"
        ) from None


def spend(train: PulseTrain) -> Light:
    """What a handle stands for; the handle is spent."""
    light = peek(train)
    del _vault[train]
    return light
