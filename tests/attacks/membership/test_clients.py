"""Membership of whole clients: exact where local training is public, through sums, and by shadow models of record sets."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from qflsec.attacks import ClientClaim, ClientMembershipChallenge, Inference, ShadowRequest
from qflsec.attacks.membership import ClientLira, ClientRegression
from qflsec.attacks.shadows import shadow_sets
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.data import DataSpec, PartitionSpec
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.federation.shadows import ShadowTrainer
from qflsec.lab.challenges import challenge_for, check_challenge
from qflsec.lab.scoring import score_claim
from qflsec.models import build_model
from qflsec.protocols.secagg import Masked
from qflsec.threat import ThreatModel, honest_but_curious_server, public_final_model

SERVER, PUBLIC = honest_but_curious_server(), public_final_model()


def pipeline(*, nonmembers: int = 18, kind: str = "iid", **federation: Any) -> Pipeline:
    return Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=2,
            balanced=True,
            members=18,
            nonmembers=nonmembers,
            auxiliary=20,
            test=8,
        ),
        partition=PartitionSpec(kind=kind),
        model=build_model(
            {"name": "vqc", "n_qubits": 2, "layers": 6, "encoder": "reuploading", "scale": 6.0}
        ),
        federation=FederationConfig(**{"n_clients": 6, "rounds": 6, "learning_rate": 0.4, **federation}),
    )


def made(setting: Pipeline, *, masked: bool = False) -> RunResult:
    stack = Stack(name="s", client=(Masked(),) if masked else ())
    return run_batch(setting, stack, [RunSpec(seed=1)], secrets="seeded")[0]


def advantage(attack: Inference, run: RunResult, threat: ThreatModel = SERVER) -> float:
    seed = run.spec.seed
    trainer = ShadowTrainer(pipeline=run.pipeline, like=run.dataset, seed=seed)
    challenge, truth = challenge_for(attack, run, seed=seed, threat=threat, trainer=trainer)
    claim = attack(run.view(threat), challenge)
    assert isinstance(claim, ClientClaim)
    return score_claim(claim, truth).advantage


LOCAL: dict[str, dict[str, Any]] = {
    "one step": {},
    "three steps": {"local_steps": 3},
    "Adam in batches": {"epochs": 2, "batch_size": 2, "optimizer": "adam", "learning_rate": 0.05},
    "clients that change": {"participation": 0.5},
}


@pytest.mark.parametrize("local", LOCAL.values(), ids=LOCAL)
@pytest.mark.parametrize("masked", [False, True], ids=["single updates", "sums"])
def test_whose_client_trained_is_in_every_update_and_in_every_sum(
    local: dict[str, Any], masked: bool
) -> None:
    """Masks hide whose a record set is, not that it was there. Two qubits leave some sets' updates nearly alike."""
    assert advantage(ClientRegression(), made(pipeline(**local), masked=masked)) > 0.6


def test_full_batches_give_members_their_weight_and_others_none() -> None:
    """The exact weights of federated averaging, clients of different sizes, to single precision."""
    run = made(pipeline(kind="quantity-skew"), masked=True)
    challenge, truth = challenge_for(ClientRegression(), run, seed=1, threat=SERVER)
    assert isinstance(challenge, ClientMembershipChallenge)
    claim = ClientRegression()(run.view(SERVER), challenge)
    assert isinstance(claim, ClientClaim)
    sizes = torch.tensor([float(len(one.labels)) for one in challenge.candidates])
    expected = torch.where(truth.holds, 6 * sizes / 18, 0.0).double()
    missed = 1 - float(expected.sum()) / 6  # members that are no candidates are spread over the others
    assert torch.allclose(claim.scores, expected, atol=0.02 + 6 * missed)


def test_the_last_model_says_something_and_one_that_hardly_trained_nothing() -> None:
    """Six and six record sets: by chance an advantage has a standard deviation of 0.36, its mean over eight runs 0.13."""
    attack = ClientLira(shadows=16, variance="shared")
    assert advantage(attack, made(pipeline(rounds=20)), PUBLIC) > 0.3
    still = run_batch(
        pipeline(rounds=1, learning_rate=1e-9), Stack(name="s"), [RunSpec(seed=seed) for seed in range(8)]
    )
    found = [advantage(attack, run, PUBLIC) for run in still]
    assert abs(sum(found) / len(found)) < 4 * 0.13


def test_a_record_set_is_in_a_shadow_model_s_training_set_as_a_whole_or_not_at_all() -> None:
    run = made(pipeline(kind="quantity-skew", rounds=1))
    challenge, _ = challenge_for(ClientLira(), run, seed=1, threat=SERVER)
    assert isinstance(challenge, ClientMembershipChallenge)
    _, members = shadow_sets(
        challenge, run.records("auxiliary"), ShadowRequest(count=8, online=True, clients=True)
    )
    groups = challenge.groups
    inside = members[:, : len(groups)]
    first = torch.searchsorted(groups, torch.arange(challenge.n_questions))
    assert inside[:, first].sum(dim=1).tolist() == [challenge.n_questions // 2] * 8
    for group in range(challenge.n_questions):
        one = inside[:, groups == group]
        assert torch.equal(one.all(dim=1), one.any(dim=1))
        assert int(one[:, 0].sum()) == 4


def test_record_sets_of_nobody_are_needed() -> None:
    with pytest.raises(IncompatibleAttack, match="record sets that nobody trained on"):
        check_challenge(ClientRegression(), pipeline(nonmembers=0), SERVER)
    with pytest.raises(ConfigError, match="'rounds' is too small"):
        ClientRegression(rounds=0)
