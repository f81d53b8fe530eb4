"""An attack keeps what it must in explicit states, one for each run, and nothing anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from qflsec.attacks import ActiveInference, Manipulation, MembershipChallenge, MembershipClaim
from qflsec.attacks.base import Attack
from qflsec.base import AttackCard, Source
from qflsec.federation import (
    Adversary,
    Hands,
    Moved,
    Pipeline,
    RunResult,
    RunSpec,
    ServerHands,
    Stack,
    run_batch,
)
from qflsec.threat import (
    Payload,
    Tapped,
    View,
    corrupted_clients,
    honest_but_curious_server,
    malicious_server,
    wire_eavesdropper,
)

NONE = Stack(name="none")
ONE = corrupted_clients(n=1)
CARD = AttackCard(
    name="stand-in",
    idea="Stands in.",
    source=Source(paper="test stand-in", year=2026, where="tests/attacks/test_state.py"),
    family="poisoning",
    goal="integrity",
    needs=("corrupted clients",),
)
CALLS = [0]
"""What a plugin must not use: the memory of a module."""


@dataclass(frozen=True, kw_only=True)
class Late(Manipulation):
    """Send in each round what was honest in the rounds before, added up."""

    card = CARD

    def start(self, n_params: int) -> torch.Tensor:
        return torch.zeros(n_params)

    def run(self, hands: Hands) -> Moved:
        before = torch.stack(list(hands.states))
        return before[:, None, :].expand_as(hands.honest), list(before + hands.honest.sum(dim=1))


@dataclass(frozen=True, kw_only=True)
class OnModule(Manipulation):
    """The honest update, times how often the module was asked."""

    card = CARD

    def run(self, hands: Hands) -> torch.Tensor:
        CALLS[0] += 1
        return hands.honest * CALLS[0]


@dataclass(frozen=True, kw_only=True)
class OnSelf(Manipulation):
    """Keeps a counter on itself, by one way or another, and scales with it."""

    card = CARD
    how: str = "attribute"

    def run(self, hands: Hands) -> torch.Tensor:
        count = getattr(self, "count", 0) + 1
        if self.how == "attribute":
            self.count = count  # type: ignore[misc]
        else:
            object.__setattr__(self, "count", count)
        return hands.honest * count


@dataclass(frozen=True, kw_only=True)
class Forgetful(Manipulation):
    """Changes the state that it is handed and does not return it."""

    card = CARD

    def start(self, n_params: int) -> list[int]:
        return []

    def run(self, hands: Hands) -> torch.Tensor:
        for state in hands.states:
            state.append(hands.round)
        assert all(len(state) == 1 for state in hands.states)
        return hands.honest


@dataclass(frozen=True, kw_only=True)
class TooFew(Manipulation):
    """Returns no state where there is one lane."""

    card = CARD

    def run(self, hands: Hands) -> Moved:
        return hands.honest, ()


@dataclass(frozen=True, kw_only=True)
class Picky(Manipulation):
    """Fails where an honest update is longer than it is told."""

    card = CARD
    above: float = 0.0

    def start(self, n_params: int) -> int:
        return 0

    def run(self, hands: Hands) -> Moved:
        if bool((hands.honest.norm(dim=-1) > self.above).any()):
            raise ValueError("too long")
        draws = torch.stack([torch.rand(1, generator=generator) for generator in hands.generators])
        return hands.honest * draws[..., None], [state + 1 for state in hands.states]


class Replaying(Adversary):
    """A wire that delivers what each client sent in the round before."""

    def start(self, n_params: int) -> dict[str, Payload]:
        return {}

    def tamper(self, tapped: Tapped) -> tuple[Payload | None, object] | Payload | None:
        if tapped.kind != "update":
            return tapped.payload
        sender = str(tapped.sender)
        kept = {**tapped.state, sender: tapped.payload}
        return tapped.state.get(sender, tapped.payload), kept

    def identity(self) -> dict[str, object]:
        return {"name": "replaying"}


@dataclass(frozen=True, kw_only=True)
class Remembering(ActiveInference):
    """A server that follows the protocol and counts its rounds."""

    card = CARD
    challenge_type = MembershipChallenge

    def start(self, n_params: int) -> int:
        return 0

    def broadcast(self, hands: ServerHands) -> Moved:
        models = hands.params[:, None, :].expand(-1, hands.n_clients, -1)
        return models, [state + 1 for state in hands.states]

    def missing(self, view: View, challenge: Any) -> str | None:
        return None

    def run(self, view: View, challenge: Any) -> MembershipClaim:
        return MembershipClaim(scores=torch.full((1,), float(view.memory)))


@pytest.fixture
def make(pipeline: Callable[..., Pipeline]) -> Pipeline:
    return pipeline(model={"layers": 1}, members=20, rounds=3)


def alone_and_beside(pipeline: Pipeline, attack: Adversary, seeds: tuple[int, ...] = (0, 1, 2)) -> list[bool]:
    """For each run, whether it is the same alone as beside the others."""
    specs = [RunSpec(seed=seed, adversary=attack, threat=ONE) for seed in seeds]
    together = run_batch(pipeline, NONE, specs)
    return [
        same(run, run_batch(pipeline, NONE, [spec])[0]) for run, spec in zip(together, specs, strict=True)
    ]


def same(first: RunResult, second: RunResult) -> bool:
    return torch.equal(first.params, second.params) and first.outcome == second.outcome


def test_states_go_from_round_to_round_one_for_each_run(make: Pipeline) -> None:
    assert all(alone_and_beside(make, Late()))
    run = run_batch(make, NONE, [RunSpec(seed=0, adversary=Late(), threat=ONE)])[0]
    server = honest_but_curious_server()
    sent = [item.vector for item in run.view(server).readable("update", about=0)]
    assert len(sent) == 3
    assert not sent[0].any()
    honest = run_batch(make, NONE, [RunSpec(seed=0)])[0]
    first = honest.view(server).readable("update", about=0)[0].vector
    assert torch.allclose(sent[1], first)
    assert torch.equal(run.memory[: len(first)], run.memory)  # type: ignore[index]
    assert float((run.memory - sent[2]).abs().max()) > 0, "the last round's update has joined the others"  # type: ignore[operator]


def test_the_memory_of_a_module_is_caught_by_running_alone(make: Pipeline) -> None:
    CALLS[0] = 0
    assert not all(alone_and_beside(make, OnModule()))


def test_a_frozen_attack_cannot_write_on_itself(make: Pipeline) -> None:
    run = run_batch(make, NONE, [RunSpec(seed=0, adversary=OnSelf(), threat=ONE)])[0]
    assert run.outcome == "failed: FrozenInstanceError: cannot assign to field 'count'"
    assert "self.count = count" in run.traceback


def test_what_it_forces_onto_itself_is_gone(make: Pipeline) -> None:
    attack = OnSelf(how="force")
    assert all(alone_and_beside(make, attack))
    assert "count" not in vars(attack)
    run = run_batch(make, NONE, [RunSpec(seed=0, adversary=attack, threat=ONE)])[0]
    assert same(run, run_batch(make, NONE, [RunSpec(seed=0)])[0]), "the counter never reached two"


def test_a_state_that_is_not_returned_is_gone(make: Pipeline) -> None:
    runs = run_batch(make, NONE, [RunSpec(seed=seed, adversary=Forgetful(), threat=ONE) for seed in (0, 1)])
    assert [run.outcome for run in runs] == ["completed", "completed"]
    assert [run.memory for run in runs] == [[], []]


def test_a_wrong_number_of_states_is_refused(make: Pipeline) -> None:
    run = run_batch(make, NONE, [RunSpec(seed=0, adversary=TooFew(), threat=ONE)])[0]
    assert "wrong number of states" in run.outcome
    assert "one state for each lane" in run.outcome


def test_a_start_that_fails_fails_its_run(make: Pipeline) -> None:
    class Broken(Late):
        def start(self, n_params: int) -> torch.Tensor:
            raise KeyError("no start")

    runs = run_batch(make, NONE, [RunSpec(seed=0, adversary=Broken(), threat=ONE), RunSpec(seed=0)])
    assert [run.outcome for run in runs] == ["failed: KeyError: 'no start'", "completed"]


def test_a_run_in_which_an_attack_fails_takes_none_of_its_runs_down(make: Pipeline) -> None:
    server, seeds = honest_but_curious_server(), (0, 1, 2)
    honest = run_batch(make, NONE, [RunSpec(seed=seed) for seed in seeds])
    first = [float(run.view(server).readable("update", about=0)[0].vector.norm()) for run in honest]
    attack = Picky(above=max(first) - 1e-6)
    runs = run_batch(make, NONE, [RunSpec(seed=seed, adversary=attack, threat=ONE) for seed in seeds])
    assert runs[first.index(max(first))].outcome == "failed: ValueError: too long"
    assert [run.memory for run in runs if run.outcome == "completed"]
    assert {run.memory for run in runs if run.outcome == "completed"} == {3}, "a repeated move counts once"
    assert all(alone_and_beside(make, attack))


def test_a_wire_may_replay_what_it_heard(make: Pipeline) -> None:
    threat = wire_eavesdropper(active=True)
    specs = [RunSpec(seed=seed, adversary=Replaying(), threat=threat) for seed in (0, 1)]
    runs = run_batch(make, NONE, specs)
    assert all(same(run, run_batch(make, NONE, [spec])[0]) for run, spec in zip(runs, specs, strict=True))
    honest = run_batch(make, NONE, [RunSpec(seed=0)])[0]
    step = [run.view(honest_but_curious_server()).readable("model") for run in (runs[0], honest)]
    first, second = ({item.round: item.vector for item in items} for items in step)
    assert torch.equal(first[1], second[1]), "there was nothing to replay in the first round"
    assert torch.allclose(first[2] - first[1], first[1] - first[0], atol=1e-6), "the first step came again"
    assert not torch.allclose(second[2] - second[1], second[1] - second[0], atol=1e-6)


def test_a_claim_gets_the_memory_of_its_own_moves(make: Pipeline) -> None:
    attack, threat = Remembering(), malicious_server()
    run = run_batch(make, NONE, [RunSpec(seed=0, adversary=attack, threat=threat)])[0]
    assert run.view(threat).memory == 3
    assert run.view(honest_but_curious_server()).memory is None, "nobody else gets it"
    candidates = run.client_records(0)
    one = type(candidates)(features=candidates.features[:1], labels=candidates.labels[:1])
    claim = attack(run.view(threat), MembershipChallenge(seed=0, attack="stand-in", candidates=one))
    assert isinstance(claim, MembershipClaim)
    assert float(claim.scores) == 3.0


def test_an_inference_keeps_nothing_on_itself() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Noting(Remembering):
        notes: list[int] = field(default_factory=list)

        def run(self, view: View, challenge: Any) -> MembershipClaim:
            self.notes.append(1)
            return MembershipClaim(scores=torch.full((1,), float(len(self.notes))))

    attack: Attack = Noting()
    assert isinstance(attack, Noting)
    from qflsec.threat import Granted, Records

    view = View(threat=malicious_server(), items=(), granted=Granted())
    records = Records(features=torch.zeros(1, 4), labels=torch.zeros(1, dtype=torch.long))
    challenge = MembershipChallenge(seed=0, attack="stand-in", candidates=records)
    claims = [attack(view, challenge) for _ in range(2)]
    assert [float(claim.scores) for claim in claims if isinstance(claim, MembershipClaim)] == [1.0, 1.0]
