"""Executions with noise: values of PennyLane's density matrices, sampled outcomes, gradients, lanes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from scipy import stats

from qflsec.base import ConfigError, stream
from qflsec.circuits import Circuit, CircuitError, NoiseModel, Observable, sample_expectations, shift_count
from qflsec.lab.grid.ids import canonical
from qflsec.lab.grid.schema import check
from qflsec.models import EXACT, Execution, Vqc, build_model, per_sample_gradients
from qflsec.models.execute import measure

DEPOLARIZING = NoiseModel(kind="local-depolarizing", p=0.2, where="every-gate")
GLOBAL = NoiseModel(kind="global-depolarizing", p=0.3)
DAMPING = NoiseModel(kind="generalized-amplitude-damping", p=0.3, where="encoded", ground=0.8)
MODEL = build_model({"name": "vqc", "n_qubits": 3, "layers": 1, "n_features": 3})
assert isinstance(MODEL, Vqc)
CIRCUIT = replace(
    MODEL.circuit, observables=(Observable(((1.0, "ZII"),)), Observable(((0.5, "XYI"), (0.25, "IIZ"))))
)
WEIGHTS = torch.rand(CIRCUIT.n_weights, dtype=torch.float64, generator=stream(0, "w")) * 6
FEATURES = torch.rand(4, 3, dtype=torch.float64, generator=stream(0, "x")) * 3


def density_matrix(noise: NoiseModel, circuit: Circuit, x: torch.Tensor) -> np.ndarray[Any, Any]:
    """The observables and the joint outcomes of X on wire 0 and Y on wire 1, by default.mixed."""

    @qml.qnode(qml.device("default.mixed", wires=3))  # type: ignore[untyped-decorator]
    def run() -> Any:
        encoded = max(k for k, g in enumerate(circuit.gates) if any(a.kind == "feature" for a in g.angles))
        for k, gate in enumerate(circuit.gates):
            values = {"feature": x, "weight": WEIGHTS}
            angles = [
                a.offset + (a.scale * float(values[a.kind][a.index]) if a.kind in values else 0.0)
                for a in gate.angles
            ]
            getattr(qml, gate.name)(*angles, wires=list(gate.wires))
            if noise.where == "every-gate":
                for wire in gate.wires:
                    qml.DepolarizingChannel(0.75 * noise.p, wires=wire)
            if noise.where == "encoded" and k == encoded:
                for wire in range(3):
                    qml.GeneralizedAmplitudeDamping(noise.p, 1 - noise.ground, wires=wire)
        both = qml.PauliX(0) @ qml.PauliY(1)
        return qml.expval(qml.PauliZ(0)), qml.expval(both), qml.expval(qml.PauliZ(2))

    z, both, last = (float(v) for v in run())
    return np.array([z, 0.5 * both + 0.25 * last])


@pytest.mark.parametrize("noise", [DEPOLARIZING, DAMPING], ids=lambda n: n.kind)
def test_values_are_those_of_density_matrices(noise: NoiseModel) -> None:
    values = measure(CIRCUIT, WEIGHTS, FEATURES, Execution(noise=noise, dtype="complex128"), None)
    expected = np.stack([density_matrix(noise, CIRCUIT, x) for x in FEATURES])
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-10)
    assert not torch.allclose(
        values, measure(CIRCUIT, WEIGHTS, FEATURES, Execution(dtype="complex128"), None), atol=1e-3
    )


@pytest.mark.parametrize("noise", [DEPOLARIZING, GLOBAL, DAMPING], ids=lambda n: n.kind)
def test_sampled_outcomes_have_the_noisy_distribution(noise: NoiseModel) -> None:
    """Chi-square of one parity in 400 runs of 200 shots; a right sampler fails once in 10,000 seeds."""
    circuit = replace(CIRCUIT, observables=(Observable(((1.0, "IXX"),)),))
    exact = measure(circuit, WEIGHTS, FEATURES[:1], Execution(noise=noise, dtype="complex128"), None)
    rows = FEATURES[:1].expand(400, 3)
    drawn = sample_expectations(circuit, WEIGHTS, rows, shots=200, generator=stream(1, "shots"), noise=noise)
    ones, chance = ((1 - drawn.double()) / 2 * 200).round().ravel().numpy(), (1 - float(exact)) / 2
    edges = stats.binom.ppf(np.arange(1, 10) / 10, 200, chance)
    found = np.histogram(ones, [-1, *edges + 0.5, 201])[0]
    cuts = np.diff([0, *stats.binom.cdf(edges, 200, chance), 1])
    assert stats.chisquare(found, 400 * cuts).pvalue > 1e-4
    weaker = Execution(noise=replace(noise, p=noise.p / 2), dtype="complex128")
    wrong = (1 - float(measure(circuit, WEIGHTS, FEATURES[:1], weaker, None))) / 2
    cuts = np.diff([0, *stats.binom.cdf(edges, 200, wrong), 1])
    assert stats.chisquare(found, 400 * cuts).pvalue < 1e-6, "the control"


def test_the_turn_into_the_basis_has_no_noise() -> None:
    """Every gate of the model flips its wires for certain; the basis change after them must not."""
    flips = NoiseModel(kind="phase-flip", p=1.0, where="every-gate")
    circuit = replace(CIRCUIT, observables=(Observable(((1.0, "XII"),)),))
    exact = measure(circuit, WEIGHTS, FEATURES, Execution(noise=flips, dtype="complex128"), None)
    drawn = measure(circuit, WEIGHTS, FEATURES, Execution(noise=flips, shots=10**6), stream(0, "shots"))
    torch.testing.assert_close(drawn.double(), exact, atol=6e-3, rtol=0)  # six standard deviations


@pytest.mark.parametrize("noise", [DEPOLARIZING, GLOBAL, DAMPING], ids=lambda n: n.kind)
def test_parameter_shift_equals_autograd(noise: NoiseModel) -> None:
    found = []
    for method in ("autograd", "parameter-shift"):
        weights, x = WEIGHTS.clone().requires_grad_(), FEATURES.clone().requires_grad_()
        execution = Execution(noise=noise, dtype="complex128", gradient=method)
        values = measure(CIRCUIT, weights, x, execution, None)
        found.append(torch.autograd.grad((values**2).sum(), [weights, x]))
    for by_graph, by_shifts in zip(*found, strict=True):
        torch.testing.assert_close(by_graph, by_shifts, atol=1e-10, rtol=0)
    assert shift_count(CIRCUIT) == 2 * CIRCUIT.n_weights


def test_gradients_of_shots_are_those_of_the_noise_on_average() -> None:
    exact = Execution(noise=GLOBAL, dtype="complex128", gradient="parameter-shift")
    y = torch.zeros(4, dtype=torch.int64)
    expected = per_sample_gradients(MODEL, WEIGHTS, FEATURES, y, execution=exact)
    shots = replace(exact, shots=200_000)
    drawn = per_sample_gradients(MODEL, WEIGHTS, FEATURES, y, execution=shots, generator=stream(0, "shots"))
    torch.testing.assert_close(drawn, expected, atol=0.02, rtol=0)
    assert not torch.equal(drawn, expected)


def test_sampled_values_differentiate_as_the_noisy_ones_by_autograd() -> None:
    found = []
    for shots in (None, 5):
        weights = WEIGHTS.clone().requires_grad_()
        execution = Execution(noise=GLOBAL, dtype="complex128", shots=shots)
        found.append(
            torch.autograd.grad(measure(CIRCUIT, weights, FEATURES, execution, stream(0, "s")).sum(), weights)
        )
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("gradient", ["autograd", "parameter-shift"])
def test_a_lane_draws_what_it_draws_alone(gradient: Any) -> None:
    execution = Execution(shots=20, noise=DEPOLARIZING, gradient=gradient)
    weights = torch.rand(3, 1, MODEL.n_params, generator=stream(2, "w")) * 6
    x, y = torch.rand(3, 5, 3, generator=stream(2, "x")), torch.zeros(3, 5, dtype=torch.int64)

    def run(lanes: range) -> torch.Tensor:
        part = slice(lanes.start, lanes.stop)
        streams = [stream(lane, "shots") for lane in lanes]
        return per_sample_gradients(
            MODEL, weights[part], x[part], y[part], execution=execution, generator=streams
        )

    together = run(range(3))
    for lane in range(3):
        assert torch.equal(run(range(lane, lane + 1))[0], together[lane])


def test_noise_is_part_of_a_configuration() -> None:
    table = {"shots": 10, "gradient": "parameter-shift", "noise": {"kind": "global-depolarizing", "p": 0.3}}
    execution = Execution(**check(Execution, table, "execution"))
    assert execution == Execution(shots=10, gradient="parameter-shift", noise=GLOBAL)
    assert canonical(execution.to_config()) != canonical(replace(execution, noise=None).to_config())
    assert execution.to_config()["noise"] == GLOBAL.to_config()
    assert EXACT.to_config()["noise"] is None


@pytest.mark.parametrize(
    ("noise", "sentence"),
    [
        ({"kind": "depolarising", "p": 0.1}, "execution: unknown kind of noise"),
        ({"kind": "bit-flip", "p": 2}, "execution: 'p' of noise out of range"),
        ({"kind": "bit-flip"}, "execution.noise.p: missing"),
    ],
)
def test_mistakes_in_a_specification_name_their_place(noise: object, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(Execution, {"noise": noise}, "execution")
    assert str(error.value).startswith(sentence)


def test_what_cannot_be_executed_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a noise model"):
        Execution(noise="depolarizing")  # type: ignore[arg-type]
    amplitude = build_model(
        {"name": "vqc", "n_qubits": 2, "layers": 1, "n_features": 4, "encoder": "amplitude"}
    )
    with pytest.raises(CircuitError, match="amplitude embedding"):
        amplitude(torch.zeros(amplitude.n_params), torch.ones(4), execution=Execution(noise=GLOBAL))
