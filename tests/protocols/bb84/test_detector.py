from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from qflsec.base import ConfigError
from qflsec.protocols.bb84.detector import BLINDED, BRIGHT, FOCK, ClickTable, DetectorModel, click_table


def table(means: tuple[float, ...] = (0.5, 0.1), t: float = 0.3, e: float = 0.02, **model: Any) -> ClickTable:
    return click_table(DetectorModel(**model), means, t, e)


def test_outcomes_are_probabilities() -> None:
    for kind in ("lim2014", "memory"):
        p = table(efficiency=0.7, dark_count=1e-3, afterpulse=0.05, shift_ratio=0.2, afterpulse_model=kind)
        assert np.all(p >= 0)
        assert np.all(p.sum(axis=-1) <= 1 + 1e-12)


def test_a_photon_in_bobs_basis_goes_to_its_detector() -> None:
    p = table(t=1.0, e=0.0, efficiency=1.0, dark_count=0.0)[FOCK + 1, 0]
    assert p[0].tolist() == [1, 0, 0]
    assert p[4].tolist() == pytest.approx([0, 1, 0])
    assert p[2].tolist() == pytest.approx([0.5, 0.5, 0])
    assert p[1, 0] == pytest.approx(math.cos(math.pi / 8) ** 2)


def test_n_photons_are_n_independent_photons() -> None:
    """By enumeration: each photon is lost, or goes to one of the two detectors."""
    eta, t, e = 0.4, 0.5, 0.1
    p = table(t=t, e=e, efficiency=eta, dark_count=0.0)
    for angle, right in ((0, 0.9), (2, 0.5), (4, 0.1)):
        one = [1 - eta * t, eta * t * right, eta * t * (1 - right)]
        clicks = np.zeros(4)
        for a, pa in enumerate(one):
            for b, pb in enumerate(one):
                clicks[(1 if 1 in (a, b) else 0) + (2 if 2 in (a, b) else 0)] += pa * pb
        assert p[FOCK + 2, 0, angle].tolist() == pytest.approx(clicks[1:].tolist())


def test_coherent_light_is_a_poisson_mixture_of_photon_numbers() -> None:
    mean = 0.8
    p = table(means=(mean,), efficiency=0.3, dark_count=1e-3, shift_ratio=0.5)
    mixture = sum(math.exp(-mean) * mean**n / math.factorial(n) * p[FOCK + n] for n in range(40))
    assert np.allclose(p[0], mixture, atol=1e-12)


def test_dark_counts_come_from_either_detector() -> None:
    d = 1e-3
    p = table(dark_count=d)[FOCK]
    assert np.allclose(p[..., 0], d * (1 - d))
    assert np.allclose(p[..., 2], d * d)


def test_a_shifted_pulse_sees_unequal_detectors() -> None:
    p = table(t=1.0, e=0.0, efficiency=0.5, dark_count=0.0, shift_ratio=0.2)[FOCK + 1]
    assert p[:, 0, 0].tolist() == pytest.approx([0.5, 0.5, 0.1])
    assert p[:, 4, 1].tolist() == pytest.approx([0.5, 0.1, 0.5])


def test_blinded_detectors_click_for_a_trigger_in_eves_basis_only() -> None:
    p = table(dark_count=0.1, afterpulse=0.1)
    assert not p[BLINDED].any()
    assert p[BRIGHT, 0].sum(axis=-1).tolist() == [1, 0, 0, 0, 1, 0, 0, 0]
    assert p[BRIGHT, 0, 0, 0] == p[BRIGHT, 0, 4, 1] == 1


def test_false_clicks_of_lim_2014_add_a_share_of_the_gain_half_of_them_wrong() -> None:
    without, with_them = table(efficiency=0.01, e=0.0), table(efficiency=0.01, e=0.0, afterpulse=0.04)
    gain = without[0, 0, 0].sum()
    assert with_them[0, 0, 0].sum() == pytest.approx(1.04 * gain, rel=1e-3)
    assert with_them[0, 0, 0, 1] - without[0, 0, 0, 1] == pytest.approx(0.02 * gain, rel=2e-3)


@pytest.mark.parametrize(
    "bad",
    [
        {"efficiency": 0.0},
        {"efficiency": 1.2},
        {"efficiency": math.nan},
        {"dark_count": -1e-9},
        {"dark_count": 1.0},
        {"afterpulse": math.inf},
        {"shift_ratio": 0.0},
        {"afterpulse_model": "none"},
    ],
)
def test_impossible_detectors_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        DetectorModel(**bad)
