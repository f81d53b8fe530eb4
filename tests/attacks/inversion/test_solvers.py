"""Every solver on problems with known minima, and differences against derivatives."""

from __future__ import annotations

import pytest
import torch

from qflsec.attacks.inversion.solvers import Search, Solver, differences, refine


def rosenbrock(points: torch.Tensor) -> torch.Tensor:
    """A curved valley with its only minimum, 0, at (1, 1)."""
    return torch.stack([10 * (points[:, 1] - points[:, 0] ** 2), 1 - points[:, 0]], dim=1)


def wave(points: torch.Tensor) -> torch.Tensor:
    return torch.stack([points.sin().sum(dim=1), (points[:, 0] * points[:, 1]).cos()], dim=1)


@pytest.mark.parametrize(
    ("solver", "iterations", "below"),
    [("least-squares", 60, 1e-20), ("lbfgs", 120, 1e-12), ("signed-adam", 700, 1e-2)],
)
@pytest.mark.parametrize("derivatives", ["autograd", "finite-differences"])
def test_the_minimum_is_found_from_every_start(
    solver: Solver, iterations: int, below: float, derivatives: str
) -> None:
    starts = torch.tensor([[0.5, 0.2], [-0.7, 0.6]], dtype=torch.float64)
    alone = [
        refine(
            rosenbrock,
            start[None],
            Search(solver=solver, derivatives=derivatives, iterations=iterations, tolerance=below),  # type: ignore[arg-type]
        )
        for start in starts
    ]
    assert all(float(found.objectives) <= max(below, 1e-8 * (derivatives != "autograd")) for found in alone)
    assert all(float((found.points - 1).abs().max()) < 0.3 for found in alone)


def test_starts_do_not_mix() -> None:
    starts = torch.tensor([[0.5, 0.2], [-0.7, 0.6]], dtype=torch.float64)
    for solver in ("lbfgs", "signed-adam"):
        search = Search(solver=solver, iterations=7, tolerance=0.0)  # type: ignore[arg-type]
        both = refine(rosenbrock, starts, search)
        each = [refine(rosenbrock, start[None], search).points[0] for start in starts]
        assert torch.allclose(both.points, torch.stack(each), atol=1e-12), solver


def test_every_step_of_signed_adam_counts() -> None:
    """The point of the last step is looked at, and no point twice."""
    seen: list[float] = []

    def residuals(points: torch.Tensor) -> torch.Tensor:
        seen.append(float(points.detach()[0, 0]))
        return points - 1

    search = Search(solver="signed-adam", iterations=2, tolerance=0.0)
    found = refine(residuals, torch.zeros(1, 1, dtype=torch.float64), search)
    assert len(set(seen)) == len(seen) == 3
    assert float(found.points) == seen[-1] > seen[1] > 0


def test_differences_are_derivatives_up_to_the_width() -> None:
    points = torch.tensor([[0.4, 1.1]], dtype=torch.float64)
    values, jacobians = differences(wave, points)
    exact = torch.func.jacrev(lambda point: wave(point[None])[0])(points[0])
    assert torch.equal(values, wave(points))
    assert float((jacobians[0] - exact).abs().max()) < 0.03  # the width is a tenth of the residual's norm
    small = points.clone()
    small[0] = torch.tensor([0.0, torch.pi])  # residuals 0 and 1, then a width of a tenth
    assert float(differences(wave, small)[1].abs().max()) <= 1.0
