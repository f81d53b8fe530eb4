"""FLTrust: the server trains on records of its own, and counts each update by its cosine with the server's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, DefenseCard, IncompatibleStack, Source, UpdateError, register
from qflsec.defenses.robust.base import UpdateRule
from qflsec.defenses.robust.guarantee import Robustness
from qflsec.defenses.robust.rows import Rows, Updates, like, norms_of, unit_rows
from qflsec.defenses.robust.torus import reduce_differences
from qflsec.defenses.server_records import need_server_records
from qflsec.federation import Pipeline, RoundUpdates

__all__ = ["FlTrust", "fltrust"]


def fltrust(updates: Updates, *, trusted: Updates, f: int = 0) -> Updates:
    """The mean of the rows at the length of a trusted update, weighted by their cosines with it where positive.

    Args:
        updates: A row for each client, NumPy or torch.
        trusted: The update that the server trained on its own records.
        f: The declared number of corrupted rows; it changes nothing.

    Returns:
        The weighted mean; zeros where no row has a positive cosine, or the trusted update is zero.

    Shapes:
        updates: ``(n, d)``; trusted: ``(d,)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, the rows are no float32 or float64 matrix, or the trusted update does not
            fit.
        ConfigError: ``f`` is no number of clients.

    Source:
        Cao, Fang, Liu, Gong, NDSS 2021, arXiv:2012.13995.
    """
    rows = Rows.of(updates, f)
    anchor = _anchor(trusted, rows.values)
    directions = unit_rows(rows.values)
    scores = np.maximum(directions @ unit_rows(anchor)[0], 0.0)
    if not scores.any():
        return like(updates, np.zeros(rows.values.shape[1]))
    return like(updates, (scores @ directions) * (float(norms_of(anchor)[0]) / scores.sum()))


def _anchor(trusted: npt.NDArray[Any] | torch.Tensor, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    given = trusted.detach().cpu().numpy() if isinstance(trusted, torch.Tensor) else trusted
    if given.shape != values.shape[1:] or not np.isfinite(given).all():
        raise UpdateError(
            "the trusted update does not fit the updates",
            got=f"shape {given.shape}" if given.shape != values.shape[1:] else "NaN or infinity",
            expected=f"finite numbers of shape {values.shape[1:]}",
        )
    return given[None]


@register("layer", "fltrust")
@dataclass(frozen=True, kw_only=True)
class FlTrust(UpdateRule):
    """Clients count by their cosine with an update that the server trains on records of its own.

    Attributes:
        records: How many records of the auxiliary split the server holds, at most; 100 in the paper.

    Raises:
        ConfigError: ``records`` is too small.
    """

    topologies = frozenset({"star"})
    card = DefenseCard(
        name="fltrust",
        idea="The server trains on a few records of its own and counts each update by its cosine with that.",
        source=Source(
            paper="Cao, Fang, Liu, Gong: FLTrust: Byzantine-robust federated learning via trust bootstrapping, NDSS 2021, "
            "arXiv:2012.13995",
            year=2021,
            where="trust scores and the aggregation",
        ),
        claim="No update counts that points away from the server's, and none is longer than it.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not help where the server's records differ from the clients'.",
            "It does not stop a lie that leans towards the server's update.",
            "It does not keep the server's records from an adversary with auxiliary data: they are of the same split.",
        ),
        cost="local training at the server in every round; the server needs individual updates and records",
    )
    robustness = Robustness(breakdown="f any, with records of the server", needs=("server data",))

    records: int = 100

    def __post_init__(self) -> None:
        if self.records < 1:
            raise ConfigError("'records' is too small", got=self.records, expected="1 or more")

    @property
    def root_records(self) -> int:
        """The server's own records."""
        return self.records

    def check(self, pipeline: Pipeline) -> None:
        """Refuse pipelines in which the server has no records, or not the whole model.

        Raises:
            IncompatibleStack: It has not.
        """
        super().check(pipeline)
        need_server_records(self.card.name, pipeline, "trains")

    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The weighted mean; nothing moves where the server's own training went wrong."""
        if batch.trusted is None:
            raise IncompatibleStack("'fltrust' needs an update of the server's own, and the round has none")
        trusted = batch.trusted.to(batch.updates)
        if not bool(torch.isfinite(trusted).all()):
            return torch.zeros_like(batch.broadcast), None
        if self.wrap:
            trusted = reduce_differences(trusted, batch.periods)
        return fltrust(batch.updates, trusted=trusted, f=self.f(batch)), None

    def most(self, n: int) -> int:
        """Any number: the claim is on each of them."""
        return n
