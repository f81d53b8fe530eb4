"""Every attack moves the mean that nothing defends: test loss above the honest run's, interval clear of zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks import Manipulation, attack_from_config
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.lab import build, load_spec
from qflsec.lab.scoring.manipulation import score_manipulation
from qflsec.models import build_model
from qflsec.threat import Knowledge, corrupted_clients

SEEDS = range(5)
KNOWS: tuple[Knowledge, ...] = ("architecture", "auxiliary", "defenses", "honest-updates")
THREAT = corrupted_clients(n=4, knows=KNOWS)
NONE = Stack(name="none")

SMALL = Pipeline(
    data=DataSpec(name="breast-cancer", n_features=2, members=100, nonmembers=0, auxiliary=20, test=150),
    model=build_model({"name": "vqc", "n_qubits": 2, "layers": 2}),
    federation=FederationConfig(n_clients=10, rounds=10, local_steps=2, learning_rate=0.5),
)
# stealth needs rounds, and honest updates that differ: one record in a step
NOISY = replace(SMALL, federation=replace(SMALL.federation, rounds=20, batch_size=1))

LOUD: list[dict[str, Any]] = [
    {"name": "gaussian"},
    {"name": "ipm"},
    {"name": "optimised-alie"},
    {"name": "optimised-ipm"},
    {"name": "fang-trimmed-mean"},
    {"name": "fang-krum"},
    {"name": "free-rider"},
    {"name": "model-replacement"},
    {"name": "sybil"},
    {"name": "angle-wrap"},
    {"name": "label-flip", "rule": "random"},
    {"name": "targeted-label-flip"},
    {"name": "sign-flip"},
    {"name": "scaled-sign-flip"},
    {"name": "quid"},
    {"name": "greedy-label-flip", "fraction": 0.5},
    {"name": "readout-tampering"},
    {"name": "gate-insertion", "kind": "pauli", "place": "encoder"},
]
NEED_DIFFERENCES: list[dict[str, Any]] = [{"name": "alie", "z": 1.5}, {"name": "mimic"}]
STEALTHY: list[dict[str, Any]] = [{"name": "min-max"}, {"name": "min-sum"}]


def attacked(pipeline: Pipeline, config: dict[str, Any]) -> list[RunResult]:
    attack = attack_from_config(config)
    assert isinstance(attack, Manipulation)
    specs = [RunSpec(seed=seed, adversary=attack, threat=THREAT, evaluate="last") for seed in SEEDS]
    runs = run_batch(pipeline, NONE, specs)
    assert {run.outcome for run in runs} == {"completed"}
    return runs


def lost(runs: list[RunResult], honest: list[RunResult]) -> list[float]:
    return [run.loss[-1] - clean.loss[-1] for run, clean in zip(runs, honest, strict=True)]


def clean(pipeline: Pipeline) -> list[RunResult]:
    return run_batch(pipeline, NONE, [RunSpec(seed=seed, evaluate="last") for seed in SEEDS])


@pytest.fixture(scope="module")
def small() -> list[RunResult]:
    return clean(SMALL)


@pytest.fixture(scope="module")
def noisy() -> list[RunResult]:
    return clean(NOISY)


@pytest.mark.parametrize("config", LOUD, ids=lambda config: str(config["name"]))
def test_it_moves_the_undefended_mean(config: dict[str, Any], small: list[RunResult]) -> None:
    assert mean_over_seeds(lost(attacked(SMALL, config), small)).low > 0


@pytest.mark.parametrize("config", NEED_DIFFERENCES, ids=lambda config: str(config["name"]))
def test_it_moves_the_undefended_mean_of_updates_that_differ(
    config: dict[str, Any], noisy: list[RunResult]
) -> None:
    assert mean_over_seeds(lost(attacked(NOISY, config), noisy)).low > 0


@pytest.mark.parametrize("config", STEALTHY, ids=lambda config: str(config["name"]))
def test_stealth_needs_rounds_and_differences(
    config: dict[str, Any], small: list[RunResult], noisy: list[RunResult]
) -> None:
    """Shejwalkar and Houmansadr, NDSS 2021, hide every round's step among honest ones: twenty rounds go far, and one does not."""
    rounds, last = (
        attacked(NOISY, {**config, "first_round": first}) for first in (0, NOISY.federation.rounds - 1)
    )
    assert mean_over_seeds(lost(rounds, noisy)).low > 0
    far, near = (
        [float((run.params - one.params).norm()) for run, one in zip(runs, noisy, strict=True)]
        for runs in (rounds, last)
    )
    assert mean_over_seeds([a / b for a, b in zip(near, far, strict=True)]).high < 0.3
    assert min(near) > 0
    assert mean_over_seeds(lost(attacked(SMALL, config), small)).low < 0, (
        "among equal updates there is nowhere to hide"
    )


@pytest.mark.parametrize(
    ("preset", "strong", "control"),
    [
        ("shapes", "rotation-bias, eight clients", "rotation-bias, four clients"),
        ("shapes", "constant, half a radian", "constant, a hundredth"),
        ("shapes", "withhold, alone with a class", "withhold, one of two alike"),
        ("shapes", "greedy labels, half of them, alike", "random labels, half of them, alike"),
        ("circuit-backdoors", "crosstalk, deployed", "a tenth of the outcomes wrong, deployed"),
        (
            "circuit-backdoors",
            "half of the outcomes wrong, deployed",
            "a tenth of the outcomes wrong, deployed",
        ),
    ],
)
def test_what_a_plain_attack_needs_to_move_the_undefended_mean(
    preset: str, strong: str, control: str
) -> None:
    """Such as a majority of turned circuits, a size, or a class that nobody else has: as named in the preset, beside its control."""
    matrix = build(load_spec(preset)).matrix

    def advantage(label: str) -> list[float]:
        (row,) = (one for one in matrix.attacks if one.label == label)
        pipeline, seeds = matrix.pipelines[row.pipeline], matrix.spec.seeds
        assert isinstance(row.attack, Manipulation)
        specs = [
            RunSpec(seed=seed, adversary=row.attack, threat=row.threat, evaluate="last") for seed in seeds
        ]
        honest = run_batch(pipeline, NONE, [RunSpec(seed=seed, evaluate="last") for seed in seeds])
        attacked = run_batch(pipeline, NONE, specs)
        pairs = zip(attacked, honest, strict=True)
        return [score_manipulation(row.attack, one, other).advantage for one, other in pairs]

    assert mean_over_seeds(advantage(strong)).low > 0
    without = mean_over_seeds(advantage(control))
    assert without.low <= 0
    assert abs(without.value) < 0.05
