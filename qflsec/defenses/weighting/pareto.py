"""FedMGDA+: weights under which the step is a descent direction for every client, as far as a knob allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.robust.rows import Array, norms_of, unit_rows
from qflsec.defenses.weighting.base import WeightedRule
from qflsec.federation import RoundUpdates

__all__ = ["FedMgda", "least_norm_weights"]

_GAP = 1e-12
_STEPS = 100_000


def least_norm_weights(rows: Array, start: Array, *, epsilon: float) -> Array:
    """Weights of the shortest combination of rows: at least 0, with sum 1, and near given ones.

    Minimises ``|sum_k w_k u_k|^2 / 2`` over ``max(0, w0_k - epsilon) <= w_k <= min(1, w0_k + epsilon)``. Weight moves
    between the two rows that violate the optimality conditions most, by an exact line search. With g the gradient, w is
    optimal if and only if no row that may gain has a smaller g than one that may lose; this is the rule that ends the
    search, up to 1e-12 of the longest row's squared length.

    Args:
        rows: The rows.
        start: The weights to stay near, at least 0 and with sum 1.
        epsilon: How far a weight may be from its start.

    Shapes:
        rows: ``(n, d)``; start, returns: ``(n,)``

    Source:
        Keerthi, Gilbert: Convergence of a generalized SMO algorithm, Machine Learning 46, 2002 (pairs of most violation
        converge for such boxes).
    """
    gram = rows @ rows.T
    low, high = np.maximum(0.0, start - epsilon), np.minimum(1.0, start + epsilon)
    weights = start.copy()
    gradient = gram @ weights
    enough = _GAP * max(float(np.diag(gram).max()), 1e-300)
    for _ in range(_STEPS):
        gains = int(np.argmin(np.where(weights < high, gradient, np.inf)))
        loses = int(np.argmax(np.where(weights > low, gradient, -np.inf)))
        gap = gradient[loses] - gradient[gains]
        if not gap > enough:
            break
        curved = gram[gains, gains] + gram[loses, loses] - 2 * gram[gains, loses]
        room = min(high[gains] - weights[gains], weights[loses] - low[loses])
        move = room if curved <= 0 else min(room, gap / curved)
        # whole room: land on the bound exactly, so that the row is out of the search
        weights[gains] = high[gains] if move == high[gains] - weights[gains] else weights[gains] + move
        weights[loses] = low[loses] if move == weights[loses] - low[loses] else weights[loses] - move
        gradient += move * (gram[:, gains] - gram[:, loses])
    return weights


@register("layer", "fedmgda")
@dataclass(frozen=True, kw_only=True)
class FedMgda(WeightedRule):
    """The shortest mean of the updates among weights near those of FedAvg.

    With ``epsilon = 1`` no client's loss grows along the step, to first order: the shortest vector d of the hull has
    ``<d, u_k> >= |d|^2``.

    Attributes:
        epsilon: How far a weight may be from its share of the examples; 0 is FedAvg, bit for bit, without ``normalise``.
        normalise: Whether all updates are first brought to the median length of the round (the plus of FedMGDA+), so that
            a short update cannot take all the weight.

    Raises:
        ConfigError: ``epsilon`` is out of range.
    """

    card = DefenseCard(
        name="fedmgda",
        idea="The server takes the shortest mean of the updates, so that the step is bad for no client.",
        source=Source(
            paper="Hu, Shaloudegi, Zhang, Yu: Federated learning meets multi-objective optimization, IEEE TNSE 2022, "
            "arXiv:2006.11489",
            year=2022,
            where="FedMGDA+; the length of the step, the median of the round's, is this package's",
        ),
        claim="With epsilon = 1 the step has no negative inner product with any update.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not stand one corrupted client: whoever opposes the mean of the others makes the step vanish.",
            "It does not make a better model of clients that agree.",
        ),
        cost="a small quadratic program; the server needs individual updates",
    )

    epsilon: float = 0.1
    normalise: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ConfigError("'epsilon' is out of range", got=self.epsilon, expected="from 0 to 1")

    def weights(self, batch: RoundUpdates) -> torch.Tensor:
        """The weights of the shortest mean."""
        if self.epsilon == 0 and not self.normalise:
            return batch.counts.double()
        values = batch.updates.detach().cpu().numpy()
        counts = batch.counts.double().numpy()
        rows = unit_rows(values) if self.normalise else values.astype(np.float64)
        found = least_norm_weights(rows, counts / counts.sum(), epsilon=self.epsilon)
        return torch.from_numpy(found)

    def rows(self, batch: RoundUpdates) -> torch.Tensor:
        """The updates, at the median length of the round where they are normalised."""
        if not self.normalise:
            return batch.updates
        values = batch.updates.detach().cpu().numpy()
        scaled = unit_rows(values) * float(np.median(norms_of(values)))
        return torch.from_numpy(scaled).to(batch.updates)
