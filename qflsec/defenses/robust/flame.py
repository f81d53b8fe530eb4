"""FLAME: cluster updates by their cosines, clip the largest cluster to the median norm, and add a little noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.robust.base import UpdateRule
from qflsec.defenses.robust.draws import Generator, normal
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.rows import Rows, Updates, like, norms_of, unit_rows
from qflsec.federation import RoundUpdates

__all__ = ["Flame", "flame", "flame_admitted"]

Compare = Literal["models", "updates"]


def flame_admitted(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which rows lie in the one cluster of more than half of them, by HDBSCAN on cosine distances.

    All of them where no cluster is so large, or there are fewer than three rows.

    Args:
        values: The rows whose cosines are compared, finite.

    Shapes:
        values: ``(n, d)``; returns: ``(n,)``
    """
    n = len(values)
    if n < 3:
        return np.ones(n, dtype=bool)
    from sklearn.cluster import HDBSCAN

    directions = unit_rows(values)
    distances = np.clip(1.0 - directions @ directions.T, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    # scikit-learn counts the row itself among 'min_samples', so that its 2 is the 1 of the package 'hdbscan'
    clustering = HDBSCAN(
        min_cluster_size=n // 2 + 1,
        min_samples=2,
        metric="precomputed",
        allow_single_cluster=True,
        copy=True,
    )
    found: npt.NDArray[np.bool_] = clustering.fit_predict((distances + distances.T) / 2) == 0
    return found if found.any() else np.ones(n, dtype=bool)


def flame(
    updates: Updates,
    *,
    f: int = 0,
    generator: Generator | None = None,
    noise: float = 0.001,
    broadcast: Updates | None = None,
) -> Updates:
    """The mean of the admitted rows, clipped to the median norm of all, with Gaussian noise.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows; it changes nothing.
        generator: Where the noise is drawn from; not needed where there is none.
        noise: lambda, the noise's standard deviation in units of the median norm; 0.001 in the paper's experiments on
            images.
        broadcast: The model that was sent out. Where it is given, cosines are those of the clients' models, as in the
            paper; by default they are those of their updates.

    Shapes:
        updates: ``(n, d)``; broadcast: ``(d,)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``noise`` is out of range, or the generator is missing.

    Source:
        Nguyen et al., USENIX Security 2022, arXiv:2101.02281, algorithm 1.
    """
    _check(noise)
    if noise and generator is None:
        raise ConfigError("'flame' adds noise and needs a generator", fix="pass generator=..., or noise=0")
    rows = Rows.of(updates, f)
    compared = rows.wide
    if broadcast is not None:
        compared = compared + (
            broadcast.detach().cpu().numpy() if isinstance(broadcast, torch.Tensor) else broadcast
        )
    admitted = flame_admitted(compared)
    lengths = norms_of(rows.values)
    limit = float(np.median(lengths))
    scale = np.minimum(1.0, limit / np.where(lengths > 0, lengths, 1.0)) * admitted / admitted.sum()
    step = scale @ rows.wide
    if noise and generator is not None:
        step = step + noise * limit * normal(len(step), generator)
    return like(updates, step)


def _check(noise: float) -> None:
    if not 0 <= noise < np.inf:
        raise ConfigError("'noise' is out of range", got=noise, expected="0 or more, and finite")


@register("layer", "flame")
@dataclass(frozen=True, kw_only=True)
class Flame(UpdateRule):
    """Clusters clients by cosines, clips the largest cluster to the median norm, and adds a little noise.

    Attributes:
        noise: The noise's standard deviation in units of the median norm.
        compare: Whether cosines are those of ``"models"``, as in the paper, or of ``"updates"``.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="flame",
        idea="The server keeps the largest cluster by cosine, clips it to the median norm, and adds a little noise.",
        source=Source(
            paper="Nguyen et al.: FLAME: taming backdoors in federated learning, USENIX Security 2022, arXiv:2101.02281",
            year=2022,
            where="algorithm 1",
        ),
        claim="While fewer than half of the clients are corrupted, updates of another direction than most are left out.",
        assumption="heuristic",
        hides="nothing",
        does_not=(
            "It does not give an epsilon: its noise is far below what a proof needs.",
            "It does not see a lie that points where honest updates point.",
        ),
        cost="all pairs of cosines and a clustering; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2", needs=("randomness",))

    noise: float = 0.001
    compare: Compare = "models"

    def __post_init__(self) -> None:
        _check(self.noise)
        if self.compare not in ("models", "updates"):
            raise ConfigError("unknown 'compare'", got=repr(self.compare), expected="'models' or 'updates'")

    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The mean of the admitted updates."""
        broadcast = batch.broadcast.to(batch.updates) if self.compare == "models" else None
        step = flame(
            batch.updates,
            generator=batch.generator,
            noise=self.noise,
            broadcast=broadcast,
        )
        return step, None

    def most(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)
