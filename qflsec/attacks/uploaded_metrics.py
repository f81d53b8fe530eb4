"""What the attacks on uploaded metrics share: the metric of a record, which depends on no label."""

from __future__ import annotations

from torch import Tensor

from qflsec.circuits import fubini_study
from qflsec.models import Model
from qflsec.models.natural_gradient import metric_circuit, metric_entries, metric_places
from qflsec.threat import View

__all__ = ["metrics_of_records", "missing_metric"]

_KINDS = ("full", "block-diagonal", "diagonal")


def missing_metric(view: View) -> str | None:
    """Why no uploaded metric can be read; None where one can."""
    if any(item.metric is not None for item in view.readable("update", "aggregate")):
        return None
    return "no uploaded metric is in the view"


def metrics_of_records(model: Model, size: int, params: Tensor, features: Tensor) -> Tensor:
    """The entries that a client of one record would upload, for each record.

    Args:
        model: The model.
        size: How many entries clients upload, M, which says which ones these are.
        params: The model's parameters.
        features: The records.

    Shapes:
        params: ``(P,)``; features: ``(n, F)``; returns: ``(n, M)``, float64
    """
    circuit = metric_circuit(model)
    assert circuit is not None  # a pipeline of another model has no natural gradient
    kind = next(kind for kind in _KINDS if len(metric_places(circuit, kind)[0]) == size)
    return metric_entries(circuit, fubini_study(circuit, params, features), kind).double()
