"""The ledger of DP-SGD: one epsilon for whoever sees single updates, another for whoever sees sums."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.defenses.privacy import DpSgd, summed_multiplier
from qflsec.federation import RunSpec, Stack, run_batch
from qflsec.protocols.secagg import SecAgg
from qflsec.threat import honest_but_curious_server

Context = Callable[..., LedgerContext]


def dp(rows: tuple[LedgerRow, ...], accountant: str = "RDP") -> list[LedgerRow]:
    return [
        row
        for row in rows
        if row.guarantee == "differential privacy" and row.accountant.startswith(accountant)
    ]


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The exact epsilon of composed Gaussian mechanisms (Balle and Wang 2018, theorem 8)."""

    def excess(epsilon: float) -> float:
        left = stats.norm.cdf(-epsilon / mu + mu / 2)
        return float(left - math.exp(epsilon) * stats.norm.cdf(-epsilon / mu - mu / 2) - delta)

    return float(optimize.brentq(excess, 0, 200))


def test_the_anchor_of_a_single_update_and_of_a_sum_of_ten(context: Context) -> None:
    """15 full steps, sigma 2, delta 1e-3, Opacus RDP: 8.07 for single updates, 1.96 for sums of 10."""
    layer = DpSgd(noise_multiplier=2.0, delta=1e-3)
    single = dp(layer.ledger(context()))
    assert [round(row.epsilon or 0, 2) for row in single] == [8.07]
    both = dp(layer.ledger(context(smallest_k=10)))
    assert [round(row.epsilon or 0, 2) for row in both] == [8.07, 1.96]
    assert both[0].trusted == "nobody but the client itself"
    assert "other 9 honest clients" in both[1].trusted
    assert both[1].assumption == "computational", "the server reads only sums while the seals hold"


@pytest.mark.parametrize("k", [1, 4])
def test_full_batches_agree_with_the_analytic_gaussian(context: Context, k: int) -> None:
    layer = DpSgd(noise_multiplier=1.5)
    rows = layer.ledger(context(smallest_k=k))
    exact = gaussian_epsilon(math.sqrt(15 / k) / 1.5, 1e-5)
    prv, rdp = dp(rows, "PRV")[-1], dp(rows, "RDP")[-1]
    assert exact <= prv.epsilon <= exact + 0.03
    assert prv.epsilon < rdp.epsilon < exact * 1.2
    assert {prv.bound, rdp.bound} == {"upper bound"}
    assert "opacus" in prv.accountant


def test_every_field_of_a_row_is_filled(context: Context) -> None:
    (row,) = dp(DpSgd().ledger(context()))
    assert (row.unit, row.adjacency, row.delta, row.steps) == ("example", "zero-out", 1e-5, 15)
    assert "sensitivity" in row.mechanism
    assert row.sampling
    assert row.released
    assert "infinity" not in json.dumps(row.to_dict())


def test_local_steps_are_composed(context: Context) -> None:
    (row,) = dp(DpSgd().ledger(context(local_steps=4)))
    assert row.steps == 60


def test_epochs_cost_a_mechanism_each_and_earn_nothing_for_their_order(context: Context) -> None:
    """What is stated is attained where the order is known: 15 rounds of 2 epochs, whatever the batches."""
    layer = DpSgd(noise_multiplier=2.0)
    shuffled = {"sampling": "shuffled", "local_steps": 2, "batch_size": 3, "additive": True}
    rows = layer.ledger(context(**shuffled, smallest_k=10))
    exact = gaussian_epsilon(math.sqrt(15 * 2) / 2.0, 1e-5)
    (row,) = dp(rows, "PRV")
    assert exact <= row.epsilon <= exact + 0.05
    assert (row.steps, row.epsilon_unsampled) == (30, None)
    assert "no credit" in row.sampling
    full = layer.ledger(context(local_steps=2, smallest_k=10))
    assert [r.epsilon for r in rows if r.unit == "person"] == [r.epsilon for r in full if r.unit == "person"]
    poisson = dp(layer.ledger(context(sampling="poisson", local_steps=2, batch_size=3)), "PRV")[0]
    assert poisson.epsilon < row.epsilon
    # one epoch of several batches is several steps: a client goes on from its own noisy model
    once = layer.ledger(context(**{**shuffled, "local_steps": 1}, smallest_k=10))
    assert len(dp(once, "PRV")) == 1
    assert len(dp(layer.ledger(context(smallest_k=10, additive=True)), "PRV")) == 2


def test_an_order_that_nobody_knows_costs_no_more(context: Context) -> None:
    """One epoch of two batches in which the second step answers to the first, by quadrature in two dimensions.

    The record is in the first batch or in the second; its clipped gradient points where it hurts most, given the first
    noisy sum. Both directions of the divergence stay below delta at the stated epsilon.
    """
    z, delta = 1.0, 0.01
    (row,) = dp(
        DpSgd(noise_multiplier=z, delta=delta).ledger(context(rounds=1, sampling="shuffled", batch_size=4)),
        "PRV",
    )
    axis = np.linspace(-9, 10, 1200)
    cell = (axis[1] - axis[0]) ** 2
    first, second = axis[:, None], axis[None, :]
    density = stats.norm.pdf
    without = density(first / z) * density(second / z) / z**2
    away = np.where(first > 0.5, 1.0, -1.0)
    held = (
        0.5
        * (density((first - 1) / z) * density(second / z) + density(first / z) * density((second - away) / z))
        / z**2
    )
    bound = math.exp(row.epsilon or 0.0)
    told = [np.clip(p - bound * q, 0, None).sum() * cell for p, q in ((held, without), (without, held))]
    assert max(told) < delta
    less = math.exp(0.6 * (row.epsilon or 0.0))
    assert max(np.clip(held - less * without, 0, None).sum() * cell, 0.0) > 0.2 * delta, "and it is not free"


def test_poisson_batches_amplify_and_the_smallest_client_is_the_worst(context: Context) -> None:
    layer = DpSgd(noise_multiplier=1.0)
    sampled = {"batch_size": 8, "sampling": "poisson"}
    even = dp(layer.ledger(context(counts=(80,) * 10, **sampled)))[0]
    uneven = dp(layer.ledger(context(counts=(20, *(80,) * 9), **sampled)))[0]
    tiny = dp(layer.ledger(context(counts=(4, *(80,) * 9), **sampled)))[0]
    full = dp(layer.ledger(context(counts=(80,) * 10)))[0]
    assert even.epsilon < uneven.epsilon < tiny.epsilon == full.epsilon
    assert "0.1" in even.sampling
    assert "0.4" in uneven.sampling
    spared = dp(layer.ledger(context(counts=(20, *(80,) * 9), clients=(0,), **sampled)))[0]
    assert spared.epsilon == even.epsilon, "a corrupted client's records are not protected"


def test_fixed_batches_have_no_epsilon(context: Context) -> None:
    rows = DpSgd().ledger(context(batch_size=4, sampling="fixed"))
    assert [row.guarantee for row in rows] == ["not covered"]
    assert rows[0].epsilon is None
    assert "fixed size" in rows[0].statement


def test_no_noise_is_an_infinite_epsilon(context: Context) -> None:
    rows = dp(DpSgd(noise_multiplier=0.0).ledger(context()), "")
    assert len(rows) == 1
    assert math.isinf(rows[0].epsilon or 0)
    assert rows[0].to_dict()["epsilon"] == "infinity"
    assert "nothing is guaranteed" in rows[0].statement


@pytest.mark.parametrize(
    "changes",
    [
        {"additive": False},
        {"local_steps": 2},
        {"smallest_k": 1},
    ],
)
def test_no_credit_for_others_noise_where_the_argument_fails(
    context: Context, changes: dict[str, Any]
) -> None:
    seen = {"smallest_k": 10, **changes}
    rows = dp(DpSgd().ledger(context(**seen)))
    assert len(rows) == 1
    assert rows[0].trusted == "nobody but the client itself"


def test_the_final_model_is_accounted_as_all_rounds(context: Context) -> None:
    public = {"smallest_k": 0, "server": False, "members": (frozenset(range(10)),) * 15}
    layer = DpSgd(noise_multiplier=2.0)
    single, summed = dp(layer.ledger(context(**public)))
    assert single.epsilon == dp(layer.ledger(context()))[0].epsilon
    assert single.steps == 15
    assert "as if all rounds" in single.released
    assert summed.epsilon == dp(layer.ledger(context(smallest_k=10)))[1].epsilon
    assert summed.assumption == "information-theoretic"


def test_who_sees_nothing_has_no_row(context: Context) -> None:
    nothing = {"smallest_k": 0, "reads_model": False}
    assert DpSgd().ledger(context(**nothing)) == ()


def test_simulated_noise_and_seeded_keys_are_named(context: Context) -> None:
    seen = {"smallest_k": 10, "noise": True, "secrets": True}
    single, summed = dp(DpSgd().ledger(context(**seen)))
    assert single.note.startswith("simulated guarantee: seeded noise")
    assert "seeded keys" not in single.note, "single updates are covered without any key"
    assert "seeded keys" in summed.note
    assert "simulated" not in dp(DpSgd().ledger(context()))[0].note


def test_a_large_delta_is_pointed_out(context: Context) -> None:
    assert "not below 1/80" in dp(DpSgd(delta=0.0125).ledger(context()))[0].note
    assert "not below" not in dp(DpSgd(delta=0.012).ledger(context()))[0].note


def test_what_is_not_covered_has_a_row(context: Context) -> None:
    rows = [row for row in DpSgd().ledger(context()) if row.guarantee == "not covered"]
    assert len(rows) == 1
    assert "floating point" in rows[0].statement


def test_summed_multiplier() -> None:
    assert summed_multiplier((0.1,) * 10, 10) == pytest.approx(math.sqrt(10))
    assert summed_multiplier((0.1,) * 10, 3) == pytest.approx(math.sqrt(3))
    assert summed_multiplier((3.0, 1.0, 2.0), 3) == pytest.approx(math.sqrt(14) / 3)
    assert summed_multiplier((3.0, 1.0, 2.0), 2) == pytest.approx(math.sqrt(10) / 3)
    assert summed_multiplier((5.0,), 1) == 1.0


@pytest.mark.parametrize("batch_size", [None, 4])
def test_the_effective_multiplier_is_what_the_mechanism_does(
    streams: Callable[..., Any], batch_size: int | None
) -> None:
    """Noise of the weighted mean over the reach of one record of the worst client, from 40,000 draws.

    Compared with the formula to 4 %: 8 standard deviations of the estimate, a false-alarm rate below 1e-14.
    """
    counts = torch.tensor([4.0, 8.0, 20.0])
    expected = counts if batch_size is None else torch.full((3,), float(batch_size))
    sigma, clip_norm = 1.3, 0.7
    lanes, n_params = 40, 1000
    layer = DpSgd(noise_multiplier=sigma, clip_norm=clip_norm)
    released = layer.gradient(
        torch.zeros(lanes, 3, 1, n_params),
        torch.ones(lanes, 3, 1),
        expected.expand(lanes, 3),
        streams(*range(lanes)),
    )
    weights = counts / counts.sum()
    noise = (released * weights[None, :, None]).sum(dim=1).std()
    reach = clip_norm * (weights / expected).max()
    formula = sigma * summed_multiplier(tuple((counts / expected).tolist()), 3)
    assert float(noise / reach) == pytest.approx(formula, rel=0.04)
    if batch_size is None:
        assert formula == pytest.approx(sigma * math.sqrt(3))
    else:
        assert formula < sigma * math.sqrt(3), "unequal shares give the largest client less cover"


def test_a_second_call_costs_nothing(context: Context) -> None:
    import time

    layer = DpSgd(noise_multiplier=1.234)
    layer.ledger(context())
    started = time.perf_counter()
    for _ in range(20):
        layer.ledger(context())
    assert time.perf_counter() - started < 0.5


def together(*rounds: int) -> tuple[frozenset[int], ...]:
    return tuple(frozenset(range(n)) for n in rounds)


@pytest.mark.parametrize(
    ("seen", "k"),
    [
        ({"server": True, "smallest_k": 6}, 6),
        ({"server": True, "smallest_k": 6, "members": together(6, 8)}, 6),
        ({"server": True, "smallest_k": 6, "members": together(4, 8)}, 4),
        ({"smallest_k": 6}, None),
        ({"smallest_k": 0}, None),
        ({"smallest_k": 0, "participation": 0.4, "client_sampling": "fixed"}, None),
        ({"smallest_k": 6, "members": together(4, 4)}, 4),
        ({"smallest_k": 3, "members": together(4, 4)}, 3),
        ({"smallest_k": 0, "members": together(9, 4, 5)}, 4),
        ({"smallest_k": 0, "members": together(9, 0, 5)}, 5),
        ({"smallest_k": 0, "members": together(9, 1, 5)}, None),
        ({"smallest_k": 6, "clients": (0,), "members": together(4, 4)}, 3),
        ({"smallest_k": 6, "clients": (0,), "members": together(4, 1)}, 3),
        ({"server": True, "smallest_k": 6, "active": True}, None),
        ({"wire": True, "smallest_k": 6, "active": True, "members": together(6)}, None),
        ({"clients": (9,), "smallest_k": 6, "active": True, "members": together(6)}, 6),
    ],
)
def test_noise_is_summed_over_no_more_clients_than_any_round_has(
    context: Context, seen: dict[str, Any], k: int | None
) -> None:
    """A difference of models over two rounds may hold six clients, of whom only four were in either round; no plan
    says how many there will be; whoever can drop messages and deviates decides it."""
    rows = dp(DpSgd(noise_multiplier=2.0).ledger(context(**{"server": False, **seen})))
    assert len(rows) == (1 if k is None else 2)
    assert k is None or f"in a sum over {k} clients" in rows[1].mechanism


def test_a_sum_is_credited_with_the_weights_that_it_has(context: Context) -> None:
    """Clients with 8, 11 and 41 records, one release, z = 2, delta 1e-5: exactly 1.5525 where all count the same,
    although FedAvg's weights would give 1.0849."""
    seen = {"smallest_k": 3, "counts": (8, 11, 41), "rounds": 1}
    layer = DpSgd(noise_multiplier=2.0)
    weighted = dp(layer.ledger(context(**seen)), "PRV")[-1].epsilon or 0
    alike = dp(layer.ledger(context(weights=(1.0, 1.0, 1.0), **seen)), "PRV")[-1].epsilon or 0
    noise = math.sqrt(sum((1 / n) ** 2 for n in (8, 11, 41)))
    exact = gaussian_epsilon((1 / 8) / (2 * noise), 1e-5)
    assert exact == pytest.approx(1.5525, abs=5e-5)
    assert exact <= alike <= exact + 0.015
    assert weighted == pytest.approx(1.0949, abs=5e-5)


def test_a_draw_of_clients_is_no_number_of_them(context: Context) -> None:
    """Four clients, each drawn with probability 1/2, z = 1, one release: a client is drawn in half of the rounds, with
    0 to 3 others beside it. At delta 1e-5 that is exactly 3.678 for whoever knows who was drawn; two clients, the mean,
    would give 2.944."""

    def spent(epsilon: float, k: int) -> float:
        mu = 1 / math.sqrt(k)
        return float(
            stats.norm.cdf(-epsilon / mu + mu / 2)
            - math.exp(epsilon) * stats.norm.cdf(-epsilon / mu - mu / 2)
        )

    chances = [stats.binom.pmf(others, 3, 0.5) for others in range(4)]
    exact = optimize.brentq(
        lambda eps: 0.5 * sum(p * spent(eps, 1 + others) for others, p in enumerate(chances)) - 1e-5, 0.1, 20
    )
    assert exact == pytest.approx(3.678, abs=5e-4)
    drawn = {"counts": (8,) * 4, "rounds": 1, "participation": 0.5, "client_sampling": "poisson"}
    public = {"server": False, "smallest_k": 0}
    rows = dp(DpSgd(noise_multiplier=1.0).ledger(context(**drawn, **public)), "PRV")
    assert min(row.epsilon or 0 for row in rows) >= exact
    assert gaussian_epsilon(1 / math.sqrt(2), 1e-5) < exact, "the mean number of clients is no bound"


def test_an_empty_client_neither_covers_nor_counts(context: Context) -> None:
    seen = {"smallest_k": 3, "rounds": 1, "batch_size": 4, "sampling": "poisson"}
    with_empty = dp(DpSgd().ledger(context(counts=(8, 8, 0), **seen)))
    without = dp(DpSgd().ledger(context(counts=(8, 8), **{**seen, "smallest_k": 2})))
    assert [row.epsilon for row in with_empty] == [row.epsilon for row in without]


# -- fixed point ------------------------------------------------------------------------------------


def rounded(mean: float, spread: float, how: str, reach: int) -> np.ndarray[Any, Any]:
    """The probabilities of the whole numbers that one client's noisy number is rounded to."""
    n = np.arange(-reach, reach + 1, dtype=np.float64)
    if how == "nearest":
        edges = stats.norm.cdf((np.append(n - 0.5, reach + 0.5) - mean) / spread)
        return np.diff(edges)

    def below(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        z = (x - mean) / spread
        return spread * (z * stats.norm.cdf(z) + stats.norm.pdf(z))

    return below(n + 1) - 2 * below(n) + below(n - 1)  # the expectation of the triangle around n


def worst_ratio(spread: float, how: str) -> float:
    """The delta of the sum of two rounded numbers over that of the noisy sum, at the worst places on the grid; each
    noise is as large as the record's reach."""
    reach, mu, worst = int(60 + 40 * spread), 1 / math.sqrt(2), 0.0
    for own, other in itertools.product(np.linspace(0, 1, 11), np.linspace(0, 1, 6)):
        beside = rounded(other, spread, how, reach)
        with_it, without = (np.convolve(rounded(own + d, spread, how, reach), beside) for d in (spread, 0.0))
        for epsilon in (0.0, 1.0, 2.0):
            exact = stats.norm.cdf(-epsilon / mu + mu / 2) - math.exp(epsilon) * stats.norm.cdf(
                -epsilon / mu - mu / 2
            )
            for p, q in ((with_it, without), (without, with_it)):
                worst = max(worst, float(np.maximum(p - math.exp(epsilon) * q, 0).sum() / exact))
    return worst


@pytest.mark.parametrize("how", ["nearest", "at random"])
def test_rounding_before_the_sum_is_harmless_where_noise_is_many_steps(how: str) -> None:
    assert worst_ratio(4.0, how) <= 1 + 1e-9
    assert worst_ratio(0.2, how) > 1, "the others' noise does not protect what is rounded first"


@pytest.mark.parametrize(
    ("grid", "counted"), [(0.0, True), (0.5 / 4.01, True), (0.5 / 3.99, False), (4.0, False)]
)
def test_others_noise_counts_only_above_the_grid(context: Context, grid: float, counted: bool) -> None:
    """Weight over expected batch 1, rate 0.25, z = 2, C = 1: the noise of a client is 0.5."""
    seen = context(smallest_k=10, grid=grid, learning_rate=0.25)
    rows = DpSgd(noise_multiplier=2.0).ledger(seen)
    assert len(dp(rows)) == (2 if counted else 1)
    assert any("steps of the aggregation's fixed point" in row.statement for row in rows) is not counted


def test_the_least_noise_of_all_clients_is_what_the_grid_must_resolve(context: Context) -> None:
    """One client of ten counts for a quarter of the others: its noise is 0.125."""
    seen = {"smallest_k": 10, "learning_rate": 0.25, "weights": (2.0, *(8.0,) * 9)}
    fine, coarse = (
        dp(DpSgd(noise_multiplier=2.0).ledger(context(grid=grid, **seen))) for grid in (0.03, 0.035)
    )
    assert (len(fine), len(coarse)) == (2, 1)


def test_a_run_with_a_coarse_grid_says_so(make_pipeline: Callable[..., Any]) -> None:
    for bits, counted in ((16, True), (1, False)):
        layers = [DpSgd(noise_multiplier=1.0), SecAgg(fractional_bits=bits)]
        (result,) = run_batch(
            make_pipeline(rounds=1, learning_rate=0.2, test=0),
            Stack.from_layers("s", layers),
            [RunSpec(seed=0)],
        )
        assert len(dp(result.ledger(honest_but_curious_server()))) == (2 if counted else 1)
