"""Views of training that somebody else recorded: the same closure, the same bases, the same anonymity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.base import ConfigError
from qflsec.threat import (
    Granted,
    ThreatModel,
    coalition,
    corrupted_clients,
    honest_but_curious_server,
    nobody,
    public_final_model,
    recorded_transcript,
    wire_eavesdropper,
)

P, COUNTS = 5, (10.0, 20.0, 30.0)


def training(rounds: int = 3) -> tuple[list[np.ndarray], list[dict[int, np.ndarray]]]:
    """Models and updates of federated averaging as numpy arrays."""
    rng = np.random.default_rng(0)
    models, updates = [rng.normal(size=P)], []
    for _ in range(rounds):
        sent = {i: rng.normal(size=P) for i in range(3)}
        updates.append(sent)
        models.append(models[-1] + np.average(list(sent.values()), axis=0, weights=COUNTS))
    return models, updates


def close(first: torch.Tensor, second: np.ndarray) -> bool:
    return np.allclose(first.numpy(), second, atol=1e-5)


def test_the_server_reads_every_update_with_its_base() -> None:
    models, updates = training()
    view = recorded_transcript(models=models, updates=updates, counts=COUNTS).seen_by(
        honest_but_curious_server()
    )
    for index, sent in enumerate(updates):
        for i, vector in sent.items():
            item = view.readable("update", round_index=index, about=i)[0]
            assert close(item.vector, vector)
            assert item.k == 1
            assert item.weight == COUNTS[i]
            base = view.base_of(item)
            assert base is not None
            assert close(base, models[index])
    final = view.final_model()
    assert final is not None
    assert close(final, models[-1])


def test_without_updates_the_models_tell_the_sums() -> None:
    models, updates = training()
    view = recorded_transcript(models=models, counts=COUNTS).seen_by(honest_but_curious_server())
    assert not view.readable("update")
    for index, sent in enumerate(updates):
        item = view.readable("aggregate", round_index=index)[0]
        assert close(item.vector, np.average(list(sent.values()), axis=0, weights=COUNTS))
        assert (item.k, item.about) == (3, frozenset({0, 1, 2}))
    insider = recorded_transcript(models=models, counts=COUNTS).seen_by(coalition(server=True, n=2))
    assert {item.k for item in insider.readable("aggregate")} == {1}


def test_a_rate_a_rule_and_who_took_part_are_told() -> None:
    models, _ = training(2)
    told: dict[str, Any] = {"models": models, "counts": COUNTS, "participants": [[0, 2], [1]]}
    view = recorded_transcript(**told, server_learning_rate=0.5).seen_by(honest_but_curious_server())
    first, second = (view.readable("aggregate", "update", round_index=index)[0] for index in (0, 1))
    assert close(first.vector, (models[1] - models[0]) / 0.5)
    assert (first.about, second.about, second.kind) == (frozenset({0, 2}), frozenset({1}), "update")
    robust = recorded_transcript(**told, linear=False).seen_by(honest_but_curious_server())
    assert {item.kind for item in robust.readable() if item.derived} == {"step"}


@pytest.mark.parametrize(
    ("threat", "kinds"),
    [
        (nobody, set()),
        (public_final_model, {"final-model"}),
        (lambda: corrupted_clients(n=1, active=False), {"model", "final-model", "update", "aggregate"}),
        (wire_eavesdropper, {"model", "final-model", "update", "aggregate"}),
    ],
)
def test_who_sees_what(threat: Callable[[], ThreatModel], kinds: set[str]) -> None:
    models, updates = training()
    view = recorded_transcript(models=models, updates=updates, counts=COUNTS).seen_by(threat())
    assert {item.kind for item in view.readable()} == kinds
    if threat().clients:
        own = {item.about for item in view.readable("update") if not item.derived}
        assert own == {frozenset({0})}, "a client reads its own update and no other"


def test_granted_knowledge_follows_the_threat_model() -> None:
    models, _ = training(1)
    granted = Granted(model=lambda params, features: features * params[0], defenses="none")
    made = recorded_transcript(models=models, counts=COUNTS, granted=granted)
    view = made.seen_by(honest_but_curious_server())
    assert view.granted.defenses is None
    answers = view.logits(torch.ones(2, 2))
    assert answers is not None
    assert torch.allclose(answers, torch.full((2, 2), float(models[1][0])))
    before = view.logits(torch.ones(2, 2), round_index=0)
    assert before is not None
    assert torch.allclose(before, torch.full((2, 2), float(models[0][0])))
    assert made.seen_by(nobody()).logits(torch.ones(2, 2)) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": []}, "no model was recorded"),
        ({"models": [np.zeros(3), np.zeros(4)]}, "flat vectors of one length"),
        ({"models": [np.zeros((2, 2)), np.zeros((2, 2))]}, "flat vectors"),
        ({"updates": [{}, {}]}, "different numbers of rounds"),
        ({"participants": []}, "different numbers of rounds"),
        ({"updates": [{5: np.zeros(3)}]}, "no entry in 'counts'"),
        ({"participants": [[-1]]}, "no entry in 'counts'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: Mapping[str, Any], words: str) -> None:
    told: dict[str, Any] = {"models": [np.zeros(3), np.ones(3)], "counts": COUNTS, **change}
    with pytest.raises(ConfigError, match=words):
        recorded_transcript(**told)
