from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from qflsec.base import ConfigError
from qflsec.protocols.bb84 import (
    DetectorModel,
    FibreChannel,
    QuantumConfig,
    SinglePhotonSource,
    WeakCoherentSource,
)
from qflsec.protocols.bb84.channel import coherent_error_gain, coherent_gain, photon_error_gain, photon_gain


def test_ten_kilometres_lose_two_decibels() -> None:
    assert FibreChannel(distance_km=10).transmittance == pytest.approx(10**-0.2)


def test_a_better_line_lets_more_through_but_not_more_than_all() -> None:
    line = FibreChannel(distance_km=20, misalignment=0.03)
    assert line.better(1.5).transmittance == pytest.approx(1.5 * line.transmittance)
    assert line.better(100).transmittance == 1.0
    assert line.better(1.5).misalignment == 0.03
    assert FibreChannel(loss_db_per_km=0).better(2).transmittance == 1.0


def test_gains_are_poisson_mixtures_of_yields() -> None:
    channel, detector = FibreChannel(distance_km=30), DetectorModel(afterpulse=0.04, efficiency=0.2)
    for of_mean, of_n in ((coherent_gain, photon_gain), (coherent_error_gain, photon_error_gain)):
        mixture = sum(
            math.exp(-0.6) * 0.6**n / math.factorial(n) * of_n(n, channel, detector) for n in range(30)
        )
        assert of_mean(0.6, channel, detector) == pytest.approx(mixture, rel=1e-12)


def test_gain_and_error_of_lim_2014_at_50_km() -> None:
    """Lim et al. 2014, section IV, by hand: eta_ch = 0.1, eta_Bob = 0.1, mu = 0.5."""
    channel = FibreChannel(distance_km=50, misalignment=5e-3)
    detector = DetectorModel(efficiency=0.1, dark_count=6e-7, afterpulse=4e-2)
    d = 1 - (1 - 1.2e-6) * math.exp(-0.005)
    assert coherent_gain(0.5, channel, detector) == pytest.approx(1.04 * d, rel=1e-12)
    error = 6e-7 + 5e-3 * (1 - math.exp(-0.005)) + 0.02 * d
    assert coherent_error_gain(0.5, channel, detector) == pytest.approx(error, rel=1e-12)


def test_intensity_probabilities_are_stated_exactly() -> None:
    source = WeakCoherentSource(intensities=(0.5, 0.1, 0.0), probabilities=(1 / 3, 1 / 3, 1 / 3))
    stated = source.stated_probabilities
    assert sum(stated) == 1.0
    assert all(p * 2**32 == round(p * 2**32) for p in stated)
    assert stated == pytest.approx((1 / 3,) * 3, abs=2**-31)
    assert source.thresholds == (1431655765, 2863311531)


@pytest.mark.parametrize(
    "bad",
    [
        {"intensities": (), "probabilities": ()},
        {"intensities": (0.1, 0.5), "probabilities": (0.5, 0.5)},
        {"intensities": (0.5, -0.1), "probabilities": (0.5, 0.5)},
        {"intensities": (math.nan,), "probabilities": (1.0,)},
        {"intensities": (0.5, 0.3, 0.25), "probabilities": (0.4, 0.3, 0.3)},
        {"intensities": (0.5, 0.1), "probabilities": (0.5, 0.6)},
        {"intensities": (0.5, 0.1), "probabilities": (1.0, 0.0)},
        {"intensities": (0.5, 0.1), "probabilities": (1.0,)},
        {"isolation_db": -1.0},
    ],
)
def test_impossible_sources_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        WeakCoherentSource(**bad)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SinglePhotonSource(isolation_db=math.inf),
        lambda: FibreChannel(distance_km=-1),
        lambda: FibreChannel(distance_km=math.nan),
        lambda: FibreChannel(loss_db_per_km=-0.2),
        lambda: FibreChannel(misalignment=0.6),
        lambda: QuantumConfig(n_pulses=0),
        lambda: QuantumConfig(n_pulses=True),
        lambda: QuantumConfig(n_pulses=1e7),
        lambda: QuantumConfig(n_pulses=8, basis_probability=0.0),
        lambda: QuantumConfig(n_pulses=8, basis_probability=1e-12),
        lambda: QuantumConfig(n_pulses=8, basis_probability=1.0),
        lambda: QuantumConfig(n_pulses=8, basis_probability=math.nan),
        lambda: QuantumConfig(n_pulses=8, block_size=12),
        lambda: QuantumConfig(n_pulses=8, block_size=0),
    ],
)
def test_impossible_lines_are_refused_on_one_line(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert "\n" not in str(caught.value)
