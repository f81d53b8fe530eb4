"""The parts of a probe against independent references, and simulated clients against real ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.attacks.property.probe import Reading, solved_shares
from qflsec.attacks.simulated_clients import expected_updates, mixed_updates, weights_in
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.models import EXACT, build_model
from qflsec.threat import Records, honest_but_curious_server


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 6), m=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_shares_are_a_conditional_mean_of_normals(n: int, m: int, seed: int) -> None:
    """By the joint covariance of clients and readings, where the product inverts the posterior precision."""
    generator = np.random.default_rng(seed)
    rows = generator.random((m, n))
    rows /= rows.sum(axis=1, keepdims=True)
    values, errors, spread = generator.random(m), 0.05 + generator.random(m), 0.3
    level = np.average(values, weights=errors**-2)
    joint = spread * rows @ rows.T + np.diag(errors**2)
    expected = level + spread * rows.T @ np.linalg.solve(joint, values - level)
    found = solved_shares(*(torch.from_numpy(part) for part in (rows, values, errors)), spread=spread)
    assert found.numpy() == pytest.approx(expected, abs=1e-9)


def test_exact_readings_of_single_clients_are_theirs_and_one_sum_tells_nobody_apart() -> None:
    values = torch.tensor([0.1, 0.9, 0.4], dtype=torch.float64)
    exact = torch.full((3,), 1e-6, dtype=torch.float64)
    assert torch.allclose(
        solved_shares(torch.eye(3, dtype=torch.float64), values, exact, spread=1 / 12), values
    )
    whole = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    assert solved_shares(whole, values[:1], exact[:1], spread=1 / 12).unique().numel() == 1


def test_the_error_of_a_reading_is_that_of_leaving_one_out() -> None:
    """Fitted again without each row in turn, at the penalty that was chosen; rounding alone apart."""
    generator = np.random.default_rng(3)
    inputs = generator.standard_normal((30, 5))
    targets = inputs @ generator.standard_normal(5) + 0.3 * generator.standard_normal(30)
    reading = Reading(torch.from_numpy(inputs), torch.from_numpy(targets))
    left = []
    for out in range(30):
        kept = np.arange(30) != out
        x, y = inputs[kept], targets[kept]
        # the mean is fitted with the slopes and carries no penalty
        columns = np.column_stack([np.ones(29), x - inputs.mean(axis=0)])
        penalty = reading.penalty * np.diag([0.0, *np.ones(5)])
        fitted = np.linalg.solve(columns.T @ columns + penalty, columns.T @ y)
        left.append(targets[out] - fitted[0] - (inputs[out] - inputs.mean(axis=0)) @ fitted[1:])
    assert reading.error == pytest.approx(float(np.sqrt(np.mean(np.square(left)))), rel=1e-9)
    assert reading(torch.from_numpy(inputs[0])) == pytest.approx(targets[0], abs=1.0)


LOCAL: list[dict[str, Any]] = [{}, {"local_steps": 3}, {"local_steps": 2, "optimizer": "adam"}]


@pytest.mark.parametrize("local", LOCAL, ids=["one step", "three steps", "Adam"])
def test_a_simulated_client_sends_what_a_real_one_does(local: dict[str, Any]) -> None:
    """Full batches leave nothing to chance, so that single precision is all that differs."""
    pipeline = Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2, members=6, nonmembers=0, auxiliary=10, test=4),
        model=build_model({"name": "vqc", "n_qubits": 2, "layers": 2}),
        federation=FederationConfig(n_clients=2, rounds=2, learning_rate=0.1, **local),
    )
    run = run_batch(pipeline, Stack(name="none"), [RunSpec(seed=0, evaluate="never")])[0]
    view = run.view(honest_but_curious_server())
    generator = torch.Generator()
    updates = []
    for client in (0, 1):
        item = view.readable("update", round_index=1, about=client)[0]
        found = expected_updates(view, run.training, item, [run.client_records(client)], generator)[0]
        assert torch.allclose(found, item.vector.double(), atol=1e-5, rtol=1e-3)
        other = expected_updates(view, run.training, item, [run.client_records(1 - client)], generator)[0]
        assert not torch.allclose(other, item.vector.double(), atol=1e-2 * float(item.vector.norm()))
        updates.append(found)
    mean = view.readable("aggregate", round_index=1)[0]
    rows = torch.arange(3)[None]
    held = [run.client_records(client) for client in (0, 1)]
    pool = Records(
        features=torch.cat([one.features for one in held]), labels=torch.cat([one.labels for one in held])
    )
    mixed = mixed_updates(view, run.training, mean, pool, [(rows, EXACT), (rows + 3, EXACT)], generator)
    assert torch.allclose(mixed[0], mean.vector.double(), atol=1e-5, rtol=1e-3)
    assert weights_in(mean.vector, torch.stack(updates)).tolist() == pytest.approx([0.5, 0.5], abs=1e-3)
    with pytest.raises(AssertionError):  # a model that cannot be read is nothing to start from
        expected_updates(view, run.training, replace(mean, base="unknown"), held, generator)
