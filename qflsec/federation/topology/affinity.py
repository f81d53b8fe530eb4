"""Affinity: a server that makes a model for each client, of all models, by how near they lie to its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, register
from qflsec.federation.topology.base import Mix, Topology, Turn
from qflsec.threat import SERVER, Party

__all__ = ["Affinity", "affinities"]

Metric = Literal["euclidean", "cosine", "cityblock"]


def affinities(
    rows: torch.Tensor, counts: torch.Tensor, *, beta: float, metric: Metric
) -> npt.NDArray[np.float64]:
    """What each row counts in the mean that is made for each row: ``a_kj ~ n_j exp(-beta d_kj / d)``.

    d is the mean distance between two rows, so that beta knows no unit.

    Args:
        rows: Models, or updates.
        counts: The numbers of examples.
        beta: How fast a weight falls with the distance.
        metric: The distance; a row of zeros has cosine distance 1 from all others.

    Shapes:
        rows: ``(n, P)``; counts: ``(n,)``; returns: ``(n, n)``, whose rows add up to 1
    """
    from scipy.spatial.distance import cdist

    values = rows.detach().double().cpu().numpy()
    apart = np.nan_to_num(cdist(values, values, metric=metric), nan=1.0)
    np.fill_diagonal(apart, 0.0)
    n = len(values)
    mean = apart.sum() / max(1, n * (n - 1))
    raw = counts.double().numpy() * np.exp(-beta * apart / (mean if mean > 0 else 1.0))
    weights: npt.NDArray[np.float64] = raw / raw.sum(axis=1, keepdims=True)
    return weights


@register("topology", "affinity")
@dataclass(frozen=True, kw_only=True)
class Affinity(Topology):
    """Every client trains a model of its own, and the server makes its next one: a mean of all, nearer ones count more.

    The weights of client k are ``a_kj ~ n_j exp(-beta d_kj / d)``, with the distance d_kj between the trained models of k and j and
    the mean distance d of a round. They are counted as known to everybody, as all weights of topologies are; the protocol
    tells a client its own model alone. A client that takes no part in a round keeps its model, and is in nobody's mean.

    Args:
        metric: The distance between two models.
        beta: How fast a weight falls with the distance; 0 is federated averaging, up to rounding, and what is large leaves
            every client alone.

    Raises:
        ConfigError: A value is out of range.

    Source:
        After Gurung, Pokhrel: wpQFL, IEEE Transactions on Artificial Intelligence 6, 2025 (a mean for each client, with
        weights by Euclidean, cosine or Manhattan distance); the softmin and its scale are as stated here.
    """

    name = "affinity"
    words = "clients for each of whom a server makes a model"
    without = "each of its models follows from one update and from a mean with weights of its own"
    public_rosters = True
    personal = True
    metric: Metric = "euclidean"
    beta: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no metric, and weights that grow with the distance."""
        if self.metric not in get_args(Metric):
            raise ConfigError(
                "unknown 'metric'", got=repr(self.metric), expected=" or ".join(map(repr, get_args(Metric)))
            )
        if not self.beta >= 0:
            raise ConfigError("'beta' is out of range", got=self.beta, expected="0 or more")

    def start(self, n_clients: int) -> Party:
        """The server."""
        return SERVER

    def nodes(self, n_clients: int) -> int:
        """One for each client."""
        return n_clients

    def ruled(self, n_clients: int) -> tuple[tuple[int, ...], ...]:
        """Each client by itself."""
        return tuple((index,) for index in range(n_clients))

    def turns(self, n_clients: int, round_index: int) -> tuple[Turn, ...]:
        """A turn for each client at the server, side by side."""
        return tuple(Turn(root=SERVER, groups={SERVER: (i,)}, node=i) for i in range(n_clients))

    def mixing_of(
        self,
        n_clients: int,
        round_index: int,
        *,
        present: Collection[int],
        counts: Sequence[float],
        seed: int,
        models: torch.Tensor,
    ) -> tuple[Mix, ...]:
        """The mean for each client that takes part."""
        here = sorted(present)
        if len(here) < 2:
            return ()
        weights = affinities(
            models[here], torch.tensor([counts[i] for i in here]), beta=self.beta, metric=self.metric
        )
        return tuple(
            Mix(
                maker=SERVER,
                weights={j: float(share) for j, share in zip(here, row, strict=True) if share > 0},
                nodes=(i,),
            )
            for i, row in zip(here, weights, strict=True)
        )
