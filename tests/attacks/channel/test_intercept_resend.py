from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from qflsec.attacks.channel import InterceptResend, intercept_resend_qber
from qflsec.attacks.channel.base import ChannelEve
from qflsec.base import ConfigError
from qflsec.lab.scoring.channel import eve_information
from qflsec.protocols.bb84 import DetectorModel, FibreChannel, QuantumConfig, QuantumPhase, WeakCoherentSource
from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.channel import coherent_gain

Run = Callable[..., QuantumPhase]
BLOCK = 1 << 15


def line(error: float, n: int = 200_000) -> QuantumConfig:
    """Single photons that Bob always detects, with this error rate."""
    return QuantumConfig(
        n_pulses=n,
        channel=FibreChannel(misalignment=error),
        detector=DetectorModel(efficiency=1.0, dark_count=0.0),
        block_size=BLOCK,
    )


def wrong(phase: QuantumPhase) -> tuple[int, int]:
    """Wrong bits and bits, in both bases."""
    a, b = phase.alice, phase.bob
    errors = int(np.sum(a.key_bits != b.key_bits)) + int(np.sum(a.test_bits != b.test_bits))
    return errors, a.key_bits.size + a.test_bits.size


def information(phase: QuantumPhase) -> float:
    assert isinstance(phase.eve, ChannelEve)
    return eve_information(phase.eve.guess(phase.transcript), phase.alice.key_bits)


@pytest.mark.parametrize("error", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("basis", ["random", "breidbart"])
def test_qber_is_e_plus_a_quarter_of_p_times_1_minus_2e(
    run: Run, fraction: float, error: float, basis: str
) -> None:
    """Q = e + (p/4)(1 - 2e) for both bases of the adversary; false alarm 1e-6 for each of the 24."""
    phase = run(line(error, 100_000), InterceptResend(fraction=fraction, basis=basis))  # type: ignore[arg-type]
    assert binomtest(*wrong(phase), intercept_resend_qber(fraction, error)).pvalue > 1e-6


def test_the_test_of_the_qber_can_fail(run: Run) -> None:
    """At e = 0.1 and p = 1 the formula without its factor 1 - 2e is off by 0.05."""
    phase = run(line(0.1), InterceptResend())
    assert binomtest(*wrong(phase), 0.1 + 0.25).pvalue < 1e-6


def test_intercepting_nothing_changes_nothing(run: Run) -> None:
    phase = run(line(0.02), InterceptResend(fraction=0.0))
    assert information(phase) < 1e-4
    assert binomtest(*wrong(phase), 0.02).pvalue > 1e-6


@pytest.mark.parametrize("fraction", [0.3, 1.0])
def test_a_random_basis_is_worth_half_a_bit_and_breidbarts_0_3991(run: Run, fraction: float) -> None:
    """Bits per intercepted sifted bit: 1/2, and 1 - h(sin^2(pi/8)) = 0.3991; five standard errors."""
    n_key = 50_000 * fraction
    random = information(run(line(0.0), InterceptResend(fraction=fraction)))
    assert random == pytest.approx(fraction / 2, abs=5 * fraction * math.sqrt(0.25 / n_key))
    breidbart = information(run(line(0.0), InterceptResend(fraction=fraction, basis="breidbart")))
    expected = 1 - binary_entropy(math.sin(math.pi / 8) ** 2)
    assert expected == pytest.approx(0.3991, abs=5e-5)
    assert breidbart == pytest.approx(fraction * expected, abs=0.03 * fraction)


def test_breidbart_guesses_right_with_cos_squared_pi_over_8(run: Run) -> None:
    """0.853553 against 3/4 for a random basis, over all intercepted bits; false alarm 1e-6 each."""
    for basis, expected in (("breidbart", math.cos(math.pi / 8) ** 2), ("random", 0.75)):
        phase = run(line(0.0), InterceptResend(basis=basis))  # type: ignore[arg-type]
        assert isinstance(phase.eve, ChannelEve)
        right = phase.eve.guess(phase.transcript).bits == phase.alice.key_bits
        assert binomtest(int(right.sum()), right.size, expected).pvalue > 1e-6


def test_m_compared_bits_find_eve_with_1_minus_1_minus_p_over_4_to_the_m(run: Run) -> None:
    """No channel error, p = 0.2, m = 20: 0.6415; false alarm 1e-6."""
    phase = run(line(0.0), InterceptResend(fraction=0.2))
    m = 20
    bad = phase.alice.test_bits != phase.bob.test_bits
    samples = bad[: bad.size // m * m].reshape(-1, m).any(axis=1)
    assert binomtest(int(samples.sum()), samples.size, 1 - 0.95**m).pvalue > 1e-6


def test_gains_of_all_intensities_stay_as_they_were(run: Run) -> None:
    """As many photons are resent as were counted; false alarm 1e-6 for each intensity."""
    config = QuantumConfig(
        n_pulses=1_000_000,
        source=WeakCoherentSource(),
        channel=FibreChannel(distance_km=20),
        detector=DetectorModel(efficiency=0.3, dark_count=1e-5),
        block_size=BLOCK,
    )
    counts = run(config, InterceptResend()).counts
    for level, mean in enumerate(config.source.means):
        sent = counts.sent_key[level] + counts.sent_test[level]
        gain = coherent_gain(mean, config.channel, config.detector)
        matched = counts.key[level] + counts.test[level]
        assert binomtest(matched, sent, gain / 2).pvalue > 1e-6


def test_runs_repeat_with_their_seeds(run: Run) -> None:
    config = replace(line(0.02), n_pulses=20_000)
    one, two, other = (run(config, InterceptResend(fraction=0.5), seed) for seed in (1, 1, 2))
    assert one.transcript.to_bytes() == two.transcript.to_bytes()
    assert np.array_equal(one.bob.key_bits, two.bob.key_bits)
    assert one.transcript.to_bytes() != other.transcript.to_bytes()


@pytest.mark.parametrize(
    "bad", [{"fraction": -0.1}, {"fraction": 1.1}, {"fraction": math.nan}, {"basis": "y"}]
)
def test_impossible_attacks_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        InterceptResend(**bad)  # type: ignore[arg-type]
