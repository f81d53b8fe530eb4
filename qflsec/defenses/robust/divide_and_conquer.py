"""DnC: drop the updates that stick out along the direction in which all of them vary most."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.robust.base import UpdateRule
from qflsec.defenses.robust.draws import Generator, permutation
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.rows import Array, Rows, Updates, like
from qflsec.federation import RoundUpdates

__all__ = ["DivideAndConquer", "divide_and_conquer"]


def divide_and_conquer(
    updates: Updates,
    *,
    f: int,
    generator: Generator | None = None,
    iterations: int = 5,
    coordinates: int = 10_000,
    factor: float = 1.0,
) -> Updates:
    """The mean of the rows that no iteration drops.

    An iteration draws some of the coordinates, centres the rows on their mean, and drops the ``factor * f`` rows with the
    largest squared projections on the top right singular vector.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows.
        generator: Where the coordinates are drawn from; not needed where all of them are taken.
        iterations: The number of iterations, as in the paper's experiments; one is enough where all coordinates are taken.
        coordinates: How many coordinates an iteration looks at; all where there are fewer.
        factor: How many rows an iteration drops for each declared corrupted one.

    Returns:
        The mean of the rows that are left. Where every row was dropped by some iteration, of those that were dropped
        least often: the paper does not say, and Blades returns zeros.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: An iteration would drop every row, a setting is out of range, or the generator is missing.

    Source:
        Shejwalkar, Houmansadr, NDSS 2021 (DnC).
    """
    _check(iterations, coordinates, factor)
    rows = Rows.of(updates, f)
    d = rows.values.shape[1]
    drops = int(factor * rows.f)
    if drops >= rows.n:
        raise ConfigError(
            "'dnc' would drop every update",
            got=f"n = {rows.n} finite updates, factor * f = {factor * rows.f:g}",
            expected="factor * f < n",
            fix="lower 'f' ('declared_corrupted' in a matrix)",
        )
    if coordinates < d and generator is None:
        raise ConfigError("'dnc' draws coordinates at random and needs a generator", fix="pass generator=...")
    times = np.zeros(rows.n, dtype=np.int64)
    for _ in range(iterations if coordinates < d else 1):
        part = rows.wide
        if coordinates < d and generator is not None:
            part = part[:, permutation(d, generator)[:coordinates]]
        times[np.argsort(_projections(part), kind="stable")[rows.n - drops :]] += 1
    return like(updates, rows.values[times == times.min()].mean(axis=0, dtype=np.float64))


def _check(iterations: int, coordinates: int, factor: float) -> None:
    for name, value in (("iterations", iterations), ("coordinates", coordinates)):
        if value < 1:
            raise ConfigError(f"{name!r} is too small", got=value, expected="1 or more")
    if not 0 < factor < np.inf:
        raise ConfigError("'factor' is out of range", got=factor, expected="positive and finite")


def _projections(values: Array) -> Array:
    """The squared projection of each centred row on the top right singular vector."""
    largest = np.abs(values).max()
    scaled = values / (largest if largest > 0 else 1.0)  # so that no square overflows
    centred = scaled - scaled.mean(axis=0)
    # the projections are the top left singular vector times its singular value: n by n in place of n by d
    _, vectors = np.linalg.eigh(centred @ centred.T)
    return np.asarray(vectors[:, -1] ** 2)


@register("layer", "dnc")
@dataclass(frozen=True, kw_only=True)
class DivideAndConquer(UpdateRule):
    """Drops the updates that stick out along the direction in which all of them vary most; the mean of the rest.

    Attributes:
        iterations: The number of iterations; one where every coordinate is looked at.
        coordinates: How many coordinates an iteration looks at.
        factor: How many updates an iteration drops for each declared corrupted client.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="dnc",
        idea="The server drops the updates with the largest projections on the direction of the largest variance.",
        source=Source(
            paper="Shejwalkar, Houmansadr: Manipulating the Byzantine: optimizing model poisoning attacks and defenses "
            "for federated learning, NDSS 2021",
            year=2021,
            where="divide-and-conquer (DnC)",
        ),
        claim="Corrupted updates that shift the mean by much lie along the top singular vector and are dropped.",
        assumption="heuristic",
        hides="nothing",
        does_not=(
            "It does not see a lie in a direction in which honest updates vary more.",
            "It does not hold when more clients are corrupted than declared.",
        ),
        cost="one eigendecomposition of a matrix of the clients; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2", needs=("declared f", "randomness"))

    iterations: int = 5
    coordinates: int = 10_000
    factor: float = 1.0

    def __post_init__(self) -> None:
        _check(self.iterations, self.coordinates, self.factor)

    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The mean of what is left."""
        step = divide_and_conquer(
            batch.updates,
            f=self.f(batch),
            generator=batch.generator,
            iterations=self.iterations,
            coordinates=self.coordinates,
            factor=self.factor,
        )
        return step, None

    def defined(self, n: int) -> int:
        """As many as leave one update."""
        return max(0, min(n, math.ceil(n / self.factor)) - 1)

    def most(self, n: int) -> int:
        """Fewer than half, and as many as leave one update."""
        return min(minority(n), self.defined(n))
