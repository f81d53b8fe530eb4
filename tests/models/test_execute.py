"""Executions: precision, shots, and the parameter-shift rule."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from qflsec.base.errors import ConfigError
from qflsec.base.randomness import stream
from qflsec.circuits import Angle, Circuit, Gate, expectations, pauli_z
from qflsec.models import EXACT, Execution, Model, QuantumLayer, Vqc, build_model, per_sample_gradients
from qflsec.models.execute import measure

EXACT_DOUBLE = Execution(dtype="complex128")
SHIFT_DOUBLE = Execution(dtype="complex128", gradient="parameter-shift")

CONTROLLED = Vqc(
    circuit=Circuit(
        n_qubits=2,
        gates=(
            Gate("RX", (0,), (Angle.feature(0, scale=2.0),)),
            Gate("RY", (1,), (Angle.weight(0),)),
            Gate("CRY", (0, 1), (Angle.weight(1, scale=0.5),)),
            Gate("CRX", (1, 0), (Angle.feature(1),)),
            Gate("IsingXX", (0, 1), (Angle.weight(0, scale=-1.5, offset=0.3),)),
        ),
        observables=(pauli_z(0, 2),),
        n_weights=2,
        n_features=2,
    )
)
MODELS = [
    build_model({"name": "vqc", "n_qubits": 3, "layers": 2}),
    build_model({"name": "vqc", "n_qubits": 3, "layers": 1, "n_classes": 3, "encoder": "reuploading"}),
    build_model({"name": "hybrid", "n_qubits": 2, "layers": 1, "n_features": 4, "n_classes": 3}),
    CONTROLLED,
]


def draw(model: Model, *lead: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = math.prod(lead[:-1])
    params = torch.stack([model.initial(stream(i, "initial")) for i in range(rows)]).double()
    x = torch.rand(*lead, model.n_features, generator=stream(0, "x"), dtype=torch.float64)
    y = torch.randint(model.n_classes, lead, generator=stream(0, "y"))
    return params.reshape(*lead[:-1], 1, -1), x, y


def gradients(model: Model, execution: Execution, *lead: int) -> tuple[torch.Tensor, torch.Tensor]:
    params, x, y = draw(model, *lead)
    params, x = params.requires_grad_(), x.requires_grad_()
    logits = model(params, x, execution=execution)
    loss = cross_entropy(logits.reshape(-1, model.n_classes), y.reshape(-1))
    in_params, in_x = torch.autograd.grad(loss, [params, x])
    return in_params, in_x


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.name}-{m.n_params}")
@pytest.mark.parametrize("lead", [(5,), (2, 3, 4)], ids=str)
def test_parameter_shift_equals_autograd(model: Model, lead: tuple[int, ...]) -> None:
    """In the parameters and, since hybrids differentiate through the encoder, in the features."""
    for shifted, exact in zip(
        gradients(model, SHIFT_DOUBLE, *lead), gradients(model, EXACT_DOUBLE, *lead), strict=True
    ):
        assert exact.abs().max() > 1e-3
        assert torch.allclose(shifted, exact, atol=1e-12)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.name}-{m.n_params}")
def test_parameter_shift_gives_per_sample_gradients(model: Model) -> None:
    params, x, y = draw(model, 2, 3)
    shifted = per_sample_gradients(model, params, x, y, execution=SHIFT_DOUBLE)
    assert torch.allclose(
        shifted, per_sample_gradients(model, params, x, y, execution=EXACT_DOUBLE), atol=1e-12
    )


def test_parameter_shift_is_not_autograd_in_disguise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient comes from shifted evaluations and nothing else."""
    import qflsec.models.execute as module

    rule, calls = module.parameter_shift, []

    def spy(circuit: Circuit, *arguments: torch.Tensor, **options: object) -> torch.Tensor:
        calls.append(circuit)
        return 2 * rule(circuit, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "parameter_shift", spy)
    doubled = gradients(MODELS[0], SHIFT_DOUBLE, 3)
    assert len(calls) == 2
    for twice, once in zip(doubled, gradients(MODELS[0], EXACT_DOUBLE, 3), strict=True):
        assert torch.allclose(twice, 2 * once, atol=1e-12)


def test_parameter_shift_cannot_differentiate_twice() -> None:
    params, x, y = draw(MODELS[0], 2)
    with pytest.raises(ConfigError, match="cannot be differentiated again"):
        per_sample_gradients(MODELS[0], params, x, y, execution=SHIFT_DOUBLE, create_graph=True)
    leaf = params.requires_grad_()
    loss = cross_entropy(MODELS[0](leaf, x, execution=SHIFT_DOUBLE), y)
    (found,) = torch.autograd.grad(loss, leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        found.sum().backward()


def test_amplitudes_cannot_be_shifted_but_weights_can() -> None:
    model = build_model({"name": "vqc", "n_qubits": 2, "layers": 1, "encoder": "amplitude"})
    params, x, y = draw(model, 3)
    shifted = per_sample_gradients(model, params, x, y, execution=SHIFT_DOUBLE)
    exact = per_sample_gradients(model, params, x, y, execution=EXACT_DOUBLE)
    assert torch.allclose(shifted, exact, atol=1e-12)
    with pytest.raises(ConfigError, match="cannot be shifted"):
        model(params, x.requires_grad_(), execution=SHIFT_DOUBLE).sum().backward()


def test_sampled_values_are_frequencies() -> None:
    model = MODELS[0]
    params, x, _ = draw(model, 50)
    sampled = model(params, x, execution=Execution(shots=8), generator=stream(0, "shots"))
    z = sampled[..., 1] / 1.5
    assert torch.allclose((z + 1) * 4, ((z + 1) * 4).round(), atol=1e-5)
    assert len(z.unique()) > 3
    again = model(params, x, execution=Execution(shots=8), generator=stream(0, "shots"))
    assert torch.equal(again, sampled)
    other = model(params, x, execution=Execution(shots=8), generator=stream(1, "shots"))
    assert not torch.equal(other, sampled)


def test_sampled_values_are_unbiased() -> None:
    """4000 repetitions of 4 shots at 5 points; 5 standard errors each: false alarm < 1e-5 in all."""
    model = MODELS[0]
    params, x, _ = draw(model, 5)
    exact = model(params, x)[..., 1] / 1.5
    n = 4000
    sampled = model(params, x.expand(n, -1, -1), execution=Execution(shots=4), generator=stream(0, "s"))
    mean = (sampled[..., 1] / 1.5).mean(0)
    error = ((1 - exact.square()) / (4 * n)).sqrt()
    assert bool(((mean - exact).abs() < 5 * error).all())
    assert bool((mean != exact).all())


def test_sampled_parameter_shift_is_unbiased() -> None:
    """Mean of 2000 sampled gradients of z, 5 of their own standard errors in 18 weights: false alarm 1e-5."""
    circuit = MODELS[0].circuit  # type: ignore[attr-defined]
    weights = MODELS[0].initial(stream(0, "initial")).double()
    x = torch.rand(3, generator=stream(0, "x")).double()
    leaf = weights.clone().requires_grad_()
    (exact,) = torch.autograd.grad(expectations(circuit, leaf, x, dtype=torch.complex128).sum(), leaf)
    n = 2000
    rows = weights.expand(n, -1).clone().requires_grad_()
    execution = Execution(shots=10, gradient="parameter-shift", dtype="complex128")
    values = measure(circuit, rows, x, execution, stream(0, "shots"))
    (sampled,) = torch.autograd.grad(values.sum(), rows)
    mean, spread = sampled.mean(0), sampled.std(0)
    assert bool(((mean - exact).abs() <= 5 * spread / n**0.5 + 1e-12).all())
    # Two shifted values of 10 shots each, times 1/2: a variance of at most 1/20.
    assert 0.05 < spread.max() < 0.05**0.5 * 1.1


def test_shots_with_autograd_differentiate_the_exact_circuit_at_the_sampled_loss() -> None:
    model = MODELS[0]
    params, x, y = draw(model, 4)
    found = per_sample_gradients(
        model, params, x, y, execution=Execution(shots=20, dtype="complex128"), generator=stream(0, "shots")
    )
    logits = model(params, x, execution=Execution(shots=20, dtype="complex128"), generator=stream(0, "shots"))
    rows = params.expand(4, -1).clone().requires_grad_()
    exact = model(rows, x, execution=EXACT_DOUBLE)
    slope = logits.softmax(-1) - torch.nn.functional.one_hot(y, 2)
    (wanted,) = torch.autograd.grad((exact * slope).sum(), rows)
    assert torch.allclose(found, wanted, atol=1e-12)


def test_evaluation_and_training_see_the_same_outcomes() -> None:
    model = MODELS[0]
    params, x, _ = draw(model, 6)
    execution = Execution(shots=100)
    with torch.no_grad():
        plain = model(params, x, execution=execution, generator=stream(0, "shots"))
    tracked = model(params.requires_grad_(), x, execution=execution, generator=stream(0, "shots"))
    assert tracked.requires_grad
    assert torch.equal(plain, tracked)


@pytest.mark.parametrize("gradient", ["autograd", "parameter-shift"])
@pytest.mark.parametrize("shots", [None, 30])
def test_a_lane_with_its_own_stream_draws_what_it_draws_alone(gradient: str, shots: int | None) -> None:
    model = MODELS[0]
    execution = Execution(shots=shots, gradient=gradient)  # type: ignore[arg-type]
    params, x, y = (t.float() if t.is_floating_point() else t for t in draw(model, 4, 3, 5))

    def run(lanes: range) -> list[torch.Tensor]:
        streams = [stream(lane, "shots") for lane in lanes]
        part = slice(lanes[0], lanes[-1] + 1)
        leaf = params[part].clone().requires_grad_()
        logits = model(leaf, x[part], execution=execution, generator=streams)
        (batch,) = torch.autograd.grad(logits.square().sum(), leaf)
        single = per_sample_gradients(
            model, params[part], x[part], y[part], execution=execution, generator=streams
        )
        return [logits.detach(), batch, single]

    together = run(range(4))
    for lane in range(4):
        for alone, joint in zip(run(range(lane, lane + 1)), together, strict=True):
            assert torch.equal(alone[0], joint[lane])


def test_layers_with_shots_draw_from_their_stream() -> None:
    circuit = CONTROLLED.circuit
    execution = Execution(shots=16)
    first, second = (
        QuantumLayer(
            circuit, generator=stream(0, "w"), execution=execution, shot_generator=stream(0, "shots")
        )
        for _ in range(2)
    )
    x = torch.rand(20, 2, generator=stream(0, "x"))
    values = first(x)
    assert torch.equal(values, second(x))
    assert not torch.equal(values, first(x))
    assert values.requires_grad


def test_shots_need_a_stream() -> None:
    params, x, _ = draw(MODELS[0], 2)
    with pytest.raises(ConfigError, match="random stream"):
        MODELS[0](params, x, execution=Execution(shots=10))
    assert MODELS[0](params, x, execution=EXACT).shape == (2, 2)
