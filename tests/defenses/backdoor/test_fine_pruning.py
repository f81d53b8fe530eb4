"""Fine-pruning: which units go, what training after it does, and what both do to a backdoor in a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from qflsec.attacks.backdoor import FeatureTrigger
from qflsec.base import ConfigError, IncompatibleStack
from qflsec.data import DataSpec
from qflsec.defenses.backdoor import FinePruning, dormant_units, fine_pruned, pruned
from qflsec.federation import FederationConfig, OwnModels, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.scoring import score_backdoor
from qflsec.models import Classical, build_model
from qflsec.threat import Records, corrupted_clients

NETWORK = Classical(n_features=3, hidden=(4, 3))


def drawn(n: int = 40) -> Records:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(n, 3, generator=generator)
    return Records(features=features, labels=(features[:, 0] > 0.3).long())


def by_torch(params: torch.Tensor) -> torch.nn.Sequential:
    """The same network of torch's own layers."""
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)
    )
    torch.nn.utils.vector_to_parameters(params.clone(), network.parameters())
    return network


@pytest.mark.parametrize("seed", range(4))
def test_units_go_one_by_one_as_by_torchs_own_layers(seed: int) -> None:
    """Units in the order of their mean magnitude; one goes while accuracy stays within the tolerance; then plain descent."""
    records = drawn()
    params = NETWORK.initial(torch.Generator().manual_seed(seed))
    network = by_torch(params)
    with torch.no_grad():
        activity = network[:4](records.features).abs().mean(dim=0).tolist()
    order = sorted(range(3), key=lambda unit: activity[unit])
    assert dormant_units(NETWORK, params, records.features).tolist() == order

    def accuracy() -> float:
        with torch.no_grad():
            return float((network(records.features).argmax(dim=1) == records.labels).double().mean())

    tolerance, first, gone = 0.2, accuracy(), list[int]()
    last: Any = network[4]
    for unit in order[:-1]:
        before = last.weight.detach().clone()
        last.weight.data[:, unit] = 0.0
        if accuracy() < first - tolerance:
            last.weight.data.copy_(before)
            break
        gone.append(unit)
    found, removed = pruned(NETWORK, params, records, tolerance=tolerance)
    assert torch.equal(found, torch.nn.utils.parameters_to_vector(network.parameters()))
    assert removed.nonzero().flatten().tolist() == sorted(
        len(params) - 8 + 3 * row + unit for unit in gone for row in range(2)
    )
    descent = torch.optim.SGD(network.parameters(), lr=0.3)
    for _ in range(5):
        descent.zero_grad()
        torch.nn.functional.cross_entropy(network(records.features), records.labels).backward()
        last.weight.grad[:, gone] = 0.0
        descent.step()
    tuned = fine_pruned(NETWORK, params, records, tolerance=tolerance, steps=5, learning_rate=0.3)
    assert torch.allclose(tuned, torch.nn.utils.parameters_to_vector(network.parameters()), atol=1e-6)
    assert not tuned[removed].any()


@pytest.mark.parametrize("shared", [False, True])
def test_a_backdoor_goes_with_a_unit_that_clean_records_leave_alone(shared: bool) -> None:
    """Without training: one unit answers to the trigger alone, or, as the control, the units of clean records do so too."""
    model = Classical(n_features=3, hidden=(3,))
    first = torch.tensor([[3.0, 0, 0], [2.0, 0, 0], [0, 0, 5.0]])
    if shared:
        first[:2, 2] = 30.0
        first[2] = torch.tensor([0.0, 1e-3, 0.0])
    last = torch.tensor([[-2.0, -2, -20], [2.0, 2, 20]])
    params = torch.cat([first.flatten(), torch.zeros(3), last.flatten(), torch.zeros(2)])
    records = drawn(200)
    clean = Records(
        features=records.features * torch.tensor([1.0, 1.0, 0.0]), labels=(records.features[:, 0] > 0).long()
    )
    triggered = clean.features.clone()
    triggered[:, 2] = 3.0
    assert bool((model(params, triggered).argmax(dim=1) == 1).all())
    found, _ = pruned(model, params, clean, tolerance=0.02)
    success = float((model(found, triggered).argmax(dim=1) == 1).double().mean())
    assert success == 1.0 if shared else success < 0.6
    assert float((model(found, clean.features).argmax(dim=1) == clean.labels).double().mean()) > 0.97


def pipeline(**model: Any) -> Pipeline:
    return Pipeline(
        data=DataSpec(name="breast-cancer", n_features=4, members=100, nonmembers=0, auxiliary=60, test=150),
        model=build_model({"name": "hybrid", "n_features": 4, "n_qubits": 3, "layers": 2, **model}),
        federation=FederationConfig(n_clients=10, rounds=20, local_steps=2, learning_rate=0.5),
    )


def test_a_backdoor_in_a_hybrid_is_gone_after_it() -> None:
    """The server answers with other parameters than those that were trained, which everybody else still sees."""
    attack, threat = FeatureTrigger(target_class=0, features=(1,)), corrupted_clients(n=2)
    specs = [
        RunSpec(seed=0, evaluate="last"),
        RunSpec(seed=0, adversary=attack, threat=threat, evaluate="last"),
    ]
    layer, trained = FinePruning(), pipeline(hidden=[16])
    open_honest, broken = run_batch(trained, Stack(name="none"), specs)
    honest, mended = run_batch(trained, Stack.from_layers("pruned", [layer]), specs)
    assert score_backdoor(attack, broken, open_honest, seed=0).advantage > 0.5
    scored = score_backdoor(attack, mended, honest, seed=0)
    assert scored.advantage < 0.1
    assert scored.metrics["accuracy"].value > 0.9
    assert scored.metrics["honest_accuracy"].value > 0.9
    assert torch.equal(mended.params, broken.params)
    server = mended.records("auxiliary")
    server = Records(features=server.features[:50], labels=server.labels[:50])
    served = fine_pruned(trained.model, mended.params, server)
    test = mended.records("test")
    answers = trained.model(served, test.features).argmax(dim=-1)
    assert torch.equal(mended.predict(test.features), answers)
    assert mended.accuracy[-1] == float((answers == test.labels).double().mean())


def test_what_it_refuses() -> None:
    for bad in (
        {"records": 0},
        {"tolerance": -0.1},
        {"tolerance": 1.5},
        {"steps": -1},
        {"learning_rate": 0.0},
    ):
        with pytest.raises(ConfigError):
            FinePruning(**bad)
    circuit = replace(pipeline(), model=build_model({"name": "vqc", "n_qubits": 4, "layers": 1}))
    for without in (circuit, pipeline(), replace(circuit, model=Classical(n_features=4))):
        with pytest.raises(IncompatibleStack, match="hidden units"):
            FinePruning().check(without)
    whole = pipeline(hidden=[4])
    FinePruning().check(whole)
    bare = DataSpec(name="iris", n_features=4, auxiliary=0, preprocessing="fixed-range", reduction="first")
    with pytest.raises(IncompatibleStack, match="auxiliary"):
        FinePruning().check(replace(whole, data=bare))
    own = replace(whole.federation, own_models=OwnModels(pull=0.3))
    parts, models = replace(whole, personal=("after.0.weight",)), replace(whole, federation=own)
    for kept, why in ((parts, "keep parts of theirs"), (models, "a model of its own")):
        with pytest.raises(IncompatibleStack, match=why):
            FinePruning().check(kept)
