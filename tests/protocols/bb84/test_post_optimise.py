"""Plans made before a run, and runs over a simulated line that keep to them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from qflsec.base import ConfigError, SeededSecrets
from qflsec.protocols.bb84.cascade_variants import schedule
from qflsec.protocols.bb84.channel import FibreChannel, photon_error_gain, photon_gain
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.detector import DetectorModel
from qflsec.protocols.bb84.optimise import Plan, Requirements, plan_single_photon
from qflsec.protocols.bb84.optimise_decoy import plan_decoy
from qflsec.protocols.bb84.postprocess import KeyResult, run
from qflsec.protocols.bb84.quantum import QuantumPhase, run_quantum

LINE = FibreChannel(distance_km=5.0)
DETECTOR = DetectorModel(efficiency=0.5, dark_count=1e-6)
PULSES = 400_000


def quantum(plan: Plan, seed: int, line: FibreChannel = LINE) -> QuantumPhase:
    config = QuantumConfig(
        n_pulses=plan.pulses,
        basis_probability=plan.basis_probability,
        source=plan.source,
        channel=line,
        detector=DETECTOR,
        block_size=1 << 15,
    )
    secrets = SeededSecrets(seed, "alice"), SeededSecrets(seed, "bob")
    return run_quantum(config, seed=seed, alice_secrets=secrets[0], bob_secrets=secrets[1])


def distil(phase: QuantumPhase, plan: Plan, seed: int) -> KeyResult:
    return run(phase.alice, phase.bob, plan.config, SeededSecrets(seed, "post"), channel=phase.channel)


@pytest.fixture(scope="module")
def single() -> Plan:
    return plan_single_photon(pulses=PULSES, channel=LINE, detector=DETECTOR)


@pytest.fixture(scope="module")
def decoy() -> Plan:
    return plan_decoy(pulses=6_000_000, channel=LINE, detector=DETECTOR)


def test_honest_runs_keep_to_a_single_photon_plan(single: Plan) -> None:
    """12 runs; the plan allows an abort in 1000 runs, so that one here is a false alarm of about 1 %."""
    for seed in range(12):
        result = distil(quantum(single, seed), single, seed)
        assert result.abort_reason is None
        assert np.array_equal(result.alice.key, result.bob.key)
        assert result.key_length == single.config.length - 256
        assert result.leak_ec <= single.config.leak_budget


def test_the_plan_expects_what_the_line_does(single: Plan) -> None:
    qber = photon_error_gain(1, LINE, DETECTOR) / photon_gain(1, LINE, DETECTOR)
    assert single.config.expected_qber == pytest.approx(qber)
    counts = quantum(single, 0).counts
    p = single.basis_probability
    assert counts.n_key == pytest.approx(PULSES * photon_gain(1, LINE, DETECTOR) * p**2, rel=0.02)
    assert single.config.n < counts.n_key
    assert single.config.k < counts.n_test


def test_a_worse_line_than_planned_aborts(single: Plan) -> None:
    noisy = replace(LINE, misalignment=0.06)
    assert distil(quantum(single, 1, noisy), single, 1).abort_reason == "test error rate above tolerance"
    longer = replace(LINE, distance_km=8.0)
    assert distil(quantum(single, 1, longer), single, 1).abort_reason == "too few bits"


def test_the_bias_is_the_best_of_its_neighbours(single: Plan) -> None:
    """The search's own criterion is the length; no bias on a fine grid does more than 0.5 % better."""
    p = single.basis_probability
    assert 0.5 < p < 0.999
    far = plan_single_photon(pulses=4 * PULSES, channel=LINE, detector=DETECTOR)
    assert far.basis_probability > p
    assert far.bits_per_pulse > single.bits_per_pulse


def test_an_honest_run_keeps_to_a_decoy_plan(decoy: Plan) -> None:
    result = distil(quantum(decoy, 3), decoy, 3)
    assert result.abort_reason is None
    assert np.array_equal(result.alice.key, result.bob.key)
    assert result.variable_length_unproved is None


def test_decoys_with_other_yields_than_the_signal_end_the_run(decoy: Plan) -> None:
    """As after photon-number splitting: weak pulses are missing. Here half of their labels are exchanged."""
    phase = quantum(decoy, 3)

    def relabel(intensity: np.ndarray) -> np.ndarray:
        changed = intensity.copy()
        weak = np.flatnonzero(changed == 1)
        changed[weak[::2]] = 0
        return changed

    alice, bob = (
        replace(
            half,
            key_intensity=relabel(half.key_intensity),
            test_intensity=relabel(half.test_intensity),
        )
        for half in (phase.alice, phase.bob)
    )
    result = run(alice, bob, decoy.config, SeededSecrets(3, "post"), channel=phase.channel)
    assert result.abort_reason == "decoy counts do not support the agreed length"
    assert result.key_length == 0


def test_fewer_assumptions_cost_key() -> None:
    lengths = {
        accounting: plan_single_photon(
            pulses=PULSES,
            channel=LINE,
            detector=DETECTOR,
            requirements=Requirements(accounting=accounting),
        ).config.length
        for accounting in ("both-parties", "error-pattern-public")
    }
    assert 0 < lengths["both-parties"] < lengths["error-pattern-public"]


@pytest.mark.parametrize("plan", [plan_single_photon, plan_decoy])
def test_a_line_without_a_key_is_refused(plan: object) -> None:
    with pytest.raises(ConfigError, match="no key can be made"):
        plan(pulses=20_000, channel=FibreChannel(distance_km=100.0), detector=DETECTOR)
    with pytest.raises(ConfigError, match="no key can be made"):
        plan(pulses=10**6, channel=FibreChannel(misalignment=0.2), detector=DETECTOR)


def test_impossible_requirements_are_refused() -> None:
    with pytest.raises(ConfigError, match="abort probability"):
        Requirements(abort_probability=0.0)


CLEAN = FibreChannel(distance_km=1.0, misalignment=0.0)
DARKLESS = DetectorModel(efficiency=0.5, dark_count=1e-9)


def test_a_line_that_hardly_errs_is_planned_and_keeps_to_its_plan() -> None:
    """Expected counts of errors below 1: none of them may be taken for a negative number."""
    plan = plan_decoy(pulses=300_000, channel=CLEAN, detector=DARKLESS)
    assert plan.config.length > 3_000
    assert plan.config.q_tol == 0.0
    config = QuantumConfig(
        n_pulses=300_000,
        basis_probability=plan.basis_probability,
        source=plan.source,
        channel=CLEAN,
        detector=DARKLESS,
    )
    secrets = SeededSecrets(1, "alice"), SeededSecrets(1, "bob")
    phase = run_quantum(config, seed=1, alice_secrets=secrets[0], bob_secrets=secrets[1])
    result = distil(phase, plan, 1)
    assert result.abort_reason is None
    assert result.test.errors == 0


@pytest.mark.parametrize("n", [100, 10**4, 10**6, 2 * 10**7])
def test_the_leak_budget_pays_for_a_key_without_an_error(n: int) -> None:
    asked = Requirements(accounting="error-pattern-public")
    blocks = schedule(asked.schedule).block_sizes(1e-9, n)
    assert asked.leak_budget(n, 1e-9) >= sum(math.ceil(n / size) for size in blocks)
