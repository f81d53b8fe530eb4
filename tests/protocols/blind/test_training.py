"""Training whose circuits a blind quantum server executes: results, servers that deviate, ledger and costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.defenses.privacy.dp_sgd import DpSgd
from qflsec.federation import Adversary, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.models import Execution, QNodeModel, build_model
from qflsec.protocols.blind import (
    Blind,
    Delegated,
    Delegation,
    QuantumServer,
    RoundsResult,
    compile_patterns,
    composed_soundness,
    seen_delegations,
    shift_rows,
)
from qflsec.protocols.secagg import Masked
from qflsec.threat import (
    PUBLIC,
    ThreatModel,
    coalition,
    honest_but_curious_quantum_server,
    honest_but_curious_server,
    malicious_quantum_server,
    wire_eavesdropper,
)

Maker = Callable[..., Pipeline]
CLEAR = Stack(name="clear")
EXACT = Stack(name="exact", client=(Blind(executor="exact"),))


def stack_of(*layers: Any) -> Stack:
    return Stack(name="+".join(layer.card.name for layer in layers), client=layers)


def double(pipeline: Pipeline, **changes: Any) -> Pipeline:
    return dataclasses.replace(pipeline, execution=Execution(dtype="complex128"), **changes)


def one(pipeline: Pipeline, stack: Stack, spec: RunSpec | None = None, **how: Any) -> RunResult:
    return run_batch(pipeline, stack, [spec or RunSpec(seed=3)], **how)[0]


def curves(result: RunResult) -> np.ndarray:
    assert result.outcome == "completed"
    return np.array([result.loss, result.train_loss])


class Flipping(QuantumServer):
    """Flips the last outcome of every round."""

    def measure(self, node: int, delta: Any) -> Any:
        bits = super().measure(node, delta)
        return bits ^ 1 if node == self.graph.order[-1] else bits


class Failing(QuantumServer):
    def measure(self, node: int, delta: Any) -> Any:
        raise RuntimeError("out of order")


@dataclasses.dataclass(frozen=True)
class Running(Adversary):
    """A quantum server that runs a program."""

    program: type[QuantumServer]

    def identity(self) -> dict[str, object]:
        return {"name": "running", "program": self.program.__name__}

    def quantum_server(self, stream_seed: int) -> type[QuantumServer]:
        return self.program


def attacked(program: type[QuantumServer], seed: int = 3) -> RunSpec:
    return RunSpec(seed=seed, adversary=Running(program), threat=malicious_quantum_server())


@pytest.mark.parametrize("n_qubits", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_exact_training_has_the_loss_curve_of_training_in_the_clear(
    make_pipeline: Maker, n_qubits: int
) -> None:
    pipeline = make_pipeline(n_qubits=n_qubits, layers=2, members=18, rounds=6, local_steps=2)
    blind = curves(one(pipeline, EXACT))
    assert np.abs(blind - curves(one(pipeline, CLEAR))).max() < 1e-6
    assert np.ptp(blind, axis=1).min() > 0.005  # it moves
    assert np.abs(curves(one(double(pipeline), EXACT)) - curves(one(double(pipeline), CLEAR))).max() < 1e-8


@pytest.mark.parametrize("sampling", ["fixed", "poisson"])
def test_mini_batches_and_participation(make_pipeline: Maker, sampling: str) -> None:
    pipeline = double(
        make_pipeline(
            n_qubits=2,
            layers=2,
            members=20,
            batch_size=3,
            sampling=sampling,
            local_steps=2,
            participation=0.7,
        )
    )
    result = one(pipeline, EXACT)
    assert np.abs(curves(result) - curves(one(pipeline, CLEAR))).max() < 1e-8
    talking = {
        (m.round, s.sender.index) for m in result.transcript.messages for s in m.slots if m.kind == "delta"
    }
    present = {
        (m.round, s.sender.index)
        for m in result.transcript.messages
        for s, sent in zip(m.slots, m.present[0], strict=True)
        if m.kind == "update" and sent
    }
    assert talking == present
    assert len(present) == 2 * 2


def test_dp_sgd_works_on_delegated_per_sample_gradients(make_pipeline: Maker) -> None:
    dp = DpSgd(clip_norm=0.5, noise_multiplier=0.7)
    pipeline = double(make_pipeline(n_qubits=2, layers=2, members=12, batch_size=3, sampling="poisson"))
    delegated, clear = one(pipeline, stack_of(Blind(executor="exact"), dp)), one(pipeline, stack_of(dp))
    assert np.abs(curves(delegated) - curves(clear)).max() < 1e-7
    assert np.abs(curves(delegated) - curves(one(pipeline, CLEAR))).max() > 1e-3


def hybrid() -> Any:
    return build_model({"name": "hybrid", "n_features": 4, "n_qubits": 2, "layers": 1, "hidden": [3]})


def user_qnode() -> Any:
    @qml.qnode(qml.device("default.qubit", wires=2))  # type: ignore[untyped-decorator]
    def circuit(weights: Any, inputs: Any) -> Any:
        qml.AngleEmbedding(inputs, wires=[0, 1])
        qml.StronglyEntanglingLayers(weights, wires=[0, 1])
        return qml.expval(qml.PauliZ(0))

    return QNodeModel(qnode=circuit, weight_shape=(1, 2, 3), n_features=2)


@pytest.mark.parametrize("make_model", [hybrid, user_qnode])
def test_other_models_through_measure(make_pipeline: Maker, make_model: Callable[[], Any]) -> None:
    model = make_model()
    base = make_pipeline(n_qubits=model.n_features, layers=1, members=9, rounds=3)
    pipeline = double(base, model=model)
    assert np.abs(curves(one(pipeline, EXACT)) - curves(one(pipeline, CLEAR))).max() < 1e-8


@pytest.mark.parametrize("layer", [Blind(), Delegated(executor="exact")])
def test_a_model_without_a_circuit_is_refused(make_pipeline: Maker, layer: Any) -> None:
    base = make_pipeline(n_qubits=2)
    model = build_model({"name": "classical", "n_features": 2, "n_classes": 2})
    with pytest.raises(IncompatibleStack, match="has none that can be read"):
        one(dataclasses.replace(base, model=model), stack_of(layer))
    with pytest.raises(IncompatibleStack, match="its own shots and noise"):
        one(dataclasses.replace(base, execution=Execution(shots=10)), stack_of(layer))


def test_an_amplitude_embedding_is_refused(make_pipeline: Maker) -> None:
    model = build_model({"name": "vqc", "n_qubits": 2, "layers": 1, "n_features": 4, "encoder": "amplitude"})
    pipeline = dataclasses.replace(make_pipeline(n_qubits=4), model=model)
    with pytest.raises(IncompatibleStack, match="amplitude embedding"):
        one(pipeline, stack_of(Blind()))


def test_one_delegation_layer_per_stack() -> None:
    with pytest.raises(IncompatibleStack, match="one delegation layer"):
        stack_of(Blind(), Delegated())


@pytest.mark.parametrize(
    "bad",
    [
        {"executor": "fast"},
        {"executor": "exact", "depolarising": 0.1},
        {"depolarising": 1.1},
        {"shots": 0},
        {"tests": -1},
        {"tests": 3, "threshold": 4},
        {"corrupted_fraction": 0.6},
        {"embedding": "none"},
        {"grid_bits": 2},
    ],
)
def test_layers_refuse_bad_values(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Blind(**bad)


def test_shot_training_with_tests_matches_plain_training_within_shot_noise(make_pipeline: Maker) -> None:
    """One step, 4 weights of 3 clients within 4.9 standard deviations: false-alarm rate 1.2e-5 in all.

    With L the logistic loss of 3 z, an error of dL/dw is that of dz/dw, two outcomes' averages over 2, times
    |L'| <= 3, plus that of z times L'' <= 9/4 times |dz/dw| <= 1. So its variance is at most
    (9 / 2 + 81 / 16) / (records x shots). A flipped outcome, untested, is far outside.
    """
    pipeline = make_pipeline(n_qubits=2, layers=2, members=18, rounds=1)
    shots = 300
    blind = one(pipeline, stack_of(Blind(shots=shots, tests=100)), grant_honest_updates=True)
    clear = one(pipeline, CLEAR, grant_honest_updates=True)
    flipped = one(
        pipeline, stack_of(Blind(shots=shots, tests=0)), attacked(Flipping), grant_honest_updates=True
    )
    sigma = 0.2 * np.sqrt((9 / 2 + 81 / 16) / (6 * shots))
    updates = [r.transcript.honest_updates[0] for r in (blind, clear, flipped)]
    for key in updates[1]:
        assert float((updates[0][key] - updates[1][key]).abs().max()) < 4.9 * sigma
    assert max(float((updates[2][key] - updates[1][key]).abs().max()) for key in updates[1]) > 7 * sigma
    assert blind.costs["failed_tests"] == 0


@pytest.mark.slow
def test_a_run_in_shot_mode_learns_as_in_the_clear(make_pipeline: Maker) -> None:
    """Fixed seeds: test losses stay within 0.03 of the plain ones; training losses are measured with shots."""
    pipeline = make_pipeline(n_qubits=2, layers=2, members=18, rounds=8, learning_rate=0.4)
    specs = [RunSpec(seed=seed) for seed in range(2)]
    blind = run_batch(pipeline, stack_of(Blind(shots=150, tests=250)), specs, secrets="seeded")
    for mine, plain in zip(blind, run_batch(pipeline, CLEAR, specs), strict=True):
        apart = np.abs(curves(mine) - curves(plain))
        assert apart[0].max() < 0.03
        assert apart[1].max() < 0.12
        assert np.ptp(curves(plain)[0]) > 0.08


def test_a_flipping_server_is_caught_and_its_run_aborted(make_pipeline: Maker) -> None:
    """A test sees a flipped outcome with probability 1/2: 60 tests miss it with probability 1e-18."""
    pipeline = make_pipeline(n_qubits=2, layers=2, members=9, rounds=2)
    stack = stack_of(Blind(shots=20, tests=60))
    bad, good = run_batch(pipeline, stack, [attacked(Flipping), RunSpec(seed=3)])
    assert bad.outcome.startswith("aborted: the quantum server failed the tests")
    assert 10 < bad.costs["failed_tests"] < 50
    assert torch.equal(bad.params, bad.initial)
    assert good.outcome == "completed"
    kinds = {
        m.kind
        for m in bad.transcript.messages
        for i, lane in enumerate(m.lanes)
        if lane == bad.lane and any(m.present[i])
    }
    assert kinds == {"model", "graph", "qubits", "delta", "reply"}  # nothing goes to the aggregation server


def test_untested_or_open_delegations_do_not_notice(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, layers=2, members=9, rounds=2)
    for layer in (Blind(shots=60, tests=0), Delegated(shots=60)):
        bad = one(pipeline, stack_of(layer), attacked(Flipping))
        assert bad.outcome == "completed"
        honest = one(pipeline, stack_of(layer))
        assert np.abs(curves(bad) - curves(honest)).max() > 0.3


def test_an_honest_noisy_server_is_accepted(make_pipeline: Maker) -> None:
    """Planned for a failure rate of 2 % and 1 % of honest delegations rejected: six are, at most, once in 16.

    The noise fails about 1.5 % of the tests; without a threshold it is not accepted.
    """
    pipeline = make_pipeline(n_qubits=2, layers=1, members=3, rounds=2)
    planned = Blind(shots=100, depolarising=0.004, target=1e-2, failure_rate=0.02, corrupted_fraction=0.35)
    result = one(pipeline, stack_of(planned), secrets="seeded")
    assert result.outcome == "completed"
    assert result.costs["failed_tests"] > 0
    for results in result.delegations.values():
        for found in results:
            assert isinstance(found, RoundsResult)
            assert 0 < found.failures <= found.counts.threshold
    strict = dataclasses.replace(planned, target=None, tests=400)
    assert one(pipeline, stack_of(strict), secrets="seeded").outcome.startswith("aborted")
    flipped = one(pipeline, stack_of(planned), attacked(Flipping), secrets="seeded")
    assert flipped.outcome.startswith("aborted")


def test_soundness_is_composed_over_all_delegations_of_the_run(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, layers=1, members=9, rounds=2, local_steps=2)
    layer = Blind(shots=40, tests=120, corrupted_fraction=0.4)
    result = one(pipeline, stack_of(layer))
    found: list[Any] = [r for results in result.delegations.values() for r in results]
    assert len(found) == 3 * 2 * 2
    composed = composed_soundness(found, corrupted_fraction=0.4)
    assert composed == pytest.approx(12 * composed_soundness(found[:1], corrupted_fraction=0.4))
    assert 0 < composed < 1e-3
    rows = result.ledger(honest_but_curious_quantum_server())
    secrecy, integrity = (row for row in rows if row.layer == "blind")
    assert (secrecy.guarantee, secrecy.assumption) == ("secrecy", "information-theoretic")
    assert "the graph" in secrecy.released
    assert "poisoning, backdoors, or those who receive the model" in secrecy.note
    assert f"{composed:.2g} or less, over all 12 delegations" in integrity.statement
    with_one = result.ledger(coalition(quantum_server=True, n=1))
    assert "over all 8 delegations" in next(r for r in with_one if r.guarantee == "integrity").statement
    assert not [row for row in result.ledger(honest_but_curious_server()) if row.layer == "blind"]


def test_the_ledger_gives_no_credit_where_none_is_due(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, members=9)
    threat = honest_but_curious_quantum_server()
    (exact,) = (row for row in one(pipeline, EXACT).ledger(threat) if row.layer == "blind")
    assert "earns no soundness" in exact.note
    seeded = one(pipeline, EXACT, secrets="seeded").ledger(threat)
    assert [row.guarantee for row in seeded if row.layer == "blind"] == ["not covered"]
    for observer in (threat, wire_eavesdropper()):
        rows = one(pipeline, stack_of(Delegated(executor="exact"))).ledger(observer)
        assert [row.guarantee for row in rows if row.layer == "delegated"] == ["not covered"]


def test_other_layers_guarantees_are_void_where_circuits_are_read(make_pipeline: Maker) -> None:
    """Who reads each shifted circuit computes updates before they are clipped, noised or masked."""
    pipeline = make_pipeline(n_qubits=2, members=9, batch_size=2, sampling="poisson")
    everybody = coalition(quantum_server=True, server=True)
    hiding = {"differential privacy", "secrecy", "anonymity"}
    for stack in (
        stack_of(DpSgd(), Delegated(executor="exact")),
        stack_of(Delegated(executor="exact"), Masked()),
    ):
        result = one(pipeline, stack)
        for observer in (everybody, wire_eavesdropper()):
            assert hiding.isdisjoint({row.guarantee for row in result.ledger(observer)})
        assert hiding & {row.guarantee for row in result.ledger(honest_but_curious_server())}
    blind = one(pipeline, stack_of(DpSgd(), Blind(executor="exact"))).ledger(everybody)
    assert {"differential privacy", "secrecy"} <= {row.guarantee for row in blind}


def test_what_cannot_be_attacked_is_incompatible(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, members=9)
    for stack in (EXACT, stack_of(Delegated(executor="exact"))):
        with pytest.raises(IncompatibleStack, match="simulator's shortcut"):
            one(pipeline, stack, attacked(Flipping))
    with pytest.raises(IncompatibleStack, match="nothing in this stack is delegated"):
        one(pipeline, CLEAR, attacked(Flipping))
    with pytest.raises(IncompatibleStack, match="noise hides an attack"):
        one(pipeline, stack_of(Blind(target=0.01, failure_rate=0.2)))


def test_a_faulty_program_fails_its_own_run(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, members=9)
    bad, good = run_batch(pipeline, stack_of(Blind(shots=5)), [attacked(Failing), RunSpec(seed=4)])
    assert bad.outcome == "failed: RuntimeError: out of order"
    assert good.outcome == "completed"


@pytest.mark.parametrize(
    "stack",
    [
        stack_of(Blind(shots=10, tests=20, depolarising=0.001, threshold=20)),
        EXACT,
        stack_of(Delegated(shots=10)),
    ],
    ids=lambda stack: stack.name,
)
def test_batched_lanes_are_single_lanes_bit_for_bit(make_pipeline: Maker, stack: Stack) -> None:
    pipeline = make_pipeline(n_qubits=2, layers=1, members=12, local_steps=2)
    specs = [RunSpec(seed=seed) for seed in (1, 2, 3)]
    together = run_batch(pipeline, stack, specs, secrets="seeded")
    for spec, batched in zip(specs, together, strict=True):
        alone = one(pipeline, stack, spec, secrets="seeded")
        assert torch.equal(alone.params, batched.params)
        assert (alone.loss, alone.train_loss) == (batched.loss, batched.train_loss)
        mine, theirs = (
            seen_delegations(r.view(honest_but_curious_quantum_server())) for r in (alone, batched)
        )
        assert len(mine) == len(theirs) > 0
        for a, b in zip(mine, theirs, strict=True):
            assert all((a.deltas[node] == b.deltas[node]).all() for node in a.graph.order)
            assert all((a.replies[node] == b.replies[node]).all() for node in a.replies)


def test_costs(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, layers=2, members=9, rounds=2, local_steps=2)
    result = one(pipeline, stack_of(Blind(shots=7, tests=11)))
    circuit: Any = pipeline.model.circuit  # type: ignore[attr-defined]
    (delegation,) = compile_patterns(circuit)
    assert isinstance(delegation, Delegation)
    graph, padded = delegation.pattern.graph, 8
    calls = 3 * 2 * 2
    rounds = calls * (7 * padded * (1 + shift_rows(circuit)) + 11)
    assert result.costs["quantum_rounds"] == rounds
    assert result.costs["test_rounds"] == calls * 11
    assert result.costs["sent_qubits"] == rounds * graph.n_nodes == result.costs["reply_bits"]
    assert result.costs["entangling_gates"] == rounds * len(graph.edges)
    assert result.costs["angle_bits"] == 32 * rounds * graph.n_nodes
    clear = one(pipeline, CLEAR)
    extra = result.costs["network_bytes"] - clear.costs["network_bytes"]
    assert extra > (result.costs["angle_bits"] + result.costs["reply_bits"]) / 8


def test_the_view_is_what_a_server_holds_and_the_transcript_is_bounded(
    make_pipeline: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Watching(QuantumServer):
        def measure(self, node: int, delta: Any) -> Any:
            bits = super().measure(node, delta)
            told.append((node, delta.copy(), bits.copy()))
            return bits

    pipeline = make_pipeline(n_qubits=2, layers=1, members=9, rounds=1)
    stack = stack_of(Blind(shots=60, tests=5))
    result = one(pipeline, stack, attacked(Watching), secrets="seeded")
    seen = seen_delegations(result.view(malicious_quantum_server()))
    flat = [(d.client, node) for d in seen for node in d.graph.order]
    for client, node in flat:
        mine = next(d for d in seen if d.client == client)
        size = len(mine.deltas[node])
        assert size == 60 * 8 * (1 + shift_rows(pipeline.model.circuit)) + 5  # type: ignore[attr-defined]
    joined = np.concatenate([delta for node, delta, _ in told if node == 0])
    assert (np.concatenate([d.deltas[0] for d in seen]) == joined).all()
    joined = np.concatenate([bits for node, _, bits in told if node == 0])
    assert (np.concatenate([d.replies[0] for d in seen]) == joined).all()
    for other in (honest_but_curious_server(), ThreatModel(name="x", corrupted=frozenset({PUBLIC}))):
        assert not seen_delegations(result.view(other))
    assert len(seen_delegations(result.view(wire_eavesdropper()))) == 3
    assert len(seen_delegations(result.view(coalition(n=1)))) == 1
    monkeypatch.setattr("qflsec.federation.delegation.KEPT_BYTES", 90_000)
    short = one(pipeline, stack, attacked(Watching), secrets="seeded")
    assert short.costs["network_bytes"] == result.costs["network_bytes"]
    kept = seen_delegations(short.view(malicious_quantum_server()))
    assert 0 < len(kept[0].deltas[0]) < len(seen[0].deltas[0])
    assert torch.equal(short.params, result.params)
    none = one(pipeline, stack, record=frozenset({"update"}))
    assert not seen_delegations(none.view(honest_but_curious_quantum_server()))


@pytest.mark.parametrize("kind", ["delta", "reply", "graph", "lost"])
def test_a_wire_that_alters_the_traffic_is_noticed(make_pipeline: Maker, kind: str) -> None:
    class Tampering(Adversary):
        def identity(self) -> dict[str, object]:
            return {"name": "tampering"}

        def tamper(self, tapped: Any) -> Any:
            if kind == "lost":
                return None if tapped.kind == "reply" else tapped.payload
            if tapped.kind != kind:
                return tapped.payload
            return tapped.payload + b" " if kind == "graph" else ~tapped.payload

    spec = RunSpec(seed=1, adversary=Tampering(), threat=wire_eavesdropper(active=True))
    result = one(make_pipeline(n_qubits=2, members=9), stack_of(Blind(shots=5, tests=40)), spec)
    assert result.outcome.startswith("aborted: ")
