"""Levenberg-Marquardt for many starts at once, each on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Minimum", "columns_at_once", "linearised", "minimise", "row_jacobians"]

Linearise = Callable[[Tensor], tuple[Tensor, Tensor]]

_LARGEST_STEP = 1.0
_PATIENCE = 6
_PROGRESS = 1e-3
_MOST_NUMBERS = 2**17
"""Of copies of points: beyond, the states of all copies outweigh the calls that they save."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Minimum:
    """Where the starts ended.

    Attributes:
        points: The last points.
        objectives: The squared norms of their residuals.
        iterations: How many steps were tried.

    Shapes:
        points: ``(R, D)``; objectives: ``(R,)``
    """

    points: Tensor
    objectives: Tensor
    iterations: int


def minimise(linearise: Linearise, starts: Tensor, *, iterations: int, tolerance: float) -> Minimum:
    """Minimise a sum of squares from many starts.

    Every start has its own damping: a step that lowers its objective is taken and the damping falls,
    otherwise the point stays and the damping rises. All stop together, as soon as one objective is below
    ``tolerance``, or when the best has not fallen by a thousandth for some steps.

    Args:
        linearise: Residuals ``(R, M)`` and Jacobians ``(R, M, D)`` of points ``(R, D)``.
        starts: The starts.
        iterations: The most steps.
        tolerance: An objective that is good enough.

    Shapes:
        starts: ``(R, D)``

    Source:
        Marquardt: An algorithm for least-squares estimation of nonlinear parameters, SIAM J. 11, 1963.
    """
    points = starts
    residuals, jacobians = linearise(points)
    objectives = residuals.square().sum(dim=-1)
    damping = torch.full_like(objectives, 1e-2)
    best, waited, tried = float(objectives.min()), 0, 0
    while tried < iterations and best > tolerance and waited < _PATIENCE:
        tried += 1
        proposed = points + _step(residuals, jacobians, damping)
        new_residuals, new_jacobians = linearise(proposed)
        new_objectives = new_residuals.square().sum(dim=-1)
        better = new_objectives < objectives
        points = torch.where(better[:, None], proposed, points)
        residuals = torch.where(better[:, None], new_residuals, residuals)
        jacobians = torch.where(better[:, None, None], new_jacobians, jacobians)
        objectives = torch.where(better, new_objectives, objectives)
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-12, 1e8)
        now = float(objectives.min())
        waited = waited + 1 if now > (1 - _PROGRESS) * best else 0
        best = now
    return Minimum(points=points, objectives=objectives, iterations=tried)


def _step(residuals: Tensor, jacobians: Tensor, damping: Tensor) -> Tensor:
    normal = jacobians.transpose(1, 2) @ jacobians
    slope = jacobians.transpose(1, 2) @ residuals[..., None]
    scale = torch.diagonal(normal, dim1=1, dim2=2)
    # A coordinate without influence has no scale of its own; the floor keeps the system regular.
    floor = 1e-6 * scale.amax(dim=1, keepdim=True) + 1e-30
    damped = normal + torch.diag_embed(damping[:, None] * (scale + floor))
    step = torch.linalg.solve(damped, -slope)[..., 0]
    return torch.nan_to_num(step).clamp(-_LARGEST_STEP, _LARGEST_STEP)


def linearised(
    function: Callable[[Tensor], Tensor], points: Tensor, *, copies: bool = True
) -> tuple[Tensor, Tensor]:
    """Values of rows and their derivatives, by the cheaper of two ways that give the same.

    Args:
        function: Values of rows, for any whole number of copies of the rows, one after the other.
        points: The rows.
        copies: Whether a copy of a row has the values of the row; False for what is drawn.

    Shapes:
        points: ``(R, ...)``, D numbers in each; returns: ``(R, M)`` and ``(R, M, D)``
    """
    if copies and points.numel() * points[0].numel() <= _MOST_NUMBERS:
        return columns_at_once(function, points)
    points = points.detach().requires_grad_()
    values = function(points)
    return values.detach(), row_jacobians(values, points)


def row_jacobians(values: Tensor, points: Tensor) -> Tensor:
    """The derivative of each row of values in the point that it was computed from.

    Rows do not mix, so one pass serves all of them: the derivative of ``u . values`` in the points is linear in
    ``u``, and its own derivatives in ``u`` are the columns of the Jacobians.

    Shapes:
        values: ``(R, M)``; points: ``(R, ...)``, D numbers in each; returns: ``(R, M, D)``
    """
    # as a sum and not by grad_outputs, for which torch loads a package for symbols, a quarter of a second in each process
    probe = torch.zeros_like(values, requires_grad=True)
    (pulled,) = torch.autograd.grad((values * probe).sum(), points, create_graph=True)
    pulled = pulled.flatten(start_dim=1)
    # one call for each column: the compiled kernel takes all rows together, but only one direction
    columns = [
        torch.autograd.grad((pulled * direction).sum(), probe, retain_graph=True)[0]
        for direction in torch.eye(pulled.shape[1], dtype=pulled.dtype)
    ]
    return torch.stack(columns, dim=-1)


def columns_at_once(function: Callable[[Tensor], Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
    """Values of rows and their derivatives, with a copy of all rows for each column: three calls in place of many.

    Args:
        function: Values of rows, for any whole number of copies of the rows, one after the other.
        points: The rows.

    Shapes:
        points: ``(R, ...)``, D numbers in each; returns: ``(R, M)`` and ``(R, M, D)``
    """
    rows, size = len(points), points[0].numel()
    copies = points.detach().repeat(size, *[1] * (points.ndim - 1)).requires_grad_()
    values = function(copies)
    probe = torch.zeros_like(values, requires_grad=True)
    (pulled,) = torch.autograd.grad((values * probe).sum(), copies, create_graph=True)
    # copy j of a row is asked for column j
    directions = torch.eye(size, dtype=pulled.dtype).repeat_interleave(rows, dim=0).reshape(pulled.shape)
    (columns,) = torch.autograd.grad((pulled * directions).sum(), probe)
    return values[:rows].detach(), columns.reshape(size, rows, -1).permute(1, 2, 0)
