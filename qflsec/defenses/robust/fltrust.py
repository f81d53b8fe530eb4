"""FLTrust: the server trains on records of its own, and counts each update by its cosine with the server's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import UpdateError
from qflsec.defenses.robust.rows import Rows, Updates, like, norms_of, unit_rows

__all__ = ["fltrust"]


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
        Cao, Fang, Liu, Gong, NDSS 2021, arXiv:2012.13995, algorithm 2.
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
