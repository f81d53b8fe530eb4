"""The torch layer: by itself, under torch.func, and in training with Opacus."""

from __future__ import annotations

import copy
import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from qflsec.base.errors import ConfigError
from qflsec.base.randomness import stream
from qflsec.circuits import Circuit, build_circuit, expectations, pauli_z
from qflsec.models import Execution, QuantumLayer

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook:UserWarning"),
    pytest.mark.filterwarnings("ignore:Secure RNG:UserWarning"),
]
MODES = ["hooks", "functorch", "ghost"]


@pytest.fixture
def circuit() -> Circuit:
    return build_circuit(n_qubits=3, layers=2, observables=[pauli_z(wire, 3) for wire in range(3)])


@pytest.fixture
def layer(circuit: Circuit) -> QuantumLayer:
    return QuantumLayer(circuit, generator=stream(0, "weights"))


def test_gives_expectation_values(circuit: Circuit, layer: QuantumLayer) -> None:
    x = torch.rand(5, 3, generator=stream(0, "x"))
    assert torch.allclose(layer(x), expectations(circuit, layer.weights, x), rtol=0, atol=1e-6)
    assert layer(x).shape == (5, 3)
    assert [name for name, _ in layer.named_parameters()] == ["weights"]
    assert layer.weights.shape == (18,)
    assert 0 <= layer.weights.min() < layer.weights.max() < 2 * math.pi


def test_weights_come_from_the_stream(circuit: Circuit, layer: QuantumLayer) -> None:
    assert torch.equal(QuantumLayer(circuit, generator=stream(0, "weights")).weights, layer.weights)
    assert not torch.equal(QuantumLayer(circuit, generator=stream(1, "weights")).weights, layer.weights)


def test_reads_whatever_replaces_its_parameter(layer: QuantumLayer) -> None:
    """What stock PennyLane's TorchLayer does not do."""
    x = torch.rand(5, 3, generator=stream(0, "x"))
    zeros = {"weights": torch.zeros(18)}
    replaced = torch.func.functional_call(layer, zeros, (x,))
    assert not torch.allclose(replaced, layer(x))
    assert torch.equal(replaced, layer.run(zeros["weights"], x))


EXECUTIONS = (
    Execution(),
    Execution(dtype="complex128"),
    Execution(shots=10),
    Execution(gradient="parameter-shift"),
)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("execution", EXECUTIONS, ids=lambda e: f"{e.dtype} {e.shots} {e.gradient}")
def test_the_layer_follows_the_dtype_of_its_weights(
    circuit: Circuit, execution: Execution, dtype: torch.dtype
) -> None:
    """A hybrid in any precision runs and trains: each layer takes what the one before it gives."""
    layer = QuantumLayer(
        circuit, generator=stream(0, "w"), execution=execution, shot_generator=stream(0, "shots")
    )
    module = torch.nn.Sequential(torch.nn.Linear(5, 3), layer, torch.nn.Linear(3, 2)).to(dtype)
    for n in (4, 0):
        out = module(torch.rand(n, 5, generator=stream(0, "x")).to(dtype))
        assert out.dtype == dtype
        out.sum().backward()
    assert {p.grad.dtype for p in module.parameters() if p.grad is not None} == {dtype}
    assert layer.execution == execution


def test_double_weights_are_run_in_double_precision(circuit: Circuit, layer: QuantumLayer) -> None:
    double = copy.deepcopy(layer).double()
    x = torch.rand(5, 3, generator=stream(0, "x"), dtype=torch.float64)
    expected = expectations(circuit, double.weights, x, dtype=torch.complex128)
    assert torch.allclose(double(x), expected, rtol=0, atol=1e-12)
    assert torch.allclose(double(x).float(), layer(x), atol=1e-5)


def test_shots_need_a_stream(circuit: Circuit) -> None:
    layer = QuantumLayer(circuit, execution=Execution(shots=100))
    with pytest.raises(ConfigError, match="random stream"):
        layer(torch.zeros(1, 3))


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3)], ids=str)
def test_the_sampler_of_opacus_equals_a_loop(layer: QuantumLayer, shape: tuple[int, ...]) -> None:
    from opacus.grad_sample import GradSampleModule

    QuantumLayer(layer.circuit)  # registers the sampler now that Opacus is loaded
    assert QuantumLayer in GradSampleModule.GRAD_SAMPLERS
    x = torch.rand(shape, generator=stream(0, "x"))
    factors = torch.rand(shape, generator=stream(0, "factors"))

    def loss(values: Tensor, i: slice) -> Tensor:
        return (values * factors[i]).flatten(1).sum(1).mean()

    inner = copy.deepcopy(layer)
    wrapped = GradSampleModule(inner)
    loss(wrapped(x), slice(None)).backward()
    samples = inner.weights.grad_sample  # type: ignore[attr-defined]
    for i in range(4):
        layer.zero_grad()
        loss(layer(x[i : i + 1]), slice(i, i + 1)).backward()
        assert layer.weights.grad is not None
        assert torch.allclose(samples[i], layer.weights.grad, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_private_training_with_opacus_moves_the_circuit(circuit: Circuit, mode: str) -> None:
    """PrivacyEngine end to end, without noise: what stock TorchLayer fails silently."""
    from opacus import PrivacyEngine

    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(5, 3), QuantumLayer(circuit, generator=stream(0, "w")), torch.nn.Linear(3, 2)
    )
    before = copy.deepcopy(module)
    x = torch.randn(8, 5, generator=stream(0, "x"))
    y = torch.arange(8) % 2
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    made = PrivacyEngine().make_private(
        module=module,
        optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
        data_loader=loader,
        criterion=torch.nn.CrossEntropyLoss(),
        noise_multiplier=0.0,
        max_grad_norm=0.1,
        poisson_sampling=False,
        grad_sample_mode=mode,
    )
    wrapped, optimizer = made[0], made[1]
    criterion = made[2] if mode == "ghost" else torch.nn.CrossEntropyLoss()
    criterion(wrapped(x), y).backward()
    optimizer.step()

    expected = _clipped_step(before, x, y, clip_norm=0.1)
    moved = [after - start for after, start in zip(module.parameters(), before.parameters(), strict=True)]
    for change, wanted in zip(moved, expected, strict=True):
        assert torch.allclose(change, wanted, atol=1e-6)
    assert moved[2].abs().max() > 1e-4  # the circuit's own weights


def _clipped_step(module: torch.nn.Module, x: Tensor, y: Tensor, clip_norm: float) -> list[Tensor]:
    """One DP-SGD step of rate 1 without noise, record by record."""
    total = [torch.zeros_like(p) for p in module.parameters()]
    for i in range(len(x)):
        loss = torch.nn.functional.cross_entropy(module(x[i : i + 1]), y[i : i + 1])
        gradient = torch.autograd.grad(loss, list(module.parameters()))
        norm = torch.cat([g.flatten() for g in gradient]).norm()
        total = [t - g * min(1.0, clip_norm / float(norm)) for t, g in zip(total, gradient, strict=True)]
    return [t / len(x) for t in total]


def test_a_batch_of_nobody_has_no_outputs_and_no_gradient(circuit: Circuit) -> None:
    """Poisson sampling draws such batches."""
    from opacus.grad_sample import GradSampleModule

    layer = QuantumLayer(circuit, generator=stream(0, "w"))
    wrapped = GradSampleModule(copy.deepcopy(layer))
    for module in (layer, wrapped):
        out = module(torch.zeros(0, circuit.n_features))
        assert out.shape == (0, len(circuit.observables))
        out.sum().backward()
    assert layer.weights.grad is not None
    assert not bool(layer.weights.grad.any())
    inner: torch.nn.Module = wrapped._module
    assert inner.weights.grad_sample.shape == (0, circuit.n_weights)  # type: ignore[union-attr]


def test_the_layer_does_not_import_opacus() -> None:
    code = (
        "import sys; from qflsec.circuits import build_circuit; from qflsec.models import QuantumLayer;"
        "QuantumLayer(build_circuit(n_qubits=2)); sys.exit('opacus' in sys.modules or 'pennylane' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
