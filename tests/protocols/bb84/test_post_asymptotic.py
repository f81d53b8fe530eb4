"""Asymptotic key rates against published and exactly known values."""

from __future__ import annotations

import numpy as np
import pytest

from qflsec.base import ConfigError
from qflsec.protocols.bb84.asymptotic import (
    GYS,
    binary_entropy,
    cut_off_km,
    error_threshold,
    gllp_rate_infinite_decoy,
    gllp_rate_no_decoy,
    gllp_rate_vacuum_weak,
    multi_photon_probability,
    shor_preskill_rate,
)


@pytest.mark.parametrize(("f_ec", "threshold"), [(1.0, 0.110028), (1.16, 0.098106), (1.2, 0.095494)])
def test_the_threshold_depends_on_error_correction_and_is_11_percent_only_for_an_ideal_one(
    f_ec: float, threshold: float
) -> None:
    """Shor and Preskill 2000: 1 - (1 + f) h(Q) = 0, to 1e-6."""
    assert error_threshold(f_ec) == pytest.approx(threshold, abs=1e-6)
    assert shor_preskill_rate(threshold - 1e-4, f_ec) > 0 > shor_preskill_rate(threshold + 1e-4, f_ec)


def test_a_hard_coded_abort_at_11_percent_would_pass_runs_without_a_key() -> None:
    assert shor_preskill_rate(0.105, 1.0) > 0
    assert shor_preskill_rate(0.105, 1.16) < 0


@pytest.mark.parametrize(
    ("qber", "rate"),
    [(0.01, 0.838414), (0.02, 0.717119), (0.025, 0.662678), (0.03, 0.611216), (0.05, 0.427206),
     (0.08, 0.195642), (0.10, 0.062009), (0.11, 0.000168)],
)  # fmt: skip
def test_shor_preskill_rates(qber: float, rate: float) -> None:
    """1 - 2 h(Q), to 1e-6."""
    assert shor_preskill_rate(qber) == pytest.approx(rate, abs=1e-6)


def test_entropy_is_one_above_one_half() -> None:
    assert binary_entropy(0.5) == binary_entropy(0.7) == 1.0
    assert binary_entropy(0.0) == 0.0
    assert binary_entropy(0.11) == pytest.approx(0.499916, abs=1e-6)


def test_gllp_cut_offs_of_the_gys_experiment() -> None:
    """Ma, Qi, Zhao, Lo 2005 (quant-ph/0503005): about 142 km, and 140.5 km with vacuum + weak; to 0.5 km."""
    infinite = cut_off_km(lambda km: gllp_rate_infinite_decoy(GYS, 0.48, km))
    vacuum_weak = cut_off_km(lambda km: gllp_rate_vacuum_weak(GYS, 0.48, 0.05, km))
    assert infinite == pytest.approx(142.0, abs=0.5)
    assert vacuum_weak == pytest.approx(140.5, abs=0.5)


def test_without_decoys_the_reach_is_less_than_a_third() -> None:
    """Ma et al. 2005, figure 1: the curve without decoys ends above 30 km."""

    def best(km: float) -> float:
        return max(gllp_rate_no_decoy(GYS, float(mu), km) for mu in np.geomspace(1e-4, 0.2, 60))

    assert 30.0 < cut_off_km(best) < 142.0 / 3.0


def test_more_decoy_information_never_lowers_the_rate() -> None:
    for km in (0.0, 50.0, 120.0):
        weak = gllp_rate_vacuum_weak(GYS, 0.48, 0.05, km)
        assert gllp_rate_no_decoy(GYS, 0.48, km) < weak < gllp_rate_infinite_decoy(GYS, 0.48, km)


def test_splitting_photons_is_invisible_where_multi_photon_pulses_make_up_the_gain() -> None:
    km = 60.0
    assert multi_photon_probability(0.5) > GYS.gain(0.5, km)
    assert gllp_rate_no_decoy(GYS, 0.5, km) < 0


def test_vacuum_weak_bounds_hold_for_the_true_channel() -> None:
    exact = GYS.single_photon_yield(100.0), GYS.single_photon_error(100.0)
    assert exact[0] == pytest.approx(1.7e-6 + GYS.transmittance(100.0), rel=1e-3)
    # The bounds tighten as the weak intensity falls.
    rates = [gllp_rate_vacuum_weak(GYS, 0.48, nu, 100.0) for nu in (0.2, 0.05, 0.005)]
    assert rates == sorted(rates)


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 < nu < mu"):
        gllp_rate_vacuum_weak(GYS, 0.1, 0.2, 10.0)
    with pytest.raises(ConfigError, match="Shannon"):
        error_threshold(0.9)
    with pytest.raises(ConfigError, match="cut-off"):
        cut_off_km(lambda _: -1.0)
