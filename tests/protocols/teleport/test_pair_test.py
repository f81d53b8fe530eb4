"""The CHSH test of pairs in a run: its rate of false alarms, what it finds, and what goes unnoticed without it."""

from __future__ import annotations

import pytest
import torch

from qflsec.attacks.poisoning import PairTap
from qflsec.base import ConfigError, stream
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.models import build_model
from qflsec.protocols.teleport import PairSource, Teleported, chsh_threshold, chsh_value
from qflsec.threat import coalition, corrupted_clients, wire_eavesdropper

NETWORK = coalition(wire=True, active=True)
MODEL = build_model({"name": "vqc", "n_qubits": 2, "layers": 1, "n_features": 2})
UNTESTED, TESTED = (Teleported(copies=20, p=0.95, tested=pairs) for pairs in (0, 2000))


def run(layer: Teleported, *specs: RunSpec) -> list[RunResult]:
    pipeline = Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2, members=12, nonmembers=0, auxiliary=10, test=10),
        model=MODEL,
        federation=FederationConfig(n_clients=3, rounds=2, learning_rate=0.3),
    )
    return run_batch(pipeline, Stack(name="s", client=(layer,)), specs)


def tap(share: float, seed: int = 0) -> RunSpec:
    return RunSpec(seed=seed, adversary=PairTap(share=share), threat=NETWORK)


def test_good_pairs_fail_as_rarely_as_stated_and_no_rarer_than_need_be() -> None:
    """Of 20,000 tests on 400 pairs, 5 % may fail; the binomial steps are small beside that."""
    draws = torch.rand(20_000, 4, 100, generator=stream(0, "nature"), dtype=torch.float64)
    source, least = PairSource(p=0.9), chsh_threshold(0.9, 400, 0.05)
    failed = sum(source.chsh(one) <= least for one in draws) / len(draws)
    assert 0.035 < failed < 0.055
    assert chsh_threshold(0.9, 400, 1e-6) < least < chsh_value(0.9)


def test_a_tap_is_found_by_the_test_and_by_nothing_else() -> None:
    (quiet,), (caught,) = run(UNTESTED, tap(0.3)), run(TESTED, tap(0.3))
    assert quiet.outcome == "completed"
    assert caught.outcome.startswith("aborted")
    assert "CHSH" in caught.outcome


def test_a_tap_makes_estimates_noisier() -> None:
    layer = Teleported(copies=2000, p=1.0)
    (plain,), (honest,), (tapped,) = (
        run(Teleported(copies=None), RunSpec(seed=0)),
        run(layer, RunSpec(seed=0)),
        run(layer, tap(1.0)),
    )
    off, more = (float((one.params - plain.params).norm()) for one in (honest, tapped))
    assert more > 1.3 * off


def test_honest_runs_pass_and_are_those_without_the_test_bit_for_bit() -> None:
    specs = [RunSpec(seed=seed) for seed in range(3)]
    for with_test, without in zip(run(TESTED, *specs), run(UNTESTED, *specs), strict=True):
        assert with_test.outcome == "completed"
        assert torch.equal(with_test.params, without.params)
        per_update = 20 * MODEL.n_params
        assert without.costs["entangled_pairs"] == 2 * 3 * per_update
        assert with_test.costs["entangled_pairs"] == 2 * 3 * (per_update + 2000)


def test_a_tapped_run_stops_alone() -> None:
    beside, caught, other = run(TESTED, RunSpec(seed=1), tap(1.0), RunSpec(seed=2))
    assert caught.outcome.startswith("aborted")
    (alone,) = run(TESTED, RunSpec(seed=1))
    assert torch.equal(alone.params, beside.params)
    assert other.outcome == "completed"


def test_values_and_threats_that_make_no_sense_are_refused() -> None:
    for wrong in ({"tested": 6}, {"tested": -4}, {"false_alarm": 0.0}):
        with pytest.raises(ConfigError):
            Teleported(**wrong)
    with pytest.raises(ConfigError, match="share"):
        PairTap(share=0.0)
    for threat in (corrupted_clients(n=1), wire_eavesdropper()):
        with pytest.raises(ConfigError, match="network"):
            PairTap().corrupts(threat)
    PairTap().corrupts(NETWORK)
