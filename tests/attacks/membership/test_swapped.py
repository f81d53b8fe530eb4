"""Nothing of the truth reaches an attack: members and non-members are swapped behind its back, and its scores stay.

The view is that of the run as it was. Everything else that an attack could reach, the challenge and the data of whoever
trains for it, is made from the run with the two splits exchanged, so that whatever leaks from there tells the contrary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch

from qflsec.attacks import (
    ActiveInference,
    Blocked,
    ClientClaim,
    ClientMembershipChallenge,
    Inference,
    MembershipChallenge,
    MembershipClaim,
)
from qflsec.attacks.shadows import Question
from qflsec.base import AttackCard, Source, find, names
from qflsec.data import DataSpec
from qflsec.federation import (
    FederationConfig,
    NaturalGradient,
    Pipeline,
    RunResult,
    RunSpec,
    Stack,
    run_batch,
)
from qflsec.federation.round.lanes import lane_of
from qflsec.federation.shadows import ShadowTrainer
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import build_model
from qflsec.threat import ThreatModel, View, honest_but_curious_server, malicious_server

SERVER = honest_but_curious_server(knows=("architecture", "auxiliary", "defenses"))
PIPELINE = Pipeline(
    data=DataSpec(
        name="breast-cancer", n_features=2, balanced=True, members=8, nonmembers=8, auxiliary=12, test=8
    ),
    model=build_model({"name": "vqc", "n_qubits": 2, "layers": 2}),
    federation=FederationConfig(n_clients=2, rounds=2, learning_rate=0.4),
)


def attacks() -> list[str]:
    """Every membership attack of the package."""
    return [
        name for name in names("attack") if getattr(find("attack", name).card, "family", "") == "membership"
    ]


@cache
def honest(*, uploads: bool = False) -> RunResult:
    natural = NaturalGradient(solved_by="server") if uploads else None
    which = replace(PIPELINE, federation=replace(PIPELINE.federation, natural_gradient=natural))
    return run_batch(which, Stack(name="none"), [RunSpec(seed=0)])[0]


def swapped(run: RunResult) -> RunResult:
    """The run with its members and non-members exchanged; its transcript, and so every view, stays."""
    data = run.dataset
    other = replace(data, member_idx=data.nonmember_idx, nonmember_idx=data.member_idx)
    return replace(run, dataset=other, clients=lane_of(run.pipeline, other, run.spec.seed).clients)


def question(attack: Inference, run: RunResult, threat: ThreatModel) -> tuple[Question, Any]:
    trainer = ShadowTrainer(pipeline=run.pipeline, like=run.dataset, seed=0)
    challenge, truth = challenge_for(attack, run, seed=0, threat=threat, trainer=trainer)
    assert isinstance(challenge, MembershipChallenge | ClientMembershipChallenge)
    return challenge, truth


def moved(attack: Inference, run: RunResult, threat: ThreatModel) -> float:
    """How far the scores of the same records move by the swap."""
    view, other = run.view(threat), swapped(run)
    asked, truth = question(attack, run, threat)
    again, _ = question(attack, other, threat)
    first, second = (
        attack(seen, challenge)
        for seen, challenge in (
            (view, asked),
            (other.view(threat), replace(again, candidates=asked.candidates)),
        )
    )
    assert isinstance(first, MembershipClaim | ClientClaim)
    assert isinstance(second, MembershipClaim | ClientClaim)
    assert bool(torch.isfinite(first.scores).all())
    score_claim(first, truth)
    return float((first.scores - second.scores).abs().max())


def made(name: str) -> Inference:
    """The attack with few shadow models."""
    kind = find("attack", name)
    few = {"shadows": 4} if "shadows" in kind.__dataclass_fields__ else {}
    attack: Inference = kind(**few)
    return attack


def run_of(attack: Inference) -> tuple[RunResult, ThreatModel]:
    """The run that an attack looks at, and by whom: an active one deviates in a run of its own."""
    if not isinstance(attack, ActiveInference):
        return honest(uploads=attack.card.name == "metric-fit"), SERVER
    threat = replace(malicious_server(), knows=SERVER.knows)
    asked, _ = question(attack, honest(), threat)
    assert isinstance(asked, MembershipChallenge)
    spec = RunSpec(seed=0, adversary=attack, threat=threat, asked=asked.candidates)
    return run_batch(PIPELINE, Stack(name="none"), [spec])[0], threat


@pytest.mark.parametrize("name", attacks())
def test_no_score_depends_on_the_truth(name: str) -> None:
    attack = made(name)
    assert moved(attack, *run_of(attack)) == 0.0


@dataclass(frozen=True, kw_only=True)
class Peeks(Inference):
    """A control that reads who was trained on where the trainer keeps it."""

    card = AttackCard(
        name="peeks",
        idea="A leak.",
        source=Source(paper="test stand-in", year=2026, where="here"),
        family="membership",
        goal="confidentiality",
        needs=("the truth",),
    )
    challenge_type = MembershipChallenge

    def missing(self, view: View, challenge: MembershipChallenge) -> str | None:
        return None

    def run(self, view: View, challenge: MembershipChallenge) -> MembershipClaim:
        trainer: Any = challenge.trainer
        known = trainer.like.features[trainer.like.member_idx]
        found = (challenge.candidates.features[:, None] == known[None]).all(dim=-1).any(dim=-1)
        return MembershipClaim(scores=found.double())


def test_a_leak_is_seen() -> None:
    assert moved(Peeks(), honest(), SERVER) == 1.0


@pytest.mark.parametrize("name", attacks())
def test_without_a_view_there_is_no_claim(name: str, view: Callable[..., View]) -> None:
    attack = made(name)
    challenge, _ = question(attack, honest(), SERVER)
    assert isinstance(attack(view(model=PIPELINE.model), challenge), Blocked)
