"""Crafted vectors against plain NumPy references and published numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.attacks.poisoning import (
    Alie,
    FangKrum,
    FangTrimmedMean,
    Ipm,
    MinMax,
    MinSum,
    OptimisedAlie,
    OptimisedIpm,
    alie_factor,
)
from qflsec.attacks.poisoning.benign import Crafted, Sight
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.federation import Hands, Moved, Pipeline, Stack
from qflsec.threat import corrupted_clients
from tests.defenses.robust import reference

Informed = Callable[..., Hands]


def sent(moved: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """What is sent, in double precision, once it is checked that all corrupted clients send the same."""
    values = moved[0] if isinstance(moved, tuple) else moved
    assert isinstance(values, torch.Tensor)
    assert torch.equal(values[:, 0], values[:, 1])
    return values[:, 0].double().numpy()


@pytest.fixture
def honest() -> torch.Tensor:
    return torch.randn(2, 8, 36, generator=torch.Generator().manual_seed(3)) + 0.5


@pytest.mark.parametrize(("n", "m", "convention", "expected"), [
    (50, 24, "all", 1.7507),  # the worked example of the paper: phi(z) < 0.96 gives 1.75
    (50, 24, "honest", 1.4261),
    (10, 2, "honest", 0.0),  # s = 4 of 8: the median of the honest ones
    (10, 4, "honest", 0.4307),
    (10, 6, "honest", 0.6745),  # a majority already: one honest value beyond
])  # fmt: skip
def test_the_factor_of_a_little_is_enough(n: int, m: int, convention: str, expected: float) -> None:
    assert alie_factor(n, m, convention) == pytest.approx(expected, abs=1e-4)  # type: ignore[arg-type]


def test_means_and_deviations(informed: Informed, honest: torch.Tensor) -> None:
    rows = honest.double().numpy()
    mean, deviation = rows.mean(axis=1), rows.std(axis=1, ddof=1)
    assert np.allclose(sent(Ipm(epsilon=0.7).updates(informed(honest))), -0.7 * mean, atol=1e-6)
    assert np.allclose(sent(Alie(z=1.5).updates(informed(honest))), mean - 1.5 * deviation, atol=1e-6)
    z = alie_factor(10, 2)
    assert np.allclose(sent(Alie().updates(informed(honest))), mean - z * deviation, atol=1e-6)


def test_without_a_grant_own_updates_stand_for_the_others(hands: Callable[..., Hands]) -> None:
    held = hands([])
    own = held.honest.double().numpy()
    expected = own.mean(axis=1) - 2 * own.std(axis=1, ddof=1)
    assert np.allclose(sent(Alie(z=2.0).updates(held)), expected, atol=1e-6)


def test_a_client_without_records_tells_nothing(hands: Callable[..., Hands]) -> None:
    held = hands([])
    held.mask[:, 1] = 0
    assert np.allclose(sent(Ipm(epsilon=1.0).updates(held)), -held.honest[:, 0].double().numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", [MinMax, MinSum])
@pytest.mark.parametrize("direction", ["deviation", "sign", "unit"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), duplicates=st.booleans())
def test_the_largest_factor_is_feasible_and_no_larger_one_is(
    kind: type[MinMax | MinSum], direction: str, seed: int, scale: float, duplicates: bool
) -> None:
    """The search of the paper, on a grid: feasible just below, infeasible just above."""
    rng = np.random.default_rng(seed)
    rows = scale * rng.normal(0.3, 1.0, (rng.integers(2, 7), 5))
    rows = np.concatenate([rows, rows[:1]]) if duplicates else rows
    sight = _sight(rows)
    attack = kind(direction=direction)  # type: ignore[arg-type]
    crafted = attack.craft(sight, None).numpy()  # type: ignore[arg-type]
    mean = rows.mean(axis=0)
    along = {
        "deviation": -rows.std(axis=0, ddof=1),
        "sign": -np.sign(mean),
        "unit": -mean / np.linalg.norm(mean),
    }[direction]
    factor = (crafted - mean) @ along / (along @ along)
    assert np.allclose(crafted, mean + factor * along, atol=1e-9 * scale)
    assert factor >= 0

    def feasible(value: float) -> bool:
        squares = ((mean + value * along - rows) ** 2).sum(axis=1)
        between = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
        if kind is MinMax:
            return bool(squares.max() <= between.max())
        return bool(squares.sum() <= between.sum(axis=1).max())

    assert feasible(factor * (1 - 1e-6))
    assert not feasible(factor * (1 + 1e-6) + 1e-9 * scale)


def _sight(rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]], m: int = 2) -> Sight:
    updates = torch.from_numpy(rows)
    return Sight(
        updates=updates,
        exact=True,
        base=torch.zeros(rows.shape[1], dtype=torch.float64),
        n=len(rows) + m,
        m=m,
        round=0,
        generator=torch.Generator().manual_seed(1),
    )


def test_equal_updates_leave_nowhere_to_hide(informed: Informed) -> None:
    same = torch.full((2, 8, 36), 0.25)
    for attack in (MinMax(), MinSum(direction="sign"), Alie()):
        assert np.allclose(sent(attack.updates(informed(same))), 0.25)


@pytest.mark.parametrize("of", ["models", "updates"])
def test_fangs_values_lie_beyond_the_outermost_honest_one(
    informed: Informed, honest: torch.Tensor, of: str
) -> None:
    base = torch.linspace(-3, 3, 36).expand(2, 2, 36)
    attack = FangTrimmedMean(of=of, b=2.0)  # type: ignore[arg-type]
    values = attack.updates(informed(honest, base=base))
    assert isinstance(values, torch.Tensor)
    assert not torch.equal(values[:, 0], values[:, 1]), "each corrupted client draws"
    origin = base[0, 0].double().numpy() if of == "models" else np.zeros(36)
    for lane in range(2):
        rows = honest[lane].double().numpy() + origin
        rising = honest[lane].double().numpy().mean(axis=0) > 0
        for row in values[lane].double().numpy() + origin:
            for j, value in enumerate(row):
                edge = rows[:, j].min() if rising[j] else rows[:, j].max()
                if rising[j]:
                    low, high = (2 * edge, edge) if edge < 0 else (edge / 2, edge)
                else:
                    low, high = (edge, 2 * edge) if edge > 0 else (edge, edge / 2)
                assert low - 1e-5 <= value <= high + 1e-5


def test_fang_by_partial_knowledge(hands: Callable[..., Hands]) -> None:
    held = hands([])
    values = FangTrimmedMean().updates(held)
    assert isinstance(values, torch.Tensor)
    own = held.honest.double()
    mean, deviation = own.mean(dim=1, keepdim=True), own.std(dim=1, keepdim=True)
    away = (values.double() - mean) / deviation * -torch.sign(mean)
    assert float(away.min()) > 3 - 1e-4
    assert float(away.max()) < 4 + 1e-4


@pytest.mark.parametrize("camps", [False, True])
def test_krum_chooses_what_fang_sends_and_nothing_above_the_bound(camps: bool) -> None:
    """Every factor on a fine grid by Krum as the paper writes it: theorem 1's bound holds, and the halving stops where it should.

    With two camps in one coordinate, and none of the others moving on average, factors of two thirds of the bound are
    chosen; were idle coordinates counted, they would lie above it.
    """
    for seed in range(6):
        rows = np.random.default_rng(seed).normal(0.4, 1.0, (7, 12))
        if camps:
            rows = np.zeros((7, 12))
            rows[:, 0] = [-5.0] * 3 + [10.0 + seed] * 4
            rows[:3, 1:4] = 0.5 * np.eye(3) - 0.25 * (1 - np.eye(3))
        sight = _sight(rows, m=3)
        along = -np.sign(rows.mean(axis=0))
        bound = FangKrum()._bound(sight, int(np.count_nonzero(along)))

        def chosen(factor: float, rows: Any = rows, along: Any = along) -> bool:
            scores = reference.krum_scores(np.concatenate([rows, np.tile(factor * along, (3, 1))]), 3)
            return min(scores[7:]) <= min(scores[:7])

        taken = [factor for factor in np.linspace(0, 3 * bound, 121) if chosen(factor)]
        assert (0.6 if camps else 0.2) * bound < max(taken) <= bound
        crafted = FangKrum().craft(sight, None).numpy()  # type: ignore[arg-type]
        factor = float(crafted @ along / (along @ along))
        assert np.allclose(crafted, factor * along)
        assert factor == pytest.approx(next(f for f in bound / 2.0 ** np.arange(40) if chosen(f)))


def test_without_a_direction_fang_sends_nothing() -> None:
    sight = _sight(np.zeros((7, 4)), m=3)
    assert not FangKrum().craft(sight, None).any()  # type: ignore[arg-type]


class Rules:
    """Rules by name, as stacks."""

    def __init__(self, make: Callable[..., Stack]) -> None:
        self.mean = make()
        self.median, self.bound = (make({"name": name, "wrap": False}) for name in ("median", "norm-bound"))


@pytest.mark.parametrize("kind", [OptimisedAlie, OptimisedIpm])
def test_the_optimised_factor_hurts_the_rule_in_place_most(
    informed: Informed,
    stack: Callable[..., Stack],
    honest: torch.Tensor,
    kind: type[OptimisedAlie | OptimisedIpm],
) -> None:
    rows = honest[0].double().numpy()
    mean = rows.mean(axis=0)
    along = -rows.std(axis=0, ddof=1) if kind is OptimisedAlie else -mean
    median = lambda crafted: np.median(np.concatenate([rows, [crafted] * 2]), axis=0)  # noqa: E731
    rules = Rules(stack)
    for name, rule in (
        ("mean", lambda crafted: np.concatenate([rows, [crafted] * 2]).mean(axis=0)),
        ("median", median),
        ("bound", lambda crafted: _bounded(np.concatenate([rows, [crafted] * 2]))),
    ):
        crafted = sent(kind().updates(informed(honest, stack=getattr(rules, name))))[0]
        grid = [0.1 * 2 ** (k / 16) for k in range(161)]
        best = max(float(np.linalg.norm(rule(mean + g * along) - mean)) for g in grid)
        found = float(np.linalg.norm(rule(crafted) - mean))
        assert found >= 0.98 * best, name
    # and against the median it is another vector than against the mean, where it goes as far as it can
    against_mean = sent(kind().updates(informed(honest, stack=rules.mean)))[0]
    assert np.linalg.norm(against_mean - mean) == pytest.approx(102.4 * np.linalg.norm(along), rel=1e-5)


def _bounded(
    rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    norms = np.linalg.norm(rows, axis=1)
    clipped = rows * np.minimum(1.0, np.median(norms) / norms)[:, None]
    return np.asarray(clipped.mean(axis=0))


def test_without_the_grant_of_defenses_the_mean_is_assumed(
    informed: Informed, stack: Callable[..., Stack], honest: torch.Tensor
) -> None:
    blind = sent(OptimisedAlie().updates(informed(honest)))
    knowing = sent(OptimisedAlie().updates(informed(honest, stack=stack("median"))))
    against_mean = sent(OptimisedAlie().updates(informed(honest, stack=stack())))
    assert np.allclose(blind, against_mean)
    assert not np.allclose(blind, knowing)


def test_a_rule_that_remembers_is_simulated_with_its_memory(
    informed: Informed, stack: Callable[..., Stack], honest: torch.Tensor
) -> None:
    layer = {
        "name": "dp-fedavg",
        "noise_multiplier": 0.5,
        "quantile": 0.5,
        "count_noise": 1.0,
        "expected_clients": 10.0,
    }
    adaptive = stack(layer)
    first: Moved = OptimisedIpm().updates(informed(honest, stack=adaptive))  # type: ignore[assignment]
    assert isinstance(first, tuple)
    assert all(isinstance(state, float) and state > 1 for state in first[1]), "the clip norm grows"
    second: Moved = OptimisedIpm().updates(informed(honest, stack=adaptive, states=first[1]))  # type: ignore[assignment]
    assert isinstance(second, tuple)
    assert all(after > before for before, after in zip(first[1], second[1], strict=True))  # type: ignore[operator]


@pytest.mark.parametrize("attack", [Alie(), MinMax(), MinSum(), FangTrimmedMean(), OptimisedAlie()])
def test_one_update_has_no_spread(attack: Crafted, pipeline: Callable[..., Pipeline]) -> None:
    small = pipeline(members=20, rounds=1)
    with pytest.raises(IncompatibleAttack, match="honest-updates"):
        attack.check(small, corrupted_clients(n=1))
    attack.check(small, corrupted_clients(n=2))
    attack.check(small, corrupted_clients(n=1, knows=("honest-updates",)))


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (Alie, {"z": 0.0}),
        (Alie, {"convention": "half"}),
        (Ipm, {"epsilon": -1.0}),
        (MinMax, {"direction": "up"}),
        (FangTrimmedMean, {"b": 1.0}),
        (FangTrimmedMean, {"of": "gradients"}),
        (FangKrum, {"threshold": 0.0}),
        (OptimisedAlie, {"steps": -1}),
    ],
)
def test_impossible_parameters_are_refused(kind: type[Crafted], bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        kind(**bad)


def test_the_quantile_is_that_of_the_normal() -> None:
    assert alie_factor(100, 20) == pytest.approx(
        math.sqrt(2) * torch.erfinv(torch.tensor(2 * 49 / 80 - 1)).item(), rel=1e-4
    )
