"""Who learns who takes part: what a view says of it, and the credit for sampling that rests on its silence."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.accounting.statistics import clopper_pearson_lower, clopper_pearson_upper
from qflsec.base import QflsecError, find, names
from qflsec.defenses.privacy import DpFedAvg
from qflsec.federation import (
    FederationConfig,
    Layer,
    Pipeline,
    Ring,
    RunResult,
    RunSpec,
    Stack,
    Star,
    Topology,
    Tree,
    run_batch,
)
from qflsec.federation.round import parts
from qflsec.threat import (
    PUBLIC,
    SERVER,
    WIRE,
    Party,
    ThreatModel,
    View,
    client,
    corrupted_clients,
    edge,
    honest_but_curious_server,
    public_final_model,
    wire_eavesdropper,
)

Maker = Callable[..., Pipeline]
N, ROUNDS = 5, 4
POISSON = {"participation": 0.5, "client_sampling": "poisson"}
# the first client takes part in the same rounds of both: others come, go, and leave a round to nobody
FIRST = [[0, 1, 2], [3], [0, 4], [1, 2, 3, 4]]
OTHER = [[0], [], [0, 1, 2, 3], [2]]
Rosters = list[list[list[int]]]


def skeleton(value: Any) -> Any:  # noqa: PLR0911 - one for each kind of value
    """All that is in a value but the numbers of its tensors and arrays."""
    if isinstance(value, torch.Tensor):
        return "tensor", tuple(value.shape), str(value.dtype)
    if isinstance(value, np.ndarray):
        return "array", value.shape, str(value.dtype)
    if isinstance(value, bytes):
        return "bytes", len(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return type(value).__name__, skeleton(parts)
    if isinstance(value, Mapping):
        return sorted((repr(skeleton(key)), repr(skeleton(part))) for key, part in value.items())
    if isinstance(value, frozenset | set):
        return sorted(repr(skeleton(part)) for part in value)
    if isinstance(value, tuple | list):
        return [skeleton(part) for part in value]
    return repr(value) if isinstance(value, str | int | float | None) else type(value).__name__


def mentioned(value: Any) -> Iterator[int]:
    """The clients that any part of a value names: as parties, in sets of numbers or in strings."""
    if isinstance(value, Party):
        yield from [value.index] if value.role == "client" else []
    elif dataclasses.is_dataclass(value) and not isinstance(value, type | Stack | Layer):
        for field in dataclasses.fields(value):
            yield from mentioned(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for part in itertools.chain(value.keys(), value.values()):
            yield from mentioned(part)
    elif isinstance(value, frozenset | set):
        for part in value:
            yield from [part] if isinstance(part, int) else mentioned(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from mentioned(part)
    elif isinstance(value, str):
        yield from (index for index in range(10) if f"client:{index}" in value)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> Callable[[Rosters], None]:
    """Runs of these rosters, by lane and round."""

    def force(rosters: Rosters) -> None:
        def drawn(
            _config: FederationConfig, _seeds: Sequence[int], counts: torch.Tensor, round_index: int
        ) -> torch.Tensor:
            present = torch.zeros(counts.shape, dtype=torch.bool)
            for lane, rounds in enumerate(rosters):
                present[lane, rounds[round_index]] = True
            return present

        monkeypatch.setattr(parts, "participants", drawn)

    return force


def observers(topology: Topology) -> list[ThreatModel]:
    """Parties, and some together, with what a threat model may grant on top; of the clients the first."""
    parties = sorted({*topology.parties(N), WIRE, PUBLIC} - set(map(client, range(1, N))))
    groups = [{party} for party in parties]
    groups += [{client(0), party} for party in parties if party.role != "client"]
    found = [ThreatModel(name=str(sorted(map(str, group))), corrupted=frozenset(group)) for group in groups]
    strong = ThreatModel(name="granted", corrupted=frozenset({PUBLIC}), knows=("honest-updates", "defenses"))
    knowing = ThreatModel(
        name="knowing", corrupted=frozenset({client(0)}), knows=("architecture", "defenses")
    )
    return [*found, strong, knowing, public_final_model(), corrupted_clients(n=1)]


def twins(pipeline: Pipeline, stack: Stack) -> tuple[RunResult, RunResult]:
    first, other = run_batch(
        pipeline, stack, [RunSpec(seed=3)] * 2, secrets="seeded", grant_honest_updates=True
    )
    return first, other


def credited(run: RunResult, threat: ThreatModel) -> bool:
    """Whether some epsilon against an observer rests on its not knowing who takes part."""
    rows = run.ledger(threat)
    return any(row.unit == "client" and row.epsilon_unsampled is not None for row in rows)


def stacks(pipeline: Pipeline) -> list[Stack]:
    """Every registered layer, alone and under DP-FedAvg, where they can work on a pipeline."""
    found = []
    rules = {
        name for name in names("layer") if find("layer", name).__module__.startswith("qflsec.defenses.robust")
    }
    for name in sorted(
        {*names("layer")} - rules | {"median"}
    ):  # a rule of the server tells nobody who takes part
        for more in ([], [DpFedAvg(noise_multiplier=4.0)]):
            try:
                stack = Stack.from_layers(f"{name}+{len(more)}", [find("layer", name)(), *more])
                stack.check(pipeline)
            except (QflsecError, TypeError):
                continue
            found.append(stack)
    return found


def test_who_has_sampling_credit_reads_no_participant(make_pipeline: Maker, forced: Any) -> None:
    """Two runs whose rosters differ look alike to everybody with credit, but for the numbers that were released."""
    pipeline = make_pipeline(
        n_qubits=2, layers=1, n_clients=N, members=3 * N, rounds=ROUNDS, test=5, **POISSON
    )
    forced([FIRST, OTHER])
    earning = set()
    tried = stacks(pipeline)
    assert {"dp-fedavg+0", "plain+1", "aes-gcm-link+1", "dp-sgd+1"} <= {stack.name for stack in tried}
    for stack in tried:
        runs = twins(pipeline, stack)
        assert runs[0].outcome == runs[1].outcome == "completed", stack.name
        for threat in observers(Star()):
            views = [run.view(threat) for run in runs]
            where = stack.name, threat.name
            assert views[0].knows_rosters == views[1].knows_rosters, where
            if credited(runs[0], threat):
                assert not views[0].knows_rosters, where
                earning.add(threat.name)
            if not views[0].knows_rosters:
                assert skeleton(views[0]) == skeleton(views[1]), where
                assert set(mentioned(views[0].items)) <= set(threat.clients), where
    single = {"['client:0']", "['public']", "['client:0', 'public']"}
    assert earning == {*single, "knowing", "1-corrupted-clients", "public-final-model"}


@pytest.mark.parametrize("topology", [Ring(), Tree(edges=2)], ids=lambda topology: topology.name)
def test_who_knows_no_roster_sees_none_in_a_ring_or_a_tree(
    make_pipeline: Maker, forced: Any, topology: Topology
) -> None:
    pipeline = replace(
        make_pipeline(n_qubits=2, layers=1, n_clients=N, members=3 * N, rounds=ROUNDS, test=5, **POISSON),
        topology=topology,
    )
    forced([FIRST, OTHER])
    runs = twins(pipeline, Stack(name="none"))
    silent = set()
    for threat in observers(topology):
        views = [run.view(threat) for run in runs]
        if not views[0].knows_rosters:
            silent.add(threat.name)
            assert skeleton(views[0]) == skeleton(views[1]), threat.name
    # in a ring, who trained last publishes the model; a mean stands still in an empty round
    assert silent == ({"['public']", "public-final-model"} if topology.name == "tree" else set())


def test_a_coalition_names_clients_by_its_own_messages_only(make_pipeline: Maker, forced: Any) -> None:
    """Who hears clients, for whom it hears them: the server, the network, an edge server, a neighbour in a ring."""
    settings = {"n_qubits": 2, "layers": 1, "n_clients": N, "members": 3 * N, "rounds": ROUNDS, "test": 5}
    pipeline = make_pipeline(**settings, **POISSON)
    forced([FIRST])

    def named(topology: Topology, *parties: Party) -> set[tuple[int, tuple[int, ...] | None]]:
        run = run_batch(replace(pipeline, topology=topology), Stack(name="none"), [RunSpec(seed=3)])[0]
        view = run.view(ThreatModel(name="x", corrupted=frozenset(parties)))
        items = view.readable("update", "aggregate", "path")
        return {(i.round, None if i.about is None else tuple(sorted(i.about))) for i in items}

    everybody = {(r, tuple(rounds)) for r, rounds in enumerate(FIRST)}
    assert named(Star(), SERVER) >= everybody
    assert named(Star(), WIRE) >= everybody
    at_root = named(Tree(edges=2), SERVER)
    for r, rounds in enumerate(FIRST):
        assert {c for index, about in at_root for c in about or () if index == r} == set(rounds)
    # clients 0, 2 and 4 are its own; of the others it reads models only
    edge_view = named(Tree(edges=2), edge(0))
    assert {(0, (0,)), (0, (2,)), (2, (0,)), (2, (4,))} <= edge_view
    assert (1, None) in edge_view
    assert not any(about and set(about) & {1, 3} for _, about in edge_view)
    assert named(Star(), client(0)) == {(0, (0,)), (2, (0,)), (1, None), (3, None)}
    # in the ring, client 2 gets the model of client 1 and hands it to 3 in the next round
    assert (0, (2,)) in named(Ring(), client(2))
    assert named(Star(), PUBLIC) == set()


def test_where_the_number_and_the_weights_are_public_own_updates_come_off(
    make_pipeline: Maker, forced: Any
) -> None:
    """Two of four clients with as many records each: the rest of the step is one client's update, unknown whose."""
    pipeline = make_pipeline(n_qubits=2, n_clients=4, members=16, rounds=2, participation=0.5)
    forced([[[0, 3], [0, 1]]])
    run = run_batch(pipeline, Stack(name="none"), [RunSpec(seed=3)], grant_honest_updates=True)[0]
    view = run.view(corrupted_clients(n=1))
    (whole,) = view.readable("aggregate", round_index=0)
    (rest,) = [item for item in view.readable("update", round_index=0) if item.derived]
    assert (whole.about, whole.of, whole.size, whole.k, whole.weight) == (None, 2, 2, 1, 8.0)
    assert whole.roster == "2 clients, unknown which"
    assert (rest.about, rest.of, rest.k, rest.weight) == (None, 1, 1, 4.0)
    assert torch.allclose(rest.vector, run.transcript.honest_updates[0][0, 3], atol=1e-5)
    # unequal counts hide the weight, and with it the rest
    facts = run.transcript.facts[0]
    facts.counts = (4.0, 3.0, 5.0, 4.0)
    unequal = run.view(corrupted_clients(n=1))
    assert {item.weight for item in unequal.readable("aggregate")} == {None}
    assert not [item for item in unequal.readable("update") if item.derived]


def test_layers_that_tell_participants_who_they_are_name_them(make_pipeline: Maker, forced: Any) -> None:
    """Masks between pairs are made for a roster: a client knows that of the rounds in which it takes part."""
    pipeline = make_pipeline(n_qubits=2, n_clients=4, members=16, rounds=3, participation=0.75)
    forced([[[0, 1, 2], [1, 2, 3], [0, 2, 3]]])
    stack = Stack.from_layers("masked", [find("layer", "masked")()])
    run = run_batch(pipeline, stack, [RunSpec(seed=3)])[0]
    view = run.view(corrupted_clients(n=1))
    assert view.knows_rosters
    read = {
        (i.round, None if i.about is None else tuple(sorted(i.about)))
        for i in view.readable("path", "aggregate")
    }
    assert (1, None) in read
    assert not any(index == 1 and about for index, about in read)
    final = ThreatModel(name="p", corrupted=frozenset({PUBLIC}))
    assert not run.view(final).knows_rosters


def test_a_baseline_says_what_is_read_of_clients_without_names(make_pipeline: Maker, forced: Any) -> None:
    pipeline = make_pipeline(n_qubits=2, n_clients=4, members=12, rounds=2, **POISSON)
    forced([[[0, 1], [2]]])
    run = run_batch(pipeline, Stack.from_layers("plain", [find("layer", "plain")()]), [RunSpec(seed=3)])[0]
    said = {
        threat.name: [row.statement for row in run.ledger(threat) if row.layer == "plain"]
        for threat in (honest_but_curious_server(), corrupted_clients(n=1))
    }
    assert said["honest-but-curious-server"] == ["reads every honest client's update and number of examples"]
    assert [text.partition(",")[0] for text in said["1-corrupted-clients"]] == [
        "reads sums of clients whom it cannot name"
    ]
    sees = " ".join(run.account(corrupted_clients(n=1)).sees)
    assert "of clients whose number it cannot tell either" in sees
    for drawn, read in (
        ([[0, 1], [2]], "differences of models over several steps"),
        ([[0, 1], [0, 1, 2]], "sums of clients that it cannot name"),
    ):
        forced([drawn])
        run = run_batch(pipeline, Stack.from_layers("plain", [find("layer", "plain")()]), [RunSpec(seed=3)])[
            0
        ]
        unbounded = run.account(corrupted_clients(n=1)).unbounded
        assert f"view: over the run, {read} are read and no anonymity was counted in them" in unbounded


def lower_bound(inside: int, outside: int, n: int) -> float:
    """Epsilon that an attack proves: right for so many of n runs with the unit, wrong for so many of n without."""
    low, high = clopper_pearson_lower(inside, n, alpha=0.025), clopper_pearson_upper(outside, n, alpha=0.025)
    return max(0.0, math.log(low / high)) if low > 0 else 0.0


def test_a_client_that_takes_part_is_not_named_to_another(
    make_pipeline: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DP-FedAvg, Poisson clients at .1: what a corrupted client is told proves no more than its epsilon.

    Two attacks on what is not noise in the view: whether client 9 is named, and how much is in the view. Either would
    exceed the epsilon of a correct ledger by chance in at most 5 % of all seeds (two one-sided bounds of 2.5 %).
    """
    n = 60
    pipeline = make_pipeline(
        n_qubits=2,
        layers=1,
        n_clients=10,
        members=20,
        rounds=20,
        test=5,
        participation=0.1,
        client_sampling="poisson",
    )
    drawn = parts.participants

    def without(
        config: FederationConfig, seeds: Sequence[int], counts: torch.Tensor, round_index: int
    ) -> torch.Tensor:
        present = drawn(config, seeds, counts, round_index)
        present[[seed >= n for seed in seeds], 9] = False
        return present

    monkeypatch.setattr(parts, "participants", without)
    stack = Stack.from_layers("dp", [DpFedAvg(noise_multiplier=4.0)])
    specs = [RunSpec(seed=seed, evaluate="never") for seed in range(2 * n)]
    runs = run_batch(pipeline, stack, specs)
    threat = corrupted_clients(n=1, active=False)
    (epsilon,) = [row.epsilon for row in runs[0].ledger(threat) if row.accountant.startswith("PRV")]
    assert epsilon == pytest.approx(0.4391, abs=1e-3)
    assert [9 in set().union(*run.transcript.facts[run.lane].participants.values()) for run in runs[n:]] == [
        False
    ] * n
    views = [run.view(threat) for run in runs]
    hits = [9 in set(mentioned(view)) for view in views]
    assert lower_bound(sum(hits[:n]), sum(hits[n:]), n) <= epsilon
    told = [_told(view) for view in views]
    for threshold in sorted(set(told)):
        above = [amount >= threshold for amount in told]
        assert lower_bound(sum(above[:n]), sum(above[n:]), n) <= epsilon


def _told(view: View) -> float:
    """How many clients, examples and items a view speaks of."""
    return sum((item.size or 0) + item.k + (item.weight or 0.0) + 1 for item in view.items)


@pytest.mark.parametrize(
    ("stack", "settings", "threat", "knows"),
    [
        ([], POISSON, public_final_model(), False),
        # a mean: an empty round stands still, and the weight of a round tells rosters apart by sums of subsets
        ([], POISSON, corrupted_clients(n=1), True),
        ([DpFedAvg()], POISSON, corrupted_clients(n=1), False),
        ([DpFedAvg()], POISSON, wire_eavesdropper(), True),
        ([DpFedAvg()], POISSON, honest_but_curious_server(), True),
        ([DpFedAvg()], {}, public_final_model(), True),
        ([DpFedAvg()], POISSON, public_final_model(knows=("honest-updates",)), True),
    ],
)
def test_what_can_be_told_of_rosters(
    make_pipeline: Maker, stack: list[Layer], settings: dict[str, Any], threat: ThreatModel, knows: bool
) -> None:
    """Numbers of records are public, so whoever reads the total weight of a round knows more than its messages say."""
    pipeline = make_pipeline(n_qubits=2, n_clients=4, members=12, rounds=1, **settings)
    run = run_batch(pipeline, Stack.from_layers("s", stack), [RunSpec(seed=1)], grant_honest_updates=True)[0]
    assert run.context(run.view(threat)).observer.knows_rosters is knows
