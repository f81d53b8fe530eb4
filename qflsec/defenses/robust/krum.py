"""Krum and Multi-Krum: the updates that lie closest to their nearest neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, DefenseCard, Source, finite, register
from qflsec.defenses.robust.base import UpdateRule
from qflsec.defenses.robust.distances import squared_distances
from qflsec.defenses.robust.guarantee import Robustness
from qflsec.defenses.robust.rows import Array, Rows, Updates, like
from qflsec.federation import RoundUpdates

__all__ = ["Krum", "MultiKrum", "krum", "krum_order", "krum_ranks", "multi_krum"]


def krum_ranks(squares: Array, neighbours: int, *, squared: bool = True) -> npt.NDArray[np.intp]:
    """The rows from the best score to the worst.

    The score is the sum of the squared distances to the nearest others. Two rows that are each other's nearest have the
    same score where one neighbour counts: the sum over all others decides between equals, and then the order of rows.

    Args:
        squares: The squared distances between all rows.
        neighbours: How many others count.
        squared: Whether distances count squared, as in the paper.

    Shapes:
        squares: ``(n, n)``; returns: ``(n,)``
    """
    lengths = np.sort(squares if squared else np.sqrt(squares), axis=1)
    # the row itself is one of its nearest, at distance 0
    return np.lexsort((lengths.sum(axis=1), lengths[:, : neighbours + 1].sum(axis=1)))


def krum_order(rows: Rows, neighbours: int | None, *, squared: bool = True) -> npt.NDArray[np.intp]:
    """The rows from the best score to the worst.

    Args:
        rows: The rows, with the declared f.
        neighbours: How many others count; None for n - f - 2, and at least 1.
        squared: Whether distances count squared.

    Raises:
        ConfigError: There are not so many others, or f leaves none.
    """
    if neighbours is None:
        rows.need("krum", _defined(rows.n), "f <= n - 3, so that n - f - 2 neighbours are one at least")
        neighbours = max(1, rows.n - rows.f - 2)
    if rows.n > 1 and not 1 <= neighbours <= rows.n - 1:
        raise ConfigError(
            "'neighbours' is out of range",
            got=neighbours,
            expected=f"1 to {rows.n - 1}, the others of {rows.n} rows",
        )
    return krum_ranks(squared_distances(rows.values), min(neighbours, rows.n - 1), squared=squared)


def krum(updates: Updates, *, f: int, neighbours: int | None = None, squared: bool = True) -> Updates:
    """The row with the smallest sum of squared distances to its nearest others.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows.
        neighbours: How many others count. The paper takes n - f - 2, which is the default and for which the bound is
            proved; ByzFL takes n - f - 1.
        squared: Whether distances count squared, as in the paper; FLPoison takes them as they are.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``f`` is above n - 3 (and above 0), or ``neighbours`` is out of range.

    Source:
        Blanchard, El Mhamdi, Guerraoui, Stainer, NeurIPS 2017, section 4.
    """
    rows = Rows.of(updates, f)
    return like(updates, rows.values[krum_order(rows, neighbours, squared=squared)[0]])


def multi_krum(
    updates: Updates,
    *,
    f: int,
    selected: int | None = None,
    neighbours: int | None = None,
    squared: bool = True,
) -> Updates:
    """The mean of the rows with the best scores of Krum.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows.
        selected: How many rows the mean is taken of. The paper leaves it open between 1, which is Krum, and n, which is
            the mean; the default is n - f, as in ByzFL, up to which the bound is proved.
        neighbours: As for :func:`krum`.
        squared: As for :func:`krum`.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: A number is out of range.

    Source:
        Blanchard, El Mhamdi, Guerraoui, Stainer, NeurIPS 2017, section 4.
    """
    rows = Rows.of(updates, f)
    order = krum_order(rows, neighbours, squared=squared)
    count = rows.n - rows.f if selected is None else selected
    if not 1 <= count <= rows.n:
        raise ConfigError(
            "'selected' is out of range", got=count, expected=f"1 to {rows.n}, the number of rows"
        )
    return like(updates, rows.values[np.sort(order[:count])].mean(axis=0, dtype=np.float64))


def _defined(n: int) -> int:
    return max(0, n - 3)


@finite
@dataclass(frozen=True, kw_only=True)
class _Scored(UpdateRule):
    """What both rules share.

    Attributes:
        neighbours: How many others count in a score; None for n - f - 2, as in the paper.
    """

    robustness = Robustness(breakdown="2f + 2 < n", needs=("declared f",), proved=True)

    neighbours: int | None = None

    def __post_init__(self) -> None:
        if self.neighbours is not None and self.neighbours < 1:
            raise ConfigError("'neighbours' is too small", got=self.neighbours, expected="1 or more, or none")

    def nearest(self, n: int) -> int | None:
        """How many others count among ``n`` rows, of which some may be missing."""
        return None if self.neighbours is None else max(1, min(self.neighbours, n - 1))

    def defined(self, n: int) -> int:
        """Up to n - 3; without corrupted clients any number of rows will do."""
        return _defined(n)

    def most(self, n: int) -> int:
        """Fewer than (n - 2) / 2, the paper's condition."""
        return max(0, math.ceil((n - 2) / 2) - 1)

    def kappa(self, n: int, f: int) -> float | None:
        """Derived in ``docs/robust.md`` for any number of neighbours q with h = q - f + 1 >= 1."""
        q = max(1, n - f - 2) if self.neighbours is None else self.neighbours
        honest, near = n - f, q - f + 1
        if n == 1 or near < 1 or q > honest - 1:
            return None
        scatter = 2.0 * q * honest / ((honest - 1) * near)
        return (math.sqrt(scatter) + math.sqrt((honest - near) / near)) ** 2


@register("layer", "krum")
@dataclass(frozen=True, kw_only=True)
class Krum(_Scored):
    """The update with the smallest sum of squared distances to its nearest others.

    Attributes:
        neighbours: How many others count in a score; None for n - f - 2, as in the paper.

    Raises:
        ConfigError: ``neighbours`` is too small.
    """

    card = DefenseCard(
        name="krum",
        idea="The server takes the one update that lies closest to its n - f - 2 nearest neighbours.",
        source=Source(
            paper="Blanchard, El Mhamdi, Guerraoui, Stainer: Machine learning with adversaries: Byzantine tolerant "
            "gradient descent, NeurIPS 2017, arXiv:1703.02757",
            year=2017,
            where="section 4",
        ),
        claim="With 2f + 2 < n the step is an update whose squared error is within a constant of the honest variance.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not average: the noise of one client is the step.",
            "It does not tell a short lie from an honest client that differs.",
        ),
        cost="all pairs of distances; the server needs individual updates",
    )

    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The chosen update."""
        return krum(batch.updates, f=self.f(batch), neighbours=self.nearest(len(batch.ids))), None


@register("layer", "multi-krum")
@dataclass(frozen=True, kw_only=True)
class MultiKrum(_Scored):
    """The mean of the updates with the best scores of Krum.

    Attributes:
        neighbours: How many others count in a score; None for n - f - 2, as in the paper.
        selected: How many updates the mean is taken of; None for n - f.

    Raises:
        ConfigError: A number is too small.
    """

    card = DefenseCard(
        name="multi-krum",
        idea="The server averages the n - f updates that lie closest to their nearest neighbours.",
        source=Source(
            paper="Blanchard, El Mhamdi, Guerraoui, Stainer: Machine learning with adversaries: Byzantine tolerant "
            "gradient descent, NeurIPS 2017, arXiv:1703.02757",
            year=2017,
            where="section 4, Multi-Krum",
        ),
        claim="With 2f + 2 < n the squared error is within a constant of the honest variance.",
        assumption="none",
        hides="nothing",
        does_not=("It does not tell a short lie from an honest client that differs.",),
        cost="all pairs of distances; the server needs individual updates",
    )

    selected: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.selected is not None and self.selected < 1:
            raise ConfigError("'selected' is too small", got=self.selected, expected="1 or more, or none")

    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The mean of the chosen updates."""
        n = len(batch.ids)
        return (
            multi_krum(
                batch.updates,
                f=self.f(batch),
                selected=None if self.selected is None else min(self.selected, n),
                neighbours=self.nearest(n),
            ),
            None,
        )

    def kappa(self, n: int, f: int) -> float | None:
        """That of Krum, for up to n - f selected updates."""
        return None if self.selected is not None and self.selected > n - f else super().kappa(n, f)
