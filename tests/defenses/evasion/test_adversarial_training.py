"""Adversarial training: budgets, who is covered, the gradient at moved records, and what it is good for."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.defenses.evasion import AdversarialTraining, within_budget
from qflsec.defenses.privacy import DpSgd
from qflsec.federation import Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.models import EXACT
from qflsec.protocols.blind import Blind
from qflsec.threat import corrupted_clients

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")


def hardened(**changes: float) -> Stack:
    return Stack.from_layers("adversarial", [AdversarialTraining(**changes)])  # type: ignore[arg-type]


def trained(pipeline: Pipeline, stack: Stack, *seeds: int) -> list[RunResult]:
    return run_batch(pipeline, stack, [RunSpec(seed=seed, evaluate="last") for seed in seeds])


@given(n=st.integers(1, 60), k=st.integers(0, 60))
def test_a_fraction_of_any_first_clients_is_covered(n: int, k: int) -> None:
    layer = AdversarialTraining(coverage=min(k, n) / n)
    assert sum(layer.covered(client) for client in range(n)) == min(k, n)
    for some in range(n):
        assert abs(sum(layer.covered(client) for client in range(some)) - layer.coverage * some) < 1


@given(seed=st.integers(0, 2**31), epsilon=st.floats(0.01, 2.0))
@settings(max_examples=30)
def test_the_nearest_record_within_budget_and_range(seed: int, epsilon: float) -> None:
    """Coordinate by coordinate against a search over a grid; records outside the range go no farther out."""
    generator = torch.Generator().manual_seed(seed)
    original, moved = (4 * torch.rand(2, 12, generator=generator) - 0.5).double()
    found = within_budget(moved, original, epsilon, 0.0, math.pi)
    for x, y, z in zip(original.tolist(), moved.tolist(), found.tolist(), strict=True):
        low, high = max(x - epsilon, min(x, 0.0)), min(x + epsilon, max(x, math.pi))
        assert low - 1e-9 <= z <= high + 1e-9
        assert z == pytest.approx(min(max(y, low), high), abs=1e-9)


def test_covered_clients_train_at_the_corner_that_the_gradient_points_to(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=4)
    model, generator = pipeline.model, torch.Generator().manual_seed(1)
    params = torch.randn(2, 4, model.n_params, generator=generator)
    features = math.pi * torch.rand(2, 4, 5, model.n_features, generator=generator)
    labels = torch.randint(0, 2, (2, 4, 5), generator=generator)
    layer = AdversarialTraining(epsilon=0.2, coverage=0.5, steps=1)
    found = layer.records(pipeline, params, features, labels, range(4))
    assert torch.equal(found[:, [0, 2]], features[:, [0, 2]]), "not covered"
    for lane in range(2):
        for client in (1, 3):
            leaf = features[lane, client].clone().requires_grad_()
            model.loss.per_sample(model(params[lane, client], leaf), labels[lane, client]).sum().backward()
            assert leaf.grad is not None
            corner = (features[lane, client] + 0.2 * torch.sign(leaf.grad)).clamp(0, math.pi)
            clear = leaf.grad.abs() > 1e-5
            assert torch.allclose(found[lane, client][clear], corner[clear], atol=1e-5)


def test_many_steps_stay_in_the_budget_and_raise_the_loss_further(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=2)
    model, generator = pipeline.model, torch.Generator().manual_seed(2)
    params = torch.randn(1, 2, model.n_params, generator=generator)
    features = math.pi * torch.rand(1, 2, 40, model.n_features, generator=generator)
    labels = torch.randint(0, 2, (1, 2, 40), generator=generator)
    losses = []
    for steps in (1, 20):
        moved = AdversarialTraining(epsilon=1.0, steps=steps).records(
            pipeline, params, features, labels, [0, 1]
        )
        assert 0 < float((moved - features).abs().max()) <= 1.0 + 1e-5
        assert 0 <= float(moved.min()) <= float(moved.max()) <= math.pi + 1e-6
        losses.append(float(model.loss.per_sample(model(params[..., None, :], moved), labels).mean()))
    assert (
        losses[1]
        > losses[0]
        > float(model.loss.per_sample(model(params[..., None, :], features), labels).mean())
    )


def test_one_step_of_the_loop_is_the_gradient_at_moved_records(make_pipeline: Maker) -> None:
    """By finite differences of the loss in the parameters, with the moved records held fixed."""
    pipeline = make_pipeline(n_clients=1, members=6, rounds=1, learning_rate=0.1)
    (run,) = trained(pipeline, hardened(epsilon=0.4), 0)
    rows = run.clients[0]
    features, labels = run.dataset.features[rows], run.dataset.labels[rows]
    layer = AdversarialTraining(epsilon=0.4)
    moved = layer.records(pipeline, run.initial[None, None], features[None, None], labels[None, None], [0])[
        0, 0
    ]
    model, start = pipeline.model, run.initial.double()
    step = (run.params - run.initial).double() / -0.1

    def mean_loss(params: torch.Tensor) -> float:
        return float(model.loss.per_sample(model(params, moved.double(), execution=EXACT), labels).mean())

    for place in range(0, model.n_params, 5):
        shift = torch.zeros_like(start)
        shift[place] = 1e-4
        slope = (mean_loss(start + shift) - mean_loss(start - shift)) / 2e-4
        assert float(step[place]) == pytest.approx(slope, abs=2e-4)


def test_without_coverage_nothing_changes_and_batches_are_single_runs(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=3, members=12, rounds=2)
    plain, bare = trained(pipeline, NONE, 0)[0], trained(pipeline, hardened(coverage=0.0), 0)[0]
    assert torch.allclose(plain.params, bare.params, atol=1e-5)
    both, alone = trained(pipeline, hardened(), 0, 1), trained(pipeline, hardened(), 1)[0]
    assert torch.equal(both[1].params, alone.params)
    assert not torch.allclose(plain.params, both[0].params, atol=1e-3)


def test_a_clipped_gradient_is_still_clipped(make_pipeline: Maker) -> None:
    layers = [AdversarialTraining(), DpSgd(clip_norm=0.01, noise_multiplier=0.0, delta=1e-3)]
    pipeline = make_pipeline(n_clients=1, members=6, rounds=1, learning_rate=1.0)
    (run,) = trained(pipeline, Stack.from_layers("both", layers), 0)
    assert 0 < float((run.params - run.initial).norm()) <= 0.01 + 1e-6


def test_a_model_that_trained_on_moved_records_is_harder_to_move(make_pipeline: Maker) -> None:
    """Mean loss at moved test records, three seeds; without the layer it is larger in every one."""
    pipeline = make_pipeline(n_clients=4, members=60, rounds=15, local_steps=2, learning_rate=0.5)
    model = pipeline.model
    attack = AdversarialTraining(epsilon=0.5, steps=10)
    found = []
    for stack in (NONE, hardened(epsilon=0.5, steps=2)):
        losses = []
        for run in trained(pipeline, stack, 0, 1, 2):
            rows = run.dataset.test_idx
            features, labels = run.dataset.features[rows][None, None], run.dataset.labels[rows][None, None]
            moved = attack.records(pipeline, run.params[None, None], features, labels, [0])
            losses.append(float(model.loss.per_sample(model(run.params, moved), labels).mean()))
        found.append(losses)
    assert all(harder < plain for plain, harder in zip(*found, strict=True)), found


def test_what_does_not_fit_is_refused() -> None:
    for bad in ({"epsilon": 0.0}, {"coverage": 1.1}, {"steps": 0}, {"steps": True}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            AdversarialTraining(**bad)  # type: ignore[arg-type]
    with pytest.raises(IncompatibleStack, match="exclude each other"):
        Stack.from_layers("delegated", [AdversarialTraining(), Blind()])
    with pytest.raises(IncompatibleStack, match="one record layer"):
        Stack.from_layers("twice", [AdversarialTraining(), AdversarialTraining(epsilon=0.1)])


def test_corrupted_clients_leave_it_out(make_pipeline: Maker) -> None:
    """The update of a client that trains on its own records by itself is the one without the layer."""
    from qflsec.attacks.poisoning import LabelFlip

    pipeline = make_pipeline(n_clients=2, members=12, rounds=1)
    attack, threat = LabelFlip(), corrupted_clients(n=2)
    specs = [RunSpec(seed=0, adversary=attack, threat=threat)]
    plain, other = (run_batch(pipeline, stack, specs)[0].params for stack in (NONE, hardened()))
    assert torch.allclose(plain, other, atol=1e-6)
