"""Attacks on devices: time shift, detector blinding, Trojan horse."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binomtest

from qflsec.attacks.channel import ChannelAttack, DetectorBlinding, TimeShift, TrojanHorse, leaky_phase_error
from qflsec.attacks.channel.base import ChannelEve
from qflsec.attacks.channel.trojan_horse import reflected_photons
from qflsec.base import ConfigError
from qflsec.lab.scoring.channel import eve_information
from qflsec.protocols.bb84 import (
    DetectorModel,
    FibreChannel,
    QuantumConfig,
    QuantumPhase,
    SinglePhotonSource,
    WeakCoherentSource,
)
from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.channel import coherent_gain, photon_error_gain, photon_gain

Run = Callable[..., QuantumPhase]
DECOY = QuantumConfig(
    n_pulses=2_000_000,
    source=WeakCoherentSource(intensities=(0.5, 0.1, 0.01), probabilities=(0.4, 0.3, 0.3)),
    channel=FibreChannel(distance_km=25, misalignment=0.03),
    detector=DetectorModel(efficiency=0.3, dark_count=1e-6, shift_ratio=0.25),
    block_size=1 << 15,
)
PHOTONS = replace(DECOY, source=SinglePhotonSource(), n_pulses=600_000)
ATTACKS = [TimeShift(), DetectorBlinding(), TrojanHorse()]


def information(phase: QuantumPhase) -> float:
    assert isinstance(phase.eve, ChannelEve)
    return eve_information(phase.eve.guess(phase.transcript), phase.alice.key_bits)


def qber_above(phase: QuantumPhase, rate: float) -> float:
    """p-value of the error rate against ``rate`` from above, both bases together."""
    a, b = phase.alice, phase.bob
    wrong = int(np.sum(a.key_bits != b.key_bits)) + int(np.sum(a.test_bits != b.test_bits))
    return float(
        binomtest(wrong, phase.counts.n_key + phase.counts.n_test, rate, alternative="greater").pvalue
    )


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.card.name)
@pytest.mark.parametrize("config", [DECOY, PHOTONS], ids=["decoy", "photons"])
def test_no_qber_is_added_and_no_gain_changed(run: Run, attack: ChannelAttack, config: QuantumConfig) -> None:
    """The QBER is at most the honest one, and each intensity's gain is; false alarm 1e-6 each."""
    phase = run(config, attack)
    line = (config.channel, config.detector)
    honest = run(config)
    wrong = np.concatenate(
        [honest.alice.key_bits != honest.bob.key_bits, honest.alice.test_bits != honest.bob.test_bits]
    )
    assert qber_above(phase, float(wrong.mean()) + 5 * float(wrong.std()) / wrong.size**0.5) > 1e-6
    means = config.source.means
    gains = [coherent_gain(mean, *line) for mean in means] or [photon_gain(1, *line)]
    for level, gain in enumerate(gains):
        sent = phase.counts.sent_key[level] + phase.counts.sent_test[level]
        seen = phase.counts.key[level] + phase.counts.test[level]
        assert binomtest(seen, sent, gain / 2).pvalue > 1e-6


# --- time shift ---


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_mismatched_detectors_betray_1_minus_h_of_each_bit_of_bobs(run: Run, ratio: float) -> None:
    """1 - h(eta_1 / (eta_0 + eta_1)) without misalignment; five standard errors of the error rate."""
    config = replace(
        PHOTONS,
        channel=FibreChannel(distance_km=25, misalignment=0.0),
        detector=replace(PHOTONS.detector, shift_ratio=ratio, dark_count=0.0),
    )
    phase = run(config, TimeShift())
    wrong = ratio / (1 + ratio)
    spread = math.sqrt(wrong * (1 - wrong) / phase.counts.n_key)
    top, bottom = (1 - binary_entropy(wrong + sign * 5 * spread) for sign in (-1, 1))
    assert bottom - 1e-3 <= information(phase) <= top


def test_random_assignment_of_detectors_hides_the_bit(run: Run) -> None:
    detector = replace(PHOTONS.detector, shift_ratio=0.1, random_assignment=True)
    phase = run(replace(PHOTONS, detector=detector), TimeShift())
    assert information(phase) < 1e-3
    assert qber_above(phase, 0.031) > 1e-6


def test_a_lossless_line_cannot_be_made_better(run: Run) -> None:
    """Without loss to hide behind, the attack shows in the gain: (1 + r) / 2 of it is left."""
    config = replace(PHOTONS, channel=FibreChannel(misalignment=0.0), n_pulses=100_000)
    phase = run(config, TimeShift())
    assert binomtest(phase.counts.n_detected, 100_000, 0.3 * 1.25 / 2).pvalue > 1e-3


# --- blinding ---


def test_blinded_detectors_repeat_what_eve_measured(run: Run) -> None:
    phase = run(PHOTONS, DetectorBlinding())
    assert information(phase) == 1.0
    assert np.array_equal(phase.alice.key_bits, phase.bob.key_bits)


def test_random_assignment_does_not_stop_blinding(run: Run) -> None:
    detector = replace(PHOTONS.detector, random_assignment=True)
    assert information(run(replace(PHOTONS, detector=detector), DetectorBlinding())) == 1.0


def test_a_monitor_sees_bright_light_and_nothing_else(run: Run) -> None:
    config = replace(PHOTONS, detector=replace(PHOTONS.detector, monitor=True), n_pulses=50_000)
    assert run(config, DetectorBlinding()).counts.alarm
    for attack in (None, TimeShift(), TrojanHorse()):
        assert not run(config, attack).counts.alarm
    assert not run(replace(PHOTONS, n_pulses=50_000), DetectorBlinding()).counts.alarm


def test_a_line_with_little_loss_shows_blinding_in_the_gain(run: Run) -> None:
    """Half of the triggers meet the wrong basis, so that no more than half of the pulses are detected."""
    config = replace(PHOTONS, channel=FibreChannel(), detector=DetectorModel(efficiency=0.9), n_pulses=50_000)
    phase = run(config, DetectorBlinding())
    assert binomtest(phase.counts.n_detected, 50_000, 0.5).pvalue > 1e-6


# --- Trojan horse ---


@pytest.mark.parametrize("reflected", [0.05, 0.5, 20.0])
def test_the_leak_is_one_minus_the_overlap(run: Run, reflected: float) -> None:
    """Information 1 - exp(-mu) for each bit that a photon carried; five standard errors."""
    config = replace(PHOTONS, detector=replace(PHOTONS.detector, dark_count=0.0))
    phase = run(config, TrojanHorse(injected=reflected * 1e4))
    expected = 1 - math.exp(-reflected)
    spread = math.sqrt(expected * (1 - expected) / phase.counts.n_key)
    assert information(phase) == pytest.approx(expected, abs=5 * spread + 1e-12)


def test_an_isolator_leaves_no_more_than_its_leak(run: Run) -> None:
    source = SinglePhotonSource(isolation_db=170.0)
    assert reflected_photons(1e11, 170.0) == pytest.approx(1e-6)
    assert information(run(replace(PHOTONS, source=source), TrojanHorse())) < 1e-3


def rate_with_leak(reflected: float, km: float) -> float:
    """Key rate of Lucamarini et al. 2015, Eq. (6), at the parameters of their Fig. 3."""
    detector = DetectorModel(efficiency=0.125, dark_count=1e-5)
    channel = FibreChannel(distance_km=km, misalignment=0.01)
    gain = photon_gain(1, channel, detector)
    error = photon_error_gain(1, channel, detector) / gain
    phase_error = leaky_phase_error(error, reflected, gain)
    return gain * (1 - binary_entropy(phase_error) - 1.2 * binary_entropy(error))


def test_lucamarini_2015_fig_3_largest_leak_0_015_and_9_km_at_0_01() -> None:
    """Phys. Rev. X 5, 031030, section II.B: the largest mu_out with a key is 0.015; 1e-2 reaches 9 km."""
    assert brentq(lambda mu: rate_with_leak(mu, 0.0), 1e-6, 0.1) == pytest.approx(0.015, abs=5e-4)
    assert brentq(lambda km: rate_with_leak(1e-2, km), 0.0, 100.0) == pytest.approx(9, abs=0.5)
    assert rate_with_leak(1e-6, 50.0) == pytest.approx(rate_with_leak(0.0, 50.0), rel=0.05)


def test_the_leaky_phase_error_grows_from_the_error_to_one_half() -> None:
    values = [leaky_phase_error(0.02, mu, 0.1) for mu in (0.0, 1e-6, 1e-4, 1e-2, 1.0)]
    assert values[0] == 0.02
    assert values == sorted(values)
    assert values[-1] == 0.5


@pytest.mark.parametrize("bad", [(0.6, 0.0, 1.0), (0.1, -1.0, 1.0), (0.1, 0.0, 0.0), (0.1, math.nan, 1.0)])
def test_impossible_leaks_are_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError):
        leaky_phase_error(*bad)
    with pytest.raises(ConfigError):
        TrojanHorse(injected=-1.0)
