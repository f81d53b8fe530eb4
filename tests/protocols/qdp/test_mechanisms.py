"""Noise on clients' circuits in the loop: what is executed, what is released, and which rows that earns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from qflsec.accounting import LedgerRow, dp_statement
from qflsec.attacks import InversionClaim, MembershipClaim
from qflsec.attacks.inversion import DeepLeakage
from qflsec.attacks.membership import LossThreshold
from qflsec.base import ConfigError, IncompatibleStack
from qflsec.circuits import Circuit, NoiseModel, Observable, sampling, shift
from qflsec.data import DataSpec
from qflsec.defenses.privacy import DpSgd, FewShots
from qflsec.federation import (
    ExecutionLayer,
    FederationConfig,
    Layer,
    Pipeline,
    RunResult,
    RunSpec,
    Stack,
    calibrate_stack,
    executed,
    run_batch,
)
from qflsec.federation.round.local import LocalTraining
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import EXACT, Execution, Vqc, build_model, execute
from qflsec.protocols.blind import Delegated
from qflsec.protocols.qdp import CircuitNoise, DepolarizingNoise, EncodingNoise, NoisyMeasurement, copies_of
from qflsec.threat import honest_but_curious_server

SERVER = honest_but_curious_server()
HYBRID = {"name": "hybrid", "n_qubits": 2, "layers": 1, "n_features": 2}
NOISES = [DepolarizingNoise(p=0.3), EncodingNoise(p=0.3), NoisyMeasurement(p=0.1)]
SHIFTED = Execution(shots=6, gradient="parameter-shift")


def make(execution: Execution = EXACT, model: dict[str, Any] | None = None, **federation: Any) -> Pipeline:
    return Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2, members=9, nonmembers=9, auxiliary=30, test=20),
        model=build_model(model or {"name": "vqc", "n_qubits": 2, "layers": 1, "n_features": 2}),
        federation=FederationConfig(**{"n_clients": 3, "rounds": 2, "learning_rate": 0.2, **federation}),
        execution=execution,
    )


def run(pipeline: Pipeline, *layers: Layer, seed: int = 0) -> RunResult:
    result = run_batch(pipeline, Stack.from_layers("s", layers), [RunSpec(seed=seed)])[0]
    assert result.outcome == "completed", result.outcome + result.traceback
    return result


def dp_rows(result: RunResult) -> list[LedgerRow]:
    return [row for row in result.ledger(SERVER) if row.guarantee == "differential privacy"]


def why_not(result: RunResult, layer: str) -> str:
    return " ".join(
        r.statement for r in result.ledger(SERVER) if (r.layer, r.guarantee) == (layer, "not covered")
    )


def circuit_of(pipeline: Pipeline) -> Circuit:
    assert isinstance(pipeline.model, Vqc)
    return pipeline.model.circuit


@pytest.mark.parametrize("layer", NOISES, ids=lambda layer: layer.card.name)
def test_a_layer_trains_as_the_execution_that_it_sets(layer: CircuitNoise) -> None:
    by_hand = make(replace(SHIFTED, noise=layer.noise()))
    through = run(make(), layer, FewShots(shots=6))
    assert torch.equal(run(by_hand).params, through.params)
    assert not torch.equal(run(make(SHIFTED)).params, through.params)
    assert torch.equal(run(make(SHIFTED), layer).params, through.params)


def test_batched_runs_equal_single_ones() -> None:
    stack = Stack.from_layers("s", [FewShots(shots=5), EncodingNoise(p=0.2)])
    specs = [RunSpec(seed=seed) for seed in range(3)]
    for result, spec in zip(run_batch(make(batch_size=2), stack, specs), specs, strict=True):
        alone = run_batch(make(batch_size=2), stack, [spec])[0]
        assert torch.equal(result.params, alone.params)
        assert result.train_loss == alone.train_loss


def test_few_shots_only_ever_lowers_shots() -> None:
    assert FewShots(shots=8).execution(EXACT) == Execution(shots=8, gradient="parameter-shift")
    assert FewShots(shots=8).execution(Execution(shots=3)).shots == 3
    assert dp_rows(run(make(), FewShots(shots=1))) == [], "shot noise without a floor earns nothing"


class Spy:
    """Counts the shots that clients draw in training, and exact evaluations that they make there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shots, self.exact, self.training = 0, 0, False
        train, draw = LocalTraining.__call__, sampling._frequencies

        def trained(*args: Any, **kwargs: Any) -> Any:
            self.training = True
            try:
                return train(*args, **kwargs)
            finally:
                self.training = False

        def drawn(table: torch.Tensor, shots: int, generator: Any) -> torch.Tensor:
            self.shots += shots * math.prod(table.shape[:-1]) * self.training
            return draw(table, shots, generator)

        monkeypatch.setattr(LocalTraining, "__call__", trained)
        monkeypatch.setattr(sampling, "_frequencies", drawn)
        names = {
            execute: ("exact_expectations", "exact_noisy_expectations"),
            shift: ("expectations", "noisy_expectations"),
        }
        for module, functions in names.items():
            for name in functions:
                monkeypatch.setattr(module, name, self.counted(getattr(module, name)))

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.exact += self.training
            return function(*args, **kwargs)

        return call


@pytest.mark.parametrize("layers", [(), (DpSgd(noise_multiplier=1.0),)], ids=["plain", "dp-sgd"])
@pytest.mark.parametrize(
    ("words", "mitigation"),
    [(("ZI",), None), (("ZI", "XY"), None), (("ZI",), "zero-noise")],
    ids=["one group", "two groups", "two noise scales"],
)
def test_clients_use_up_exactly_the_copies_that_are_accounted_and_nothing_exact(
    layers: tuple[Layer, ...], words: tuple[str, ...], mitigation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make(Execution(mitigation=mitigation), local_steps=2)
    observable = Observable(tuple((0.5, word) for word in words))
    circuit = replace(circuit_of(pipeline), observables=(observable,))
    pipeline = replace(pipeline, model=Vqc(circuit=circuit))
    pipeline = replace(pipeline, data=replace(pipeline.data, members=24))  # eight each: nothing is padded
    spy = Spy(monkeypatch)
    result = run(pipeline, *layers, FewShots(shots=3), DepolarizingNoise(p=0.5))
    (row,) = (row for row in dp_rows(result) if row.layer == "depolarizing-noise")
    shots = 3 if mitigation is None else 6
    copies = copies_of(circuit, shots=shots, uses_per_round=2, rounds=2)
    assert ("releases of their own" in row.note) is (mitigation is not None)
    assert row.steps == copies.total == shots * (2 * circuit.n_weights + 1) * len(words) * 2 * 2
    assert spy.shots == 24 * copies.total
    assert spy.exact == 0


def test_exact_evaluations_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    run(make(Execution(shots=3)), DepolarizingNoise(p=0.5))
    assert spy.exact > 0


@pytest.mark.parametrize("layer", NOISES, ids=lambda layer: layer.card.name)
def test_finite_shots_with_parameter_shift_earn_a_row(layer: CircuitNoise) -> None:
    (row,) = dp_rows(run(make(SHIFTED), layer))
    assert row.layer == layer.card.name
    assert row.epsilon is not None
    assert 0 < row.epsilon < math.inf
    assert row.bound == "upper bound"
    assert row.unit == "features of an example"
    assert "same label" in row.adjacency
    assert "6 shots x 13 circuits x 1 uses x 2 rounds" in row.mechanism
    assert row.steps == 6 * 13 * 2
    assert row.assumption == "trusted device"
    assert "labels" in row.released
    assert "compositions" in dp_statement(row)
    assert "labels" in why_not(run(make(SHIFTED), layer), layer.card.name)


def test_an_epoch_is_one_use_of_every_record() -> None:
    rows = [
        dp_rows(run(make(SHIFTED, **how), NOISES[0]))
        for how in ({"epochs": 2, "batch_size": 2}, {"local_steps": 2})
    ]
    assert rows[0][0].epsilon == rows[1][0].epsilon
    assert rows[0][0].steps == rows[1][0].steps


@pytest.mark.parametrize(
    ("pipeline", "layers", "reason"),
    [
        (make(), (), "infinitely many copies"),
        (make(Execution(gradient="parameter-shift")), (), "infinitely many copies"),
        (make(Execution(shots=6)), (), "autograd"),
        (make(SHIFTED), (DepolarizingNoise(p=0.0),), "shot noise alone is not differentially private"),
        (make(SHIFTED, HYBRID), (), "reads features outside its circuit"),
    ],
    ids=["analytic", "analytic shifts", "autograd", "no floor", "hybrid"],
)
def test_what_earns_no_row_says_why(pipeline: Pipeline, layers: tuple[Layer, ...], reason: str) -> None:
    layer = next(iter(layers), DepolarizingNoise(p=0.3))
    result = run(pipeline, layer)
    assert dp_rows(result) == []
    assert reason in why_not(result, "depolarizing-noise")
    assert "no epsilon bounds what single updates tell of a single record" in why_not(result, "view")


def test_features_alone_are_not_a_record_as_a_whole() -> None:
    result = run(make(SHIFTED), DepolarizingNoise(p=0.3))
    assert len(dp_rows(result)) == 1
    assert "no epsilon bounds what single updates tell of a single record" in why_not(result, "view")


def test_other_noise_than_was_executed_earns_nothing() -> None:
    result = run(make(SHIFTED), DepolarizingNoise(p=0.3))
    context = result.context(result.view(SERVER))
    assert {row.guarantee for row in DepolarizingNoise(p=0.3).ledger(context)} > {"differential privacy"}
    (row,) = DepolarizingNoise(p=0.4).ledger(context)
    assert "do not execute with this noise" in row.statement


def test_one_client_with_exact_values_ends_the_guarantee() -> None:
    pipeline = replace(make(SHIFTED), client_executions={1: EXACT})
    assert dp_rows(run(pipeline, DepolarizingNoise(p=0.3))) == []
    worse = replace(make(SHIFTED), client_executions={1: replace(SHIFTED, shots=60)})
    (row,) = dp_rows(run(worse, DepolarizingNoise(p=0.3)))
    assert row.steps == 60 * 13 * 2, "the client with the most shots counts"


def test_mechanisms_stand_side_by_side() -> None:
    together = dp_rows(run(make(SHIFTED), DpSgd(noise_multiplier=1.0), DepolarizingNoise(p=0.3)))
    alone = [
        *dp_rows(run(make(SHIFTED), DpSgd(noise_multiplier=1.0))),
        *dp_rows(run(make(SHIFTED), NOISES[0])),
    ]
    assert {row.layer for row in together} == {"dp-sgd", "depolarizing-noise"}
    assert [(row.layer, row.epsilon) for row in together] == [(row.layer, row.epsilon) for row in alone]


def test_a_narrower_encoder_has_a_smaller_distance() -> None:
    pipeline = make(SHIFTED)
    narrow = replace(pipeline, data=replace(pipeline.data, feature_range=(0.0, 0.2)))
    (wide_row,), (row,) = (dp_rows(run(p, DepolarizingNoise(p=0.5))) for p in (pipeline, narrow))
    assert wide_row.adjacency.startswith("trace distance 1:")
    assert row.adjacency.startswith(f"trace distance {math.sqrt(1 - math.cos(0.1) ** 4):.4g}")
    assert row.epsilon is not None
    assert wide_row.epsilon is not None
    assert row.epsilon < wide_row.epsilon / 3


@pytest.mark.parametrize("kind", [DepolarizingNoise, EncodingNoise, NoisyMeasurement])
@pytest.mark.parametrize("first", [True, False], ids=["shots first", "noise first"])
def test_a_target_is_met_and_not_by_much(kind: type[CircuitNoise], first: bool) -> None:
    layers: list[ExecutionLayer] = [FewShots(shots=4), kind(target_epsilon=3.0)]
    result = run(make(), *(layers if first else layers[::-1]))
    (row,) = dp_rows(result)
    assert row.epsilon is not None
    assert 3.0 * 0.98 <= row.epsilon <= 3.0
    (noise,) = (layer for layer in result.stack.client if isinstance(layer, CircuitNoise))
    assert noise.target_epsilon is None
    assert noise.p is not None
    assert 0.3 < noise.p < kind.most


@pytest.mark.parametrize(
    ("pipeline", "layer", "reason"),
    [
        (make(), DepolarizingNoise(target_epsilon=1.0), "infinitely many copies"),
        (make(Execution(shots=4)), NoisyMeasurement(target_epsilon=1.0), "autograd"),
        (make(SHIFTED, HYBRID), EncodingNoise(target_epsilon=1.0), "outside its circuit"),
    ],
)
def test_a_target_out_of_reach_is_refused(pipeline: Pipeline, layer: CircuitNoise, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        calibrate_stack(Stack.from_layers("s", [layer]), pipeline, [3, 3, 3])


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ((DepolarizingNoise(), NoisyMeasurement()), "both set the noise"),
        ((FewShots(), FewShots(shots=2)), "both set the gradient"),
        ((Delegated(), FewShots()), "exclude each other"),
    ],
)
def test_wrong_stacks_are_refused(layers: tuple[Layer, ...], sentence: str) -> None:
    with pytest.raises(IncompatibleStack, match=sentence):
        Stack.from_layers("wrong", layers)


def test_pipelines_that_do_not_fit_are_refused() -> None:
    noisy = make(Execution(noise=NoiseModel(kind="bit-flip", p=0.1)))
    with pytest.raises(IncompatibleStack, match="noise of its own"):
        run(noisy, DepolarizingNoise())
    with pytest.raises(IncompatibleStack, match="none that can be read"):
        run(make(model={"name": "classical", "n_features": 2}), FewShots())
    turned = make(SHIFTED)
    words = (Observable(((1.0, "XI"),)),)
    turned = replace(turned, model=Vqc(circuit=replace(circuit_of(turned), observables=words)))
    with pytest.raises(IncompatibleStack, match="Z basis"):
        run(turned, NoisyMeasurement())
    with pytest.raises(ConfigError, match="exclude each other"):
        DepolarizingNoise(p=0.1, target_epsilon=1.0)
    with pytest.raises(ConfigError, match="'p' is out of range"):
        NoisyMeasurement(p=0.6)
    with pytest.raises(ConfigError, match="no noise yet"):
        DepolarizingNoise(target_epsilon=1.0).noise()


def test_no_layers_leave_a_pipeline_as_it_is() -> None:
    pipeline = make()
    assert executed(pipeline, []) is pipeline


@pytest.mark.parametrize(
    "attack", [LossThreshold(), DeepLeakage(restarts=2, iterations=5)], ids=["membership", "inversion"]
)
def test_attacks_run_against_noise_and_shots(attack: Any) -> None:
    result = run(make(rounds=1), FewShots(shots=20), DepolarizingNoise(p=0.2))
    challenge, truth = challenge_for(attack, result, seed=0, threat=SERVER)
    claim = attack(result.view(SERVER), challenge)
    assert isinstance(claim, (MembershipClaim, InversionClaim))
    assert math.isfinite(score_claim(claim, truth).advantage)
