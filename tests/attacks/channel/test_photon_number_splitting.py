from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from qflsec.attacks.channel import PhotonNumberSplitting
from qflsec.attacks.channel.base import ChannelEve
from qflsec.attacks.channel.photon_number_splitting import forwarding
from qflsec.base import ConfigError
from qflsec.lab.scoring.channel import eve_information
from qflsec.protocols.bb84 import DetectorModel, FibreChannel, QuantumConfig, QuantumPhase, WeakCoherentSource
from qflsec.protocols.bb84.channel import coherent_error_gain, coherent_gain

Run = Callable[..., QuantumPhase]
FAR = QuantumConfig(
    n_pulses=2_000_000,
    source=WeakCoherentSource(intensities=(0.5,), probabilities=(1.0,)),
    channel=FibreChannel(distance_km=60, misalignment=0.03),
    detector=DetectorModel(efficiency=0.3, dark_count=1e-6),
    block_size=1 << 15,
)
NEAR = replace(FAR, channel=FibreChannel(distance_km=25, misalignment=0.03))
DECOY = replace(FAR, source=WeakCoherentSource(intensities=(0.5, 0.1, 0.01), probabilities=(0.4, 0.3, 0.3)))


def expected(config: QuantumConfig, mean: float) -> tuple[float, float]:
    """Gain and QBER of an honest line."""
    gain = coherent_gain(mean, config.channel, config.detector)
    return gain, coherent_error_gain(mean, config.channel, config.detector) / gain


@pytest.mark.parametrize("config", [FAR, NEAR])
def test_without_decoys_neither_the_gain_nor_the_qber_shows_the_attack(
    run: Run, config: QuantumConfig
) -> None:
    """False alarm 1e-6 for each of the two."""
    phase = run(config, PhotonNumberSplitting())
    gain, qber = expected(config, 0.5)
    assert binomtest(phase.counts.n_detected, config.n_pulses, gain).pvalue > 1e-6
    wrong = int(np.sum(phase.alice.key_bits != phase.bob.key_bits))
    assert binomtest(wrong, phase.counts.n_key, qber).pvalue > 1e-6


def test_beyond_a_loss_eve_knows_every_bit(run: Run) -> None:
    """All single photons are blocked; what she does not know are the dark counts, 3e-4 of the clicks."""
    assert forwarding(FAR)[0] == 0.0
    phase = run(FAR, PhotonNumberSplitting())
    assert isinstance(phase.eve, ChannelEve)
    guess = phase.eve.guess(phase.transcript)
    assert np.array_equal(guess.bits[guess.confidence == 1], phase.alice.key_bits[guess.confidence == 1])
    assert eve_information(guess, phase.alice.key_bits) > 0.999


def test_nearer_by_she_knows_the_multi_photon_share(run: Run) -> None:
    single, multiple = forwarding(NEAR)
    assert 0 < single < 1 == multiple
    phase = run(NEAR, PhotonNumberSplitting())
    assert isinstance(phase.eve, ChannelEve)
    known = eve_information(phase.eve.guess(phase.transcript), phase.alice.key_bits)
    mu, eta = 0.5, 0.3
    gain, _ = expected(NEAR, mu)
    assert known == pytest.approx(1 - single * mu * np.exp(-mu) * eta / gain, abs=0.02)


def test_decoy_states_show_the_changed_yields(run: Run) -> None:
    """The sum of all gains is as expected, that of each intensity is not (false alarm and power 1e-6)."""
    phase, honest = run(DECOY, PhotonNumberSplitting()), run(DECOY)
    assert abs(phase.counts.n_detected - honest.counts.n_detected) < 7 * honest.counts.n_detected**0.5
    for level, mean in enumerate(DECOY.source.means):
        gain, _ = expected(DECOY, mean)
        for counts, shows in ((honest.counts, False), (phase.counts, True)):
            sent = counts.sent_key[level] + counts.sent_test[level]
            seen = counts.key[level] + counts.test[level]
            assert (binomtest(seen, sent, gain / 2).pvalue < 1e-6) == shows


def test_a_second_guess_is_the_first_though_the_photons_are_spent(run: Run) -> None:
    phase = run(replace(FAR, n_pulses=100_000), PhotonNumberSplitting())
    assert isinstance(phase.eve, ChannelEve)
    first, second = (phase.eve.guess(phase.transcript) for _ in range(2))
    known = first.confidence == 1
    assert np.array_equal(first.bits, second.bits)
    assert known.any()


def test_single_photons_cannot_be_split(run: Run) -> None:
    with pytest.raises(ConfigError, match="several photons"):
        run(QuantumConfig(n_pulses=100), PhotonNumberSplitting())
