"""Canaries: what is changed and what is not, how far encoded states are moved, and that they are told better."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch

from qflsec.attacks import MembershipChallenge
from qflsec.attacks.membership import LossThreshold
from qflsec.base import ConfigError
from qflsec.data import DataSpec, load
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.lab.worlds.federation.shadows import candidates_of
from qflsec.models import build_model
from qflsec.threat import public_final_model


def spec(**change: Any) -> DataSpec:
    return DataSpec(
        **{
            "name": "breast-cancer",
            "balanced": True,
            "members": 20,
            "nonmembers": 16,
            "auxiliary": 20,
            "test": 20,
            **change,
        }
    )


@pytest.mark.parametrize("canary", ["mislabelled", "offset"])
def test_so_many_members_and_others_are_changed_in_one_thing_alone(canary: str) -> None:
    plain, found = load(spec(), 3), load(spec(canaries=6, canary=canary), 3)
    rows = found.canary_idx
    assert len(plain.canary_idx) == 0
    assert len(set(rows.tolist())) == 12
    assert len(set(rows.tolist()) & set(found.member_idx.tolist())) == 6
    assert len(set(rows.tolist()) & set(found.nonmember_idx.tolist())) == 6
    others = torch.ones(len(plain.labels), dtype=torch.bool)
    others[rows] = False
    assert torch.equal(plain.features[others], found.features[others])
    assert torch.equal(plain.labels[others], found.labels[others])
    if canary == "mislabelled":
        assert torch.equal(found.features, plain.features)
        assert torch.equal(found.labels[rows], 1 - plain.labels[rows])
    else:
        assert torch.equal(found.labels, plain.labels)
        moved = (found.features[rows] - plain.features[rows]).abs()
        assert torch.allclose(moved, torch.full_like(moved, math.pi / 2), atol=1e-6)
        assert 0 <= float(found.features.min()) <= float(found.features.max()) <= math.pi + 1e-6
    assert not torch.equal(load(spec(canaries=6, canary=canary), 4).canary_idx, rows)


@pytest.mark.parametrize("offset", [0.3, math.pi / 2])
def test_encoded_states_are_as_far_apart_as_the_page_says(offset: float) -> None:
    """By PennyLane's state vectors: sqrt(1 - fidelity), which of pure states is the trace distance."""
    device = qml.device("default.qubit", wires=3)

    @qml.qnode(device)
    def state(features: np.ndarray) -> Any:
        qml.AngleEmbedding(features, wires=range(3), rotation="X")
        return qml.state()

    plain = load(spec(n_features=3), 0)
    found = load(spec(n_features=3, canaries=4, canary="offset", canary_offset=offset), 0)
    for row in found.canary_idx.tolist():
        pair = [np.asarray(state(one.features[row].double().numpy())) for one in (plain, found)]
        distance = math.sqrt(1 - abs(np.vdot(*pair)) ** 2)
        assert distance == pytest.approx(math.sqrt(1 - math.cos(offset / 2) ** 6), abs=1e-5)


def pipeline(**change: Any) -> Pipeline:
    return Pipeline(
        data=spec(members=40, nonmembers=40, auxiliary=40, **change),
        model=build_model(
            {"name": "vqc", "n_qubits": 4, "layers": 4, "encoder": "reuploading", "scale": 6.0}
        ),
        federation=FederationConfig(n_clients=4, rounds=20, local_steps=2, learning_rate=0.4),
    )


@pytest.mark.parametrize("canary", ["mislabelled", "offset"])
def test_attacks_are_asked_of_the_canaries_alone_and_tell_them_better(canary: str) -> None:
    """Six runs of eight canaries and eight others, all seeded: the mean advantage rises by more than a fifth."""
    means = []
    for setting in (pipeline(), pipeline(canaries=8, canary=canary)):
        runs = run_batch(setting, Stack(name="none"), [RunSpec(seed=seed) for seed in range(6)])
        found = []
        for run in runs:
            challenge, truth = challenge_for(LossThreshold(), run, seed=run.spec.seed)
            assert isinstance(challenge, MembershipChallenge)
            if len(run.dataset.canary_idx):
                rows = run.dataset.canary_idx
                asked = {tuple(one) for one in challenge.candidates.features.tolist()}
                assert asked == {tuple(one) for one in run.dataset.features[rows].tolist()}
                planned = candidates_of(setting, run.dataset, run.spec.seed, corrupted=())
                assert torch.equal(planned.features, challenge.candidates.features)
            claim = LossThreshold()(run.view(public_final_model()), challenge)
            found.append(score_claim(claim, truth).advantage)  # type: ignore[arg-type]
        means.append(float(np.mean(found)))
    assert means[1] > means[0] + 0.2


def test_what_cannot_be_a_canary_is_refused() -> None:
    for change, word in (
        ({"canaries": 17}, "more canaries than records"),
        ({"canaries": -1}, "canaries"),
        ({"canaries": 2, "canary": "loud"}, "canary"),
        ({"canaries": 2, "canary": "offset", "canary_offset": 2.0}, "range of the features"),
        ({"canaries": 2, "canary": "offset", "canary_offset": 0.0}, "range of the features"),
    ):
        with pytest.raises(ConfigError, match=word):
            spec(**change)
