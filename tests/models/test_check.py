"""The check of per-sample gradients: it passes what is right and fails what is wrong."""

from __future__ import annotations

import math
import secrets
from typing import Any

import pennylane as qml
import pytest
import torch
from torch import Tensor

from qflsec.base.errors import ConfigError
from qflsec.base.randomness import stream
from qflsec.circuits import build_circuit, pauli_z
from qflsec.models import Execution, PerSampleGradientError, QuantumLayer, check_per_sample_gradients


def records(n: int = 5) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 6, generator=stream(0, "x")), torch.arange(n) % 2


def around(middle: torch.nn.Module) -> torch.nn.Sequential:
    torch.manual_seed(0)  # torch.nn.Linear has no generator of its own
    return torch.nn.Sequential(torch.nn.Linear(6, 4), middle, torch.nn.Linear(4, 2))


def stock_torch_layer() -> torch.nn.Module:
    @qml.qnode(qml.device("default.qubit", wires=4), interface="torch", diff_method="backprop")
    def circuit(inputs: Tensor, weights: Tensor) -> Any:
        qml.AngleEmbedding(inputs, wires=range(4))
        qml.StronglyEntanglingLayers(weights, wires=range(4))
        return [qml.expval(qml.PauliZ(wire)) for wire in range(4)]

    torch.manual_seed(0)
    return qml.qnn.TorchLayer(circuit, {"weights": (2, 4, 3)})


def test_classical_module_is_right_in_every_mode() -> None:
    report = check_per_sample_gradients(around(torch.nn.Tanh()), *records())
    assert [mode.mode for mode in report.modes] == ["hooks", "functorch", "ghost"]
    assert report.ok
    for mode in report.modes:
        assert mode.record_error < 1e-6
        # The default clip norm binds for every record, so that the bound is reached, not only kept.
        assert mode.released_norm == pytest.approx(mode.clip_norm, rel=1e-4)
    report.require()


def test_linear_quantum_linear_is_right_in_every_mode() -> None:
    circuit = build_circuit(n_qubits=4, layers=2, observables=[pauli_z(wire, 4) for wire in range(4)])
    module = around(QuantumLayer(circuit, generator=stream(0, "weights")))
    report = check_per_sample_gradients(module, *records(), strict=True)
    assert report.ok
    for mode in report.modes:
        assert mode.record_error < 1e-6
        assert mode.released_norm == pytest.approx(mode.clip_norm, rel=1e-4)
    hooks, functorch, ghost = report.modes
    assert hooks.batch_error < 1e-6
    assert functorch.batch_error < 1e-6
    assert math.isnan(ghost.batch_error)


def test_stock_pennylane_torch_layer_is_caught() -> None:
    """Opacus 1.6 with PennyLane 0.45's TorchLayer: silent zeros, and a broken clip bound in ghost mode."""
    module = around(stock_torch_layer())
    report = check_per_sample_gradients(module, *records())
    hooks, functorch, ghost = report.modes
    for mode in (hooks, functorch):
        assert any("1.weights are all zero" in problem for problem in mode.problems)
        assert mode.batch_error > 1e-3
        assert any("mean differs from the batch gradient" in problem for problem in mode.problems)
        # Not a breach: what is released stays within the clip norm, but the layer never learns.
        assert mode.released_norm <= mode.clip_norm * (1 + 1e-4)
    assert ghost.released_norm > 1.01 * ghost.clip_norm
    assert any("the clip norm" in problem and "is exceeded" in problem for problem in ghost.problems)
    with pytest.raises(PerSampleGradientError, match="not justified") as caught:
        report.require()
    assert "\n" not in str(caught.value)
    with pytest.raises(PerSampleGradientError):
        check_per_sample_gradients(module, *records(), strict=True)


class Doubled(torch.nn.Module):
    """A layer whose parameter is read through a private reference."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(4))
        self.hidden = {"scale": self.scale}

    def forward(self, x: Tensor) -> Tensor:
        return x * self.hidden["scale"]


def test_any_layer_with_a_private_reference_is_caught() -> None:
    report = check_per_sample_gradients(around(Doubled()), *records())
    assert [bool(mode.problems) for mode in report.modes] == [True, True, True]


class CrossTalk(torch.nn.Module):
    """A layer that lets records of a batch see each other."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True) * 0.5


def test_records_that_see_each_other_are_caught() -> None:
    report = check_per_sample_gradients(around(CrossTalk()), *records(), modes=["hooks"])
    assert not report.ok
    assert "records of a batch see each other" in str(report)


@pytest.mark.parametrize("middle", [CrossTalk(), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5)], ids=repr)
@pytest.mark.parametrize("n", [2, 5])
def test_only_modules_that_mix_records_are_wrong(middle: torch.nn.Module, n: int) -> None:
    """Dropout draws a mask for every record: nothing mixes, and Opacus trains it."""
    x, y = records(n)
    report = check_per_sample_gradients(around(middle), x, y)
    mixes = not isinstance(middle, torch.nn.Dropout)
    assert ("records of a batch see each other" in str(report)) == mixes
    assert report.ok != mixes
    for mode in report.modes if not mixes else ():
        assert mode.record_error < 1e-6


class SharedMask(torch.nn.Module):
    """Drops features, the same ones of every record, and by another chance where there are more records."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(x.shape[1]) > 0.2)


def test_chance_alone_is_no_mixing() -> None:
    assert check_per_sample_gradients(around(SharedMask()), *records(), modes=["hooks"]).ok


def test_a_circuit_with_shots_is_checked_without_them() -> None:
    circuit = build_circuit(n_qubits=4, layers=2, observables=[pauli_z(wire, 4) for wire in range(4)])
    for gradient in ("autograd", "parameter-shift"):
        layer = QuantumLayer(
            circuit,
            generator=stream(0, "weights"),
            execution=Execution(shots=20, gradient=gradient),
            shot_generator=stream(0, "shots"),
        )
        assert check_per_sample_gradients(around(layer), *records(), modes=["hooks"]).ok
        assert layer.execution.shots == 20


@pytest.mark.parametrize("dropped", [False, True])
def test_zeros_of_a_private_reference_are_found_beside_dropout_too(dropped: bool) -> None:
    middle = torch.nn.Sequential(torch.nn.Dropout(0.3 * dropped), Doubled())
    report = check_per_sample_gradients(around(middle), *records())
    assert [bool(mode.problems) for mode in report.modes] == [True, True, True]


def test_the_generator_of_torch_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    check_per_sample_gradients(around(torch.nn.Dropout(0.5)), *records(), modes=["hooks"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_record_without_a_gradient_is_no_reason_to_refuse() -> None:
    x, y = records()
    x[0] = 0.0
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 4, bias=False), torch.nn.ReLU(), torch.nn.Linear(4, 2, bias=False)
    )
    assert check_per_sample_gradients(module, x, y, modes=["hooks"]).ok
    with pytest.raises(ConfigError, match="no record has a gradient"):
        check_per_sample_gradients(module, 0 * x, y)


class Buffered(torch.nn.Module):
    """A layer with a buffer, which Opacus refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(4))
        self.register_buffer("offset", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.offset


def test_a_module_that_opacus_refuses_is_reported() -> None:
    report = check_per_sample_gradients(around(Buffered()), *records())
    assert all("fails with NotImplementedError" in mode.problems[0] for mode in report.modes)


def test_a_smaller_clip_norm_is_honoured() -> None:
    report = check_per_sample_gradients(around(torch.nn.Tanh()), *records(), clip_norm=0.01)
    assert report.ok
    assert all(mode.released_norm == pytest.approx(0.01, rel=1e-3) for mode in report.modes)


def test_the_module_is_left_as_it_was() -> None:
    module = around(torch.nn.Tanh())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.eval()
    check_per_sample_gradients(module, *records())
    assert not module.training
    assert all(p.grad is None and not hasattr(p, "grad_sample") for p in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


class OutsideChance(torch.nn.Module):
    """Draws from a generator that nobody can set back."""

    def forward(self, x: Tensor) -> Tensor:
        return x * secrets.SystemRandom().random()


def test_what_cannot_be_checked_is_refused() -> None:
    from opacus.grad_sample import GradSampleModule

    x, y = records()
    with pytest.raises(ConfigError, match="depends on chance beyond torch's own generator"):
        check_per_sample_gradients(around(OutsideChance()), x, y)
    with pytest.raises(ConfigError, match="reduction"):
        check_per_sample_gradients(
            around(torch.nn.Tanh()), x, y, loss=torch.nn.CrossEntropyLoss(reduction="sum")
        )
    with pytest.raises(ConfigError, match="already wraps"):
        check_per_sample_gradients(GradSampleModule(around(torch.nn.Tanh())), x, y)
