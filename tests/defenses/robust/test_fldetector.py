"""FLDetector: the Hessian against BFGS written out, groups against all partitions, and liars of two kinds on a quadratic loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.base import ConfigError
from qflsec.defenses.robust import FlDetector
from qflsec.defenses.robust.consistency import _within, hessian_product, stands_apart
from qflsec.federation import RunSpec, Stack, run_batch
from qflsec.lab import build, load_spec

Matrix = np.ndarray[Any, Any]
D, ROUNDS, HONEST, LIARS = 6, 12, 7, 3


def bfgs(steps: Matrix, changes: Matrix) -> Matrix:
    """The Hessian by one update of rank two after the other."""
    found = np.eye(steps.shape[1]) * (changes[-1] @ steps[-1]) / (steps[-1] @ steps[-1])
    for s, y in zip(steps, changes, strict=True):
        along = found @ s
        found = found - np.outer(along, along) / (s @ along) + np.outer(y, y) / (y @ s)
    return found


@pytest.mark.parametrize("pairs", [1, 2, 5])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_hessian_is_that_of_bfgs(pairs: int, sign: float) -> None:
    """Of either sign, as updates are gradients times a negative number."""
    rng = np.random.default_rng(pairs)
    root = rng.normal(size=(D, D))
    steps, vector = rng.normal(size=(pairs, D)), rng.normal(size=D)
    changes = sign * steps @ (root @ root.T + np.eye(D))
    found = hessian_product(steps, changes, vector)
    np.testing.assert_allclose(found, bfgs(steps, changes) @ vector, rtol=1e-8)
    np.testing.assert_allclose(hessian_product(steps, changes, steps[-1]), changes[-1], rtol=1e-8)


def test_moves_that_say_nothing_and_moves_that_repeat() -> None:
    vector = np.arange(3.0)
    assert np.array_equal(hessian_product(np.zeros((0, 3)), np.zeros((0, 3)), vector), np.zeros(3))
    assert np.array_equal(hessian_product(np.zeros((1, 3)), np.ones((1, 3)), vector), np.zeros(3))
    steps = np.ones((3, 3))
    np.testing.assert_allclose(hessian_product(steps, 2 * steps, np.ones(3)), 2 * np.ones(3))


def test_two_groups_of_numbers_are_intervals() -> None:
    """Against all partitions: none has smaller squares."""
    for seed in range(5):
        numbers = np.random.default_rng(seed).random(7)
        least = min(
            sum(float(((part - part.mean()) ** 2).sum()) for part in (numbers[chosen], numbers[~chosen]))
            for chosen in map(np.array, itertools.product((False, True), repeat=7))
            if 0 < chosen.sum() < 7
        )
        found, cut = _within(numbers[None])
        expected = ((numbers - numbers.mean()) ** 2).sum(), least
        np.testing.assert_allclose(np.exp(found[0]), expected, rtol=1e-9)
        assert 0 < cut[0] < 7


def test_groups_are_told_from_one_group() -> None:
    rng = np.random.default_rng(0)
    for generator in (rng, torch.Generator().manual_seed(0)):
        scores = np.concatenate([rng.normal(0.05, 0.005, 7), rng.normal(0.2, 0.02, 4)])
        order = rng.permutation(11)
        assert np.array_equal(stands_apart(scores[order], generator), (scores > 0.1)[order])
    found = [stands_apart(rng.normal(size=11), rng).any() for _ in range(200)]
    assert np.mean(found) < 0.25, "one group is sometimes taken for two, and seldom"
    for few in ([], [1.0], [1.0, 9.0], [2.0] * 5, [0.0, 1.0, np.inf]):
        assert not stands_apart(np.array(few), rng).any()


def trained(
    round_updates: Callable[..., Any],
    lie: Callable[[Matrix, np.random.Generator], Matrix],
    window: int = 4,
    seed: int = 1,
) -> tuple[list[frozenset[int]], Matrix, Any]:
    """Clients with quadratic losses, of which the last ones send lies: who was found after each round, and the last model."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(D, D))
    hessian = root @ root.T / D + np.eye(D)
    optima = 0.3 * rng.normal(size=(HONEST + LIARS, D)) + 2.0
    rule, model, found = FlDetector(window=window), np.zeros(D), []
    state: Any = rule.start(D)
    for _ in range(ROUNDS):
        updates = -0.2 * (model - optima) @ hessian + 1e-3 * rng.normal(size=optima.shape)
        updates[HONEST:] = lie(updates[HONEST:], rng)
        batch = round_updates(torch.from_numpy(updates), broadcast=torch.from_numpy(model))
        step, state = rule.aggregate(batch, state)
        counts = np.array([one not in state.detected for one in range(len(updates))])
        np.testing.assert_allclose(step.numpy(), updates[counts].mean(axis=0), rtol=1e-6, atol=1e-9)
        model = model + step.double().numpy()
        found.append(state.detected)
    return found, model, state


JUMP = frozenset(range(HONEST, HONEST + LIARS))


def test_liars_who_jump_are_left_out_once_a_window_is_over(round_updates: Callable[..., Any]) -> None:
    for window, seed in ((4, 1), (4, 2), (9, 1)):
        found, model, _ = trained(
            round_updates, lambda sent, rng: sent + rng.normal(size=sent.shape), window, seed
        )
        assert found[window - 1] == frozenset(), "a window of distances begins with the second round"
        assert found[window] == found[-1] == JUMP
        assert float(np.abs(model - 2.0).max()) < 1.0


def test_liars_with_a_loss_of_their_own_are_not(round_updates: Callable[..., Any]) -> None:
    """The control: what follows from a loss is predictable, whatever loss that is."""
    for seed in range(5):
        found, model, _ = trained(round_updates, lambda sent, _: sent + 5.0, seed=seed)
        assert not found[-1] >= JUMP
        assert float(np.abs(model - 2.0).max()) > 1.0


def test_of_honest_clients_some_are_left_out_in_some_runs(round_updates: Callable[..., Any]) -> None:
    """The gap statistic is asked in every round, and takes one group for two in a tenth of the cases."""
    runs = [trained(round_updates, lambda sent, _: sent, seed=seed)[0][-1] for seed in range(20)]
    assert sum(map(bool, runs)) <= 8


def test_distances_as_the_paper_writes_them(round_updates: Callable[..., Any]) -> None:
    """From full matrices, in a loop over clients, one of whom is away for a round."""
    rng, rule = np.random.default_rng(3), FlDetector(window=3)
    models, sent, state = rng.normal(size=(4, D)), rng.normal(size=(4, 3, D)), rule.start(D)
    here = [(0, 1, 2), (0, 1, 2), (0, 2), (0, 1, 2)]
    for index, ids in enumerate(here):
        rows = torch.from_numpy(sent[index, list(ids)])
        before = state
        _, state = rule.aggregate(
            round_updates(rows, ids=ids, broadcast=torch.from_numpy(models[index])), state
        )
        assert before is not state
    means = np.array([sent[index, list(ids)].mean(axis=0) for index, ids in enumerate(here)])
    hessian = bfgs(np.diff(models[:3], axis=0), np.diff(means[:3], axis=0))
    wrong = []
    for client, last in ((0, 2), (1, 1), (2, 2)):
        predicted = sent[last, client] + hessian @ (models[3] - models[last])
        wrong.append(float(np.linalg.norm(predicted - sent[3, client])))
    shares = [state.distances[client][-1] for client in range(3)]
    np.testing.assert_allclose(shares, np.array(wrong) / sum(wrong), rtol=1e-6)
    assert [len(state.distances[client]) for client in range(3)] == [3, 2, 3]


def test_numbers_of_any_size_are_survived(round_updates: Callable[..., Any]) -> None:
    rule, state = FlDetector(window=2), FlDetector().start(2)
    rows = torch.full((5, 2), 1e300, dtype=torch.float64)
    for index in range(5):
        rows[:3] = float(index)
        step, state = rule.aggregate(round_updates(rows, broadcast=torch.full((2,), float(index))), state)
        rows[3:] *= -1.0
        assert bool(torch.isfinite(step).all())


def test_an_impossible_window_is_refused() -> None:
    with pytest.raises(ConfigError, match="'window' is too small"):
        FlDetector(window=0)


def test_in_the_loop_liars_who_jump_lose_and_those_who_do_not_win() -> None:
    """Preset shapes, one record in a step, four of eleven clients: Gaussian updates and inner-product manipulation."""
    matrix, lost = build(load_spec("shapes")).matrix, {}
    pipeline = matrix.pipelines["noisy"]
    for stack in (Stack(name="none"), Stack.from_layers("fldetector", [FlDetector()])):
        honest = run_batch(pipeline, stack, [RunSpec(seed=seed, evaluate="last") for seed in range(3)])
        for label in ("gaussian, noisy", "ipm, noisy"):
            (row,) = (one for one in matrix.attacks if one.label == label)
            runs = run_batch(pipeline, stack, [row.run_spec(seed) for seed in range(3)])
            found = [one.accuracy[-1] - run.accuracy[-1] for one, run in zip(honest, runs, strict=True)]
            lost[label, stack.name] = sum(found) / len(found)
    assert lost["gaussian, noisy", "none"] > 0.15
    assert lost["gaussian, noisy", "fldetector"] < 0.05
    assert lost["ipm, noisy", "fldetector"] > 0.3
