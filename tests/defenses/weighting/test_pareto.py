"""The shortest mean, against a general solver and in runs; and the one client that makes it vanish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from qflsec.attacks.poisoning import ParetoCollapse
from qflsec.base import ConfigError
from qflsec.data import DataSpec, PartitionSpec
from qflsec.defenses.weighting import DistanceWeighted, FedMgda, WeightCap, least_norm_weights
from qflsec.federation import (
    FedAvg,
    FederationConfig,
    Layer,
    Pipeline,
    RoundUpdates,
    RunSpec,
    Stack,
    run_batch,
)
from qflsec.models import build_model
from qflsec.threat import corrupted_clients, honest_but_curious_server

Maker = Callable[..., RoundUpdates]
KNOWING = replace(corrupted_clients(n=1), knows=("architecture", "honest-updates"))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 7),
    d=st.integers(1, 9),
    epsilon=st.sampled_from((0.0, 0.05, 0.3, 1.0)),
)
def test_the_weights_are_optimal(seed: int, n: int, d: int, epsilon: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)) + rng.normal(size=d)
    start = rng.dirichlet(np.ones(n))
    found = least_norm_weights(rows, start, epsilon=epsilon)
    low, high = np.maximum(0, start - epsilon), np.minimum(1, start + epsilon)
    assert found.sum() == pytest.approx(1.0)
    assert (found >= low - 1e-12).all()
    assert (found <= high + 1e-12).all()
    solved = minimize(
        lambda w: 0.5 * float(np.square(w @ rows).sum()),
        start,
        jac=lambda w: rows @ (w @ rows),
        bounds=list(zip(low, high, strict=True)),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda _: np.ones(n)},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert np.square(found @ rows).sum() <= np.square(solved.x @ rows).sum() + 1e-7
    if epsilon == 1.0:
        step = found @ rows
        assert (rows @ step >= step @ step - 1e-9 * max(1.0, np.square(rows).sum(axis=1).max())).all()


def test_two_rows_that_oppose_each_other_and_duplicates() -> None:
    opposed = np.array([[2.0, 0.0], [-1.0, 0.0]])
    assert np.allclose(least_norm_weights(opposed, np.full(2, 0.5), epsilon=1.0), [1 / 3, 2 / 3])
    assert np.allclose(least_norm_weights(opposed, np.full(2, 0.5), epsilon=0.1), [0.4, 0.6])
    same = np.ones((4, 3))
    assert np.allclose(least_norm_weights(same, np.full(4, 0.25), epsilon=1.0), 0.25)


def test_without_its_knob_the_rule_is_fedavg(round_updates: Maker) -> None:
    generator = torch.Generator().manual_seed(0)
    batch = round_updates(torch.randn(5, 7, generator=generator), [3, 5, 8, 2, 1])
    mean, _ = FedAvg().aggregate(batch, None)
    assert torch.equal(FedMgda(epsilon=0.0, normalise=False).aggregate(batch, None)[0], mean)
    assert torch.equal(DistanceWeighted(beta=0.0).aggregate(batch, None)[0], mean)
    units = replace(batch, updates=batch.updates / batch.updates.norm(dim=1, keepdim=True))
    assert torch.allclose(FedMgda(epsilon=0.0).aggregate(units, None)[0], FedAvg().aggregate(units, None)[0])
    assert not torch.allclose(FedMgda(epsilon=0.2).aggregate(batch, None)[0], mean, atol=1e-3)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "cityblock"])
def test_distance_weights_are_the_mean_of_personal_models(round_updates: Maker, metric: str) -> None:
    generator = torch.Generator().manual_seed(1)
    updates, counts = torch.randn(4, 6, generator=generator), [1, 4, 2, 3]
    rows = updates.double().numpy()
    apart = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            a, b = rows[i], rows[j]
            apart[i, j] = {
                "euclidean": np.sqrt(((a - b) ** 2).sum()),
                "cityblock": np.abs(a - b).sum(),
                "cosine": 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b),
            }[metric]
    mean = apart[~np.eye(4, dtype=bool)].mean()
    personal = []
    for k in range(4):
        weights = np.array(counts) * np.exp(-2.0 * apart[k] / mean)
        personal.append(weights @ rows / weights.sum())
    step, _ = DistanceWeighted(metric=metric, beta=2.0).aggregate(round_updates(updates, counts), None)  # type: ignore[arg-type]
    assert np.allclose(step.numpy(), np.mean(personal, axis=0), atol=1e-6)
    zero = torch.cat([updates, torch.zeros(1, 6)])
    assert bool(torch.isfinite(DistanceWeighted(metric=metric).aggregate(round_updates(zero), None)[0]).all())  # type: ignore[arg-type]


@cache
def pipeline() -> Pipeline:
    return Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=4,
            balanced=True,
            members=150,
            nonmembers=0,
            auxiliary=40,
            test=100,
        ),
        partition=PartitionSpec(kind="dirichlet", alpha=1.0, min_records=4),
        model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
        federation=FederationConfig(n_clients=10, rounds=15, local_steps=3, learning_rate=0.5),
    )


def runs(*layers: Layer, attacked: bool = False) -> tuple[float, float]:
    """Accuracy, and the length of the first step over that of the honest mean."""
    attack = {"adversary": ParetoCollapse(), "threat": KNOWING} if attacked else {}
    specs = [RunSpec(seed=seed, trace=True, **attack) for seed in range(2)]  # type: ignore[arg-type]
    found = run_batch(pipeline(), Stack.from_layers("s", layers), specs)
    shares = []
    for run in found:
        assert run.outcome == "completed"
        items = run.view(honest_but_curious_server()).readable("update", round_index=0)
        honest = torch.stack([item.vector for item in items if min(item.named) not in KNOWING.clients])
        shares.append(float((run.trace[1] - run.trace[0]).norm() / honest.mean(dim=0).norm()))
    return sum(run.accuracy[-1] for run in found) / len(found), max(shares)


def test_one_client_stops_a_step_that_is_bad_for_nobody() -> None:
    """The mean shrugs it off; FedMGDA+ does not move at all; the knob, or a cap on weights, gives it back its step."""
    free, step = runs(FedMgda(epsilon=1.0))
    assert free > 0.8
    assert step > 0.3
    stopped, step = runs(FedMgda(epsilon=1.0), attacked=True)
    assert step < 1e-3
    assert stopped < 0.7
    assert runs(attacked=True)[0] > 0.8
    for layers in ([FedMgda(epsilon=0.1)], [WeightCap(factor=2.0), FedMgda(epsilon=1.0)]):
        accuracy, step = runs(*layers, attacked=True)
        assert accuracy > 0.75
        assert step > 0.2


@pytest.mark.parametrize(
    "make",
    [
        lambda: FedMgda(epsilon=1.5),
        lambda: DistanceWeighted(beta=-1.0),
        lambda: DistanceWeighted(metric="far"),  # type: ignore[arg-type]
    ],
)
def test_parameters_out_of_range_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()
