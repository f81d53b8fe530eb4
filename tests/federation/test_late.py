"""Updates that are sent late: a run against plain loops, what the server and others read of them, and a replay on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch

from qflsec.attacks.poisoning import ReplayedUpdate, ScaledSignFlip
from qflsec.base import ConfigError, IncompatibleStack
from qflsec.defenses.privacy import DpSgd
from qflsec.defenses.robust import Median
from qflsec.federation import (
    Adversary,
    Hands,
    Moved,
    Pipeline,
    RunResult,
    RunSpec,
    Satellites,
    Schedule,
    Stack,
    Vehicles,
    parts_from_config,
    run_batch,
)
from qflsec.models import build_model
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import Masked
from qflsec.threat import (
    WIRE,
    ThreatModel,
    client,
    corrupted_clients,
    honest_but_curious_server,
)

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
SLIM = build_model({"name": "layered", "n_qubits": 2, "layers": 2, "poles": True})
WHOLE = build_model({"name": "vqc", "n_qubits": 2, "layers": 2})
SERVER = honest_but_curious_server(knows=("architecture",))


def moving(
    make_pipeline: Maker, parts: Vehicles | Satellites | None, *, slim: bool = False, **options: object
) -> Pipeline:
    federation = {"local_steps": 1, "rounds": 7, **options}
    pipeline = make_pipeline(members=24, n_qubits=2, n_clients=5, **federation)
    return replace(pipeline, model=SLIM if slim else WHOLE, parts=parts)


def run(pipeline: Pipeline, stack: Stack = NONE, spec: RunSpec | None = None) -> RunResult:
    (result,) = run_batch(pipeline, stack, [spec or RunSpec(seed=1, trace=True)], secrets="seeded")
    assert result.outcome == "completed", result.outcome
    return result


def update(result: RunResult, index: int, params: torch.Tensor) -> torch.Tensor:
    """One step of a client on all its records."""
    records, leaf = result.client_records(index), params.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(result.pipeline.model(leaf, records.features), records.labels)
    return -result.pipeline.federation.learning_rate * torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize(
    "parts",
    [
        Satellites(stations=40, train_rounds=1),
        Satellites(stations=5, whole_elevation_deg=10.0, train_rounds=1, staleness_power=0.5),
        Satellites(stations=40, train_rounds=3, staleness_power=2.0),
        Vehicles(train_rounds=2, staleness_power=1.0),
    ],
)
@pytest.mark.parametrize("slim", [False, True])
def test_a_run_is_what_plain_loops_make_of_it(
    make_pipeline: Maker, parts: Satellites | Vehicles, slim: bool
) -> None:
    result = run(moving(make_pipeline, parts, slim=slim))
    model, params = result.pipeline.model, result.initial
    held: dict[int, tuple[int, torch.Tensor]] = {}
    ages = set()
    for index in range(7):
        sent = parts.sent(model, 5, index, 1)
        heard = [i for i in range(5) if bool(sent[i].any())]
        ready = {i: held[i] for i in heard if i in held and index - held[i][0] >= parts.train_rounds}
        for i in heard:
            if i not in held or i in ready:
                held[i] = index, update(result, i, params)
        total, weight = torch.zeros_like(params), torch.zeros_like(params)
        for i, (since, made) in ready.items():
            ages.add(index - since)
            counts, factor = len(result.clients[i]) * sent[i], (1 + index - since) ** -parts.staleness_power
            total, weight = total + counts * factor * made, weight + counts
        params = params + torch.where(weight > 0, total / weight.clamp_min(1e-9), 0.0)
        assert torch.allclose(result.trace[index + 1], params, atol=2e-6)
        assert result.participants.get(index, frozenset()) == frozenset(ready)
    assert min(ages) == parts.train_rounds
    assert len(ages) > 1 or isinstance(parts, Satellites)


def test_the_server_reads_from_which_model_each_update_was_made(make_pipeline: Maker) -> None:
    parts = Satellites(stations=5, whole_elevation_deg=10.0, train_rounds=1, staleness_power=1.0)
    result = run(moving(make_pipeline, parts))
    view = result.view(SERVER)
    items = view.readable("update")
    assert items
    for item in items:
        assert item.k == 1
        base = view.base_of(item)
        assert base is not None
        assert torch.allclose(item.vector, update(result, min(item.named), base), atol=2e-6)
    older = [item for item in items if not torch.equal(view.base_of(item), result.trace[item.round])]
    assert older, "some are of a model that is not the round's"


def test_who_takes_part_reads_the_others_with_the_factors_of_their_ages(make_pipeline: Maker) -> None:
    parts = Satellites(stations=5, whole_elevation_deg=10.0, train_rounds=1, staleness_power=1.0)
    result = run(moving(make_pipeline, parts, rounds=6))
    peer = ThreatModel(name="peer", corrupted=frozenset({client(0)}))
    told = {(one.round, min(one.named)): one.vector for one in result.view(SERVER).readable("update")}
    ages = {key: next(a for a in range(1, 9) if _made(result, key, a, told[key])) for key in told}
    checked = 0
    for item in result.view(peer).readable("update", "aggregate"):
        if not item.derived or 0 in item.named:
            continue
        keys = [(item.round, index) for index in sorted(item.named)]
        weights = torch.tensor([len(result.clients[i]) / (1 + ages[r, i]) for r, i in keys])
        exact = sum(w * told[key] for w, key in zip(weights, keys, strict=True)) / weights.sum()
        assert torch.allclose(item.vector, exact, atol=1e-4)
        checked += 1
    assert checked


def _made(result: RunResult, key: tuple[int, int], age: int, vector: torch.Tensor) -> bool:
    if age > key[0]:
        return False
    return torch.allclose(update(result, key[1], result.trace[key[0] - age]), vector, atol=2e-6)


def test_batched_equals_single_and_a_liar_is_late_too(make_pipeline: Maker) -> None:
    pipeline = moving(make_pipeline, Vehicles(train_rounds=1), slim=True, batch_size=2)
    liar = ScaledSignFlip(scale=5.0)
    lied = RunSpec(seed=1, adversary=liar, threat=replace(corrupted_clients(n=1), rushing=True), trace=True)
    specs = [RunSpec(seed=1, trace=True), RunSpec(seed=2, trace=True), lied]
    for one, spec in zip(run_batch(pipeline, NONE, specs), specs, strict=True):
        assert torch.equal(one.trace, run(pipeline, spec=spec).trace)
    honest, attacked = (run(pipeline, spec=spec) for spec in (specs[0], lied))
    first = min(index for index in honest.participants if 0 in honest.participants[index])
    assert first > 0
    assert torch.equal(honest.trace[first], attacked.trace[first])
    assert not torch.equal(honest.trace[first + 1], attacked.trace[first + 1])
    robust = run(pipeline, Stack.from_layers("median", [Median()]), lied)
    assert robust.participants == attacked.participants


@dataclass(frozen=True, kw_only=True)
class Watcher(Adversary):
    """Follows the protocol, and keeps what it holds when it sends, round by round; from ``fails`` on it is faulty."""

    fails: int = 99

    def start(self, n_params: int) -> object:
        return []

    def updates(self, hands: Hands) -> Moved:
        if hands.round >= self.fails:
            raise RuntimeError("faulty")
        seen = [item.round for item in hands.views()[0].readable("update")]
        return hands.honest, [[*state, (hands.round, hands.base[0, 0], seen)] for state in hands.states]

    def identity(self) -> dict[str, object]:
        return {"name": "watcher"}


@pytest.mark.parametrize("rushing", [False, True])
def test_corrupted_clients_move_when_they_send_with_all_that_they_saw_until_then(
    make_pipeline: Maker, rushing: bool
) -> None:
    threat = ThreatModel(name="both", corrupted=frozenset({client(0), WIRE}), active=True, rushing=rushing)
    spec = RunSpec(seed=1, adversary=Watcher(), threat=threat, trace=True)
    result = run(moving(make_pipeline, Satellites(stations=40, train_rounds=2)), spec=spec)
    for index, base, seen in result.memory:
        if 0 in result.participants.get(index, ()):
            assert torch.equal(base, result.trace[index - 2]), "it holds the model that it trains"
            assert (index in seen) == rushing
    assert sum(0 in who for who in result.participants.values()) == 3 < len(result.memory)


def test_nothing_is_sent_in_a_run_that_has_ended_whatever_clients_hold(make_pipeline: Maker) -> None:
    pipeline = moving(make_pipeline, Satellites(stations=40, train_rounds=1))
    specs = [
        RunSpec(seed=1, adversary=Watcher(fails=2), threat=corrupted_clients(n=1)),
        RunSpec(seed=1, adversary=Watcher(), threat=corrupted_clients(n=1)),
    ]
    failed, whole = run_batch(pipeline, NONE, specs, secrets="seeded")
    assert failed.outcome.startswith("failed")
    rounds = {item.round for item in failed.view(SERVER).items if item.kind == "update"}
    assert max(rounds, default=0) <= 2 < max(whole.participants)
    assert failed.costs["sent_parameters"] < whole.costs["sent_parameters"]


def test_granted_updates_are_those_that_are_sent_in_a_round_with_the_models_that_they_were_made_from(
    make_pipeline: Maker,
) -> None:
    knows = ("architecture", "honest-updates")
    told = ThreatModel(name="told", corrupted=frozenset({client(0)}), knows=knows)
    spec = RunSpec(seed=1, adversary=Watcher(), threat=replace(told, active=True), trace=True)
    result = run(moving(make_pipeline, Satellites(stations=40, train_rounds=2)), spec=spec)
    granted = [item for item in result.view(told).readable("update") if item.granted]
    assert {item.round for item in granted} == {2, 4, 6}
    for item in granted:
        made = update(result, min(item.named), result.trace[item.round - 2])
        assert torch.allclose(item.vector, made, atol=2e-6)


def test_no_epsilon_is_smaller_for_what_comes_late(make_pipeline: Maker) -> None:
    private = Stack.from_layers("dp", [DpSgd(clip_norm=0.5, noise_multiplier=1.0)])
    now, late = (
        {
            (row.epsilon, row.sampling)
            for row in run(
                moving(make_pipeline, Satellites(stations=40, train_rounds=rounds), rounds=3), private
            ).ledger(SERVER)
            if row.epsilon is not None
        }
        for rounds in (0, 1)
    )
    assert now
    assert now == late


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_replayed_update_is_taken_over_open_links_and_stops_a_run_behind_authenticated_ones(
    make_pipeline: Maker, rounds: int
) -> None:
    pipeline = moving(make_pipeline, Satellites(stations=40, train_rounds=rounds))
    wire = ThreatModel(name="wire", corrupted=frozenset({WIRE}), active=True)
    spec = RunSpec(seed=1, adversary=ReplayedUpdate(), threat=wire, trace=True)
    honest, replayed = run(pipeline), run(pipeline, spec=spec)
    assert replayed.participants == honest.participants, "nobody notices"
    assert torch.equal(replayed.trace[rounds + 1], honest.trace[rounds + 1]), "the first ones are true"
    first, *later = replayed.trace.diff(dim=0)[rounds:]
    for step in later:
        assert torch.allclose(step, first, atol=1e-6), "and come again"
    assert not torch.allclose(honest.trace.diff(dim=0)[-1], first, atol=1e-3)
    link = Stack.from_layers("link", [AesGcmLink()])
    (stopped,) = run_batch(pipeline, link, [spec], secrets="seeded")
    assert stopped.outcome.startswith("aborted")
    assert list(stopped.participants) == list(range(rounds + 1)), "no round took one"
    (sealed,) = run_batch(pipeline, link, [RunSpec(seed=1)], secrets="seeded")
    assert torch.equal(sealed.params, honest.params)
    with pytest.raises(ConfigError, match="no active one"):
        ReplayedUpdate().corrupts(replace(wire, active=False))


def test_what_is_refused(make_pipeline: Maker) -> None:
    made = parts_from_config({"name": "satellites", "train_rounds": 2, "staleness_power": 0.5})
    assert made == Satellites(train_rounds=2, staleness_power=0.5)
    assert "train_rounds" not in Satellites().to_config()
    assert Satellites(train_rounds=1).to_config()["train_rounds"] == 1
    for wrong in ({"train_rounds": -1}, {"train_rounds": 1.5}, {"staleness_power": 1.0}):
        with pytest.raises(ConfigError):
            Satellites(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="negative"):
        Vehicles(train_rounds=1, staleness_power=-1.0)
    for name in ("satellites", "vehicles"):
        for text in ("much", True):
            with pytest.raises(ConfigError, match="is no number"):
                parts_from_config({"name": name, "train_rounds": 1, "staleness_power": text})
    assert moving(make_pipeline, Vehicles(train_rounds=6)).parts is not None
    with pytest.raises(ConfigError, match="before the run ends"):
        moving(make_pipeline, Vehicles(train_rounds=7))
    late = moving(make_pipeline, Satellites(train_rounds=1))
    with pytest.raises(IncompatibleStack, match="over whom"):
        Stack.from_layers("masked", [Masked()]).check(late)
    with pytest.raises(ConfigError, match="rate of another round"):
        replace(late, federation=replace(late.federation, schedule=Schedule(kind="cosine")))
