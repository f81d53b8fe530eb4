from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from qflsec.base import SeededSecrets
from qflsec.protocols.bb84 import (
    AliceSifted,
    BobSifted,
    DetectorModel,
    FibreChannel,
    QuantumConfig,
    QuantumPhase,
    SinglePhotonSource,
    Transcript,
    WeakCoherentSource,
    run_quantum,
)
from qflsec.protocols.bb84.channel import coherent_error_gain, coherent_gain, photon_error_gain, photon_gain

BLOCK = 1 << 15
LIM = QuantumConfig(
    n_pulses=4_000_000,
    basis_probability=0.7,
    source=WeakCoherentSource(intensities=(0.5, 0.1, 0.01), probabilities=(0.4, 0.3, 0.3)),
    detector=DetectorModel(efficiency=0.1, dark_count=2e-5, afterpulse=0.04),
    channel=FibreChannel(distance_km=20, misalignment=0.02),
    block_size=BLOCK,
)


def run(config: QuantumConfig, seed: int = 1, **more: Any) -> QuantumPhase:
    return run_quantum(
        config,
        seed=seed,
        alice_secrets=SeededSecrets(seed, "alice"),
        bob_secrets=SeededSecrets(seed, "bob"),
        **more,
    )


@pytest.fixture(scope="module")
def lim() -> QuantumPhase:
    return run(LIM)


def errors(half_a: AliceSifted, half_b: BobSifted, basis: str, level: int) -> tuple[int, int]:
    """Errors and bits of one basis and intensity, which only a test may count."""
    here = getattr(half_a, f"{basis}_intensity") == level
    wrong = getattr(half_a, f"{basis}_bits") != getattr(half_b, f"{basis}_bits")
    return int(wrong[here].sum()), int(here.sum())


@pytest.mark.parametrize("level", [0, 1, 2])
def test_decoy_gains_and_errors_are_those_of_lim_2014(lim: QuantumPhase, level: int) -> None:
    """Lim et al. 2014, section IV: R_k and e_k / R_k in both bases; false alarm 1e-6 for each of the 12."""
    mean = LIM.source.intensities[level]
    gain = coherent_gain(mean, LIM.channel, LIM.detector)
    rate = coherent_error_gain(mean, LIM.channel, LIM.detector) / gain
    p = LIM.stated_basis_probability
    for basis, chosen in (("key", p), ("test", 1 - p)):
        count = getattr(lim.counts, basis)[level]
        sent = getattr(lim.counts, f"sent_{basis}")[level]
        assert binomtest(count, sent, gain * chosen).pvalue > 1e-6
        wrong, n = errors(lim.alice, lim.bob, basis, level)
        assert n == count
        assert binomtest(wrong, n, rate).pvalue > 1e-6


def test_the_printed_exponent_of_lim_2014_does_not_fit(lim: QuantumPhase) -> None:
    """With eta_ch in place of eta_sys in e_k, as the paper prints it, the error rate is far off."""
    transparent = replace(LIM.detector, efficiency=1.0)
    printed = coherent_error_gain(0.5, LIM.channel, transparent) / coherent_gain(
        0.5, LIM.channel, LIM.detector
    )
    wrong, n = errors(lim.alice, lim.bob, "key", 0)
    assert binomtest(wrong, n, min(1.0, printed)).pvalue < 1e-6


def test_what_was_sent_has_the_stated_bias(lim: QuantumPhase) -> None:
    """False alarm 1e-6 for each of the 6."""
    p = LIM.stated_basis_probability
    for level, q in enumerate(LIM.source.stated_probabilities):
        assert binomtest(lim.counts.sent_key[level], LIM.n_pulses, p * q).pvalue > 1e-6
        assert binomtest(lim.counts.sent_test[level], LIM.n_pulses, (1 - p) * q).pvalue > 1e-6


def test_both_halves_and_both_transcripts_agree(lim: QuantumPhase) -> None:
    assert lim.alice.counts == lim.bob.counts
    assert np.array_equal(lim.alice.key_intensity, lim.bob.key_intensity)
    assert lim.channel.alice == lim.channel.bob
    assert [m.kind for m in lim.transcript] == ["detections", "bases"]
    assert Transcript.from_bytes(lim.transcript.to_bytes()) == lim.transcript


@pytest.mark.parametrize("distance", [0.0, 15.0])
def test_single_photons_are_detected_and_flipped_as_expected(distance: float) -> None:
    """False alarm 1e-6 for each of the two."""
    config = replace(
        LIM,
        n_pulses=500_000,
        source=SinglePhotonSource(),
        channel=FibreChannel(distance_km=distance, misalignment=0.03),
        detector=DetectorModel(efficiency=0.1, dark_count=1e-6),
    )
    phase = run(config)
    gain = photon_gain(1, config.channel, config.detector)
    assert binomtest(phase.counts.n_detected, config.n_pulses, gain).pvalue > 1e-6
    rate = photon_error_gain(1, config.channel, config.detector) / gain
    wrong = int(np.sum(phase.alice.key_bits != phase.bob.key_bits))
    assert binomtest(wrong, phase.counts.n_key, rate).pvalue > 1e-6


def perfect(n: int, **more: Any) -> QuantumConfig:
    return QuantumConfig(
        n_pulses=n,
        channel=FibreChannel(misalignment=0.0),
        detector=DetectorModel(efficiency=1.0, dark_count=0.0, **more),
        block_size=4096,
    )


@pytest.mark.parametrize("random_assignment", [False, True])
def test_a_perfect_line_has_no_errors_and_fair_bits(random_assignment: bool) -> None:
    """False alarm 1e-6."""
    phase = run(perfect(60_001, random_assignment=random_assignment))
    assert phase.counts.n_detected == 60_001
    assert np.array_equal(phase.alice.key_bits, phase.bob.key_bits)
    assert np.array_equal(phase.alice.test_bits, phase.bob.test_bits)
    assert binomtest(int(phase.alice.key_bits.sum()), phase.counts.n_key).pvalue > 1e-6
    assert binomtest(phase.counts.n_mismatched, 60_001).pvalue > 1e-6


@pytest.mark.parametrize("n", [1, 7, 4095, 4096, 4097, 12_288])
def test_any_number_of_pulses_fits(n: int) -> None:
    phase = run(perfect(n))
    counts = phase.counts
    assert counts.n_detected == n == sum(counts.sent_key) + sum(counts.sent_test)
    assert phase.alice.key_bits.size == counts.n_key
    assert phase.bob.test_bits.size == counts.n_test


def test_an_empty_sift_is_a_result() -> None:
    config = replace(LIM, n_pulses=1000, channel=FibreChannel(distance_km=5000))
    phase = run(replace(config, detector=DetectorModel(dark_count=0.0)))
    assert phase.counts.n_detected == phase.counts.n_key == phase.counts.n_test == 0
    assert phase.alice.key_bits.size == phase.bob.test_bits.size == 0
    assert phase.counts.key == (0, 0, 0)


def test_equal_seeds_give_equal_bytes_and_other_physics_others() -> None:
    config = replace(LIM, n_pulses=100_000)
    one, same = run(config), run(config)
    assert one.transcript.to_bytes() == same.transcript.to_bytes()
    assert np.array_equal(one.bob.key_bits, same.bob.key_bits)
    secrets = {"alice_secrets": SeededSecrets(1, "alice"), "bob_secrets": SeededSecrets(1, "bob")}
    other = run_quantum(config, seed=2, **secrets)
    assert one.transcript.to_bytes() != other.transcript.to_bytes()


def test_progress_is_told_after_each_block() -> None:
    told = []
    run(perfect(10_000), progress=told.append)
    assert told == [4096, 8192, 10_000]


def test_a_remembered_afterpulse_has_half_its_bits_wrong() -> None:
    """False clicks come in some other pulse: gain D / (1 - p) and QBER p / 2; false alarm about 1e-6."""
    p, n = 0.2, 2_000_000
    config = replace(
        perfect(n, afterpulse=p, afterpulse_model="memory"),
        channel=FibreChannel(distance_km=100, misalignment=0.0),
        block_size=BLOCK,
    )
    phase = run(config)
    d = config.channel.transmittance
    rate = d / (1 - p * (1 - d))
    assert abs(phase.counts.n_detected - rate * n) < 5 * (rate * n * (1 + p) / (1 - p)) ** 0.5
    wrong = int(np.sum(phase.alice.key_bits != phase.bob.key_bits))
    assert binomtest(wrong, phase.counts.n_key, (rate - d) / rate / 2).pvalue > 1e-6


def peak_bytes(n: int) -> int:
    config = replace(LIM, n_pulses=n, channel=FibreChannel(distance_km=50), block_size=1 << 16)
    tracemalloc.start()
    run_quantum(config, seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_grows_with_detections_and_not_with_pulses() -> None:
    few, many = peak_bytes(1 << 21), peak_bytes(1 << 24)
    # 14.7 million further pulses, of which 3e-3 are detected at about 20 bytes each
    assert many - few < (1 << 24) / 8


@pytest.mark.slow
def test_a_billion_pulses_fit_in_memory() -> None:
    config = replace(LIM, n_pulses=10**9, channel=FibreChannel(distance_km=50), block_size=1 << 20)
    tracemalloc.start()
    phase = run_quantum(config, seed=1)
    assert tracemalloc.get_traced_memory()[1] < 400e6
    tracemalloc.stop()
    assert phase.counts.n_pulses == 10**9
