"""FoolsGold: clients whose updates, added up over the rounds, point the same way count less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, DefenseCard, Source, UpdateError, register
from qflsec.defenses.robust.base import UpdateRule
from qflsec.defenses.robust.guarantee import Robustness
from qflsec.defenses.robust.rows import Array, Rows, Updates, like, unit_rows
from qflsec.federation import RoundUpdates

__all__ = ["FoolsGold", "foolsgold", "foolsgold_weights"]

Divide = Literal["clients", "weights", "nothing"]
_WAYS: tuple[Divide, ...] = ("clients", "weights", "nothing")


def foolsgold_weights(history: npt.NDArray[Any] | torch.Tensor, *, confidence: float = 1.0) -> Array:
    """The weight of each client, from 0 to 1.

    A client's similarity is its largest cosine with another. Pardoning scales a cosine down by the ratio of the two
    similarities where the other client is the more similar one, so that an honest client that happens to lie near a group
    of Sybils is not taken for one of them. The weight 1 - similarity is scaled to a largest of 1 and put through a logit.

    Args:
        history: Each client's updates, added up over the rounds.
        confidence: The factor on the logit.

    Shapes:
        history: ``(n, d)``; returns: ``(n,)``

    Source:
        Fung, Yoon, Beschastnikh, RAID 2020, algorithm 1, without weights of features.
    """
    values = history.detach().cpu().numpy() if isinstance(history, torch.Tensor) else history
    n = len(values)
    if n == 1:
        return np.ones(1)
    directions = unit_rows(values)
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, -np.inf)
    similar = cosines.max(axis=1)
    np.fill_diagonal(cosines, -1.0)  # it must not win, and must stay finite under the next factor
    # only positive similarities are pardoned: the ratio of two negative ones says nothing
    pardon = (similar[None, :] > similar[:, None]) & (similar[:, None] > 0)
    ratio = np.divide(similar[:, None], similar[None, :], out=np.ones((n, n)), where=pardon)
    alone = np.clip(1.0 - (cosines * ratio).max(axis=1), 0.0, 1.0)
    if alone.max() <= 1e-12:  # everybody sends the same: nobody is more unlike than another
        return np.zeros(n)
    alone = alone / alone.max()
    with np.errstate(divide="ignore"):
        logits = np.log(alone) - np.log1p(-alone)
    return np.asarray(np.clip(confidence * logits + 0.5, 0.0, 1.0))


def foolsgold(
    updates: Updates,
    *,
    f: int = 0,
    history: Updates | None = None,
    confidence: float = 1.0,
    divide: Divide = "clients",
) -> Updates:
    """The sum of the rows, weighted by how unlike the others each client is.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows; it changes nothing.
        history: Each client's updates, added up over the rounds, this one included; this round's alone by default.
        confidence: The factor on the logit of the weights; 1 in the paper.
        divide: What the weighted sum is divided by: the number of clients, which keeps the step the size of a mean; the
            sum of the weights; or nothing, as in the paper, which scales the learning rate instead.

    Returns:
        The step; zeros where all clients have weight 0, as when all of them send the same.

    Shapes:
        updates: ``(n, d)``; history: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, the rows are no float32 or float64 matrix, or the history does not fit.
        ConfigError: ``f`` is no number of clients, or a setting is out of range.

    Source:
        Fung, Yoon, Beschastnikh: The limitations of federated learning in Sybil settings, RAID 2020, algorithm 1.
    """
    _check(confidence, divide)
    rows = Rows.of(updates, f)
    past = rows.values
    if history is not None:
        given = history.detach().cpu().numpy() if isinstance(history, torch.Tensor) else history
        if given.shape != tuple(updates.shape) or not np.isfinite(given[rows.kept]).all():
            raise UpdateError(
                "the history does not fit the updates",
                got=f"shape {given.shape}" if given.shape != tuple(updates.shape) else "NaN or infinity",
                expected=f"a finite row for each update, shape {tuple(updates.shape)}",
            )
        past = given[rows.kept]
    weights = foolsgold_weights(past, confidence=confidence)
    total = {"clients": float(rows.n), "weights": float(weights.sum()) or 1.0, "nothing": 1.0}[divide]
    return like(updates, (weights @ rows.wide) / total)


def _check(confidence: float, divide: str) -> None:
    if not 0 < confidence < np.inf:
        raise ConfigError("'confidence' is out of range", got=confidence, expected="positive and finite")
    if divide not in _WAYS:
        raise ConfigError("unknown 'divide'", got=repr(divide), expected=" or ".join(map(repr, _WAYS)))


@register("layer", "foolsgold")
@dataclass(frozen=True, kw_only=True)
class FoolsGold(UpdateRule):
    """Clients whose updates, added up over the rounds, point the same way count less.

    Attributes:
        confidence: The factor on the logit of the weights.
        divide: What the weighted sum is divided by: ``"clients"``, ``"weights"`` or ``"nothing"``.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="foolsgold",
        idea="The server counts a client less the more its updates, added up, resemble another client's.",
        source=Source(
            paper="Fung, Yoon, Beschastnikh: The limitations of federated learning in Sybil settings, RAID 2020",
            year=2020,
            where="algorithm 1",
        ),
        claim="Any number of clients that send the same update together have little weight.",
        assumption="heuristic",
        hides="nothing",
        does_not=(
            "It does not stop a single corrupted client.",
            "It does not keep honest clients whose data are alike.",
            "It does not bound the length of an update.",
        ),
        cost="all pairs of cosines and a sum for each client; the server needs individual updates and identities",
    )
    robustness = Robustness(breakdown="f < n, all alike", needs=("client identities",))
    over_groups = False

    confidence: float = 1.0
    divide: Divide = "clients"

    def __post_init__(self) -> None:
        _check(self.confidence, self.divide)

    def start(self, n_params: int) -> object:
        """No client has sent anything."""
        return {}

    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The weighted sum, and each client's updates added up."""
        past = cast("Mapping[int, torch.Tensor]", state)
        wide = batch.updates.double()
        sums = {
            **past,
            **{index: past.get(index, 0.0) + row for index, row in zip(batch.ids, wide, strict=True)},
        }
        history = torch.stack([cast("torch.Tensor", sums[index]) for index in batch.ids])
        step = foolsgold(wide, history=history, confidence=self.confidence, divide=self.divide)
        return step.to(batch.updates), sums

    def most(self, n: int) -> int:
        """All but one."""
        return n - 1
