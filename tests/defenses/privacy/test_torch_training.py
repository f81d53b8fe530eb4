"""A user's torch training through Opacus: right per-sample gradients, a row for what was spent, and refusals."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from scipy import stats

from qflsec.accounting.accountants import epsilon_bound
from qflsec.base import ConfigError, stream
from qflsec.circuits import build_circuit
from qflsec.defenses.privacy import PrivateTraining, make_private
from qflsec.models import QuantumLayer
from qflsec.models.check import PerSampleGradientError

N = 24


def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    circuit = build_circuit(n_qubits=3, layers=2, n_features=3)
    layer = QuantumLayer(circuit, generator=stream(0, "w"))
    return torch.nn.Sequential(torch.nn.Linear(5, 3), layer, torch.nn.Linear(len(circuit.observables), 2))


def loader(batch_size: int = 6, n_records: int = N) -> torch.utils.data.DataLoader[Any]:
    x = torch.randn(n_records, 5, generator=stream(0, "x"))
    y = (x[:, 0] > 0).long()
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=batch_size)


def private(module: torch.nn.Module, rate: float = 1.0, **options: Any) -> PrivateTraining:
    return make_private(
        module, torch.optim.SGD(module.parameters(), lr=rate), loader(options.pop("batch_size", 6)), **options
    )


def train(training: PrivateTraining, epochs: int) -> list[int]:
    sizes = []
    for _ in range(epochs):
        for x, y in training.loader:
            training.optimizer.zero_grad()
            torch.nn.functional.cross_entropy(training.model(x), y).backward()
            training.optimizer.step()
            sizes.append(len(x))
    return sizes


def test_a_training_meets_its_target_and_states_it() -> None:
    """The documented path: a model with a circuit, an epsilon for the planned epochs, a row afterwards."""
    module = model()
    before = copy.deepcopy(module)
    training = private(module, target_epsilon=3.0, delta=1e-3, epochs=5)
    assert training.rows() == (), "nothing is spent before the first step"
    train(training, 5)
    rows = training.rows()
    tightest = min(row.epsilon for row in rows if row.epsilon is not None)
    assert 0.98 * 3.0 <= tightest <= 3.0
    for row in rows:
        assert (row.unit, row.adjacency, row.steps) == ("example", "add/remove", 20)
        same = epsilon_bound(
            row.accountant.split()[0].lower(),
            noise_multiplier=training.noise_multiplier,
            sample_rate=0.25,
            steps=20,
            delta=1e-3,
        )
        assert row.epsilon == same.epsilon
        assert row.epsilon_unsampled > row.epsilon
        assert "no cryptographic source" in row.note
    for after, start in zip(module.parameters(), before.parameters(), strict=True):
        assert not torch.equal(after, start), "the circuit learns too"


def test_batches_are_poisson() -> None:
    """Sizes vary; an empty batch is stepped over by noise alone. Variance of 200 sizes by chi-square at 1e-6, with a tenth for the tails."""
    module = model()
    training = private(module, batch_size=2, noise_multiplier=0.1)
    sizes = train(training, 17)[:200]
    assert len(sizes) == 200
    assert 0 in sizes
    expected = N * (1 / 12) * (11 / 12)
    observed = sum((size - 2.0) ** 2 for size in sizes) / expected
    low, high = stats.chi2.ppf([1e-6, 1 - 1e-6], 200)
    assert low * 0.9 < observed < high * 1.1


def test_without_noise_no_record_moves_the_model_by_more_than_the_clip_norm() -> None:
    """One record, rate 1 and sigma 0: the step of the whole model is the clip norm and not more."""
    module = model()
    before = [p.detach().clone() for p in module.parameters()]
    data = loader(batch_size=1, n_records=1)
    training = make_private(
        module, torch.optim.SGD(module.parameters(), lr=1.0), data, noise_multiplier=0.0, clip_norm=0.05
    )
    (x, y) = data.dataset[0]
    training.optimizer.zero_grad()
    torch.nn.functional.cross_entropy(training.model(x[None]), y[None]).backward()
    training.optimizer.step()
    moved = torch.cat([(a.detach() - b).flatten() for a, b in zip(module.parameters(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.05, rel=1e-4)


def test_pennylanes_layer_is_refused_with_the_reason() -> None:
    import pennylane as qml

    device = qml.device("default.qubit", wires=2)

    @qml.qnode(device, interface="torch")
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.AngleEmbedding(inputs, wires=range(2))
        qml.StronglyEntanglingLayers(weights, wires=range(2))
        return [qml.expval(qml.PauliZ(wire)) for wire in range(2)]

    stock = qml.qnn.TorchLayer(circuit, {"weights": (1, 2, 3)})
    module = torch.nn.Sequential(torch.nn.Linear(5, 2), stock, torch.nn.Linear(2, 2))
    with pytest.raises(
        PerSampleGradientError, match=r"layer '1' is PennyLane's TorchLayer.*private dictionary"
    ):
        private(module, noise_multiplier=1.0)


def test_any_other_wrong_layer_is_refused_too() -> None:
    class Doubled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(3))
            self.hidden = {"scale": self.scale}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.hidden["scale"]

    module = torch.nn.Sequential(torch.nn.Linear(5, 3), Doubled(), torch.nn.Linear(3, 2))
    with pytest.raises(PerSampleGradientError, match="all zero"):
        private(module, noise_multiplier=1.0)


def test_a_changed_noise_has_no_row() -> None:
    training = private(model(), noise_multiplier=1.0)
    train(training, 1)
    training.optimizer.noise_multiplier = 0.5
    train(training, 1)
    with pytest.raises(ConfigError, match="changed during the training"):
        training.rows()


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        private(model(), noise_multiplier=1.0, target_epsilon=1.0)
    with pytest.raises(ConfigError, match="clip_norm"):
        private(model(), clip_norm=0.0)
    single: Any = torch.utils.data.DataLoader([torch.zeros(5)] * 3)
    module = model()
    with pytest.raises(ConfigError, match="no pairs"):
        make_private(module, torch.optim.SGD(module.parameters(), lr=1.0), single)
