"""Levenberg-Marquardt over a batch of starts."""

from __future__ import annotations

import torch

from qflsec.attacks.inversion.least_squares import linearised, minimise


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


def test_copies_give_the_derivatives_that_single_directions_give() -> None:
    points = starts(5)

    def values(rows: torch.Tensor) -> torch.Tensor:
        return torch.stack([10 * (rows[:, 1] - rows[:, 0] ** 2), 1 - rows[:, 0]], dim=-1)

    together, apart = (linearised(values, points, copies=copies) for copies in (True, False))
    for found in (together, apart):
        assert all(torch.equal(a, b) for a, b in zip(found, rosenbrock(points), strict=True))


def test_what_is_drawn_and_what_is_large_is_never_copied() -> None:
    seen = []

    def values(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows.square().sum(dim=-1, keepdim=True)

    linearised(values, starts(5))
    linearised(values, starts(5), copies=False)
    linearised(values, torch.ones(2, 300, dtype=torch.float64))
    assert seen == [10, 5, 2]
