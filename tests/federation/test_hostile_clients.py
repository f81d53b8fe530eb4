"""What corrupted clients send is input: any numbers, any payload, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from qflsec.base import DefenseCard, Source
from qflsec.defenses.privacy import DpFedAvg
from qflsec.defenses.robust import Median, NormBound
from qflsec.federation import (
    Adversary,
    AggregatorLayer,
    ClientPayloads,
    Hands,
    Pipeline,
    Ring,
    RoundUpdates,
    RunResult,
    RunSpec,
    ServerHands,
    ShapeLayer,
    Stack,
    Streams,
    SummedUpdates,
    Tree,
    run_batch,
    weighted_mean,
)
from qflsec.models import build_model
from qflsec.protocols.ghz import Ghz
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import Ddp, HeBfv, HeCkks, HeMasked, HeThreshold, Masked, SecAgg
from qflsec.protocols.secagg.groups.layer import ValidatedGroups
from qflsec.protocols.validated import Validated
from qflsec.threat import (
    Payload,
    Tapped,
    ThreatModel,
    coalition,
    corrupted_clients,
    honest_but_curious_server,
    malicious_server,
    wire_eavesdropper,
)

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
NUMBERS = {
    "500": 500.0,
    "1e30": 1e30,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": -float("inf"),
}
ODD: dict[str, Callable[[int], Any]] = {
    "nothing": lambda _: None,
    "short": lambda n: torch.zeros(n - 1),
    "long": lambda n: torch.zeros(n + 1),
    "matrix": lambda n: torch.zeros(n, 2),
    "integers": lambda n: torch.zeros(n, dtype=torch.int64),
    "complex": lambda n: torch.zeros(n, dtype=torch.complex64),
    "scalar": lambda _: torch.tensor(1.0),
    "bytes": lambda _: b"hello",
    "empty": lambda _: b"",
}


def card(name: str) -> DefenseCard:
    return DefenseCard(
        name=name,
        idea="a test double",
        source=Source(paper="test", year=2026, where="here"),
        claim="none",
        assumption="none",
        hides="nothing",
        does_not=("It protects nothing.",),
        cost="none",
    )


@dataclass(frozen=True)
class Hostile(Adversary):
    """Sends one payload in place of every update of its clients."""

    how: str

    def updates(self, hands: Hands) -> torch.Tensor | ClientPayloads:
        n_lanes, n_clients, n_params = hands.honest.shape
        if self.how in NUMBERS:
            return torch.full_like(hands.honest, NUMBERS[self.how])
        if self.how == "flip":
            return -hands.honest
        return [[ODD[self.how](n_params)] * n_clients] * n_lanes

    def identity(self) -> dict[str, object]:
        return {"name": "hostile", "how": self.how}


def attacked(
    pipeline: Pipeline, stack: Stack, hows: Sequence[str], *, n: int = 1, rushing: bool = False
) -> dict[str, RunResult]:
    threat = corrupted_clients(n=n, rushing=rushing)
    specs = [RunSpec(seed=0)] + [RunSpec(seed=0, adversary=Hostile(how), threat=threat) for how in hows]
    return dict(zip(["honest", *hows], run_batch(pipeline, stack, specs, secrets="seeded"), strict=True))


def stack_of(*layers: Any) -> Stack:
    return Stack.from_layers("test", layers)


VISIBLE = {
    "none": NONE,
    "median": stack_of(Median()),
    "norm-bound": stack_of(NormBound()),
    "link": stack_of(AesGcmLink()),
}


@pytest.mark.parametrize("rushing", [False, True], ids=["", "rushing"])
@pytest.mark.parametrize("name", list(VISIBLE))
def test_a_server_drops_what_it_sees_to_be_malformed(make_pipeline: Maker, name: str, rushing: bool) -> None:
    pipeline = make_pipeline(n_clients=4, rounds=2)
    runs = attacked(pipeline, VISIBLE[name], [*NUMBERS, *ODD], rushing=rushing)
    without = attacked(pipeline, VISIBLE[name], ["nothing"])["nothing"]
    assert {run.outcome for run in runs.values()} == {"completed"}
    for how, run in runs.items():
        visible = how in {"nan", "inf", "-inf"} or how in ODD
        assert [(d.round, d.client) for d in run.dropped] == ([(0, 0), (1, 0)] if visible else []), how
        members = run.transcript.facts[run.lane].participants
        assert members[0] == frozenset({1, 2, 3} if visible else {0, 1, 2, 3})
        if visible:
            # nothing of the lie is left: the run goes on as if the client had stayed away
            assert torch.equal(run.params, without.params), how
    assert "not finite" in runs["nan"].dropped[0].reason
    assert "shape" in runs["short"].dropped[0].reason
    assert "did not arrive" in runs["nothing"].dropped[0].reason


def test_a_run_with_odd_payloads_does_not_depend_on_its_batch(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=4, rounds=2)
    together = attacked(pipeline, NONE, ["flip", "short", "nothing", "bytes"])
    for how in ("flip", "short", "nothing", "bytes"):
        alone = attacked(pipeline, NONE, [how])[how]
        assert torch.equal(alone.params, together[how].params)
        assert alone.dropped == together[how].dropped
    assert not torch.equal(together["flip"].params, together["short"].params)


HIDDEN: dict[str, tuple[Any, dict[str, Any], set[str]]] = {
    # the layer, the federation, and what ends the run
    "masked": (Masked(), {}, {*ODD}),
    "secagg": (SecAgg(), {"n_clients": 5}, set()),
    "ddp": (Ddp(clip_norm=0.5), {"n_clients": 5, "members": 20}, set()),
    "groups": (ValidatedGroups(groups=3, min_groups=2), {"n_clients": 9}, set()),
    "he-bfv": (HeBfv(), {}, {*ODD} - {"nothing"}),
    "he-ckks": (HeCkks(), {}, {*ODD} - {"nothing"}),
    "he-masked": (HeMasked(), {}, {*ODD}),
    "he-threshold": (HeThreshold(), {}, {*ODD}),
    "ghz": (Ghz(shots=1, tests=8), {}, {*ODD}),
}


@pytest.mark.parametrize("name", list(HIDDEN))
def test_no_number_of_a_client_ends_a_sealed_run_and_what_does_is_lost(
    make_pipeline: Maker, name: str
) -> None:
    layer, federation, ends = HIDDEN[name]
    hows = ["flip", *NUMBERS, *ODD]
    runs = attacked(make_pipeline(**{"n_clients": 3, "rounds": 1, **federation}), stack_of(layer), hows)
    lost = {how for how, run in runs.items() if run.outcome.startswith("lost: client:0 sent ")}
    assert lost == ends
    assert {run.outcome for how, run in runs.items() if how not in lost} == {"completed"}
    for how in {*ODD} - ends:
        dropped = [(d.round, d.client) for d in runs[how].dropped]
        # the client, and its group where that has too few clients without it
        assert dropped == [(0, 0)] if name != "groups" else (0, 0) in dropped
    if name != "ghz":  # whose states are measured with fresh randomness
        moved = {how: float((runs[how].params - runs["honest"].params).norm()) for how in ("500", "1e30")}
        assert moved["500"] > 1.0
        assert moved["1e30"] > moved["500"] / 10
    assert all(bool(torch.isfinite(run.params).all()) for run in runs.values())


@pytest.mark.parametrize(
    ("layer", "how", "n", "words"),
    [
        (HeCkks(), "1e30", 2, ""),
        (HeCkks(), "1e30", 3, "impossible weight"),  # three quarters of the modulus
        (SecAgg(), "nothing", 1, ""),
        (SecAgg(), "nothing", 2, "too few clients are left"),
    ],
)
def test_several_liars_end_what_one_cannot(
    make_pipeline: Maker, layer: Any, how: str, n: int, words: str
) -> None:
    run = attacked(make_pipeline(n_clients=5, rounds=1), stack_of(layer), [how], n=n)[how]
    assert run.outcome.startswith("lost: client:0 sent " if words else "completed")
    assert words in run.outcome


def test_what_a_client_cannot_prove_is_turned_away_by_name(make_pipeline: Maker) -> None:
    runs = attacked(
        make_pipeline(n_clients=4, rounds=1),
        stack_of(Validated()),
        ["500", "1e30", "nan", "bytes", "nothing"],
    )
    assert {run.outcome for run in runs.values()} == {"completed"}
    assert {how: [d.client for d in run.dropped] for how, run in runs.items()} == {
        "honest": [],
        "500": [],  # scaled to the bound, the longest lie that can be proved
        "1e30": [],
        "nan": [0],
        "bytes": [0],
        "nothing": [0],
    }
    assert "did not prove" in runs["nan"].dropped[0].reason
    shift = (runs["500"].params - runs["nan"].params).norm()
    assert 0.1 < float(shift) <= 0.25 + 0.1, "one of four moves the mean by at most max_norm / 4"


@dataclass(frozen=True, kw_only=True)
class SilentOnce(Adversary):
    """Sends nothing in the first round, and follows the protocol afterwards."""

    def updates(self, hands: Hands) -> torch.Tensor | ClientPayloads:
        n_lanes, n_clients, _ = hands.honest.shape
        return hands.honest if hands.round else [[None] * n_clients] * n_lanes

    def identity(self) -> dict[str, object]:
        return {"name": "silent once"}


@pytest.mark.parametrize(
    "layer", [Masked(), Ghz(shots=1, tests=4), HeThreshold()], ids=["masked", "ghz", "he"]
)
def test_a_lost_round_leaves_no_sum_where_every_client_is_needed(make_pipeline: Maker, layer: Any) -> None:
    """What arrived adds up to noise: half of the noise of masks, and all parities of GHZ states, were taken for sums of
    those who had sent, so that views held random numbers, and rows derived the silent client's update from them."""
    pipeline = make_pipeline(n_clients=4, rounds=2, test=0)
    seeds = range(8 if isinstance(layer, Masked) else 1)
    specs = [RunSpec(seed=s, adversary=SilentOnce(), threat=corrupted_clients(n=1)) for s in seeds]
    for run in run_batch(pipeline, stack_of(layer), specs, secrets="seeded"):
        assert run.outcome == "completed"
        assert [(fault.round, fault.lost) for fault in run.faults] == [(0, True)]
        for threat in (honest_but_curious_server(), coalition(server=True, n=1), wire_eavesdropper()):
            sums = run.view(threat).readable("update", "aggregate")
            assert {item.round for item in sums} == {1}, threat.name
        told = [row.statement for row in run.ledger(honest_but_curious_server())]
        assert not any("derives the updates" in statement for statement in told)


class Declared(AggregatorLayer):
    """The mean, on a server that remembers which f it was told."""

    card = card("declared")
    told: ClassVar[list[int]] = []

    def start(self, n_params: int) -> object:
        return None

    def aggregate(self, batch: RoundUpdates | SummedUpdates, state: object) -> tuple[torch.Tensor, object]:
        assert isinstance(batch, RoundUpdates)
        self.told.append(batch.f)
        return weighted_mean(batch.updates, batch.counts), None


@pytest.mark.parametrize(
    ("how", "n", "f"), [("500", 2, 1), ("nan", 1, 0), ("nan", 2, 0), ("bytes", 1, 0), ("nothing", 1, 1)]
)
def test_whoever_is_dropped_counts_among_the_declared(make_pipeline: Maker, how: str, n: int, f: int) -> None:
    """A client that is not heard may be an honest one: it is not counted among the corrupted."""
    Declared.told.clear()
    pipeline = make_pipeline(n_clients=5, rounds=1, declared_corrupted=1)
    attacked(pipeline, stack_of(Declared()), [how], n=n)
    assert Declared.told == [1, f]


@pytest.mark.parametrize("how", ["nan", "bytes", "nothing"])
def test_a_round_in_which_nobody_is_left_leaves_the_model_as_it_is(make_pipeline: Maker, how: str) -> None:
    run = attacked(make_pipeline(n_clients=3), NONE, [how], n=3)[how]
    assert run.outcome == "completed"
    assert torch.equal(run.params, run.initial)
    assert [(d.round, d.client) for d in run.dropped] == [(r, c) for r in (0, 1) for c in (0, 1, 2)]


def test_a_liar_that_is_sampled_alone_does_not_end_private_training(make_pipeline: Maker) -> None:
    """With Poisson sampling a round may hold one client: noise is then added to nothing, as in a round of none."""
    pipeline = make_pipeline(n_clients=4, rounds=6, participation=0.3, client_sampling="poisson")
    stack = stack_of(DpFedAvg(clip_norm=0.5, noise_multiplier=1.0))
    run = attacked(pipeline, stack, ["nan"], n=4)["nan"]
    assert run.outcome == "completed"
    assert {len(members) for members in run.transcript.facts[run.lane].participants.values()} == {0}
    assert run.dropped
    assert not torch.equal(run.params, run.initial)


def test_a_ring_ends_with_what_is_no_model_and_a_tree_goes_on(make_pipeline: Maker) -> None:
    """In a ring every client is the server of its turn: nobody stands behind it who could drop what it sends."""
    pipeline = make_pipeline(n_clients=4, rounds=2)
    ring = attacked(replace(pipeline, topology=Ring()), NONE, [*NUMBERS, *ODD])
    ends = {how for how, run in ring.items() if run.outcome.startswith("lost: client:0 sent ")}
    assert ends == {"nan", "inf", "-inf", *ODD}
    assert {run.outcome for how, run in ring.items() if how not in ends} == {"completed"}
    tree = attacked(replace(pipeline, topology=Tree(edges=2)), NONE, [*NUMBERS, *ODD])
    assert {run.outcome for run in tree.values()} == {"completed"}
    assert {how for how, run in tree.items() if run.dropped} == ends
    for how in ends:
        assert [(d.round, d.client) for d in tree[how].dropped] == [(0, 0), (1, 0)]


def test_an_edge_that_hears_only_lies_has_nothing_to_send(make_pipeline: Maker) -> None:
    pipeline = replace(make_pipeline(n_clients=4, rounds=1), topology=Tree(edges=2))
    run = attacked(pipeline, NONE, ["nan"], n=2)["nan"]
    assert run.outcome == "completed"
    assert run.transcript.facts[run.lane].participants[0] == frozenset({2, 3})
    assert [(d.client, "not finite" in d.reason) for d in run.dropped] == [(0, True), (1, True)]
    everybody = attacked(pipeline, NONE, ["nan"], n=4)["nan"]
    assert everybody.outcome == "completed"
    assert torch.equal(everybody.params, everybody.initial)
    assert [d.client for d in everybody.dropped] == [0, 1, 2, 3]


@dataclass(frozen=True, kw_only=True)
class Diverging(ShapeLayer):
    """Training that diverges in the second round."""

    card = card("diverging")

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        return update * float("nan") if streams.round == 1 else update  # type: ignore[attr-defined]


def test_honest_divergence_is_loud_but_after_a_lie_it_is_the_lie(make_pipeline: Maker) -> None:
    """The control: where no client deviated, the same end is a failure that says what to do."""
    follows = RunSpec(seed=0, adversary=Following(), threat=corrupted_clients(n=1))
    for layers in ((Diverging(),), (Diverging(), SecAgg())):
        pipeline = make_pipeline(n_clients=5)
        runs = attacked(pipeline, stack_of(*layers), ["flip"])
        followed = run_batch(pipeline, stack_of(*layers), [follows])[0]
        for run in (runs["honest"], followed):
            assert run.outcome.startswith("failed: updates of round 1 of honest clients are not finite")
            assert "lower the learning rate" in run.outcome
            assert not run.traceback, "the sentence says what to do, and no code of the user failed"
        assert runs["flip"].outcome.startswith(
            "lost: client:0 sent an update of its own making; then updates"
        )


class Following(Adversary):
    """A corrupted client that follows the protocol."""

    def identity(self) -> dict[str, object]:
        return {"name": "following"}


@dataclass(frozen=True, kw_only=True)
class Endless(AggregatorLayer):
    """A rule with a mistake: its step is not finite."""

    card = card("endless")

    def start(self, n_params: int) -> object:
        return None

    def aggregate(self, batch: RoundUpdates | SummedUpdates, state: object) -> tuple[torch.Tensor, object]:
        return batch.broadcast / 0.0, None


def test_a_model_that_a_lie_makes_overflow_is_lost(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(server_learning_rate=1e10)
    run = attacked(pipeline, NONE, ["1e30"])["1e30"]
    assert run.outcome.startswith(
        "lost: client:0 sent an update of its own making; then the server's step of"
    )
    assert bool(torch.isfinite(run.params).all())
    assert attacked(make_pipeline(), stack_of(Endless()), [])["honest"].outcome.startswith(
        "failed: the server's step of round 0 leaves a model that is not finite"
    )


class Mistaken(Adversary):
    """The code of an attack breaks its promise."""

    def __init__(self, returned: Callable[[torch.Tensor], Any]) -> None:
        self._returned = returned

    def updates(self, hands: Hands) -> Any:
        return self._returned(hands.honest)

    def identity(self) -> dict[str, object]:
        return {"name": "mistaken"}


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda honest: honest[..., :-1], "wrong shape"),
        (lambda honest: honest[0], "wrong shape"),
        (lambda honest: honest.long(), "floating-point"),
        (lambda honest: [[None]] * (len(honest) + 1), "one for each lane and corrupted client"),
        (lambda honest: [[None, None]] * len(honest), "one for each lane and corrupted client"),
        (lambda honest: [["no payload"]] * len(honest), "no type that can be sent"),
        (lambda _: 1 / 0, "ZeroDivisionError"),
        (lambda _: None, "TypeError"),
    ],
)
def test_a_mistake_of_an_attack_is_no_input(
    make_pipeline: Maker, returned: Callable[[torch.Tensor], Any], words: str
) -> None:
    spec = RunSpec(seed=0, adversary=Mistaken(returned), threat=corrupted_clients(n=1))
    run, honest = run_batch(make_pipeline(), NONE, [spec, RunSpec(seed=0)])
    assert run.outcome.startswith("failed: ")
    assert words in run.outcome
    # what was returned is refused with a sentence; what the attack itself raised has its own frames
    assert bool(run.traceback) == words.endswith("Error")
    assert honest.outcome == "completed"


# -- other parties than clients ------------------------------------------------------------------------


@dataclass(frozen=True)
class Outside(Adversary):
    """A network or a server that sends what ends the run, from round 1 on."""

    how: str

    def tamper(self, tapped: Tapped) -> Payload | None:
        if tapped.kind != "update" or tapped.round < 1 or not isinstance(tapped.payload, torch.Tensor):
            return tapped.payload.clone() if isinstance(tapped.payload, torch.Tensor) else tapped.payload
        if self.how == "no examples":
            return torch.cat([tapped.payload[:-1], torch.zeros(1)])
        return torch.full_like(tapped.payload, 3e38) if self.how == "3e38" else tapped.payload.clone()

    def broadcast(self, hands: ServerHands) -> torch.Tensor:
        models = hands.params[:, None, :].expand(-1, hands.n_clients, -1).clone()
        return models + 3e38 if hands.round == 1 and self.how == "overflow" else models

    def identity(self) -> dict[str, object]:
        return {"name": "outside", "how": self.how}


@pytest.mark.parametrize(
    ("how", "threat", "act"),
    [
        ("no examples", wire_eavesdropper(active=True), "wire sent another update"),
        ("3e38", wire_eavesdropper(active=True), "wire sent another update"),
        ("overflow", malicious_server(), "server sent a model of its own making"),
    ],
)
def test_a_run_that_a_network_or_a_server_ends_is_lost(
    make_pipeline: Maker, how: str, threat: ThreatModel, act: str
) -> None:
    """Never failed: what they send is input too, and an honest run beside it goes on."""
    model = build_model({"name": "classical", "n_features": 4, "n_classes": 2})  # its logits can overflow
    pipeline = replace(make_pipeline(rounds=3, server_learning_rate=4.0), model=model)
    spec = RunSpec(seed=0, adversary=Outside(how), threat=threat)
    lost, honest = run_batch(pipeline, NONE, [spec, RunSpec(seed=0)])
    assert lost.outcome.startswith(f"lost: {act}; then "), lost.outcome
    assert not lost.traceback
    assert honest.outcome == "completed"


def test_a_run_that_diverges_by_itself_has_failed_beside_a_network_that_changes_nothing(
    make_pipeline: Maker,
) -> None:
    """The control: copies of what was sent are no deviation."""
    pipeline = make_pipeline(rounds=2, server_learning_rate=3e38, learning_rate=1e3)
    spec = RunSpec(seed=0, adversary=Outside("copies"), threat=wire_eavesdropper(active=True))
    (run,) = run_batch(pipeline, NONE, [spec])
    assert run.outcome.startswith("failed: "), run.outcome


def test_a_protocol_that_notices_a_network_aborts(make_pipeline: Maker) -> None:
    """It kept its promise, and the network could have cut the line in any case."""

    @dataclass(frozen=True)
    class Cutting(Outside):
        def tamper(self, tapped: Tapped) -> Payload | None:
            return None if tapped.kind == "update" else tapped.payload

    spec = RunSpec(seed=0, adversary=Cutting("cut"), threat=wire_eavesdropper(active=True))
    (run,) = run_batch(make_pipeline(), stack_of(Masked()), [spec])
    assert run.outcome.startswith("aborted: "), run.outcome
