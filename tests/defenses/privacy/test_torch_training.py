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
from qflsec.defenses.privacy import PrivateTraining, make_private, torch_training
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
        assert (row.unit, row.adjacency, row.steps) == ("example", "zero-out", 20)
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


@pytest.mark.parametrize(("n", "batch_size", "steps"), [(147, 3, 49), (93, 1, 93), (10, 3, 4), (24, 24, 1)])
def test_updates_and_epochs_have_the_length_that_was_asked_for(n: int, batch_size: int, steps: int) -> None:
    """Opacus 1.6.0 divides 147 records in batches of 3 by 2, and makes 92 batches of 93."""
    module = torch.nn.Linear(5, 2)
    plain = copy.deepcopy(module)
    data = loader(batch_size=batch_size, n_records=n)
    training = make_private(
        module, torch.optim.SGD(module.parameters(), lr=1.0), data, noise_multiplier=0.0, clip_norm=0.05
    )
    x, y = data.dataset[:]
    training.optimizer.zero_grad()
    torch.nn.functional.cross_entropy(training.model(x), y).backward()
    training.optimizer.step()
    total = torch.zeros(12)
    for i in range(n):
        loss = torch.nn.functional.cross_entropy(plain(x[i : i + 1]), y[i : i + 1])
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(plain.parameters()))])
        total -= gradient * min(1.0, 0.05 / float(gradient.norm()))
    moved = torch.cat(
        [
            (a.detach() - b.detach()).flatten()
            for a, b in zip(module.parameters(), plain.parameters(), strict=True)
        ]
    )
    assert torch.allclose(moved, total / (n / steps), rtol=1e-3, atol=1e-6)
    assert len(training.loader) == steps
    assert len(train(training, 1)) == steps
    assert training.steps == 1 + steps
    (row, *_) = training.rows()
    assert row.steps == 1 + steps
    assert training.accountant.history[0][1] == pytest.approx(1 / steps)


def test_steps_that_were_not_taken_are_not_counted() -> None:
    training = private(model(), noise_multiplier=1.0)
    for batch, (x, y) in enumerate(training.loader):
        if batch < 2:
            training.optimizer.zero_grad()
            torch.nn.functional.cross_entropy(training.model(x), y).backward()
            training.optimizer.step()
    assert {row.steps for row in training.rows()} == {2}


def test_a_double_hybrid_with_dropout_trains() -> None:
    """PennyLane's default precision, and a layer of chance that mixes no records."""
    module = model()
    module.insert(1, torch.nn.Dropout(0.5))
    module.double()
    x = torch.randn(N, 5, generator=stream(0, "x"), dtype=torch.float64)
    data: Any = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long()), batch_size=6
    )
    training = make_private(module, torch.optim.SGD(module.parameters(), lr=1.0), data, noise_multiplier=1.0)
    train(training, 1)
    assert {row.steps for row in training.rows()} == {4}
    assert {p.dtype for p in module.parameters()} == {torch.float64}


def step_on(training: PrivateTraining, x: torch.Tensor, y: torch.Tensor) -> None:
    training.optimizer.zero_grad()
    torch.nn.functional.cross_entropy(training.model(x), y).backward()
    training.optimizer.step()


def test_a_gradient_that_is_not_finite_is_not_released() -> None:
    """Released, it would tell that its record was in the batch, whatever the noise."""
    module = model()
    training = private(module, noise_multiplier=1.0)
    before = copy.deepcopy(module.state_dict())
    x, y = torch.randn(3, 5), torch.zeros(3, dtype=torch.long)
    x[1, 2] = torch.inf
    with pytest.raises(PerSampleGradientError, match="more than the stated clip norm allows"):
        step_on(training, x, y)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert training.rows() == ()


def test_a_sum_longer_than_its_bound_is_not_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lengthens the sum: here an optimizer whose clipping is a third too weak."""
    from opacus.optimizers import DPOptimizer

    clip = DPOptimizer.clip_and_accumulate

    def weak(self: Any) -> None:
        clip(self)
        for parameter in self.params:
            parameter.summed_grad *= 4 / 3

    module = model()
    training = private(module, noise_multiplier=1.0, clip_norm=0.01)
    x = torch.randn(1, 5, generator=stream(0, "x")).repeat(4, 1)
    y = torch.zeros(4, dtype=torch.long)
    step_on(training, x, y)
    monkeypatch.setattr(DPOptimizer, "clip_and_accumulate", weak)
    with pytest.raises(PerSampleGradientError, match=r"for 4 records clipped to 0.01"):
        step_on(training, x, y)
    assert training.steps == 1


class Turning(torch.nn.Module):
    """A layer that is right for some forward passes in training and reads a private reference from then on."""

    def __init__(self, right_for: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))
        self.hidden = {"scale": self.scale}
        self.right_for = right_for

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.right_for -= 1
        return x * (self.scale if self.right_for > 0 else self.hidden["scale"])


def test_the_check_is_made_again_during_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before steps 1, 4, 16 and 64, on the module as it is then."""
    checks: list[int] = []
    check = torch_training.check_per_sample_gradients
    monkeypatch.setattr(
        torch_training,
        "check_per_sample_gradients",
        lambda *a, **b: (checks.append(len(a[1])), check(*a, **b)),
    )
    module = torch.nn.Sequential(torch.nn.Linear(5, 3), Turning(10), torch.nn.Linear(3, 2))
    training = private(module, noise_multiplier=1.0)
    with pytest.raises(PerSampleGradientError, match="all zero"):
        train(training, 10)
    assert training.steps == 15
    assert checks == [4] * 4, "before the training and before steps 1, 4 and 16"


def test_physical_batches_of_one_step_are_bounded_together() -> None:
    """Opacus splits large batches and adds up; the bound counts the records of all parts."""
    from opacus.utils.batch_memory_manager import BatchMemoryManager

    module = model()
    training = private(module, batch_size=12, noise_multiplier=1.0)
    optimizer: Any = training.optimizer
    with BatchMemoryManager(
        data_loader=training.loader, max_physical_batch_size=2, optimizer=optimizer
    ) as batches:
        for x, y in batches:
            step_on(training, x, y)
    assert training.steps == 2


def test_any_record_may_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of 40 are drawn at random each time, and not the first four."""
    seen: set[float] = set()
    monkeypatch.setattr(
        torch_training, "check_per_sample_gradients", lambda _, x, *__, **___: seen.update(x[:, 0].tolist())
    )
    x, y = torch.arange(40.0)[:, None].expand(40, 5), torch.arange(40) % 2
    data: Any = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    for _ in range(25):
        module = torch.nn.Linear(5, 2)
        make_private(module, torch.optim.SGD(module.parameters(), lr=1.0), data)
    # 25 draws of four miss a record with probability .9^25 = .072: 2.9 of 40 are expected to be missed, and 15
    # or more with probability below 1e-7 (negatively dependent, so at most as often as independent ones)
    assert len(seen) > 25


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


@pytest.mark.parametrize("norm", [0.01, 10.0])
def test_the_clip_norm_may_not_change_between_the_passes_of_a_step(norm: float) -> None:
    """The noise of a step follows the norm at its end: a pass clipped to 1 before noise of z .01 is 100 times too long."""
    module = model()
    training = private(module, rate=1.0, noise_multiplier=1.0)
    optimizer: Any = training.optimizer
    before = copy.deepcopy(module.state_dict())
    x, y = torch.randn(3, 5, generator=stream(0, "x")), torch.zeros(3, dtype=torch.long)
    optimizer.signal_skip_step(do_skip=True)
    step_on(training, x, y)
    optimizer.max_grad_norm = norm
    optimizer.signal_skip_step(do_skip=False)
    with pytest.raises(ConfigError, match="the clip norm was changed"):
        step_on(training, x, y)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert training.rows() == ()


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        private(model(), noise_multiplier=1.0, target_epsilon=1.0)
    with pytest.raises(ConfigError, match="clip_norm"):
        private(model(), clip_norm=0.0)
    single: Any = torch.utils.data.DataLoader([torch.zeros(5)] * 3)
    module = model()
    with pytest.raises(ConfigError, match="no pairs"):
        make_private(module, torch.optim.SGD(module.parameters(), lr=1.0), single)


def test_a_delta_that_gives_a_record_away_is_refused_unless_asked_for() -> None:
    with pytest.raises(ConfigError, match=f"below 1/{N}"):
        private(model(), delta=1 / N)
    assert private(model(), delta=1 / N, large_delta=True).delta == 1 / N
