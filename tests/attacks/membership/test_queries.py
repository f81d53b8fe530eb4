"""Query access: what the shots of an answer tell of membership (Su et al., arXiv:2509.06086), for a circuit and a hybrid."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from qflsec.accounting.statistics import Estimate, mean_over_seeds
from qflsec.attacks import MembershipClaim
from qflsec.attacks.membership import LossThreshold
from qflsec.base import stream
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import Execution, build_model
from qflsec.threat import View, public_final_model

PUBLIC = public_final_model()
CIRCUIT = {"name": "vqc", "n_qubits": 4, "layers": 10, "encoder": "reuploading", "scale": 6.0}
HYBRID = {"name": "hybrid", "n_features": 4, "n_qubits": 4, "layers": 3}
SHOTS = (1, 16, 256, None)


def runs(model: dict[str, object]) -> list[RunResult]:
    pipeline = Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=4,
            balanced=True,
            members=20,
            nonmembers=20,
            auxiliary=60,
            test=20,
        ),
        model=build_model(model),
        federation=FederationConfig(n_clients=10, rounds=20, local_steps=2, learning_rate=0.5),
    )
    specs = [RunSpec(seed=seed, evaluate="never") for seed in range(10)]
    return run_batch(pipeline, Stack(name="none"), specs)


def queried(run: RunResult, shots: int | None) -> View:
    """A view that holds no model: each query is answered with so many shots."""
    view, execution = run.view(PUBLIC), Execution(shots=shots)
    generator = stream(run.spec.seed, "answers", shots or 0)

    def answer(features: torch.Tensor) -> torch.Tensor:
        return run.pipeline.model(run.params, features, execution=execution, generator=generator)

    return replace(view, items=(), granted=replace(view.granted, model=None), oracle=answer)


def advantages(made: list[RunResult], shots: int | None) -> list[float]:
    found = []
    for run in made:
        challenge, truth = challenge_for(LossThreshold(), run, seed=run.spec.seed, threat=PUBLIC)
        claim = LossThreshold()(queried(run, shots), challenge)
        assert isinstance(claim, MembershipClaim)
        found.append(score_claim(claim, truth).advantage)
    return found


def mean(values: list[float]) -> Estimate:
    return mean_over_seeds(values, within=(-2.0, 2.0))


@pytest.mark.slow
def test_a_circuit_that_is_queried_leaks_more_with_more_shots() -> None:
    """Found: 0.20 [0.08, 0.32] with one shot, 0.57, 0.72, and 0.76 [0.67, 0.84] exactly; a hybrid 0.04 [-0.09, 0.18]."""
    made = runs(CIRCUIT)
    by_shots = [advantages(made, shots) for shots in SHOTS]
    assert mean(by_shots[0]).low > 0, "a single shot tells something"
    for fewer, more in pairwise(by_shots[:3]):
        assert mean([two - one for one, two in zip(fewer, more, strict=True)]).low > 0
    assert mean(by_shots[-1]).value == pytest.approx(0.76, abs=0.08)
    hybrid = mean(advantages(runs(HYBRID), None))
    assert hybrid.high < 0.3, "a hybrid that fits members no better than others hardly leaks"
