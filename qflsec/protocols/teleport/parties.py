"""Sender, receiver and the source of pairs, with handles on qubits in place of states.

What a party holds of a qubit is a handle that can be acted on once. Only :class:`_Nature`, which no party sees, knows states: a
qubit in the plane of X and Z by its angle and the length of its Bloch vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qflsec.base import ConfigError, QflsecError, finite

__all__ = ["HalfPairs", "PairSource", "Qubits", "QubitsGone", "receive", "send"]


class QubitsGone(QflsecError):
    """Qubits were used that had been measured or sent before."""


class _Nature:
    """The states behind handles, and who has still got them."""

    def __init__(self, angles: Tensor, length: Tensor) -> None:
        self.angles, self.length, self.there = angles, length, True

    def take(self) -> tuple[Tensor, Tensor]:
        if not self.there:
            raise QubitsGone(
                "these qubits are gone", fix="qubits can be measured or sent once: prepare new ones"
            )
        self.there = False
        return self.angles, self.length


class Qubits:
    """A handle on qubits that a party holds."""

    def __init__(self, nature: _Nature) -> None:
        self.__nature = nature

    @classmethod
    def prepare(cls, angles: Tensor) -> Qubits:
        """New qubits cos(t / 2) |0> + sin(t / 2) |1>.

        Shapes:
            angles: ``(...)``

        Units:
            radians
        """
        return cls(_Nature(angles.clone(), torch.ones_like(angles)))

    def through(self, pairs: HalfPairs, draws: Tensor) -> tuple[Tensor, Qubits]:
        """Measure each with half a pair in the Bell basis: two bits each, and the handle of the qubits at the pairs' other end.

        The other end holds them up to the correction that the bits tell; the handle stands for the corrected qubits.

        Args:
            pairs: The halves; they are used up.
            draws: Uniform numbers in [0, 1), nature's.

        Shapes:
            draws: that of the qubits; returns bits ``(..., 2)``
        """
        angles, length = self.__nature.take()
        outcome = (draws * 4).long().clamp(0, 3)  # uniform whatever the state
        shrunk = length * pairs.spend()
        return torch.stack([outcome // 2, outcome % 2], dim=-1), Qubits(_Nature(angles, shrunk))

    def measure(self, basis: Literal["X", "Z"], draws: Tensor) -> Tensor:
        """Outcomes +1 and -1; the qubits are gone.

        Shapes:
            draws: that of the qubits, uniform in [0, 1); returns the same
        """
        angles, length = self.__nature.take()
        mean = length * (torch.cos(angles) if basis == "Z" else torch.sin(angles))
        return torch.where(draws < (1 + mean) / 2, 1.0, -1.0)


class HalfPairs:
    """A handle on the sender's halves of fresh pairs."""

    def __init__(self, quality: float) -> None:
        self.__nature = _Nature(torch.zeros(()), torch.tensor(quality))

    def spend(self) -> float:
        """Use the pairs up; by how much they shrink a Bloch vector in the plane of X and Z."""
        return float(self.__nature.take()[1])


@finite
@dataclass(frozen=True, kw_only=True)
class PairSource:
    """Hands out Werner pairs, a share of which somebody may measure on the way.

    Attributes:
        p: The weight of |Phi+>: p |Phi+><Phi+| + (1 - p) I / 4.
        tapped: The share that a man in the middle measures, in Z or X by a coin, and sends on.

    Raises:
        ConfigError: A value is out of range.
    """

    p: float = 1.0
    tapped: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ConfigError("'p' of a pair is out of range", got=self.p, expected="above 0, at most 1")
        if not 0 <= self.tapped <= 1:
            raise ConfigError("'tapped' is a share", got=self.tapped, expected="from 0 to 1")

    @property
    def _quality(self) -> float:
        # a measured pair keeps the correlation of the basis that was measured: half of Z's and X's on average
        return self.p * (1 - self.tapped / 2)

    def pairs(self) -> HalfPairs:
        """As many pairs as are needed."""
        return HalfPairs(self._quality)

    def chsh(self, draws: Tensor) -> float:
        """The estimated CHSH value of pairs that both ends sacrifice; above 2 they are entangled.

        Settings are Z and X at one end, and (Z + X) and (Z - X) over sqrt 2 at the other.

        Args:
            draws: Uniform numbers in [0, 1), nature's: one for each pair of each of the four settings.

        Shapes:
            draws: ``(4, pairs)``
        """
        agree = (
            1 + self._quality / 2**0.5
        ) / 2  # each setting's correlation has this size; one has the other sign
        return float((2 * (draws < agree).double().mean(dim=1) - 1).sum())


def send(angles: Tensor, source: PairSource, draws: Tensor) -> tuple[Tensor, Qubits]:
    """The sender's half: qubits of known angles through the source's pairs, and the bits that it announces.

    Shapes:
        angles, draws: ``(...)``; returns bits ``(..., 2)``
    """
    return Qubits.prepare(angles).through(source.pairs(), draws)


def receive(in_z: Qubits, in_x: Qubits, draws: tuple[Tensor, Tensor]) -> Tensor:
    """The receiver's half: the angle of each row of copies, by tomography in the plane of X and Z.

    Args:
        in_z: The copies that are measured in Z, along the last axis.
        in_x: Those that are measured in X.
        draws: Uniform numbers in [0, 1), nature's, for both.

    Shapes:
        draws: ``(..., K / 2)`` each; returns ``(...)``

    Units:
        radians, in (-pi, pi]
    """
    z, x = in_z.measure("Z", draws[0]).mean(dim=-1), in_x.measure("X", draws[1]).mean(dim=-1)
    return torch.atan2(x, z)
