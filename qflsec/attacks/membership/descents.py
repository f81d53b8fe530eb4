"""Descent directions of records at the models that clients started from: what alignments and regressions compare."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qflsec.models import Model, per_sample_gradients
from qflsec.threat import Records

__all__ = ["descents"]

_AT_ONCE = 4096
"""Gradients of so many records are taken in one call: more save nothing and need their memory."""


def descents(model: Model, models: Sequence[Tensor], records: Records) -> Tensor:
    """Minus the gradient of every record's loss at every model.

    Shapes:
        models: ``(P,)`` each, at least one; returns: ``(len(models), n, P)``, float64
    """
    together = max(1, _AT_ONCE // max(1, len(records.labels)))
    params = torch.stack(list(models))[:, None, :]
    found = [
        per_sample_gradients(model, params[at : at + together], records.features, records.labels)
        for at in range(0, len(params), together)
    ]
    return -torch.cat(found).double()
