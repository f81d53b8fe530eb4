"""Minimising sums of squares from many starts at once: with Jacobians, with slopes alone, or with neither."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qflsec.attacks.inversion.least_squares import Minimum, linearised, minimise

__all__ = ["ITERATIONS", "Derivatives", "Residuals", "Search", "Solver", "differences", "refine"]

Residuals = Callable[[Tensor], Tensor]
"""Points ``(R, D)`` to residuals ``(R, M)``, differentiable where the points require a gradient."""
Solver = Literal["least-squares", "lbfgs", "signed-adam"]
Derivatives = Literal["autograd", "finite-differences"]

ITERATIONS: dict[Solver, int] = {"least-squares": 30, "lbfgs": 150, "signed-adam": 500}
"""The most steps where none are named."""

_WINDOWS = (1, 2, 3)
_WIDEST, _NARROWEST = 0.1, 1e-4
_HISTORY = 10
_HALVINGS = 12
_ARMIJO = 1e-4
_SIGNED_STEP = 0.1
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, kw_only=True)
class Search:
    """How a minimum is looked for.

    Attributes:
        solver: ``"least-squares"`` (Levenberg-Marquardt), ``"lbfgs"``, or ``"signed-adam"``.
        derivatives: ``"autograd"``; or ``"finite-differences"``, as for hardware that gives gradients and not their
            derivatives in the records.
        iterations: The most steps; those of :data:`ITERATIONS` by default.
        tolerance: An objective that is good enough.

    Source:
        L-BFGS: Zhu, Liu, Han, NeurIPS 2019 (Liu and Nocedal, 1989, here with backtracking for each start on its own).
        Signed Adam, with the rate cut by ten after 3/8, 5/8 and 7/8 of the steps: Geiping et al., NeurIPS 2020.
        Differences averaged over a window of widths that shrinks as the objective falls: after Papadopoulos et al.,
        arXiv:2504.12806, there for the slope of the objective, here for the residuals.
    """

    solver: Solver = "least-squares"
    derivatives: Derivatives = "autograd"
    iterations: int | None = None
    tolerance: float = 1e-13

    @property
    def steps(self) -> int:
        """The most steps."""
        return ITERATIONS[self.solver] if self.iterations is None else self.iterations


def refine(residuals: Residuals, starts: Tensor, search: Search, *, copies: bool = True) -> Minimum:
    """Minimise the squared norm of the residuals from each start on its own.

    Args:
        residuals: The residuals.
        starts: The starts.
        search: How.
        copies: Whether copies of the starts, one after the other, have the residuals of the starts; False where
            residuals are drawn.

    Shapes:
        starts: ``(R, D)``
    """

    def linearise(points: Tensor) -> tuple[Tensor, Tensor]:
        if search.derivatives == "finite-differences":
            return differences(residuals, points)
        return linearised(residuals, points, copies=copies)

    def slope(points: Tensor) -> tuple[Tensor, Tensor]:
        if search.derivatives == "finite-differences":
            values, jacobians = differences(residuals, points)
            return values.square().sum(dim=-1), 2 * (values[:, None] @ jacobians)[:, 0]
        points = points.detach().requires_grad_()
        objective = residuals(points).square().sum(dim=-1)
        (gradient,) = torch.autograd.grad(objective.sum(), points)
        return objective.detach(), gradient

    def objective(points: Tensor) -> Tensor:
        return residuals(points.detach()).square().sum(dim=-1)

    if search.solver == "least-squares":
        return minimise(linearise, starts, iterations=search.steps, tolerance=search.tolerance)
    if search.solver == "lbfgs":
        return _lbfgs(slope, objective, starts, search)
    return _signed_adam(slope, starts, search)


def differences(residuals: Residuals, points: Tensor) -> tuple[Tensor, Tensor]:
    """Residuals, and their Jacobians by central differences averaged over several widths.

    Averaging passes slow waves and stops fast ones, among them noise; the width follows the objective, so that the last
    steps are local.

    Shapes:
        points: ``(R, D)``; returns: ``(R, M)`` and ``(R, M, D)``
    """
    points = points.detach()
    values = residuals(points)
    width = (0.1 * values.norm(dim=-1)).clamp(_NARROWEST, _WIDEST)[:, None]
    size = points.shape[1]
    jacobians = values.new_zeros(*values.shape, size)
    for place in range(size):
        direction = torch.zeros(size, dtype=points.dtype)
        direction[place] = 1.0
        for window in _WINDOWS:
            step = window * width * direction
            change = residuals(points + step) - residuals(points - step)
            jacobians[..., place] += change / (2 * window * width * len(_WINDOWS))
    return values, jacobians


Slope = Callable[[Tensor], tuple[Tensor, Tensor]]


def _lbfgs(slope: Slope, objective: Callable[[Tensor], Tensor], starts: Tensor, search: Search) -> Minimum:
    points = starts
    values, gradients = slope(points)
    history: list[tuple[Tensor, Tensor, Tensor]] = []
    tried = 0
    while tried < search.steps and float(values.min()) > search.tolerance:
        tried += 1
        direction = -_two_loops(gradients, history)
        falling = (direction * gradients).sum(dim=-1) < 0
        direction = torch.where(falling[:, None], direction, -gradients)
        proposed, moved = _backtrack(objective, points, values, gradients, direction)
        if not bool(moved.any()):
            break
        new_values, new_gradients = slope(proposed)
        history.append(_pair(proposed - points, new_gradients - gradients))
        history = history[-_HISTORY:]
        points, values, gradients = proposed, new_values, new_gradients
    return Minimum(points=points, objectives=values, iterations=tried)


def _pair(steps: Tensor, changes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A pair of the history; 1 / (s.y) is 0 where it says nothing of the curvature, which skips it."""
    curvature = (steps * changes).sum(dim=-1)
    useful = curvature > 1e-12 * changes.square().sum(dim=-1)
    inverse = torch.where(useful, 1 / torch.where(useful, curvature, 1.0), 0.0)
    return steps, changes, inverse[:, None]


def _two_loops(gradients: Tensor, history: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    direction, factors = gradients, []
    for steps, changes, inverse in reversed(history):
        factor = inverse * (steps * direction).sum(dim=-1, keepdim=True)
        direction = direction - factor * changes
        factors.append(factor)
    if history:
        _, changes, inverse = history[-1]
        size = changes.square().sum(dim=-1, keepdim=True).clamp_min(1e-300)
        scale = torch.where(inverse > 0, 1 / (inverse.clamp_min(1e-300) * size), 1.0)
        direction = direction * scale
    for (steps, changes, inverse), factor in zip(history, reversed(factors), strict=True):
        direction = direction + (factor - inverse * (changes * direction).sum(dim=-1, keepdim=True)) * steps
    return direction


def _backtrack(
    objective: Callable[[Tensor], Tensor],
    points: Tensor,
    values: Tensor,
    gradients: Tensor,
    direction: Tensor,
) -> tuple[Tensor, Tensor]:
    """The longest of some halved steps that lowers each objective enough; the same point where none does."""
    length = (1.0 / direction.norm(dim=-1).clamp_min(1e-300)).clamp(
        max=1.0
    )  # no step is longer than a radian
    expected = (direction * gradients).sum(dim=-1)
    proposed, found = points, torch.zeros(len(points), dtype=torch.bool)
    for _ in range(_HALVINGS):
        trial = points + length[:, None] * direction
        enough = objective(trial) <= values + _ARMIJO * length * expected
        proposed = torch.where((enough & ~found)[:, None], trial, proposed)
        found |= enough
        if bool(found.all()):
            break
        length = length / 2
    return proposed, found


def _signed_adam(slope: Slope, starts: Tensor, search: Search) -> Minimum:
    points = best = starts
    values, gradients = slope(points)
    least = values
    first, second = torch.zeros_like(points), torch.zeros_like(points)
    tried = 0
    while tried < search.steps and float(least.min()) > search.tolerance:
        sign = gradients.sign()
        tried += 1
        first = _BETA1 * first + (1 - _BETA1) * sign
        second = _BETA2 * second + (1 - _BETA2) * sign.square()
        upper, lower = first / (1 - _BETA1**tried), second / (1 - _BETA2**tried)
        rate = _SIGNED_STEP * 0.1 ** sum(tried > share * search.steps / 8 for share in (3, 5, 7))
        points = points - rate * upper / (lower.sqrt() + _EPSILON)
        values, gradients = slope(points)
        better = values < least
        best, least = torch.where(better[:, None], points, best), torch.where(better, values, least)
    return Minimum(points=best, objectives=least, iterations=tried)
