"""Bucketing: the rule gets the means of small random groups of updates."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.robust.base import RobustFilter
from qflsec.defenses.robust.draws import Generator, permutation
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.rows import Rows, Updates, like
from qflsec.federation import RoundUpdates

__all__ = ["Bucketing", "bucketing"]


def bucketing(updates: Updates, *, generator: Generator, size: int = 2, f: int = 0) -> Updates:
    """The means of random groups of rows.

    A group with a corrupted row is a corrupted one: at most ``f`` of the ceil(n / size) groups are.

    Args:
        updates: A row for each client, NumPy or torch.
        generator: Where the groups are drawn from.
        size: How many rows a group has; the last one may have fewer. 2 in the paper's experiments.
        f: The declared number of corrupted rows; it changes nothing.

    Shapes:
        updates: ``(n, d)``; returns: ``(ceil(n' / size), d)``, n' the number of finite rows

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``size`` is too small, or the generator is none.

    Source:
        Karimireddy, He, Jaggi, ICLR 2022, arXiv:2006.09365, algorithm 1.
    """
    _check(size)
    rows = Rows.of(updates, f)
    groups = _groups(rows.n, size, generator)
    means = [rows.values[group].mean(axis=0, dtype=np.float64) for group in groups]
    return like(updates, np.stack(means))


def _groups(n: int, size: int, generator: Generator) -> list[npt.NDArray[np.int64]]:
    order = permutation(n, generator)
    return [order[start : start + size] for start in range(0, n, size)]


def _check(size: int) -> None:
    if size < 1:
        raise ConfigError("'size' is too small", got=size, expected="1 or more")


@register("layer", "bucketing")
@dataclass(frozen=True, kw_only=True)
class Bucketing(RobustFilter):
    """The rule gets the means of small random groups of updates, drawn anew in each round.

    Attributes:
        size: How many updates a group has.

    Raises:
        ConfigError: ``size`` is too small.
    """

    card = DefenseCard(
        name="bucketing",
        idea="The server gives its rule the means of small random groups of updates.",
        source=Source(
            paper="Karimireddy, He, Jaggi: Byzantine-robust learning on heterogeneous datasets via bucketing, ICLR 2022, "
            "arXiv:2006.09365",
            year=2022,
            where="algorithm 1",
        ),
        claim="Honest updates that differ become alike, and at most f of n / size groups are corrupted.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not leave a majority honest where 2 f size >= n.",
            "It does not leave the rule single clients to follow.",
        ),
        cost="a random order of the clients; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n / (2 size)", needs=("randomness",))
    regroups = True

    size: int = 2

    def __post_init__(self) -> None:
        _check(self.size)

    def act(self, batch: RoundUpdates) -> RoundUpdates:
        """The means, each as a group of clients."""
        groups = _groups(len(batch.ids), self.size, batch.generator)
        members = batch.groups or tuple((index,) for index in batch.ids)
        return replace(
            batch,
            updates=torch.stack([batch.updates[group].double().mean(dim=0) for group in groups]).to(
                batch.updates
            ),
            counts=torch.stack([batch.counts[group].sum() for group in groups]),
            ids=tuple(range(len(groups))),
            groups=tuple(tuple(sorted(i for row in group for i in members[row])) for group in groups),
        )

    def rows(self, n: int) -> int:
        """The number of groups."""
        return math.ceil(n / self.size)

    def most(self, n: int) -> int:
        """Fewer than half of the groups."""
        return minority(self.rows(n))
