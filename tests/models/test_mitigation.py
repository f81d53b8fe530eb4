"""Zero-noise extrapolation: the rule, its bias and variance, and noise that acts several times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, stream
from qflsec.circuits import CircuitError, NoiseModel, expectations, noisy_expectations
from qflsec.circuits.noise import KINDS
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.models import EXACT, Execution, Vqc, build_model
from qflsec.models.execute import measure

MODEL = build_model({"name": "vqc", "n_qubits": 2, "layers": 2, "n_features": 2})
assert isinstance(MODEL, Vqc)
CIRCUIT = MODEL.circuit
WEIGHTS = torch.rand(CIRCUIT.n_weights, dtype=torch.float64, generator=stream(1, "w")) * 6
FEATURES = torch.rand(3, 2, dtype=torch.float64, generator=stream(1, "x")) * 3
NOISE = NoiseModel(kind="local-depolarizing", p=0.02, where="every-gate")
DOUBLE = Execution(dtype="complex128", noise=NOISE)
ZNE = replace(DOUBLE, mitigation="zero-noise")


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([kind for kind in KINDS if kind != "global-depolarizing"]),
    p=st.floats(0, 1),
    ground=st.floats(0, 1),
    times=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_repeated_noise_is_the_channel_so_often(
    kind: str, p: float, ground: float, times: int, seed: int
) -> None:
    noise = NoiseModel(kind=kind, p=p, ground=ground if kind.startswith("general") else 1.0)
    draw = np.random.default_rng(seed).normal(size=(2, 2, 2))
    matrix = draw[0] + 1j * draw[1]
    state = matrix @ matrix.conj().T / np.trace(matrix @ matrix.conj().T)

    def through(noise: NoiseModel, rho: Any) -> Any:
        return sum(k @ rho @ k.conj().T for k in noise.kraus())

    expected = state
    for _ in range(times):
        expected = through(noise, expected)
    # near p = 1 what is left, (1 - p)^times, is known to 1e-16, and coherences have its root
    assert np.allclose(through(noise.repeated(times), state), expected, atol=2e-8)


def test_global_noise_repeats_as_probabilities_do() -> None:
    noise = NoiseModel(kind="global-depolarizing", p=0.1)
    assert noise.repeated(3).p == pytest.approx(1 - 0.9**3)
    assert noise.repeated(1) == replace(noise, p=noise.repeated(1).p)
    with pytest.raises(CircuitError, match="less than once"):
        noise.repeated(0)


def test_values_and_gradients_are_extrapolated() -> None:
    """1.5 E(p) - 0.5 E(p at thrice), against two plain calls of the noisy kernel; so for either gradient."""
    wanted = 1.5 * noisy_expectations(CIRCUIT, WEIGHTS, FEATURES, noise=NOISE, dtype=torch.complex128)
    wanted -= 0.5 * noisy_expectations(
        CIRCUIT, WEIGHTS, FEATURES, noise=NOISE.repeated(3), dtype=torch.complex128
    )
    assert torch.allclose(measure(CIRCUIT, WEIGHTS, FEATURES, ZNE, None), wanted, atol=1e-12)
    gradients = []
    for gradient in ("autograd", "parameter-shift"):
        leaf = WEIGHTS.clone().requires_grad_()
        execution = replace(ZNE, gradient=gradient)  # type: ignore[arg-type]
        measure(CIRCUIT, leaf, FEATURES, execution, None).sum().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    assert torch.allclose(*gradients, atol=1e-9)


def test_the_bias_is_of_second_order() -> None:
    """Ten times less noise: ten times less bias without extrapolation, a hundred times less with it."""
    exact = expectations(CIRCUIT, WEIGHTS, FEATURES, dtype=torch.complex128)

    def bias(execution: Execution, p: float) -> float:
        execution = replace(execution, noise=replace(NOISE, p=p))
        return float((measure(CIRCUIT, WEIGHTS, FEATURES, execution, None) - exact).abs().max())

    assert bias(DOUBLE, 1e-2) / bias(DOUBLE, 1e-3) == pytest.approx(10, rel=0.1)
    assert bias(ZNE, 1e-2) / bias(ZNE, 1e-3) == pytest.approx(100, rel=0.15)
    assert bias(ZNE, 1e-2) < bias(DOUBLE, 1e-2) / 5


def test_the_variance_is_two_and_a_half_times_that_of_shots() -> None:
    """2.25 Var(1) + 0.25 Var(3), with (1 - E^2) / shots for each; the mean is that of exact values."""
    shots, draws = 50, 4000
    one = FEATURES[0].expand(draws, -1)
    drawn = measure(CIRCUIT, WEIGHTS, one, replace(ZNE, shots=shots), stream(3, "shots"))[:, 0].double()
    near, far = (
        float(noisy_expectations(CIRCUIT, WEIGHTS, FEATURES[0], noise=noise, dtype=torch.complex128))
        for noise in (NOISE, NOISE.repeated(3))
    )
    expected = (2.25 * (1 - near**2) + 0.25 * (1 - far**2)) / shots
    assert float(drawn.var()) == pytest.approx(expected, rel=5 * (2 / draws) ** 0.5)
    assert abs(float(drawn.mean()) - (1.5 * near - 0.5 * far)) < 5 * (expected / draws) ** 0.5
    assert replace(ZNE, shots=shots).shots_in_all == 2 * shots


def test_without_noise_it_does_nothing_and_is_no_part_of_an_id_where_it_is_not_set() -> None:
    bare = Execution(mitigation="zero-noise", shots=7)
    assert bare.shots_in_all == 7
    drawn = [measure(CIRCUIT, WEIGHTS, FEATURES, one, stream(0, "s")) for one in (bare, Execution(shots=7))]
    assert torch.equal(*drawn)
    assert "mitigation" not in EXACT.to_config()
    assert bare.to_config()["mitigation"] == "zero-noise"
    with pytest.raises(ConfigError, match="unknown mitigation"):
        Execution(mitigation="richardson")  # type: ignore[arg-type]


def test_batched_runs_equal_single_ones() -> None:
    pipeline = Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2, members=9, nonmembers=0, auxiliary=10, test=10),
        model=MODEL,
        federation=FederationConfig(n_clients=3, rounds=2, learning_rate=0.2),
        client_executions={1: Execution(noise=NOISE, mitigation="zero-noise", shots=20)},
    )
    stack = Stack(name="none")
    together = run_batch(pipeline, stack, [RunSpec(seed=seed) for seed in range(3)])
    for seed in range(3):
        (alone,) = run_batch(pipeline, stack, [RunSpec(seed=seed)])
        assert alone.outcome == "completed"
        assert torch.equal(alone.params, together[seed].params)
