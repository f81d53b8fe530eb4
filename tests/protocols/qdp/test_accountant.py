"""The copy-aware accountant: composition against brute force, published figures, refusals, attacks below the bounds."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.accounting.statistics import clopper_pearson_lower, clopper_pearson_upper
from qflsec.circuits import Angle, Circuit, Gate, build_circuit, pauli_z
from qflsec.protocols.qdp import (
    Copies,
    QdpError,
    account_run,
    certified_radius,
    copies_of,
    measurement_by_name,
    membership_ceiling,
    noise_by_name,
    run_ceiling,
    single_copy,
)
from qflsec.protocols.qdp.composition import (
    binomial_delta,
    binomial_epsilon,
    composed_delta,
    composed_epsilon,
    gaussian_epsilon,
    mixed_vertices_delta,
    renyi_epsilon,
    renyi_of_outcome,
    renyi_of_pair,
    vertices,
)

FLOORS = st.tuples(st.floats(0.01, 0.4), st.floats(0.05, 1.0))


def outcome(p: float, tau: float) -> tuple[float, float, float]:
    return p / 2, 1 - p / 2, (1 - p) * tau


def account(noise: str, tau: float, copies: Copies, measurement: str = "bit0", **options: Any) -> Any:
    named = noise_by_name(noise, 1)
    single = single_copy(
        named.channel, tau, measurement=measurement_by_name(measurement, 1), known_kappa=named.known_kappa
    )
    return account_run(single, copies, **options)


@pytest.mark.parametrize(
    ("p", "tau", "figures"),
    [
        (0.1, 0.1, (1.0295, 6.8260, 23.8142, 112.6725)),
        (0.1, 0.01, (0.1653, 0.7145, 1.9418, 6.3236)),
        (0.3, 0.1, (0.3829, 2.8508, 10.0821, 43.3710)),
        (0.3, 0.01, (0.0455, 0.2414, 0.7811, 2.6213)),
    ],
)
def test_exact_binomial_table(p: float, tau: float, figures: tuple[float, ...]) -> None:
    low, _, change = outcome(p, tau)
    single = math.log1p(change / low)
    for n, figure in zip((1, 10, 100, 1000), figures, strict=True):
        attained = binomial_epsilon(n, low + change, low, 1e-5)
        assert attained == pytest.approx(figure, abs=6e-5)
        grid = np.linspace(low, 1 - low - change, 25)
        assert max(binomial_epsilon(n, q + change, q, 1e-5) for q in grid) == pytest.approx(figure, abs=6e-5)
        for upper in (
            composed_epsilon(n, single, change, 1e-5),
            renyi_epsilon(n, renyi_of_outcome(*outcome(p, tau)), 1e-5),
            renyi_epsilon(n, renyi_of_pair(single, change), 1e-5),
        ):
            assert attained - 1e-6 <= upper <= attained * 1.5 + 0.01


def test_a_gradient_uses_48_000_copies_not_one() -> None:
    copies = Copies.of_rule("shifts-only", parameters=24, shots=1000)
    assert copies.total == 48_000
    found = account("depolarizing:0.1", 0.1, copies)
    assert found.single.epsilon == pytest.approx(1.0296, abs=1e-4)
    assert found.pure_epsilon == pytest.approx(49_421.7, abs=0.1)
    assert 3170 < found.attained_epsilon < found.renyi_epsilon < 3225
    assert found.epsilon == found.renyi_epsilon
    assert found.kind == "upper bound"
    assert found.check() <= 1e-5 * (1 + 1e-6)
    assert run_ceiling(found).vacuous


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 6), single=st.floats(0.05, 3), share=st.floats(0.05, 1), at=st.floats(0, 6))
def test_the_lattice_is_the_sum_over_all_outcomes(n: int, single: float, share: float, at: float) -> None:
    d = share * math.tanh(single / 2)
    c = d / math.expm1(single)
    weights = {1: (c + d, c), 0: (1 - 2 * c - d, 1 - 2 * c - d), -1: (c, c + d)}
    total = 0.0
    for word in itertools.product(weights, repeat=n):
        p, q = (math.prod(weights[letter][side] for letter in word) for side in (0, 1))
        total += max(0.0, p - math.exp(at) * q)
    assert composed_delta(n, single, d, at) == pytest.approx(total, abs=1e-11)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 60), q=st.floats(0.01, 0.99), r=st.floats(0.01, 0.99), at=st.floats(0, 4))
def test_the_binomial_delta_is_the_sum_over_all_counts(n: int, q: float, r: float, at: float) -> None:
    from scipy.stats import binom

    counts = np.arange(n + 1)
    direct = np.maximum(0, binom.pmf(counts, n, q) - math.exp(at) * binom.pmf(counts, n, r)).sum()
    assert binomial_delta(n, q, r, at) == pytest.approx(direct, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), floor=FLOORS, n=st.integers(1, 5), at=st.floats(0, 3))
def test_no_choice_of_circuits_beats_the_vertices_nor_an_adaptive_one_the_pair(
    seed: int, floor: tuple[float, float], n: int, at: float
) -> None:
    low, tau = floor
    change = tau * (1 - 2 * low)
    rng = np.random.default_rng(seed)

    def pair() -> tuple[float, float]:
        q = rng.uniform(low, 1 - low)
        r = float(np.clip(q + rng.choice([-1, 1]) * change * rng.uniform(0.5, 1), low, 1 - low))
        return (q, r) if rng.random() < 0.5 else vertices(low, 1 - low, change)[rng.integers(4)]

    fixed = [pair() for _ in range(n)]
    tree = {word: pair() for k in range(n) for word in itertools.product((0, 1), repeat=k)}

    def delta(choice: Any) -> float:
        total = 0.0
        for word in itertools.product((0, 1), repeat=n):
            p = q = 1.0
            for k, bit in enumerate(word):
                a, b = choice(word[:k])
                p, q = p * (a if bit else 1 - a), q * (b if bit else 1 - b)
            total += max(0.0, p - math.exp(at) * q)
        return total

    upper = composed_delta(n, math.log1p(change / low), change, at)
    exact = mixed_vertices_delta(n, low, change, at)
    assert delta(lambda past: fixed[len(past)]) <= exact + 1e-12 <= upper + 1e-9
    assert delta(lambda past: tree[past]) <= upper + 1e-9


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), floor=FLOORS, order=st.floats(1.01, 50))
def test_renyi_is_largest_at_a_vertex(seed: int, floor: tuple[float, float], order: float) -> None:
    low, tau = floor
    change = tau * (1 - 2 * low)
    rng = np.random.default_rng(seed)
    bound = renyi_of_outcome(low, 1 - low, change, np.array([order]))[0]
    pair_bound = renyi_of_pair(math.log1p(change / low), change, np.array([order]))[0]
    assert bound <= pair_bound * (1 + 1e-9)
    for _ in range(50):
        q = rng.uniform(low, 1 - low)
        r = float(np.clip(q + change * rng.uniform(-1, 1), low, 1 - low))
        value = math.log(q**order * r ** (1 - order) + (1 - q) ** order * (1 - r) ** (1 - order)) / (
            order - 1
        )
        assert value <= bound + 1e-9


def test_copies_whose_circuits_differ_can_tell_more_than_copies_of_one_circuit() -> None:
    low, _, change = outcome(0.3, 0.01)
    one = binomial_epsilon(10, low + change, low, 1e-5)
    assert (
        mixed_vertices_delta(10, low, change, one) > 1.3e-5
    )  # so that the binomial figure is no upper bound
    assert composed_epsilon(10, math.log1p(change / low), change, 1e-5) > one


def test_shot_noise_without_a_floor_is_refused() -> None:
    with pytest.raises(QdpError, match="shot noise alone is not differentially private"):
        binomial_epsilon(100, 0.01, 0.0, 1e-5)
    with pytest.raises(QdpError, match="floor"):
        renyi_of_outcome(0.0, 0.5, 0.1)
    for n, delta in ((100, 0.633968), (1000, 0.999957)):
        for epsilon in (0.1, 1, 50):  # the loss does not depend on epsilon
            assert binomial_delta(n, 0.01, 0.0, epsilon) == pytest.approx(delta, abs=1e-6)
            assert composed_delta(n, math.inf, 0.01, epsilon) == pytest.approx(delta, abs=1e-6)
    found = account("amplitude-damping:0.3", 0.1, Copies(shots=100, circuits=1), "any")
    assert found.epsilon == math.inf
    assert "shot noise alone" in found.refusal
    assert run_ceiling(found).vacuous


def test_analytic_expectations_are_infinitely_many_copies() -> None:
    found = account("depolarizing:0.5", 0.1, Copies(shots=None, circuits=3))
    assert found.epsilon == found.pure_epsilon == math.inf
    assert "infinitely many" in found.refusal


def test_the_gaussian_approximation_falls_below_the_truth() -> None:
    low, _, change = outcome(0.1, 0.1)
    assert gaussian_epsilon(10, low, change, 1e-5) == pytest.approx(5.98, abs=0.3)
    assert gaussian_epsilon(10, low + change, change, 1e-5) < binomial_epsilon(10, low + change, low, 1e-5)
    assert gaussian_epsilon(10, low, change, 1e-5) < 6.82 < binomial_epsilon(10, low + change, low, 1e-5)


def test_complete_noise_reveals_nothing_and_few_copies_cost_the_pure_epsilon() -> None:
    assert account("depolarizing:1", 0.5, Copies(shots=1000, circuits=9)).epsilon == 0
    found = account("depolarizing:0.2", 1.0, Copies(shots=1, circuits=1), "any", delta=1e-7)
    assert found.epsilon == pytest.approx(math.log(9), rel=1e-5)


@pytest.mark.parametrize("measurement", ["any", "bit0"])
def test_more_copies_larger_tau_and_less_noise_cost_more(measurement: str) -> None:
    figures = [
        account(f"depolarizing:{p}", tau, Copies(shots=n, circuits=1), measurement).epsilon
        for p, tau, n in ((0.3, 0.05, 100), (0.3, 0.1, 100), (0.3, 0.1, 200), (0.2, 0.1, 200))
    ]
    assert figures == sorted(figures)
    assert figures[0] < figures[-1]


def test_pure_pairs_cost_less_than_mixed_ones() -> None:
    named = noise_by_name("depolarizing:0.1", 1)
    bit = measurement_by_name("bit0", 1)
    costs = [
        account_run(
            single_copy(named.channel, 0.1, adjacency=a, measurement=bit), Copies(shots=50, circuits=1)
        )
        for a in ("pure", "all")
    ]
    assert costs[0].epsilon < costs[1].epsilon
    for cost in costs:
        assert cost.attained_epsilon <= cost.epsilon
        assert cost.check() == pytest.approx(1e-5, rel=1e-3)


def test_a_search_that_proves_nothing_is_accounted_by_its_upper_bound() -> None:
    named = noise_by_name("generalized-amplitude-damping:0.3,0.75", 2)
    single = single_copy(named.channel, 0.1)
    assert single.pure.status == "lower bound"
    found = account_run(single, Copies(shots=10, circuits=1))
    assert found.pure_epsilon == pytest.approx(10 * single.pure.upper)


def test_copies_of_a_real_circuit_count_its_shifts_and_groups() -> None:
    plain = build_circuit(n_qubits=3, layers=2, ansatz="ry-cz")
    assert copies_of(plain, shots=10, rounds=4).total == 10 * (2 * 6 + 1) * 4
    controlled = Circuit(
        n_qubits=2,
        gates=(Gate("CRX", (0, 1), (Angle.weight(0),)), Gate("RX", (0,), (Angle.feature(0),))),
        observables=(pauli_z(0, 2),),
        n_weights=1,
        n_features=1,
    )
    assert copies_of(controlled, shots=1).circuits == 5
    assert Copies.of_rule("parameter-shift", parameters=24, shots=1000, rounds=20).total == 980_000
    assert Copies.of_rule("spsa", parameters=24, shots=7, groups=2).total == 42
    for bad in ({"shots": 0}, {"rounds": -1}, {"gradient": "guess"}):
        arguments: dict[str, Any] = {"gradient": "none", "parameters": 1, "shots": 1, **bad}
        with pytest.raises(QdpError):
            Copies.of_rule(arguments.pop("gradient"), **arguments)


@pytest.mark.parametrize("noise", ["depolarizing:0.6", "generalized-amplitude-damping:0.6,0.6"])
def test_the_best_attack_on_counts_stays_below_the_ceiling(noise: str) -> None:
    """Likelihood-ratio test on simulated counts; ten limits at 1e-4: a sound bound fails once in a thousand."""
    copies = Copies(shots=5, circuits=1)
    found = account(noise, 1.0, copies, "any")
    q, r = found.single.witness_chances
    rng, trials = np.random.default_rng(5), 40_000
    first, second = rng.binomial(copies.total, q, trials), rng.binomial(copies.total, r, trials)
    advantage = max(
        clopper_pearson_lower(int((first >= k).sum()), trials, alpha=1e-4)
        - clopper_pearson_upper(int((second >= k).sum()), trials, alpha=1e-4)
        for k in range(1, 6)
    )
    ceiling = run_ceiling(found)
    assert not ceiling.vacuous
    assert 0.3 < advantage <= ceiling.advantage
    claimed = membership_ceiling(found.single.epsilon)  # one copy's figure, advertised for the run
    if noise.startswith("dep"):
        assert advantage > claimed


def test_a_small_tau_is_no_bound_on_membership() -> None:
    ceiling = run_ceiling(account("depolarizing:0.5", 0.05, Copies(shots=1, circuits=1)))
    assert not ceiling.vacuous
    assert "no bound on membership" in ceiling.covers
    assert "any other" in run_ceiling(account("depolarizing:0.5", 1.0, Copies(shots=1, circuits=1))).covers


@given(epsilon=st.floats(0, 20), delta=st.floats(0, 1))
def test_the_ceiling_grows_and_is_the_tanh_at_delta_zero(epsilon: float, delta: float) -> None:
    assert membership_ceiling(epsilon) == pytest.approx(math.tanh(epsilon / 2))
    assert membership_ceiling(epsilon) <= membership_ceiling(epsilon, delta) <= 1
    # attained by two outcomes of which one is certain to give the record away with probability delta
    p = delta + (1 - delta) * math.exp(epsilon) / (1 + math.exp(epsilon))
    assert 2 * p - 1 == pytest.approx(membership_ceiling(epsilon, delta))


@settings(deadline=None, max_examples=40)
@given(p=st.floats(0.05, 0.8), lead=st.floats(0.0, 1.0))
def test_no_state_within_the_radius_changes_the_class(p: float, lead: float) -> None:
    channel = noise_by_name(f"depolarizing:{p}", 1).channel
    bit = measurement_by_name("bit0", 1)
    assert bit is not None
    before = np.array([math.cos(lead * math.pi / 4), math.sin(lead * math.pi / 4)])
    state = np.outer(before, before).astype(complex)
    chances = [float(np.trace(m @ channel(state)).real) for m in bit]
    radius = certified_radius(channel, bit, chances, chances)
    assert radius.by_epsilon <= radius.by_spread + 1e-9
    for share, holds in ((0.999, True), (1.001, False)):
        step = min(1.0, share * radius.tau)
        moved = (1 - step) * state + step * np.diag([0, 1]).astype(complex)  # farther than needed: a bound
        after = [float(np.trace(m @ channel(moved)).real) for m in bit]
        distance = float(np.abs(np.linalg.eigvalsh(moved - state)).sum() / 2)
        if holds and distance <= radius.tau:
            assert after[0] >= after[1] - 1e-12
    axis = np.diag([1.0, 0]).astype(complex)  # on the axis the radius is tight
    top = [1 - p / 2, p / 2]
    tight = certified_radius(channel, bit, top, top).tau
    assert tight == pytest.approx(0.5)
    flipped = (1 - 1.01 * tight) * axis + 1.01 * tight * np.diag([0, 1.0])
    assert np.trace(bit[0] @ channel(flipped)).real < 0.5
