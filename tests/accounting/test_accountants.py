from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import pytest
from scipy import optimize, stats

from qflsec.accounting.accountants import (
    DpBound,
    epsilon_bound,
    epsilon_gdp,
    epsilon_pld,
    epsilon_prv,
    epsilon_rdp,
)
from qflsec.accounting.calibrate import calibrate_noise
from qflsec.base import BackendError, ConfigError, MissingExtra

# noise multiplier, sample rate, steps, delta; then epsilon by Opacus 1.6.0's RDP and PRV accountants, by its
# GDP approximation, and by dp-accounting 0.6.0's PLD for add/remove and for replace-one adjacency.
# Microsoft's prv-accountant 0.2.0 agrees with PLD (add/remove) to all printed digits.
TABLE = [
    ((1.0, 0.01, 1000, 1e-5), 2.1014, 1.8384, 1.6177, 1.8282, 2.8434),
    ((2.0, 0.1, 1000, 1e-5), 8.9439, 8.2897, 8.1120, 8.2793, 17.6851),
]


def _arguments(row: tuple[float, float, int, float]) -> dict[str, float]:
    return dict(zip(("noise_multiplier", "sample_rate", "steps", "delta"), row, strict=True))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The exact epsilon of a Gaussian mechanism of sensitivity over noise ``mu``.

    Source:
        Balle, Wang: Improving the Gaussian mechanism for differential privacy, ICML 2018, theorem 8.
    """

    def excess(epsilon: float) -> float:
        left = stats.norm.cdf(-epsilon / mu + mu / 2)
        return float(left - math.exp(epsilon) * stats.norm.cdf(-epsilon / mu - mu / 2) - delta)

    return float(optimize.brentq(excess, 0, 700))


@pytest.mark.parametrize(("row", "rdp", "prv", "gdp", "pld", "replace"), TABLE)
def test_table(
    row: tuple[float, float, int, float], rdp: float, prv: float, gdp: float, pld: float, replace: float
) -> None:
    """Frozen values, to the printed digits; both bounds lie above the tight value, the approximation below."""
    arguments = _arguments(row)
    assert round(epsilon_rdp(**arguments).epsilon, 4) == rdp
    assert round(epsilon_prv(**arguments).epsilon, 4) == prv
    assert round(epsilon_gdp(**arguments).epsilon, 4) == gdp
    assert gdp < pld < prv < rdp < replace


@pytest.mark.parametrize("entry", TABLE)
def test_table_by_privacy_loss_distributions(entry: tuple[Any, ...]) -> None:
    pytest.importorskip("dp_accounting")
    row, _, _, _, pld, replace = entry
    assert round(epsilon_pld(**_arguments(row)).epsilon, 4) == pld
    other = epsilon_pld(**_arguments(row), adjacency="replace-one")
    assert round(other.epsilon, 4) == replace
    assert other.adjacency == "replace-one"


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (0.4, 1), (2.0, 16), (10.0, 9), (5.0, 156)])
@pytest.mark.parametrize("delta", [1e-5, 1e-3])
def test_without_sampling_the_bounds_hold_the_exact_gaussian(noise: float, steps: int, delta: float) -> None:
    """Composition of Gaussians is a Gaussian with mu = sqrt(steps)/noise, whose epsilon is known exactly."""
    exact = gaussian_epsilon(math.sqrt(steps) / noise, delta)
    arguments = {"noise_multiplier": noise, "sample_rate": 1.0, "steps": steps, "delta": delta}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss, renyi = epsilon_prv(**arguments), epsilon_rdp(**arguments)
    assert exact < loss.epsilon < exact + max(0.03, 0.003 * exact)
    assert loss.epsilon < renyi.epsilon < 1.35 * exact + 0.05
    assert loss.sampling == "none"


def test_exact_gaussian_at_published_points() -> None:
    """mu 1 gives 4.3772 and mu 2.5 gives 13.2067 at delta 1e-5: the oracle of the test above."""
    assert round(gaussian_epsilon(1.0, 1e-5), 4) == 4.3772
    assert round(gaussian_epsilon(2.5, 1e-5), 4) == 13.2067


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_epsilon_is_monotone(accountant: str) -> None:
    base = {"noise_multiplier": 1.2, "sample_rate": 0.1, "steps": 40, "delta": 1e-5}
    for name, values, rises in (
        ("noise_multiplier", (0.6, 1.2, 3.0, 20.0), False),
        ("sample_rate", (0.01, 0.1, 0.5, 1.0), True),
        ("steps", (0, 1, 10, 100), True),
        ("delta", (1e-8, 1e-5, 1e-3), False),
    ):
        bounds = [epsilon_bound(accountant, **{**base, name: value}).epsilon for value in values]
        assert bounds == sorted(bounds, reverse=not rises), name
        assert len(set(bounds)) == len(bounds), name


def test_no_noise_no_guarantee_and_no_release_no_loss() -> None:
    for function in (epsilon_rdp, epsilon_prv):
        assert function(noise_multiplier=0.0, sample_rate=0.1, steps=1, delta=1e-5).epsilon == math.inf
        assert function(noise_multiplier=0.0, sample_rate=0.1, steps=0, delta=1e-5).epsilon == 0.0


def test_weak_noise_neither_crashes_nor_flatters() -> None:
    """PRV overflows to infinity (with Opacus' own error setting it takes 4 GB); RDP still gives a number."""
    arguments = {"noise_multiplier": 0.1, "sample_rate": 0.1, "steps": 100, "delta": 1e-5}
    assert epsilon_prv(**arguments).epsilon == math.inf
    best = epsilon_bound("tightest", **arguments)
    assert best.accountant == "RDP"
    assert 1000 < best.epsilon < 10000


def test_strong_noise_is_worth_more_than_opacus_default_orders_see() -> None:
    """Opacus' default orders end at 63 and give 0.1029; the true value is 0.00115 (PLD)."""
    arguments = {"noise_multiplier": 50.0, "sample_rate": 0.01, "steps": 10, "delta": 1e-5}
    assert 0.00115 < epsilon_rdp(**arguments).epsilon < 0.03
    assert 0.00115 < epsilon_prv(**arguments).epsilon < 0.012


def test_tightest_names_the_accountant_whose_bound_it_is() -> None:
    best = epsilon_bound("tightest", **_arguments(TABLE[0][0]))
    assert best == epsilon_prv(**_arguments(TABLE[0][0]))


@pytest.mark.parametrize("entry", TABLE)
def test_the_estimate_of_prv_is_no_bound(entry: tuple[Any, ...]) -> None:
    """The accountant's middle agrees with PLD and Microsoft's PRV to the printed digits; its upper end is used."""
    row, _, prv, _, pld, _ = entry
    bound = epsilon_prv(**_arguments(row))
    assert bound.estimate is not None
    assert round(bound.estimate, 4) == pld
    assert pld < round(bound.epsilon, 4) == prv
    assert epsilon_rdp(**_arguments(row)).estimate is None


def test_gaussian_dp_is_an_approximation_and_says_so() -> None:
    found = epsilon_gdp(**_arguments(TABLE[0][0]))
    assert found.kind == "approximation"
    assert "approximation by GDP" in str(found)
    assert found.epsilon < TABLE[0][4], "below the true epsilon, so no guarantee"
    for accountant in ("rdp", "prv", "tightest"):
        assert epsilon_bound(accountant, **_arguments(TABLE[0][0])).kind == "upper bound"


def google(kind: str, noise_multiplier: float, steps: int, delta: float) -> float:
    """dp-accounting's epsilon of Gaussian events under replace-one adjacency, for the multiplier as given."""
    accounting = pytest.importorskip("dp_accounting")
    from dp_accounting import pld, rdp

    relation = accounting.NeighboringRelation.REPLACE_ONE
    accountant = (
        pld.PLDAccountant(relation) if kind == "pld" else rdp.RdpAccountant(neighboring_relation=relation)
    )
    accountant.compose(accounting.GaussianDpEvent(noise_multiplier), steps)
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (2.0, 1), (8.0, 15)])
def test_replace_one_has_twice_the_sensitivity_in_every_accountant(noise: float, steps: int) -> None:
    """dp-accounting 0.6.0: its PLD accountant doubles the sensitivity itself, its RDP accountant leaves that to us.

    One event at z = 1: PLD says 9.997; RDP says 4.729, which is the bound of add/remove, and 10.726 at z / 2.
    """
    exact = gaussian_epsilon(2 * math.sqrt(steps) / noise, 1e-5)
    arguments = {"noise_multiplier": noise, "sample_rate": 1.0, "steps": steps, "delta": 1e-5}
    ours = epsilon_pld(**arguments, adjacency="replace-one").epsilon
    assert ours == pytest.approx(google("pld", noise, steps, 1e-5), abs=2e-3)
    assert exact <= ours <= exact * 1.001 + 1e-3
    halved = {**arguments, "noise_multiplier": noise / 2}
    assert ours <= epsilon_rdp(**halved).epsilon <= google("rdp", noise / 2, steps, 1e-5) * 1.01
    assert exact <= google("rdp", noise / 2, steps, 1e-5)
    if (noise, steps) == (1.0, 1):
        assert (round(ours, 3), round(google("rdp", 1.0, 1, 1e-5), 3)) == (9.997, 4.729)


def test_replace_one_is_never_printed_under_the_name_of_add_remove() -> None:
    pytest.importorskip("dp_accounting")
    row, *_, pld, replace_one = TABLE[0]
    names = {"add/remove": pld, "replace-one": replace_one}
    for name, other in (("add/remove", "replace-one"), ("replace-one", "add/remove")):
        text = str(epsilon_pld(**_arguments(row), adjacency=name))
        assert f"epsilon {names[name]:.4f}" in text
        assert name in text
        assert other not in text
    for accountant in (epsilon_rdp, epsilon_prv):
        assert "add/remove adjacency" in str(accountant(**_arguments(row)))


def test_failure_of_opacus_is_told_and_falls_back() -> None:
    """A delta below what its arithmetic can resolve makes the PRV accountant give up."""
    arguments = {"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 100, "delta": 1e-18}
    with pytest.raises(BackendError, match="PRV accountant failed"):
        epsilon_prv(**arguments)
    assert epsilon_bound("tightest", **arguments).accountant == "RDP"


def test_a_bound_says_what_it_is() -> None:
    bound = epsilon_prv(**_arguments(TABLE[0][0]))
    assert (bound.kind, bound.delta, bound.accountant) == ("upper bound", 1e-5, "PRV")
    assert bound.version.startswith("opacus ")
    assert (bound.adjacency, bound.sampling) == ("add/remove", "Poisson")
    with pytest.raises(AttributeError):
        bound.epsilon = 0.0  # type: ignore[misc]
    assert DpBound(epsilon=1.0, delta=0.1, accountant="x", version="y").kind == "upper bound"


def test_gaussian_dp_is_refused_with_its_reason() -> None:
    with pytest.raises(ConfigError, match="approximation that can fall below the true epsilon"):
        epsilon_bound("gdp", **_arguments(TABLE[0][0]))


def test_the_refused_approximation_does_fall_below() -> None:
    """Opacus' GDP accountant against the tight value of the table: the reason for refusing it."""
    from opacus.accountants import GaussianAccountant

    with pytest.warns(UserWarning, match="can underestimate privacy expenditure"):
        accountant = GaussianAccountant()
    accountant.history = [(1.0, 0.01, 1000)]
    epsilon = accountant.get_epsilon(delta=1e-5)
    assert round(epsilon, 4) == 1.6177
    assert epsilon < TABLE[0][4]


def test_missing_extra_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(MissingExtra, match=r"pip install 'qflsec\[dp-accounting\]'"):
        epsilon_bound("pld", **_arguments(TABLE[0][0]))


@pytest.mark.parametrize("accountant", ["rdp", "prv", "tightest"])
@pytest.mark.parametrize("target", [0.5, 8.0])
def test_calibration_reaches_the_target_and_no_more(accountant: str, target: float) -> None:
    arguments = {"delta": 1e-5, "sample_rate": 0.1, "steps": 50}
    noise = calibrate_noise(target_epsilon=target, accountant=accountant, tolerance=0.05, **arguments)
    assert epsilon_bound(accountant, noise_multiplier=noise, **arguments).epsilon <= target
    assert epsilon_bound(accountant, noise_multiplier=noise / 1.051, **arguments).epsilon > target


def test_calibration_at_the_ends() -> None:
    assert calibrate_noise(target_epsilon=1.0, delta=1e-5, sample_rate=0.1, steps=0) == 0.0
    with pytest.raises(ConfigError, match="cannot certify so small an epsilon"):
        calibrate_noise(target_epsilon=1e-3, delta=1e-5, sample_rate=0.1, steps=1, accountant="prv")
    with pytest.raises(ConfigError, match="target_epsilon"):
        calibrate_noise(target_epsilon=math.inf, delta=1e-5, sample_rate=0.1, steps=1)
    with pytest.raises(ConfigError, match="tolerance"):
        calibrate_noise(target_epsilon=1.0, delta=1e-5, sample_rate=0.1, steps=1, tolerance=0.0)
    tiny = calibrate_noise(target_epsilon=500.0, delta=1e-5, sample_rate=1.0, steps=1)
    assert tiny == pytest.approx(
        1 / optimize.brentq(lambda mu: gaussian_epsilon(mu, 1e-5) - 500, 20, 31), rel=0.1
    )


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"noise_multiplier": -1.0}, "noise_multiplier is out of range"),
        ({"noise_multiplier": math.nan}, "noise_multiplier is out of range"),
        ({"sample_rate": 0.0}, "sample_rate is out of range"),
        ({"sample_rate": 1.1}, "sample_rate is out of range"),
        ({"steps": -1}, "steps is out of range"),
        ({"steps": 1.5}, "steps is out of range"),
        ({"delta": 0.0}, "delta is out of range"),
        ({"delta": 1.0}, "delta is out of range"),
    ],
)
@pytest.mark.parametrize("accountant", ["rdp", "prv", "pld", "tightest"])
def test_wrong_arguments(accountant: str, wrong: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        epsilon_bound(accountant, **{**_arguments(TABLE[0][0]), **wrong})


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match="unknown accountant; got 'moments'; expected one of rdp, prv"):
        epsilon_bound("moments", **_arguments(TABLE[0][0]))
    with pytest.raises(ConfigError, match="unknown adjacency"):
        epsilon_pld(**_arguments(TABLE[0][0]), adjacency="swap")
