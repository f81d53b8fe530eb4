from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest

from qflsec.attacks.channel import ManInTheMiddle
from qflsec.attacks.channel.man_in_the_middle import MiddleEve
from qflsec.lab.scoring.channel import eve_information
from qflsec.protocols.bb84 import DetectorModel, FibreChannel, QuantumConfig, QuantumPhase, WeakCoherentSource
from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.channel import coherent_error_gain, coherent_gain

Run = Callable[..., QuantumPhase]
CONFIG = QuantumConfig(
    n_pulses=2_000_000,
    basis_probability=0.8,
    source=WeakCoherentSource(intensities=(0.5, 0.1, 0.01), probabilities=(0.4, 0.3, 0.3)),
    channel=FibreChannel(distance_km=20, misalignment=0.02),
    detector=DetectorModel(efficiency=0.2, dark_count=1e-6),
    block_size=1 << 15,
)


@pytest.fixture(scope="module")
def phase(run: Run) -> QuantumPhase:
    return run(CONFIG, ManInTheMiddle())


def middle(phase: QuantumPhase) -> MiddleEve:
    assert isinstance(phase.eve, MiddleEve)
    return phase.eve


def test_each_side_sees_an_honest_line(phase: QuantumPhase) -> None:
    """QBER and gains on both sides are those of the channel; false alarm 1e-6 for each of the 8."""
    line = (CONFIG.channel, CONFIG.detector)
    pairs = list(zip(CONFIG.source.stated_probabilities, CONFIG.source.means, strict=True))
    gain = sum(p * coherent_gain(mean, *line) for p, mean in pairs)
    qber = sum(p * coherent_error_gain(mean, *line) for p, mean in pairs) / gain
    eve = middle(phase)
    for alice, bob in ((phase.alice, eve.partner(phase.bob)), (eve.with_bob, phase.bob)):
        assert alice.counts == bob.counts
        assert binomtest(alice.counts.n_detected, CONFIG.n_pulses, gain).pvalue > 1e-6
        wrong = int(np.sum(alice.key_bits != bob.key_bits))
        assert binomtest(wrong, alice.key_bits.size, qber).pvalue > 1e-6
        for level, (_, mean) in enumerate(pairs):
            expected = coherent_gain(mean, *line) * CONFIG.stated_basis_probability
            assert binomtest(alice.counts.key[level], alice.counts.sent_key[level], expected).pvalue > 1e-6


def test_alice_and_bob_share_nothing(phase: QuantumPhase) -> None:
    """False alarm 1e-6."""
    n = min(phase.alice.key_bits.size, phase.bob.key_bits.size)
    agree = int(np.sum(phase.alice.key_bits[:n] == phase.bob.key_bits[:n]))
    assert binomtest(agree, n, 0.5).pvalue > 1e-6


def test_eve_knows_alices_key_up_to_channel_errors(phase: QuantumPhase) -> None:
    known = eve_information(middle(phase).guess(phase.transcript), phase.alice.key_bits)
    wrong = float(np.mean(phase.alice.key_bits != middle(phase).partner(phase.bob).key_bits))
    assert known == pytest.approx(1 - binary_entropy(wrong))


def test_only_the_transcripts_differ(phase: QuantumPhase, run: Run) -> None:
    assert phase.channel.alice.to_bytes() != phase.channel.bob.to_bytes()
    assert [m.kind for m in phase.channel.alice] == [m.kind for m in phase.channel.bob]
    honest = run(QuantumConfig(n_pulses=10_000))
    assert honest.channel.alice.to_bytes() == honest.channel.bob.to_bytes()
