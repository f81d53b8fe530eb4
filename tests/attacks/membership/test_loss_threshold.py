"""Loss threshold: on views made by hand, and against the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks import Blocked, Inference, MembershipChallenge, MembershipClaim
from qflsec.attacks.membership import LossThreshold
from qflsec.base import AttackCard, IncompatibleAttack, Source
from qflsec.federation import Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import TrialScore, score_claim
from qflsec.models import Model
from qflsec.threat import (
    Item,
    Records,
    ThreatModel,
    View,
    coalition,
    honest_but_curious_server,
    public_final_model,
    wire_eavesdropper,
)

MakeItem = Callable[..., Item]
MakeView = Callable[..., View]


def challenge(n: int = 5) -> MembershipChallenge:
    generator = torch.Generator().manual_seed(0)
    features = 3 * torch.rand(n, 4, generator=generator)
    candidates = Records(features=features, labels=torch.randint(0, 2, (n,), generator=generator))
    return MembershipChallenge(seed=0, attack="loss-threshold", candidates=candidates)


def test_scores_are_minus_the_losses_at_the_last_model(vqc: Model, item: MakeItem, view: MakeView) -> None:
    first, last = torch.zeros(36), torch.linspace(0, 3, 36)
    seen = view(item("model", first), item("final-model", last, round_index=4), model=vqc)
    asked = challenge()
    claim = LossThreshold()(seen, asked)
    assert isinstance(claim, MembershipClaim)
    for score, features, label in zip(
        claim.scores, asked.candidates.features, asked.candidates.labels, strict=True
    ):
        probabilities = torch.softmax(vqc(last, features), dim=-1)
        assert float(score) == pytest.approx(float(probabilities[label].log()), abs=1e-5)


def test_the_reasons_for_being_blocked(vqc: Model, item: MakeItem, view: MakeView) -> None:
    plain = item("model", torch.zeros(36))
    sealed = item("model", b"\x00", form="sealed")
    cases = {
        "no model is in the view": view(item("update", torch.zeros(36)), model=vqc),
        "every model in the view is sealed": view(sealed, model=vqc),
        "the adversary does not know the model's architecture": view(plain, model=None),
    }
    for reason, seen in cases.items():
        assert LossThreshold()(seen, challenge()) == Blocked(reason=reason)
    assert isinstance(LossThreshold()(view(sealed, plain, model=vqc), challenge()), MembershipClaim)


# The rest runs the loop.


@pytest.fixture(scope="module")
def overfit() -> dict[str, object]:
    """Two records for each client, and a circuit that can learn them by heart."""
    return {
        "model": {"encoder": "reuploading", "layers": 10, "scale": 6.0},
        "members": 20,
        "nonmembers": 20,
        "rounds": 40,
        "local_steps": 2,
    }


def judge(result: RunResult, threat: ThreatModel, attack: Inference) -> TrialScore | Blocked:
    asked, truth = challenge_for(attack, result, seed=result.spec.seed, threat=threat)
    claim = attack(result.view(threat), asked)
    return claim if isinstance(claim, Blocked) else score_claim(claim, truth)


def test_power_where_clients_hold_few_records(
    pipeline: Callable[..., Pipeline], overfit: dict[str, object]
) -> None:
    """Three seeds, undefended: the interval of the advantage is clear of zero, and the model generalises badly."""
    runs = run_batch(pipeline(**overfit), Stack(name="none"), [RunSpec(seed=seed) for seed in range(3)])
    found = [judge(run, public_final_model(), LossThreshold()) for run in runs]
    scores = [score for score in found if isinstance(score, TrialScore)]
    gaps = [score.metrics["generalisation_gap"].value for score in scores]
    interval = mean_over_seeds([score.advantage for score in scores])
    assert interval.low > 0.1
    assert min(gaps) > 0.05
    # whoever reads the final model has the same view of it, and gets the same row
    server = judge(runs[0], honest_but_curious_server(), LossThreshold())
    assert isinstance(server, TrialScore)
    assert server.raw == scores[0].raw
    assert judge(runs[0], public_final_model().withdrawn(), LossThreshold()) == Blocked(
        reason="no model is in the view"
    )


def test_no_power_before_training(pipeline: Callable[..., Pipeline], overfit: dict[str, object]) -> None:
    """Control: an untrained model knows no member from a non-member.

    Twelve games of 20 and 20 records have a standard error of 0.053 under the null; false-alarm rate 6e-5.
    """
    runs = run_batch(
        pipeline(**{**overfit, "rounds": 1, "local_steps": 1, "learning_rate": 1e-6}),
        Stack(name="none"),
        [RunSpec(seed=seed) for seed in range(12)],
    )
    found = [judge(run, public_final_model(), LossThreshold()) for run in runs]
    mean = mean_over_seeds([score.advantage for score in found if isinstance(score, TrialScore)])
    assert mean.n == 12
    assert abs(mean.value) < 4 * 0.053


def test_a_sealed_link_blocks_the_wire_but_not_the_server(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]
) -> None:
    linked = run_batch(
        pipeline(members=20, nonmembers=20, rounds=2), stack("aes-gcm-link"), [RunSpec(seed=0)]
    )[0]
    seen = linked.view(wire_eavesdropper())
    private = replace(seen, items=tuple(item for item in seen.items if item.kind != "final-model"))
    asked, _ = challenge_for(LossThreshold(), linked, seed=0)
    assert LossThreshold()(private, asked) == Blocked(reason="every model in the view is sealed")
    assert isinstance(LossThreshold()(seen, asked), MembershipClaim), "what is published is open to all"
    assert isinstance(judge(linked, honest_but_curious_server(), LossThreshold()), TrialScore)


def test_records_of_corrupted_clients_are_no_question(pipeline: Callable[..., Pipeline]) -> None:
    result = run_batch(pipeline(members=20, nonmembers=20, rounds=1), Stack(name="none"), [RunSpec(seed=0)])[
        0
    ]
    asked, truth = challenge_for(LossThreshold(), result, seed=0, threat=coalition(server=True, n=3))
    own = torch.cat([result.client_records(index).features for index in range(3)])
    assert len(asked.candidates.labels) == 2 * 14
    assert int(truth.member.sum()) == 14
    same = (asked.candidates.features[:, None] == own[None]).all(dim=-1)
    assert not bool(same.any())
    members = result.records("member").features
    known = (asked.candidates.features[:, None] == members[None]).all(dim=-1).any(dim=-1)
    assert torch.equal(known, truth.member)


def test_the_challenge_does_not_depend_on_the_stack(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]
) -> None:
    asked = [
        challenge_for(
            LossThreshold(),
            run_batch(pipeline(members=20, nonmembers=20, rounds=1), layers, [RunSpec(seed=3)])[0],
            seed=3,
        )[0]
        for layers in (stack(), stack("dp-sgd"), stack("masked"))
    ]
    for other in asked[1:]:
        assert torch.equal(other.candidates.features, asked[0].candidates.features)


def test_a_game_needs_non_members(pipeline: Callable[..., Pipeline]) -> None:
    result = run_batch(pipeline(members=20, rounds=1), Stack(name="none"), [RunSpec(seed=0)])[0]
    with pytest.raises(IncompatibleAttack, match="nonmembers"):
        challenge_for(LossThreshold(), result, seed=0)


# A user's own attack, in twenty lines:
@dataclass(frozen=True, kw_only=True)
class Confidence(Inference):
    """Score a candidate by the model's confidence, whatever its label."""

    card = AttackCard(
        name="confidence",
        idea="A model is sure of what it was trained on.",
        source=Source(paper="example", year=2026, where="this test"),
        family="membership",
        goal="confidentiality",
        needs=("a readable model",),
    )
    challenge_type = MembershipChallenge

    def missing(self, view: View, challenge: MembershipChallenge) -> str | None:
        return None if view.final_model() is not None else "no model can be read"

    def run(self, view: View, challenge: MembershipChallenge) -> MembershipClaim:
        logits = view.granted.model(view.final_model(), challenge.candidates.features)
        return MembershipClaim(scores=torch.softmax(logits, dim=-1).amax(dim=-1))


def test_an_own_attack_takes_twenty_lines(
    pipeline: Callable[..., Pipeline], overfit: dict[str, object]
) -> None:
    result = run_batch(pipeline(**overfit), Stack(name="none"), [RunSpec(seed=0)])[0]
    found = judge(result, public_final_model(), Confidence())
    assert isinstance(found, TrialScore)
    assert found.advantage > 0
    assert Confidence().to_config() == {"name": "confidence"}
