"""Levenberg-Marquardt over a batch of starts."""

from __future__ import annotations

import torch

from qflsec.attacks.inversion.least_squares import minimise


def rosenbrock(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = points.unbind(dim=-1)
    residuals = torch.stack([10 * (y - x**2), 1 - x], dim=-1)
    ones = torch.ones_like(x)
    jacobians = torch.stack(
        [torch.stack([-20 * x, 10 * ones], dim=-1), torch.stack([-ones, 0 * ones], dim=-1)], dim=-2
    )
    return residuals, jacobians


def starts(n: int) -> torch.Tensor:
    return 4 * torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 2


def test_it_finds_the_minimum_of_rosenbrocks_valley() -> None:
    found = minimise(rosenbrock, starts(20), iterations=200, tolerance=1e-20)
    best = int(found.objectives.argmin())
    assert torch.allclose(found.points[best], torch.ones(2, dtype=torch.float64), atol=1e-8)
    assert found.iterations < 60


def test_no_start_gets_worse() -> None:
    before = rosenbrock(starts(20))[0].square().sum(dim=-1)
    for iterations in (1, 3, 10):
        found = minimise(rosenbrock, starts(20), iterations=iterations, tolerance=0.0)
        assert bool((found.objectives <= before).all())
        assert torch.allclose(found.objectives, rosenbrock(found.points)[0].square().sum(dim=-1))


def test_starts_do_not_influence_each_other() -> None:
    """As long as none stops all of them: each has its own damping."""
    together = minimise(rosenbrock, starts(5), iterations=5, tolerance=0.0)
    for row in range(5):
        alone = minimise(rosenbrock, starts(5)[row : row + 1], iterations=5, tolerance=0.0)
        assert torch.allclose(together.points[row], alone.points[0], rtol=1e-12)


def test_a_linear_problem_with_a_useless_coordinate() -> None:
    matrix = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    matrix[:, 2] = 0
    target = torch.randn(6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def linear(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return points @ matrix.T - target, matrix.expand(len(points), -1, -1)

    found = minimise(linear, torch.zeros(1, 3, dtype=torch.float64), iterations=50, tolerance=0.0)
    solution = torch.linalg.lstsq(matrix[:, :2], target[:, None]).solution[:, 0]
    assert torch.allclose(found.points[0, :2], solution, atol=1e-6)
    assert float(found.points[0, 2]) == 0
