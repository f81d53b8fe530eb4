"""Challenges, attacks and scorers work on any subject: here on training that was recorded as numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from qflsec.attacks import Blocked, Inference, MembershipClaim, OneByOne
from qflsec.attacks.inversion import DeepLeakage
from qflsec.attacks.membership import Lira, LossThreshold
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.lab import Subject
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import TrialScore, score_claim, score_poisoning
from qflsec.models import EXACT, Execution, Model, build_model
from qflsec.threat import (
    Granted,
    Records,
    ThreatModel,
    View,
    honest_but_curious_server,
    nobody,
    public_final_model,
    recorded_transcript,
)

SERVER = honest_but_curious_server()


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedSubject:
    """What somebody kept of a training: models, updates and records as arrays.

    Shapes:
        models: ``(rounds + 1, P)``; updates: ``(rounds, C, P)``
    """

    model: Model
    training: FederationConfig
    feature_range: tuple[float, float]
    models: np.ndarray
    updates: np.ndarray
    clients: Sequence[tuple[np.ndarray, np.ndarray]]
    others: dict[str, tuple[np.ndarray, np.ndarray]]

    @property
    def angle_features(self) -> bool:
        return self.model.angle_features

    @property
    def holdings(self) -> None:
        return None

    @property
    def executions(self) -> tuple[Execution, ...]:
        return (EXACT,) * self.training.n_clients

    @property
    def participants(self) -> dict[int, frozenset[int]]:
        return {index: frozenset(range(self.training.n_clients)) for index in range(self.training.rounds)}

    def records(self, split: str) -> Records:
        if split == "member":
            return _records(*(np.concatenate(part) for part in zip(*self.clients, strict=True)))
        return _records(*self.others[split])

    def client_records(self, index: int) -> Records:
        return _records(*self.clients[index])

    def predict(self, features: torch.Tensor) -> torch.Tensor:
        return self.model(torch.from_numpy(self.models[-1]), features).argmax(dim=-1)

    def view(self, threat: ThreatModel) -> View:
        return recorded_transcript(
            models=list(self.models),
            updates=[dict(enumerate(part)) for part in self.updates],
            counts=[len(labels) for _, labels in self.clients],
            granted=Granted(model=self.model, auxiliary=self.records("auxiliary")),
        ).seen_by(threat)


def _records(features: np.ndarray, labels: np.ndarray) -> Records:
    return Records(features=torch.from_numpy(features), labels=torch.from_numpy(labels))


def _arrays(records: Records) -> tuple[np.ndarray, np.ndarray]:
    return records.features.numpy(), records.labels.numpy()


def record(run: RunResult) -> RecordedSubject:
    """What somebody who trained as the lab does would have kept."""
    config, seen = run.pipeline.federation, run.view(SERVER)
    updates = [
        [
            seen.readable("update", round_index=index, about=i)[0].vector.numpy()
            for i in range(config.n_clients)
        ]
        for index in range(config.rounds)
    ]
    models = [seen.model_at(index) for index in range(config.rounds + 1)]
    return RecordedSubject(
        model=run.pipeline.model,
        training=config,
        feature_range=run.feature_range,
        models=np.stack([model.numpy() for model in models if model is not None]),
        updates=np.array(updates),
        clients=[_arrays(run.client_records(i)) for i in range(config.n_clients)],
        others={split: _arrays(run.records(split)) for split in ("nonmember", "auxiliary", "test", "canary")},
    )


@pytest.fixture(scope="module")
def run() -> RunResult:
    pipeline = Pipeline(
        data=DataSpec(name="breast-cancer", members=12, nonmembers=12, auxiliary=20, test=20, balanced=True),
        model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
        federation=FederationConfig(n_clients=6, rounds=2, learning_rate=0.5),
    )
    return run_batch(pipeline, Stack(name="none"), [RunSpec(seed=3)])[0]


def judge(attack: Inference, subject: Subject, threat: ThreatModel) -> TrialScore | Blocked:
    asked, truth = challenge_for(attack, subject, seed=3, threat=threat)
    claim = attack(subject.view(threat), asked)
    return claim if isinstance(claim, Blocked) else score_claim(claim, truth)


@pytest.mark.parametrize(
    "attack", [LossThreshold(), DeepLeakage(restarts=2, screened=16)], ids=["loss", "dlg"]
)
def test_recorded_training_is_attacked_and_scored_as_the_run_was(attack: Inference, run: RunResult) -> None:
    first, second = judge(attack, run, SERVER), judge(attack, record(run), SERVER)
    assert isinstance(first, TrialScore)
    assert repr(first) == repr(second)  # intervals that do not exist are NaN, and NaN equals nothing
    if isinstance(attack, DeepLeakage):
        assert first.advantage > 0.9, "an update of two records gives them away"


def test_whoever_holds_nothing_is_blocked_and_the_public_reads_the_last_model_only(run: RunResult) -> None:
    subject = record(run)
    for attack in (LossThreshold(), DeepLeakage()):
        assert isinstance(judge(attack, subject, nobody()), Blocked)
    assert isinstance(judge(LossThreshold(), subject, public_final_model()), TrialScore)
    assert isinstance(judge(DeepLeakage(), subject, public_final_model()), Blocked)


def test_query_access_is_enough_for_the_loss(run: RunResult) -> None:
    """A service that answers queries, and shows neither its parameters nor its architecture."""
    asked, _ = challenge_for(LossThreshold(), run, seed=3)
    seen = run.view(nobody())
    blind = replace(seen, granted=Granted())
    assert isinstance(LossThreshold()(blind, asked), Blocked)
    queried = replace(blind, oracle=lambda features: run.pipeline.model(run.params, features))
    claim, reading = LossThreshold()(queried, asked), LossThreshold()(run.view(SERVER), asked)
    assert isinstance(claim, MembershipClaim)
    assert isinstance(reading, MembershipClaim)
    assert torch.equal(claim.scores, reading.scores)
    assert queried.logits(asked.candidates.features, round_index=0) is None, (
        "it answers for the last model only"
    )


def test_manipulations_are_scored_on_any_subject(run: RunResult) -> None:
    honest = record(run)
    untrained = replace(honest, models=np.concatenate([honest.models, honest.models[:1]]))
    found, same = score_poisoning(untrained, honest), score_poisoning(honest, honest)
    assert same.reason or same.advantage == 0
    assert found.reason or found.raw["honest_correct"] != found.raw["correct"]


def test_shadow_models_come_from_somebody_s_own_training(run: RunResult) -> None:
    """The function trains one model by Adam on the records that it is given; LiRA does not ask how."""
    subject, trained = record(run), []

    def train(records: Records, seed: int) -> torch.Tensor:
        trained.append((len(records.labels), seed))
        start = subject.model.initial(torch.Generator().manual_seed(seed)).requires_grad_()
        optimiser = torch.optim.Adam([start], lr=0.1)
        for _ in range(5):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(
                subject.model(start, records.features), records.labels
            ).backward()
            optimiser.step()
        return start.detach()

    trainer = OneByOne(train=train, seed=3)
    asked, truth = challenge_for(Lira(shadows=6), subject, seed=3, threat=SERVER, trainer=trainer)
    claim = Lira(shadows=6)(subject.view(SERVER), asked)
    assert isinstance(claim, MembershipClaim)
    assert isinstance(score_claim(claim, truth), TrialScore)
    assert len({seed for _, seed in trained}) == 6
    assert {size for size, _ in trained} == {12}, "as many records as the subject was trained on"
