"""Uniform numbers from secret bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.base import Secrets
from qflsec.protocols.blind.angles import AngleGrid, Angles
from qflsec.protocols.blind.qubits import Bits

__all__ = ["Pads", "draw_angles", "draw_pads", "permutation", "uniform_below"]


@dataclass(frozen=True, kw_only=True)
class Pads:
    """A client's secrets of a batch of rounds, for each node and round.

    Attributes:
        theta: The pad of the angle.
        r: The pad of the outcome.
        dummy: The basis state, where the node is a dummy.
    """

    theta: Angles
    r: Bits
    dummy: Bits


def draw_angles(secrets: Secrets, grid: AngleGrid, nodes: int, rounds: int) -> Angles:
    """Uniform angles ``(nodes, rounds)``."""
    size = 4 if grid.bits <= 32 else 8
    raw = np.frombuffer(secrets.draw(nodes * rounds * size), dtype=f"<u{size}").astype(np.uint64)
    return (raw & grid.mask).reshape(nodes, rounds)


def draw_pads(secrets: Secrets, grid: AngleGrid, nodes: int, rounds: int) -> Pads:
    """Uniform pads: an angle and two bits for each node and round."""
    theta = draw_angles(secrets, grid, nodes, rounds)
    coins = np.frombuffer(secrets.draw(nodes * rounds), dtype=np.uint8)
    shape = (nodes, rounds)
    return Pads(
        theta=theta,
        r=(coins & np.uint8(1)).reshape(shape),
        dummy=(coins >> np.uint8(1) & np.uint8(1)).reshape(shape),
    )


def permutation(secrets: Secrets, n: int) -> npt.NDArray[np.intp]:
    """A uniform permutation: the order of n secret keys, drawn again if two are equal."""
    while True:
        keys = np.frombuffer(secrets.draw(8 * n), dtype="<u8")
        order = np.argsort(keys)
        if n < 2 or (np.diff(keys[order]) > 0).all():
            return order


def uniform_below(secrets: Secrets, bound: int, n: int) -> npt.NDArray[np.int64]:
    """Uniform integers below a bound of at most 2^31, by rejection."""
    found = np.empty(0, dtype=np.int64)
    limit = 2**32 - 2**32 % bound
    while len(found) < n:
        raw = np.frombuffer(secrets.draw(4 * (n - len(found))), dtype="<u4").astype(np.int64)
        found = np.concatenate([found, raw[raw < limit] % bound])
    return found
