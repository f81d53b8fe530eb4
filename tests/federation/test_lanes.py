"""Runs side by side: each is what it would be alone, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from recorders import Aggregated, Bounded, Delegating, Graded, Linked, Noisy, Ruled, Shaped

from qflsec.base import ProtocolAbort
from qflsec.data import PartitionSpec
from qflsec.federation import (
    Adversary,
    Hands,
    Header,
    Layer,
    PartyState,
    Pipeline,
    Ring,
    RoundUpdates,
    RunResult,
    RunSpec,
    Stack,
    Star,
    SummedUpdates,
    Tree,
    run_batch,
)
from qflsec.models import Execution, TorchModel
from qflsec.threat import (
    Party,
    Payload,
    Tapped,
    ThreatModel,
    client,
    coalition,
    corrupted_clients,
    honest_but_curious_server,
    wire_eavesdropper,
)

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
SKEWED = PartitionSpec(kind="quantity-skew", alpha=1.0, min_records=1)


def batch(pipeline: Pipeline, stack: Stack, specs: list[RunSpec], **kwargs: object) -> list[RunResult]:
    return run_batch(pipeline, stack, specs, secrets="seeded", **kwargs)  # type: ignore[arg-type]


def same(a: RunResult, b: RunResult) -> bool:
    """Every number of two runs, and every message that the coalition of everybody would see."""
    everybody = ThreatModel(name="everybody", corrupted=a.pipeline.parties)
    seen = [
        [
            (item.round, item.kind, str(item.sender), str(item.receiver), item.value.tolist())
            for item in run.view(everybody).items
            if isinstance(item.value, torch.Tensor) and not item.derived
        ]
        for run in (a, b)
    ]
    costs = [{name: value for name, value in run.costs.items() if name != "cpu_seconds"} for run in (a, b)]
    return (
        torch.equal(a.params, b.params)
        and torch.equal(a.norms.nan_to_num(-1.0), b.norms.nan_to_num(-1.0))
        and (a.accuracy, a.loss, a.train_loss, a.outcome) == (b.accuracy, b.loss, b.train_loss, b.outcome)
        and seen[0] == seen[1]
        and costs[0] == costs[1]
    )


# -- failures beside healthy runs ----------------------------------------------------------------------


@dataclass(frozen=True)
class Ending(Adversary):
    """Ends its own run in one of several ways, from one round on."""

    how: str
    round: int = 1

    def updates(self, hands: Hands) -> torch.Tensor:
        if self.how == "bug" and hands.round >= self.round:
            raise ZeroDivisionError("a bug of the adversary")
        if self.how == "huge" and hands.round >= self.round:
            return torch.full_like(hands.honest, 3e38)
        return hands.honest

    def tamper(self, tapped: Tapped) -> Payload | None:
        late = tapped.round >= self.round and tapped.kind == "update"
        if not (
            late and self.how == "alter" and tapped.sender.index == 1 and isinstance(tapped.payload, bytes)
        ):
            return tapped.payload
        return tapped.payload[:-1] + bytes([tapped.payload[-1] ^ 1])

    def identity(self) -> dict[str, object]:
        return {"name": "ending", "how": self.how, "round": self.round}


CLIENT, WIRE = corrupted_clients(n=1), wire_eavesdropper(active=True)
ENDINGS = {
    "failed": (NONE, RunSpec(seed=0, adversary=Ending("bug"), threat=CLIENT)),
    "lost": (NONE, RunSpec(seed=0, adversary=Ending("huge"), threat=CLIENT)),
    "aborted": (
        Stack(name="sum", client=(Aggregated(), Linked())),
        RunSpec(seed=0, adversary=Ending("alter"), threat=WIRE),
    ),
}


@pytest.mark.parametrize("outcome", ENDINGS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_run_that_ends_leaves_the_others_as_they_are_alone(
    make_pipeline: Maker, outcome: str, place: int
) -> None:
    """First, in the middle or last of its batch: the others do not change by a bit."""
    stack, ending = ENDINGS[outcome]
    pipeline = make_pipeline(n_qubits=2, members=9, rounds=3, learning_rate=0.5, server_learning_rate=4.0)
    specs = [RunSpec(seed=0), RunSpec(seed=1)]
    alone = [batch(pipeline, stack, [spec])[0] for spec in specs]
    specs.insert(place, ending)
    together = batch(pipeline, stack, specs)
    ended = together.pop(place)
    assert ended.outcome.startswith(f"{outcome}: "), ended.outcome
    assert bool(ended.traceback) == (outcome == "failed")
    assert all(run.outcome == "completed" for run in together)
    assert [same(a, b) for a, b in zip(alone, together, strict=True)] == [True, True]
    assert same(ended, batch(pipeline, stack, [ending])[0])


@pytest.mark.parametrize("outcome", ENDINGS)
def test_a_run_that_ended_sends_nothing_more(make_pipeline: Maker, outcome: str) -> None:
    """It ends in round 1 of 4: no message of round 2 or later, no final model, and the model stays where it was."""
    stack, ending = ENDINGS[outcome]
    pipeline = make_pipeline(n_qubits=2, members=9, rounds=4, server_learning_rate=4.0)
    healthy, ended = batch(pipeline, stack, [RunSpec(seed=0), ending])
    everybody = coalition(server=True, n=3, wire=True)
    rounds = {run.lane: {item.round for item in run.view(everybody).items} for run in (healthy, ended)}
    assert rounds[healthy.lane] >= {0, 1, 2, 3, 4}
    assert rounds[ended.lane] <= {-1, 0, 1}
    assert {item.kind for item in healthy.view(everybody).items} >= {"final-model"}
    assert "final-model" not in {item.kind for item in ended.view(everybody).items}
    assert ended.costs["network_messages"] < healthy.costs["network_messages"]
    (short,) = batch(
        replace(pipeline, federation=replace(pipeline.federation, rounds=1)), stack, [RunSpec(seed=0)]
    )
    assert torch.equal(ended.params, short.params), "the model of the last round that went well"


def test_a_rule_that_fails_ends_its_own_run(make_pipeline: Maker) -> None:
    """The rule of the run of seed 1 stops: told by its stream, which no other run has."""

    class Choosy(Ruled):
        def aggregate(
            self, batch: RoundUpdates | SummedUpdates, state: object
        ) -> tuple[torch.Tensor, object]:
            if batch.generator.initial_seed() == unlucky:
                raise ProtocolAbort("the rule stopped", caused_by=client(1))
            return super().aggregate(batch, state)

    class Telling(Ruled):
        def aggregate(
            self, batch: RoundUpdates | SummedUpdates, state: object
        ) -> tuple[torch.Tensor, object]:
            seeds.append(batch.generator.initial_seed())
            return super().aggregate(batch, state)

    seeds: list[int] = []
    pipeline = make_pipeline(n_qubits=2, members=9, rounds=1)
    batch(pipeline, Stack.from_layers("telling", [Telling()]), [RunSpec(seed=1)])
    (unlucky,) = seeds
    stack = Stack.from_layers("choosy", [Choosy()])
    runs = batch(pipeline, stack, [RunSpec(seed=seed) for seed in (0, 1, 2)])
    told = "aborted: the rule stopped; caused by client:1"
    assert [run.outcome for run in runs] == ["completed", told, "completed"]
    assert [run.caused_by for run in runs] == [None, "client:1", None]
    assert torch.equal(runs[1].params, runs[1].initial)
    for run in (runs[0], runs[2]):
        assert same(run, batch(pipeline, stack, [run.spec])[0])


def test_an_honest_client_that_diverges_fails_its_run_and_sends_nothing(make_pipeline: Maker) -> None:
    class Diverging(Shaped):
        def shape(self, update: torch.Tensor, streams: object) -> torch.Tensor:
            poisoned = update.clone()
            poisoned[0, 1] = float("nan")
            return poisoned

    pipeline = make_pipeline(n_qubits=2, members=9, rounds=2)
    sick, healthy = batch(
        pipeline, Stack(name="x", client=(Diverging(),)), [RunSpec(seed=0), RunSpec(seed=1)]
    )
    assert sick.outcome.startswith("failed: ")
    assert "client:1" in sick.outcome
    assert "update" not in {item.kind for item in sick.view(honest_but_curious_server()).items}
    assert same(healthy, batch(pipeline, NONE, [RunSpec(seed=1)])[0])


# -- batched equals single -----------------------------------------------------------------------------


CASES: dict[str, tuple[dict[str, object], tuple[Layer, ...]]] = {
    "unequal clients": ({"partition": SKEWED, "members": 17, "local_steps": 2}, ()),
    "partial participation": ({"n_clients": 5, "participation": 0.4, "rounds": 6}, ()),
    "rounds of nobody": (
        {"participation": 0.4, "client_sampling": "poisson", "rounds": 4},
        (Bounded(factor=0.5), Ruled(counting=True), Noisy(shift=0.1)),
    ),
    "poisson batches": (
        {"batch_size": 2, "sampling": "poisson", "partition": SKEWED, "members": 17},
        (Graded(factor=0.5),),
    ),
    "a stack of every kind": (
        {"batch_size": 2, "partition": SKEWED, "members": 17},
        (Graded(), Shaped(factor=0.5), Aggregated(), Linked(), Ruled(counting=True), Noisy(shift=0.1)),
    ),
    "delegated": ({"members": 6}, (Delegating(executor="exact"),)),
    "a ring with gaps": ({"topology": Ring(), "participation": 0.34, "rounds": 8}, ()),
    "a tree with gaps": (
        {"topology": Tree(edges=2), "participation": 0.5, "rounds": 4},
        (),
    ),
    "large servers' steps": ({"server_learning_rate": 3.0, "optimizer": "adam"}, ()),
}


@pytest.mark.parametrize("case", CASES)
def test_batched_equals_single(make_pipeline: Maker, case: str) -> None:
    settings, layers = CASES[case]
    federation = {name: value for name, value in settings.items() if name != "topology"}
    pipeline = make_pipeline(**{"n_qubits": 2, "members": 9, "test": 10, **federation})
    pipeline = replace(pipeline, topology=settings.get("topology", Star()))
    stack = Stack.from_layers("stack", layers)
    specs = [RunSpec(seed=seed) for seed in (3, 4, 5)]
    if case != "delegated":
        specs.append(RunSpec(seed=3, adversary=Flipping(), threat=CLIENT))
        specs.append(RunSpec(seed=5, adversary=Flipping(), threat=corrupted_clients(n=2, rushing=True)))
    single = [batch(pipeline, stack, [spec])[0] for spec in specs]
    for lanes, order in ((2, 1), (16, 1), (3, -1)):
        together = batch(pipeline, stack, specs[::order], max_lanes=lanes)[::order]
        assert [same(a, b) for a, b in zip(single, together, strict=True)] == [True] * len(specs), lanes
    assert len({tuple(run.params.tolist()) for run in single}) == len(specs), "the runs must differ"


def test_clients_that_execute_differently_are_batched_bit_for_bit(make_pipeline: Maker) -> None:
    """Exact, in double precision, and by shots: three groups of one batch, and shots from streams of each run."""
    plain = make_pipeline(n_qubits=2, members=9, rounds=2)
    mixed = replace(
        plain,
        client_executions={
            1: Execution(dtype="complex128"),
            2: Execution(shots=30, gradient="parameter-shift"),
        },
    )
    specs = [RunSpec(seed=seed) for seed in (0, 1, 2)]
    single = [batch(mixed, NONE, [spec])[0] for spec in specs]
    assert [same(a, b) for a, b in zip(single, batch(mixed, NONE, specs), strict=True)] == [True] * 3
    exact = batch(plain, NONE, specs)
    assert not any(torch.equal(a.params, b.params) for a, b in zip(single, exact, strict=True))


@dataclass(frozen=True)
class Flipping(Adversary):
    """Sends the negative, plus a draw from its own stream, plus how many updates of the round it has seen."""

    def updates(self, hands: Hands) -> torch.Tensor:
        rows = []
        for lane, (generator, view) in enumerate(zip(hands.generators, hands.views(), strict=True)):
            others = view.readable("update", round_index=hands.round)
            noise = torch.randn(hands.honest.shape[1:], generator=generator)
            rows.append(-hands.honest[lane] + 0.01 * noise + 0.1 * len(others))
        return torch.stack(rows)

    def identity(self) -> dict[str, object]:
        return {"name": "flipping"}


class Direction(torch.nn.Module):
    """A user's module that has no value at a record of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x / x.norm(dim=-1, keepdim=True))  # type: ignore[no-any-return]


def test_padding_is_a_record_where_code_of_the_users_is_called(make_pipeline: Maker) -> None:
    """Three records in rows of eight: what the module makes of the other five reaches no gradient."""
    plain = make_pipeline(n_qubits=2, members=9, rounds=1, test=0)
    pipeline = replace(plain, model=TorchModel(make=Direction, n_features=2))
    (run,) = batch(pipeline, NONE, [RunSpec(seed=0)])
    assert run.outcome == "completed"
    updates = []
    for index in range(3):
        records, leaf = run.client_records(index), run.initial.clone().requires_grad_()
        losses = torch.nn.functional.cross_entropy(pipeline.model(leaf, records.features), records.labels)
        updates.append(-0.2 * torch.autograd.grad(losses, leaf)[0])
    assert torch.allclose(run.params - run.initial, torch.stack(updates).mean(dim=0), atol=1e-6)


def test_secrets_of_one_run_are_not_those_of_another(make_pipeline: Maker) -> None:
    """Two lanes of one seed under OS secrets: other masks on the wire, the same mean below them."""
    stack = Stack(name="sum", client=(Aggregated(),))
    pipeline = make_pipeline(n_qubits=2, members=9, rounds=1)
    pair = run_batch(pipeline, stack, [RunSpec(seed=0), RunSpec(seed=0)])
    wire = wire_eavesdropper()
    masked = [
        [
            item.value.tobytes()
            for item in run.view(wire).items
            if item.kind == "update" and item.form == "masked"
        ]  # type: ignore[union-attr]
        for run in pair
    ]
    assert len(masked[0]) == len(masked[1]) == 3
    assert not set(masked[0]) & set(masked[1])
    assert torch.equal(pair[0].params, pair[1].params)


def test_an_abort_inside_the_layer_is_that_runs_alone(make_pipeline: Maker) -> None:
    """The server's half of a layer stops in the second run of three."""
    calls: list[int] = []

    class Stopping(Aggregated):
        def reveal(self, state: PartyState, combined: Payload, header: Header) -> tuple[torch.Tensor, float]:
            calls.append(header.round)
            if len(calls) == 2:
                raise ProtocolAbort("the layer stopped")
            return super().reveal(state, combined, header)

        def keys(self, sender: Party, participants: tuple[Party, ...]) -> frozenset[str]:
            return super().keys(sender, participants)

    pipeline = make_pipeline(n_qubits=2, members=9, rounds=2)
    specs = [RunSpec(seed=seed) for seed in (0, 1, 2)]
    runs = batch(pipeline, Stack(name="stopping", client=(Stopping(),)), specs)
    stopped = "aborted: the layer stopped; who caused it cannot be known"
    assert [run.outcome for run in runs] == ["completed", stopped, "completed"]
    plain = batch(pipeline, Stack(name="sum", client=(Aggregated(),)), specs)
    assert [torch.equal(a.params, b.params) for a, b in zip(runs, plain, strict=True)] == [True, False, True]
    assert calls == [0, 0, 0, 1, 1], "no second round of the run that stopped"
