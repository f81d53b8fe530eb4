"""A torch module in the loop: DP-SGD against a loop over records, lanes, personal layers, and attacks on it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from qflsec.attacks import Blocked
from qflsec.attacks.inversion import DeepLeakage
from qflsec.attacks.membership import SumAlignment
from qflsec.defenses.privacy import DpSgd
from qflsec.federation import Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import TorchModel, build_model
from qflsec.threat import honest_but_curious_server

FILE = Path(__file__).parents[1] / "models" / "torch_modules.py"
Maker = Callable[..., Pipeline]
NONE = Stack(name="none")


@pytest.fixture(scope="module")
def model() -> TorchModel:
    """An affine layer, two qubits that PennyLane's layer brings, and an affine layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        made = build_model({"name": "torch", "path": f"{FILE}:hybrid", "n_features": 4})
    assert isinstance(made, TorchModel)
    return made


@pytest.fixture
def pipeline(make_pipeline: Maker, model: TorchModel) -> Callable[..., Pipeline]:
    def make(**options: object) -> Pipeline:
        options = {"members": 12, "n_clients": 3, "local_steps": 1, "rounds": 1, **options}
        return replace(make_pipeline(**options), model=model)

    return make


def test_dp_sgd_clips_the_gradient_of_every_record(pipeline: Maker, model: TorchModel) -> None:
    """Against a loop over the records, at a clip norm that binds for half of them."""
    plain = run_batch(pipeline(), NONE, [RunSpec(seed=1)])[0]
    gradients = [torch.stack([gradient(model, plain, int(row)) for row in rows]) for rows in plain.clients]
    clip_norm = float(torch.cat(gradients).norm(dim=-1).median())
    layer = DpSgd(clip_norm=clip_norm, noise_multiplier=1e-7, delta=1e-3)
    private = run_batch(pipeline(), Stack(name="dp", client=(layer,)), [RunSpec(seed=1)])[0]
    steps = torch.stack(
        [(g * (clip_norm / g.norm(dim=-1, keepdim=True)).clamp(max=1)).mean(0) for g in gradients]
    )
    weights = torch.tensor([float(len(rows)) for rows in plain.clients])
    step = (steps * weights[:, None]).sum(dim=0) / weights.sum()
    rate = pipeline().federation.learning_rate
    assert torch.allclose(private.params, private.initial - rate * step, atol=1e-5)
    assert not torch.allclose(private.params, plain.params, atol=1e-3)


def gradient(model: TorchModel, run: RunResult, row: int) -> torch.Tensor:
    leaf = run.initial.clone().requires_grad_()
    loss = cross_entropy(model(leaf, run.dataset.features[row]), run.dataset.labels[row])
    (found,) = torch.autograd.grad(loss, leaf)
    return found


def test_a_run_is_the_same_alone_and_in_a_batch(pipeline: Maker) -> None:
    pipe = pipeline(rounds=2, local_steps=2)
    together = run_batch(pipe, NONE, [RunSpec(seed=seed) for seed in range(3)])
    for seed, run in enumerate(together):
        alone = run_batch(pipe, NONE, [RunSpec(seed=seed)])[0]
        assert torch.equal(alone.params, run.params)
        assert (alone.accuracy, alone.loss, alone.train_loss) == (run.accuracy, run.loss, run.train_loss)
    assert not torch.equal(together[0].initial, together[1].initial)


def test_layers_stay_with_their_clients(pipeline: Maker, model: TorchModel) -> None:
    run = run_batch(replace(pipeline(), personal=("3",)), NONE, [RunSpec(seed=0)])[0]
    heads = [model.unflatten(own)["3.weight"] for own in run.models]
    bases = [model.unflatten(own)["2.weights"] for own in run.models]
    assert not torch.equal(heads[0], heads[1])
    assert torch.equal(bases[0], bases[1])


def advantage(run: RunResult, attack: DeepLeakage | SumAlignment) -> float:
    threat = honest_but_curious_server()
    asked, truth = challenge_for(attack, run, seed=0, threat=threat)
    claim = attack(run.view(threat), asked)
    assert not isinstance(claim, Blocked)
    return score_claim(claim, truth).advantage


def test_attacks_have_power_over_it(pipeline: Maker) -> None:
    """Clients with one record each: it is read off the update, and its membership off the sums."""
    run = run_batch(pipeline(members=3), NONE, [RunSpec(seed=0)])[0]
    assert advantage(run, DeepLeakage()) > 0.9
    assert advantage(run, SumAlignment()) > 0.5
