"""Gradients preconditioned by the Fubini-Study metric of records' states."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from qflsec.circuits import Circuit, fubini_study, metric_blocks, metric_limits
from qflsec.models.base import Model

__all__ = [
    "mean_metric",
    "metric_circuit",
    "metric_entries",
    "metric_of",
    "metric_places",
    "precondition",
    "within_limits",
    "without_negative",
]


def metric_circuit(model: Model) -> Circuit | None:
    """The circuit whose weights and features are a model's parameters and features; None where there is none."""
    circuit = getattr(model, "circuit", None)
    if not isinstance(circuit, Circuit):
        return None
    fits = (circuit.n_weights, circuit.n_features) == (model.n_params, model.n_features)
    return circuit if fits and circuit.n_weights else None


def mean_metric(
    circuit: Circuit, params: Tensor, features: Tensor, weights: Tensor, *, dtype: torch.dtype
) -> Tensor:
    """The mean of the records' metrics.

    Args:
        circuit: The circuit.
        params: Its weights.
        features: The records.
        weights: What each record counts; they add up to 1, or are all 0 where there is no record.
        dtype: Complex, of the simulated states.

    Shapes:
        params: ``(..., P)``; features: ``(..., B, F)``; weights: ``(..., B)``; returns: ``(..., P, P)``
    """
    each = fubini_study(circuit, params[..., None, :], features, dtype=dtype)
    return (each * weights[..., None, None].to(each.dtype)).sum(dim=-3)


def precondition(circuit: Circuit, metric: Tensor, gradient: Tensor, *, kind: str, damping: float) -> Tensor:
    """``(g + damping I)^-1 gradient``, solved in double precision.

    Args:
        circuit: The circuit, which says what the blocks are.
        metric: Metrics.
        gradient: Gradients.
        kind: Which entries of the metric count: ``"full"``, ``"block-diagonal"`` or ``"diagonal"``.
        damping: What is added to the diagonal.

    Shapes:
        metric: ``(..., P, P)``; gradient: ``(..., P)`` with as many leading axes; returns the shape of ``gradient``
    """
    kept = metric.double() * _kept(circuit, kind)
    eye = torch.eye(metric.shape[-1], dtype=torch.float64)
    factor, _ = torch.linalg.cholesky_ex(kept + damping * eye)  # a model that is not finite ends no run here
    found: Tensor = torch.cholesky_solve(gradient.double()[..., None], factor)[..., 0]
    return found.to(gradient.dtype)


@lru_cache(maxsize=64)
def metric_places(circuit: Circuit, kind: str) -> tuple[Tensor, Tensor]:
    """The rows and columns of a metric's entries that count, each pair once: on the diagonal and above it.

    Shapes:
        returns: ``(M,)`` each
    """
    rows, columns = torch.nonzero(torch.triu(_kept(circuit, kind))).unbind(dim=1)
    return rows, columns


def metric_entries(circuit: Circuit, metric: Tensor, kind: str) -> Tensor:
    """The entries of metrics at :func:`metric_places`.

    Shapes:
        metric: ``(..., P, P)``; returns: ``(..., M)``
    """
    rows, columns = metric_places(circuit, kind)
    return metric[..., rows, columns]


def metric_of(circuit: Circuit, entries: Tensor, kind: str) -> Tensor:
    """The symmetric metrics of such entries, zero elsewhere.

    Shapes:
        entries: ``(..., M)``; returns: ``(..., P, P)``
    """
    rows, columns = metric_places(circuit, kind)
    metric = entries.new_zeros(*entries.shape[:-1], circuit.n_weights, circuit.n_weights)
    metric[..., rows, columns] = entries
    metric[..., columns, rows] = entries
    return metric


def without_negative(metric: Tensor) -> Tensor:
    """The nearest positive semidefinite matrices: a metric has no negative eigenvalue, a liar's entries may give some.

    Shapes:
        metric: ``(..., P, P)``, symmetric; returns the same, in double precision
    """
    values, vectors = torch.linalg.eigh(metric.double())
    found: Tensor = (vectors * values.clamp_min(0.0)[..., None, :]) @ vectors.mT
    return found


def within_limits(circuit: Circuit, metric: Tensor) -> Tensor:
    """Metrics as a circuit can have them: positive semidefinite, and no diagonal entry above its limit.

    Negative eigenvalues count as zero; a row and column whose diagonal entry is too large is scaled down. What a circuit can have
    stays as it is, up to rounding; what is no number counts as zero.

    Args:
        circuit: The circuit.
        metric: Symmetric matrices.

    Shapes:
        metric: ``(..., P, P)``; returns the same, in double precision
    """
    # of a client's numbers that are beyond all bounds nothing is left that eigenvalues could be computed of
    sound = torch.isfinite(metric).all(dim=-1).all(dim=-1)[..., None, None]
    kept = without_negative(torch.where(sound, metric, torch.zeros_like(metric)))
    diagonal = kept.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300)
    factor = (metric_limits(circuit) / diagonal).clamp_max(1.0).sqrt()
    found: Tensor = factor[..., :, None] * kept * factor[..., None, :]
    return found


@lru_cache(maxsize=64)
def _kept(circuit: Circuit, kind: str) -> Tensor:
    """1 where two weights are of one block, which are all for the full metric and each for itself for its diagonal."""
    count = circuit.n_weights
    if kind == "full":
        return torch.ones(count, count, dtype=torch.float64)
    blocks = metric_blocks(circuit) if kind == "block-diagonal" else [(weight,) for weight in range(count)]
    kept = torch.zeros(count, count, dtype=torch.float64)
    for block in blocks:
        kept[torch.tensor(block)[:, None], torch.tensor(block)] = 1
    return kept
