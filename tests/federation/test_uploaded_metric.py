"""Metrics that clients upload: what the server makes of them, what is on the wire, and what must not stand beside them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.accounting.exposure import exposure
from qflsec.attacks.poisoning import MetricLiar
from qflsec.base import ConfigError, IncompatibleAttack, IncompatibleStack
from qflsec.circuits import Angle, Circuit, Gate, metric_limits, pauli_z
from qflsec.circuits.forms import Form
from qflsec.data import DataSpec, PartitionSpec, as_long, load
from qflsec.defenses.compression import GradientPruning
from qflsec.defenses.privacy import ClientClip, DpFedAvg, DpSgd, LocalDp
from qflsec.defenses.robust import Median
from qflsec.federation import (
    FederationConfig,
    Gossip,
    Layer,
    NaturalGradient,
    Pipeline,
    RunResult,
    RunSpec,
    Stack,
    run_batch,
)
from qflsec.federation.round.lanes import lane_of
from qflsec.flower.pipeline_app import PipelineApp
from qflsec.models import Vqc, build_model
from qflsec.models.natural_gradient import metric_entries, metric_of, metric_places, within_limits
from qflsec.protocols.secagg import HeBfv, Masked, SecAgg
from qflsec.protocols.secagg.groups.layer import ValidatedGroups
from qflsec.threat import corrupted_clients, honest_but_curious_server

MODEL = build_model({"name": "vqc", "n_qubits": 2, "layers": 2, "n_features": 2, "n_classes": 2})
assert isinstance(MODEL, Vqc)
P = MODEL.n_params
SERVER = honest_but_curious_server(knows=("architecture", "auxiliary"))
NUMBERS = {"full": P * (P + 1) // 2, "block-diagonal": 6 * 3, "diagonal": P}
"""Two layers of three times two rotations: six blocks of two weights, three numbers each."""


def pipeline(
    solved_by: Any, kind: Any = "block-diagonal", *, bounded: bool = False, **federation: Any
) -> Pipeline:
    natural = NaturalGradient(metric=kind, damping=0.1, solved_by=solved_by, bounded=bounded)
    values = {"n_clients": 3, "rounds": 2, "learning_rate": 0.2, **federation}
    return Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2, members=6, nonmembers=0, auxiliary=10, test=10),
        partition=PartitionSpec(kind="quantity-skew", alpha=0.3, min_records=1),
        model=MODEL,
        federation=FederationConfig(natural_gradient=natural, **values),
    )


def run(which: Pipeline, *seeds: int, layers: tuple[Layer, ...] = (), **more: Any) -> list[RunResult]:
    specs = [RunSpec(seed=seed) for seed in seeds]
    results = run_batch(which, Stack.from_layers("s", layers), specs, secrets="seeded", **more)
    assert [result.outcome for result in results] == ["completed"] * len(seeds)
    return results


def by_pennylane(params: torch.Tensor, records: torch.Tensor) -> torch.Tensor:
    """The mean metric of records, from PennyLane's states."""
    each = [of_one_record(tuple(params.tolist()), tuple(record.tolist())) for record in records]
    return torch.tensor(np.mean(each, axis=0))


@cache
def of_one_record(params: tuple[float, ...], record: tuple[float, ...]) -> Any:
    @qml.qnode(qml.device("default.qubit", wires=2))
    def circuit(weights: Any) -> Any:
        for wire in range(2):
            qml.RX(record[wire], wires=wire)
        for layer in range(2):
            for wire in range(2):
                qml.Rot(*weights[layer, wire], wires=wire)
            for wire in range(2):
                qml.CNOT(wires=[wire, 1 - wire])
        return qml.expval(qml.PauliZ(0))

    weights = qml.numpy.array(np.reshape(params, (2, 2, 3)), requires_grad=True)
    return np.asarray(qml.adjoint_metric_tensor(circuit)(weights)).reshape(P, P)


@pytest.mark.parametrize("kind", ["full", "block-diagonal", "diagonal"])
def test_each_client_uploads_the_metric_of_its_records(kind: Any) -> None:
    """Against PennyLane's metric tensor of the same circuit."""
    (result,) = run(pipeline("server", kind, rounds=1), 3)
    items = result.view(SERVER).readable("update")
    assert sorted(next(iter(item.named)) for item in items) == [0, 1, 2]
    rows, columns = metric_places(MODEL.circuit, kind)
    for item in items:
        assert item.metric is not None
        assert (len(item.vector), len(item.metric)) == (P, NUMBERS[kind])
        expected = by_pennylane(result.initial, result.client_records(next(iter(item.named))).features)
        assert float((item.metric.double() - expected[rows, columns]).abs().max()) < 1e-6


@pytest.mark.parametrize("kind", ["full", "block-diagonal", "diagonal"])
def test_the_server_solves_with_means_of_steps_and_metrics(kind: Any) -> None:
    """One round against numbers made from PennyLane's metrics and the clients' own plain steps."""
    which = pipeline("server", kind, rounds=1, server_learning_rate=0.5)
    (result,) = run(which, 3)
    held = {next(iter(item.named)): item.vector.double() for item in result.view(SERVER).readable("update")}
    counts = [float(len(rows)) for rows in result.clients]
    assert len(set(counts)) > 1
    mean = sum(n * held[i] for i, n in enumerate(counts)) / sum(counts)
    pooled = torch.cat([result.client_records(i).features for i in range(3)])
    kept = torch.zeros(P, P, dtype=torch.float64)
    rows, columns = metric_places(MODEL.circuit, kind)
    kept[rows, columns] = kept[columns, rows] = 1
    damped = by_pennylane(result.initial, pooled) * kept + 0.1 * torch.eye(P, dtype=torch.float64)
    expected = result.initial.double() + 0.5 * torch.linalg.solve(damped, mean)
    assert float((result.params.double() - expected).abs().max()) < 1e-5
    plain = FederationConfig(n_clients=3, rounds=1, learning_rate=0.2, server_learning_rate=0.5)
    (sgd,) = run(replace(which, federation=plain), 3)
    assert torch.equal(sgd.view(SERVER).readable("update", about=0)[0].vector.double(), held[0])
    assert float((result.params - sgd.params).abs().max()) > 0.01


def test_equal_records_at_all_clients_are_solving_at_the_client() -> None:
    """Then the mean of (g + d)^-1 grad is that of the means; with records that differ it is not."""

    def final(solved_by: str, copies: bool) -> torch.Tensor:
        which = pipeline(solved_by, rounds=1)
        dataset = load(which.data, 5)
        if copies:
            held = dataset.member_idx[:4].repeat(3)
            rows = np.arange(12)
            dataset = replace(
                dataset,
                features=dataset.features[held],
                labels=dataset.labels[held],
                member_idx=as_long(rows),
                clients=as_long(np.repeat(np.arange(3), 4)),
                client_names=("a", "b", "c"),
                auxiliary_idx=as_long(rows[:0]),
                test_idx=as_long(rows[:0]),
            )
            which = replace(which, partition=PartitionSpec(kind="files"))
        return run(which, 5, lanes=[lane_of(which, dataset, 5)])[0].params

    assert float((final("server", True) - final("client", True)).abs().max()) < 1e-6
    assert float((final("server", False) - final("client", False)).abs().max()) > 1e-3


def test_batched_is_single_bit_for_bit() -> None:
    which = pipeline("server", participation=0.67)
    together = run(which, 0, 1, 2)
    for seed in (0, 2):
        assert torch.equal(run(which, seed)[0].params, together[seed].params)


def test_sums_under_masks_carry_the_metric_as_further_numbers() -> None:
    which = pipeline("server")
    (plain,), (masked,) = run(which, 3), run(which, 3, layers=(Masked(),))
    assert float((plain.params - masked.params).abs().max()) < 1e-3
    (item, *_) = masked.view(SERVER).readable("aggregate")
    assert item.metric is not None
    assert len(item.named) == 3
    pooled = torch.cat([masked.client_records(i).features for i in range(3)])
    (rounds,) = run(which, 3, layers=(SecAgg(),))
    assert float((plain.params - rounds.params).abs().max()) < 1e-3
    rows, columns = metric_places(MODEL.circuit, "block-diagonal")
    expected = by_pennylane(masked.initial, pooled)[rows, columns]
    assert float((item.metric.double() - expected).abs().max()) < 1e-3
    # P + M parameters and entries, and the number of examples
    assert which.workload.n_params == P + NUMBERS["block-diagonal"]
    assert not masked.view(SERVER).readable("update")


def test_updates_that_a_threat_model_grants_have_their_metric() -> None:
    """Behind masks, sums with granted updates taken off are as they would be in the clear, metrics too."""
    knowing = replace(SERVER, name="knowing", knows=frozenset({*SERVER.knows, "honest-updates"}))
    (plain,) = run(pipeline("server"), 3)
    (masked,) = run(pipeline("server"), 3, layers=(Masked(),), grant_honest_updates=True)
    granted = {next(iter(i.named)): i for i in masked.view(knowing).readable("update", round_index=0)}
    for item in plain.view(SERVER).readable("update", round_index=0):
        same = granted[next(iter(item.named))]
        assert item.metric is not None
        assert same.metric is not None
        assert torch.allclose(same.vector, item.vector, atol=1e-6)
        assert torch.allclose(same.metric, item.metric, atol=1e-6)


def test_what_crosses_the_wire_is_counted() -> None:
    (server,), (client,) = run(pipeline("server"), 0), run(pipeline("client"), 0)
    more = server.costs["network_bytes"] - client.costs["network_bytes"]
    assert more == 4 * NUMBERS["block-diagonal"] * 2 * 3
    stack, load_ = Stack.from_layers("s", []), pipeline("server").workload
    assert load_.model_bytes == 4 * P
    assert stack.carried(load_) == {}


def test_other_clients_see_a_step_that_is_no_mean() -> None:
    (result,) = run(pipeline("server"), 1)
    view = result.view(corrupted_clients(n=1, active=False))
    assert not [item for item in view.readable("update", "aggregate") if item.named - {0}]
    assert view.readable("step")
    assert not [told for told in exposure(view) if "metrics" in told]
    assert [told for told in exposure(result.view(SERVER)) if "metrics" in told]


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 50.0))
@settings(max_examples=20, deadline=None)
def test_no_entries_enlarge_a_step_beyond_one_over_the_damping(seed: int, size: float) -> None:
    """A metric has no negative eigenvalue; what a liar adds may have some, and they count as zero."""
    uploaded = pipeline("server").uploaded
    assert uploaded is not None
    generator = torch.Generator().manual_seed(seed)
    entries = size * torch.randn(uploaded.size, generator=generator)
    step = torch.randn(P, generator=generator)
    assert float(uploaded.step(step, entries).norm()) <= float(step.norm()) / 0.1 * (1 + 1e-5)
    metric = metric_of(MODEL.circuit, entries, "block-diagonal")
    assert torch.equal(metric, metric.mT)
    assert torch.equal(metric_entries(MODEL.circuit, metric, "block-diagonal"), entries)


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 50.0))
@settings(max_examples=20, deadline=None)
def test_what_is_within_limits_is_a_metric_that_the_circuit_can_have(seed: int, size: float) -> None:
    made = size * torch.randn(3, P, P, generator=torch.Generator().manual_seed(seed)).double()
    limits, found = metric_limits(MODEL.circuit), within_limits(MODEL.circuit, made + made.mT)
    assert bool((found.diagonal(dim1=-2, dim2=-1) <= limits + 1e-9).all())
    assert float(torch.linalg.eigvalsh(found).min()) >= -1e-9
    assert torch.allclose(within_limits(MODEL.circuit, found), found, atol=1e-9)
    broken = found.clone()
    broken[1, 0, 0] = torch.inf
    kept = within_limits(MODEL.circuit, broken)
    assert float(kept[1].abs().max()) == 0.0
    assert torch.allclose(kept[[0, 2]], found[[0, 2]], atol=1e-9)


def lied(which: Pipeline, *liars: MetricLiar) -> list[RunResult]:
    """One honest run, and one for each liar, of client 0."""
    threat = corrupted_clients(n=1)
    specs = [RunSpec(seed=3), *(RunSpec(seed=3, adversary=liar, threat=threat) for liar in liars)]
    found = run_batch(which, Stack.from_layers("s", []), specs, secrets="seeded")
    assert [result.outcome for result in found] == ["completed"] * len(found)
    return found


@pytest.mark.parametrize("kind", ["full", "block-diagonal", "diagonal"])
def test_one_metric_freezes_the_model_or_takes_the_metric_away(kind: Any) -> None:
    which = pipeline("server", kind, rounds=1)
    honest, frozen, bare = lied(which, MetricLiar(scale=1e6), MetricLiar(lie="vanish", scale=1e6))
    moved = [float((result.params - result.initial).norm()) for result in (honest, frozen, bare)]
    assert moved[1] < 1e-3 * moved[0]
    assert moved[2] > 1.2 * moved[0]
    held = {next(iter(i.named)): i for i in bare.view(SERVER).readable("update")}
    counts = [float(len(rows)) for rows in bare.clients]
    mean = sum(n * held[i].vector.double() for i, n in enumerate(counts)) / sum(counts)
    assert moved[2] <= float(mean.norm()) / 0.1 + 1e-6, "no more than the plain step over the damping"
    own = held[0].metric
    assert own is not None
    truth = honest.view(SERVER).readable("update", about=0)[0].metric
    assert truth is not None
    assert torch.allclose(own, -2e6 * truth)


def test_a_server_that_bounds_metrics_leaves_honest_ones_and_stops_both_lies() -> None:
    liars = MetricLiar(scale=1e6), MetricLiar(lie="vanish", scale=1e6)
    free, bounded = (lied(pipeline("server", bounded=b, rounds=1), *liars) for b in (False, True))
    assert torch.allclose(free[0].params, bounded[0].params, atol=1e-6)
    away = [[float((one.params - found[0].params).norm()) for one in found[1:]] for found in (free, bounded)]
    length = float((free[0].params - free[0].initial).norm())
    assert min(away[0]) > 0.5 * length
    assert max(away[1]) < 0.5 * length
    # batched is single
    (alone,) = run_batch(
        pipeline("server", bounded=True, rounds=1),
        Stack.from_layers("s", []),
        [RunSpec(seed=3, adversary=liars[0], threat=corrupted_clients(n=1))],
    )
    assert torch.equal(alone.params, bounded[1].params)


def test_numbers_that_are_none_are_dropped_with_their_step() -> None:
    honest, lost = lied(pipeline("server", rounds=1), MetricLiar(scale=1e39))
    assert lost.participants[0] == {1, 2}
    assert not torch.equal(honest.params, lost.params)


@pytest.mark.parametrize(
    "layer",
    [
        DpSgd(delta=1e-2),
        LocalDp(delta=1e-2),
        DpFedAvg(delta=1e-2),
        ClientClip(clip_norm=1.0),
        GradientPruning(keep=0.5),
        Median(),
    ],
    ids=lambda layer: layer.card.name,
)
def test_no_layer_promises_what_the_metric_breaks(layer: Layer) -> None:
    with pytest.raises(IncompatibleStack, match="second release of their records"):
        Stack.from_layers("s", [layer]).check(pipeline("server"))


def test_what_it_does_not_fit_is_refused() -> None:
    for sealing in (ValidatedGroups(groups=3), HeBfv()):
        with pytest.raises(IncompatibleStack, match="exact sum of the metrics"):
            Stack.from_layers("s", [sealing]).check(pipeline("server"))
    with pytest.raises(ConfigError, match="not one of each record"):
        NaturalGradient(of="record", solved_by="server")
    for values in ({"local_steps": 2}, {"epochs": 1, "batch_size": 2}, {"batch_size": 2}, {"momentum": 0.5}):
        with pytest.raises(ConfigError, match="one plain step on all records"):
            pipeline("server", **values)
    with pytest.raises(IncompatibleStack, match="leaves it their sum"):
        Stack.from_layers("s", [Masked()]).check(pipeline("server", bounded=True))
    gate = Gate("RX", (0,), (Angle.derived(0),))
    free = Circuit(
        n_qubits=1,
        gates=(gate, Gate("RY", (0,), (Angle.weight(1),))),
        observables=(pauli_z(0, 1),),
        n_weights=2,
        n_features=2,
        derived=(Form.read("weight", 0).times(Form.read("feature", 0)),),
    )
    for bounded in (False, True):
        with pytest.raises(ConfigError, match=r"no limit .* got weights \[0\]") if bounded else nullcontext():
            replace(pipeline("server", bounded=bounded), model=Vqc(circuit=free))
    with pytest.raises(ConfigError, match="metrics that are uploaded"):
        NaturalGradient(bounded=True)
    with pytest.raises(IncompatibleAttack, match="none is uploaded"):
        MetricLiar().check(pipeline("client"), corrupted_clients(n=1))
    with pytest.raises(ConfigError, match="lie"):
        MetricLiar(lie="none")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="one server"):
        replace(pipeline("server"), topology=Gossip())
    with pytest.raises(ConfigError, match="no metric"):
        PipelineApp(pipeline=pipeline("server"), seed=0)
    assert "solved_by" not in NaturalGradient().to_config()
    assert pipeline("server").federation.to_config()["natural_gradient"]["solved_by"] == "server"  # type: ignore[index]
