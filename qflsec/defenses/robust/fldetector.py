"""FLDetector: clients whose updates do not follow from their last ones and the model's move are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.robust.base import UpdateRule
from qflsec.defenses.robust.consistency import hessian_product, stands_apart
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.rows import Array, norms_of
from qflsec.federation import RoundUpdates

__all__ = ["FlDetector", "FlDetectorState"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FlDetectorState:
    """What the server remembers.

    Attributes:
        last: Each client's last update, and the model that it started from.
        mean: The last mean of all updates that count, and the model that it belongs to; None before the first round.
        moves: How the model moved in the last rounds, the latest last.
        changes: How the mean update changed with it.
        distances: Each client's last distances from its predictions, as shares of a round's sum.
        detected: The clients that do not count any more.

    Shapes:
        last, mean: ``(P,)`` each; moves, changes: ``(P,)`` each
    """

    last: Mapping[int, tuple[Array, Array]] = field(default_factory=dict)
    mean: tuple[Array, Array] | None = None
    moves: tuple[Array, ...] = ()
    changes: tuple[Array, ...] = ()
    distances: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    detected: frozenset[int] = frozenset()


@register("layer", "fldetector")
@dataclass(frozen=True, kw_only=True)
class FlDetector(UpdateRule):
    """The mean without clients whose updates do not follow from their last ones and the model's move.

    A client's update is predicted as its last one plus what the model's move since then changes in it, by an L-BFGS
    approximation of the Hessian that is made of the mean updates of the last rounds. A client's score is its mean distance from
    its predictions over ``window`` rounds, each as a share of the round's sum. Once scores fall into two groups, the
    clients of the higher one count no more, and nobody is looked for any longer. The paper then begins the training anew without
    them; here it goes on.

    Attributes:
        window: Over how many rounds distances are averaged, and how many moves of the model the Hessian is made of; nobody is
            left out before.

    Raises:
        ConfigError: ``window`` is below 1.

    Source:
        Zhang, Cao, Jia, Gong: FLDetector, KDD 2022, arXiv:2207.09209; for the gap statistic
        :func:`~qflsec.defenses.robust.consistency.stands_apart`.
    """

    topologies = frozenset({"star"})
    card = DefenseCard(
        name="fldetector",
        idea="The server predicts each client's update from its last one and leaves out those who keep surprising it.",
        source=Source(
            paper="Zhang, Cao, Jia, Gong: FLDetector: defending federated learning against model poisoning attacks via "
            "detecting malicious clients, KDD 2022, arXiv:2207.09209",
            year=2022,
            where="the prediction, the score and the detection; training is not begun anew",
        ),
        claim="Clients whose updates jump from round to round, as no gradient of one loss does, are left out.",
        assumption="heuristic",
        hides="nothing",
        does_not=(
            "It does not act before a window of rounds is over.",
            "It does not see a client that is wrong in the same way in every round.",
            "It does not keep honest clients whose updates are noisier than others'.",
            "It does not undo what clients did before they were found.",
        ),
        cost="two products of the model's size for each round of the window; the server needs single updates and identities",
    )
    robustness = Robustness(breakdown="f < n/2, inconsistent", needs=("client identities", "randomness"))
    over_groups = False

    window: int = 10

    def __post_init__(self) -> None:
        """Refuse a window of nothing."""
        if self.window < 1:
            raise ConfigError("'window' is too small", got=self.window, expected="1 or more")

    def start(self, n_params: int) -> object:
        """Nobody has sent anything."""
        return FlDetectorState()

    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The mean of those who were not found, and what is remembered."""
        past = cast("FlDetectorState", state)
        model = batch.broadcast.double().numpy()
        updates = batch.updates.double().numpy()
        distances = {**past.distances, **self._distances(batch.ids, updates, model, past)}
        detected = past.detected or self._found(batch, distances)
        counts = np.array([one not in detected for one in batch.ids])
        # where nobody is left, the model stays
        mean = updates[counts].mean(axis=0) if counts.any() else np.zeros_like(model)
        now = replace(
            self._moved(past, mean, model),
            last={**past.last, **{one: (row, model) for one, row in zip(batch.ids, updates, strict=True)}},
            distances=distances,
            detected=detected,
        )
        return torch.from_numpy(mean).to(batch.updates), now

    def most(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)

    def _found(self, batch: RoundUpdates, distances: Mapping[int, tuple[float, ...]]) -> frozenset[int]:
        """The clients of the round whose scores stand apart, of those who were here for a window."""
        full = [one for one in batch.ids if len(distances.get(one, ())) == self.window]
        apart = stands_apart(np.array([np.mean(distances[one]) for one in full]), batch.generator)
        return frozenset(one for one, found in zip(full, apart, strict=True) if found)

    def _distances(
        self, ids: tuple[int, ...], updates: Array, model: Array, past: FlDetectorState
    ) -> dict[int, tuple[float, ...]]:
        """The distances of those who were here before, with this round's added."""
        known = [(one, row) for one, row in zip(ids, updates, strict=True) if one in past.last]
        if not known:
            return {}
        moves, changes = np.array(past.moves), np.array(past.changes)
        products: dict[int, Array] = {}  # most clients were here in the same round
        wrong = []
        with np.errstate(over="ignore", invalid="ignore"):
            for one, row in known:
                before, start = past.last[one]
                if id(start) not in products:
                    products[id(start)] = hessian_product(moves, changes, model - start)
                wrong.append(before + products[id(start)] - row)
            found = norms_of(np.array(wrong))
        # a prediction beyond all numbers is as far off as any
        found = np.where(np.isfinite(found), found, np.finfo(np.float64).max / len(found))
        shares = found / max(float(found.sum()), 1e-300)
        return {
            one: (*past.distances.get(one, ()), float(share))[-self.window :]
            for (one, _), share in zip(known, shares, strict=True)
        }

    def _moved(self, past: FlDetectorState, mean: Array, model: Array) -> FlDetectorState:
        """With the model's last move and what it changed in the mean update."""
        if past.mean is None:
            return replace(past, mean=(mean, model))
        before, start = past.mean
        return replace(
            past,
            mean=(mean, model),
            moves=(*past.moves, model - start)[-self.window :],
            changes=(*past.changes, mean - before)[-self.window :],
        )
