"""Cosine filter: updates that point away from a reference are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, DefenseCard, Source, UpdateError, register
from qflsec.defenses.robust.base import RobustFilter
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.median import coordinate_median
from qflsec.defenses.robust.rows import Rows, Updates, like, unit_rows
from qflsec.federation import RoundUpdates

__all__ = ["CosineFilter", "cosine_filter"]


def cosine_filter(
    updates: Updates, *, f: int = 0, reference: Updates | None = None, threshold: float = 0.0
) -> Updates:
    """The rows whose cosine with a reference is at least a threshold.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows; it changes nothing.
        reference: The direction, such as the last step or an update of the server's own; by default the median of each
            coordinate.
        threshold: The smallest cosine that is let through.

    Returns:
        The rows that pass, in order; where none does, the ones with the largest cosine. A row or a reference of zeros has
        cosine 0 with everything.

    Shapes:
        updates: ``(n, d)``; reference: ``(d,)``; returns: ``(m, d)``, m from 1 to n

    Raises:
        UpdateError: There is no finite row, the rows are no float32 or float64 matrix, or the reference does not fit.
        ConfigError: The threshold is no cosine.

    Source:
        Muñoz-González, Co, Lupu, arXiv:1909.05125 (2019), for the idea of filtering by the cosine with an aggregate; the
        reference and the threshold are parameters.
    """
    _check(threshold)
    rows = Rows.of(updates, f)
    centre = None if reference is None else _reference(reference, rows.values)
    return like(updates, rows.values[_passes(rows.values, centre, threshold)])


def _passes(
    values: npt.NDArray[Any], reference: npt.NDArray[Any] | None, threshold: float
) -> npt.NDArray[np.bool_]:
    centre = coordinate_median(values) if reference is None else reference
    cosines = unit_rows(values) @ unit_rows(centre[None])[0]
    return np.asarray(cosines >= min(threshold, float(cosines.max())))


def _reference(reference: npt.NDArray[Any] | torch.Tensor, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    given = reference.detach().cpu().numpy() if isinstance(reference, torch.Tensor) else reference
    if given.shape != values.shape[1:] or not np.isfinite(given).all():
        raise UpdateError(
            "the reference does not fit the updates",
            got=f"shape {given.shape}" if given.shape != values.shape[1:] else "NaN or infinity",
            expected=f"finite numbers of shape {values.shape[1:]}",
        )
    return given


def _check(threshold: float) -> None:
    if not -1 <= threshold <= 1:
        raise ConfigError("'threshold' is no cosine", got=threshold, expected="from -1 to 1")


@register("layer", "cosine-filter")
@dataclass(frozen=True, kw_only=True)
class CosineFilter(RobustFilter):
    """Leaves out updates that point away from the median of the round.

    Attributes:
        threshold: The smallest cosine with the median that is let through.

    Raises:
        ConfigError: It is no cosine.
    """

    card = DefenseCard(
        name="cosine-filter",
        idea="The server leaves out updates whose cosine with the median of the round is below a threshold.",
        source=Source(
            paper="Muñoz-González, Co, Lupu: Byzantine-robust federated machine learning through adaptive model "
            "averaging, arXiv:1909.05125",
            year=2019,
            where="filtering by the cosine with an aggregate",
        ),
        claim="No update that points away from the median of the round counts.",
        assumption="heuristic",
        hides="nothing",
        does_not=(
            "It does not bound the length of what passes: a bound or a rule must follow.",
            "It does not keep honest clients whose data point elsewhere.",
        ),
        cost="one median and one cosine for each update; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2", needs=())

    threshold: float = 0.0

    def __post_init__(self) -> None:
        _check(self.threshold)

    def act(self, batch: RoundUpdates) -> RoundUpdates:
        """The updates that pass."""
        passes = _passes(batch.updates.detach().cpu().numpy(), None, self.threshold)
        return batch.keep(torch.from_numpy(passes))

    def most(self, n: int) -> int:
        """Fewer than half, so that the median is honest."""
        return minority(n)
