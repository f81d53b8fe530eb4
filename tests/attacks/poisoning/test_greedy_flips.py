"""Labels chosen by the model: against plain gradients of all labellings, and one record at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from qflsec.attacks.poisoning import GreedyLabelFlip, LabelFlip
from qflsec.attacks.poisoning.greedy_label_flip import label_slopes
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.federation import Hands, Pipeline
from qflsec.models import Model, build_model
from qflsec.threat import corrupted_clients

MakeHands = Callable[..., Hands]
MODELS = [
    {"name": "vqc", "n_qubits": 3, "layers": 2, "n_classes": 3},
    {"name": "classical", "n_features": 3, "n_classes": 3},
    {"name": "vqc", "n_qubits": 3, "layers": 1, "n_classes": 2},
]


def gradient(model: Model, params: torch.Tensor, record: torch.Tensor, label: int) -> torch.Tensor:
    leaf = params.clone().requires_grad_()
    loss = model.loss.per_sample(model(leaf, record[None]), torch.tensor([label]))
    return torch.autograd.grad(loss.sum(), leaf)[0]


@pytest.mark.parametrize("config", MODELS)
def test_slopes_are_directional_derivatives_of_each_loss(config: dict[str, object]) -> None:
    model, generator = build_model(config), torch.Generator().manual_seed(1)
    params = torch.rand(2, model.n_params, generator=generator)
    direction = torch.rand(2, model.n_params, generator=generator) - 0.5
    features = torch.rand(2, 4, 3, generator=generator)
    found = label_slopes(model, params, features, direction)
    assert found.shape == (2, 4, model.n_classes)
    for row, record, label in itertools.product(range(2), range(4), range(model.n_classes)):
        expected = gradient(model, params[row], features[row, record], label) @ direction[row]
        assert float(found[row, record, label]) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize(("fraction", "budget"), [(0.5, 2), (0.25, 1), (1.0, 4), (0.01, 1)])
def test_no_labelling_within_the_budget_points_more_against_the_honest_step(
    hands: MakeHands, fraction: float, budget: int
) -> None:
    model, generator = build_model(MODELS[0]), torch.Generator().manual_seed(3)
    n = model.n_params
    labels = torch.randint(0, 3, (2, 2, 5), generator=generator)
    mask = torch.tensor([1.0, 1, 1, 1, 0]).expand(2, 2, 5)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    held = hands(
        seen,
        model=model,
        labels=labels,
        mask=mask,
        features=torch.rand(2, 2, 5, 3, generator=generator),
        received=torch.rand(2, 2, n, generator=generator),
        honest=torch.rand(2, 2, n, generator=generator) - 0.5,
    )
    GreedyLabelFlip(fraction=fraction).run(held)
    ((features, chosen),) = seen
    assert torch.equal(features, held.features)
    assert torch.equal(chosen[..., 4], labels[..., 4]), "padding is left alone"
    for lane, row in itertools.product(range(2), range(2)):
        step = held.honest[lane].mean(dim=0)
        slope = [
            [
                float(gradient(model, held.received[lane, row], held.features[lane, row, i], c) @ step)
                for c in range(3)
            ]
            for i in range(4)
        ]
        true = labels[lane, row, :4].tolist()
        best = max(
            sum(slope[i][c] for i, c in enumerate(wrong))
            for wrong in itertools.product(range(3), repeat=4)
            if sum(a != b for a, b in zip(wrong, true, strict=True)) <= budget
        )
        found = chosen[lane, row, :4].tolist()
        assert sum(a != b for a, b in zip(found, true, strict=True)) <= budget
        assert sum(slope[i][c] for i, c in enumerate(found)) == pytest.approx(best, abs=1e-5)


def test_the_least_likely_class_one_record_at_a_time(hands: MakeHands) -> None:
    model = build_model({"name": "vqc", "n_qubits": 4, "layers": 3, "n_classes": 3})
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 3, (2, 2, 6), generator=generator)
    received = torch.rand(2, 2, model.n_params, generator=generator)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    held = hands(seen, model=model, labels=labels, received=received)
    LabelFlip(rule="least-likely").updates(held)
    for lane, row, i in itertools.product(range(2), range(2), range(6)):
        logits = model(received[lane, row], held.features[lane, row, i][None])[0].tolist()
        true = int(labels[lane, row, i])
        wrong = min((c for c in range(3) if c != true), key=lambda c: logits[c])
        assert int(seen[0][1][lane, row, i]) == wrong


def test_what_is_refused(pipeline: Callable[..., Pipeline]) -> None:
    for fraction in (0.0, 1.5):
        with pytest.raises(ConfigError):
            GreedyLabelFlip(fraction=fraction)
    small, threat = pipeline(members=20, rounds=1), corrupted_clients(n=1)
    GreedyLabelFlip().check(small, threat)
    hybrid = build_model({"name": "hybrid", "n_features": 4, "n_qubits": 2, "layers": 1, "n_classes": 2})
    head = replace(small, model=hybrid, personal=(hybrid.layout[-1][0],))
    with pytest.raises(IncompatibleAttack, match="part"):
        GreedyLabelFlip().check(head, threat)
