"""Shots, test rounds, active servers, the planner and the bias bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from qflsec.base import ProtocolAbort, SeededSecrets
from qflsec.circuits import build_circuit, expectations, parameter_shift, pauli_z, probabilities
from qflsec.protocols.blind import (
    AngleGrid,
    BlindError,
    Exact,
    Graph,
    QuantumServer,
    RoundCounts,
    Shots,
    acceptance,
    accepted_harm,
    bias_bound,
    blind_expectations,
    blind_gradients,
    compile_patterns,
    completeness,
    harmless_rounds,
    plan_order,
    plan_rounds,
    plan_tests,
    soundness_error,
)

CIRCUIT = build_circuit(n_qubits=2, layers=2, ansatz="ry-cz", observables=(pauli_z(0, 2), pauli_z(1, 2)))
WEIGHTS, FEATURES = np.array([0.3, 1.1, 2.0, 0.7]), np.array([0.5, 0.9])
GRAPH = compile_patterns(CIRCUIT)[0].pattern.graph


class Flip(QuantumServer):
    """Flips one output in all rounds."""

    def measure(self, node: int, delta: Any) -> Any:
        bits = super().measure(node, delta)
        return bits ^ 1 if node == self.graph.order[-1] else bits


class Turn(QuantumServer):
    """Measures one node at an angle that is off by 0.7."""

    def measure(self, node: int, delta: Any) -> Any:
        off = self.grid.to_grid(np.array(0.7)) if node == self.graph.order[2] else np.uint64(0)
        return super().measure(node, (delta + off) & self.grid.mask)


class Skip(QuantumServer):
    """Leaves out one entangling gate."""

    def entangle(self, edge: tuple[int, int], where: Any = None) -> None:
        if edge != self.graph.edges[0]:
            super().entangle(edge, where)


class Coins(QuantumServer):
    """Reports coins instead of outcomes."""

    def __init__(self, graph: Graph, grid: AngleGrid) -> None:
        super().__init__(graph, grid)
        self.rng = np.random.default_rng(5)

    def measure(self, node: int, delta: Any) -> Any:
        return self.rng.integers(2, size=len(super().measure(node, delta)), dtype=np.uint8)


def failures(server: Any, *, tests: int = 20_000, seed: int = 1, **options: Any) -> int:
    executor = Shots(
        shots=1,
        tests=tests,
        threshold=tests,
        seed=seed,
        secrets=SeededSecrets(seed),
        server=server,
        **options,
    )
    blind_expectations(CIRCUIT, WEIGHTS, FEATURES, executor=executor)
    return executor.results[0].failures


def test_an_honest_server_fails_no_test() -> None:
    assert failures(QuantumServer) == 0


@pytest.mark.parametrize("server", [Flip, Turn, Skip, Coins])
def test_detection_rates_match_theory(server: type[QuantumServer]) -> None:
    """4.4 standard deviations on 20,000 tests: false-alarm rate 1e-5 each.

    A flipped outcome is seen when its node is a trap; a wrong angle then with sin^2(eps / 2); a missing CZ
    when the dummy at one end, in half of the tests, should have flipped the trap at the other; coins unless
    they agree with all traps of the colour.
    """
    classes = np.bincount(GRAPH.colouring)
    theory = {
        Flip: 1 / len(classes),
        Turn: np.sin(0.35) ** 2 / len(classes),
        Skip: 2 * 0.5 / len(classes),
        Coins: 1 - np.mean(0.5**classes),
    }[server]
    spread = np.sqrt(theory * (1 - theory) / 20_000)
    assert abs(failures(server) / 20_000 - theory) < 4.4 * spread


def test_noise_on_the_way_fails_tests_in_proportion() -> None:
    """Each of a colour's traps fails with p / 2, and each dummy flips its traps with p / 2: counted exactly."""
    p = 0.02
    rates = []
    for colour in range(GRAPH.n_colours):
        traps = [v for v in range(GRAPH.n_nodes) if GRAPH.colouring[v] == colour]
        dummies = [v for v in range(GRAPH.n_nodes) if v not in traps]
        good = 0.0
        for pattern in range(2 ** len(dummies)):
            flips = {v: pattern >> k & 1 for k, v in enumerate(dummies)}
            weight = np.prod([p / 2 if flips[v] else 1 - p / 2 for v in dummies])
            odd = [sum(flips[n] for n in GRAPH.neighbours[v]) % 2 for v in traps]
            good += weight * np.prod([p / 2 if o else 1 - p / 2 for o in odd])
        rates.append(1 - good)
    theory = float(np.mean(rates))
    found = failures(QuantumServer, depolarising=p) / 20_000
    assert abs(found - theory) < 4.4 * np.sqrt(theory * (1 - theory) / 20_000)


def test_a_flipping_server_is_caught_and_its_outcomes_thrown_away() -> None:
    executor = Shots(shots=100, tests=100, threshold=10, seed=3, secrets=SeededSecrets(3), server=Flip)
    with pytest.raises(ProtocolAbort, match="failed the tests"):
        blind_expectations(CIRCUIT, WEIGHTS, FEATURES, executor=executor)


def test_the_exact_executor_refuses_an_active_server() -> None:
    with pytest.raises(BlindError, match="shortcut"):
        Exact(seed=0, server=Flip)


def test_shots_pass_a_chi_square_at_200_000() -> None:
    """The joint distribution of both output bits; false-alarm rate 1e-4."""
    delegation = compile_patterns(CIRCUIT)[0]
    from qflsec.protocols.blind import BlindClient, QuantumChannel, node_angles, play

    grid, secrets = AngleGrid(), SeededSecrets(7)
    client = BlindClient(
        pattern=delegation.pattern,
        angles=grid.to_grid(node_angles(delegation.pattern, WEIGHTS[None], FEATURES[None])),
        plan=plan_order(secrets, rows=1, shots=200_000, tests=0, colours=2),
        grid=grid,
        secrets=secrets,
        channel=QuantumChannel(7),
    )
    play(client, QuantumServer(GRAPH, grid), GRAPH)
    bits = client.outcomes(1)[0].astype(int)
    expected = probabilities(
        CIRCUIT, torch.tensor(WEIGHTS), torch.tensor(FEATURES), dtype=torch.complex128
    ).numpy()
    counts = np.bincount(2 * bits[:, 0] + bits[:, 1], minlength=4)
    assert stats.chisquare(counts, expected * 200_000).pvalue > 1e-4


def test_rows_and_tests_keep_apart_in_one_batch() -> None:
    """Estimates of three rows among tests, within 5 standard errors: false-alarm rate below 1e-5."""
    weights = np.random.default_rng(2).normal(size=(3, 4))
    executor = Shots(shots=4000, tests=500, seed=2, secrets=SeededSecrets(2))
    found = blind_expectations(CIRCUIT, weights, FEATURES, executor=executor)
    expected = expectations(CIRCUIT, torch.tensor(weights), torch.tensor(FEATURES)[None]).numpy()
    assert (np.abs(found - expected) < 5 * np.sqrt((1 - expected**2) / 4000) + 1e-6).all()
    assert executor.costs.rounds == 12_500
    assert executor.costs.qubits == 12_500 * GRAPH.n_nodes
    assert executor.costs.angle_bits == 12_500 * GRAPH.n_nodes * 32


def test_gradients_from_shots_agree_within_shot_noise() -> None:
    """Within 5 standard errors of sqrt(1 / (2 shots)): false-alarm rate below 1e-5."""
    executor = Shots(shots=2000, tests=100, seed=4, secrets=SeededSecrets(4))
    found = blind_gradients(CIRCUIT, WEIGHTS, FEATURES, executor=executor)
    expected = parameter_shift(CIRCUIT, torch.tensor(WEIGHTS), torch.tensor(FEATURES)).numpy()
    assert np.abs(found - expected).max() < 5 / np.sqrt(2 * 2000)
    assert len(executor.results) == 1  # one batch, one test of it


def test_a_run_repeats_bit_for_bit_under_seeds_and_not_under_the_systems_secrets() -> None:
    def once(secrets: Any) -> np.ndarray:
        return blind_expectations(
            CIRCUIT, WEIGHTS, FEATURES, executor=Shots(shots=500, tests=50, seed=1, secrets=secrets)
        )

    assert (once(SeededSecrets(1)) == once(SeededSecrets(1))).all()
    assert not (once(None) == once(None)).all()


def test_rounds_are_drawn_without_replacement() -> None:
    plan = plan_order(SeededSecrets(0), rows=3, shots=20, tests=40, colours=2)
    assert np.bincount(plan.rows + 1).tolist() == [40, 20, 20, 20]
    assert ((plan.colours >= 0) == (plan.rows < 0)).all()
    assert not (np.diff(plan.rows) >= 0).all()


def test_acceptance_against_the_binomial() -> None:
    """All rounds attacked: the tests that fail are binomial."""
    counts = RoundCounts(shots=10, tests=100, threshold=24, colours=2)
    assert acceptance(counts, 110) == pytest.approx(stats.binom.cdf(24, 100, 0.5), rel=1e-9)


def test_soundness_equals_brute_force() -> None:
    counts = RoundCounts(shots=9, tests=14, threshold=2, colours=2)
    harmless = harmless_rounds(9, 0.5)

    def harm(m: int) -> float:
        return sum(
            stats.hypergeom.pmf(x, 23, 14, m) * stats.binom.cdf(2, x, 0.5)
            for x in range(m + 1)
            if m - x > harmless
        )

    assert harmless == 4
    assert soundness_error(counts, harmless=harmless) == pytest.approx(max(map(harm, range(24))), rel=1e-9)


def test_several_rows_bound_the_exact_probability_from_above() -> None:
    counts = RoundCounts(shots=20, tests=30, threshold=1, colours=2, rows=3)
    rng = np.random.default_rng(0)
    kinds = np.concatenate([np.repeat(np.arange(3), 20), np.full(30, -1)])
    hits = 0
    for _ in range(4000):
        chosen = kinds[rng.permutation(90)[:30]]
        caught = rng.binomial((chosen == -1).sum(), 0.5)
        hits += caught <= 1 and np.bincount(chosen[chosen >= 0], minlength=3).max() > 8
    bound = accepted_harm(counts, 30, 8)
    assert bound + 4 * np.sqrt(bound / 4000) + 1e-3 >= hits / 4000
    assert soundness_error(counts, harmless=8) <= 1


@pytest.mark.parametrize(("target", "rate"), [(1e-2, 0.0), (1e-3, 0.03)])
def test_the_planner_meets_its_target_in_simulation(target: float, rate: float) -> None:
    """100,000 simulated runs at every tenth number of attacked rounds; 4.4 standard deviations above the target."""
    plan = plan_tests(shots=60, colours=2, corrupted_fraction=0.5, target=target, failure_rate=rate)
    assert completeness(plan, rate) >= 0.99
    harmless = harmless_rounds(60, 0.5)
    assert soundness_error(plan, harmless=harmless) <= target
    rng, worst = np.random.default_rng(1), 0.0
    for attacked in range(harmless + 1, plan.rounds + 1, 10):
        tests = rng.hypergeometric(plan.tests, plan.shots, attacked, size=100_000)
        accepted = rng.binomial(tests, 1 / plan.colours) <= plan.threshold
        worst = max(worst, float((accepted & (attacked - tests > harmless)).mean()))
    assert 0 < worst <= target + 4.4 * np.sqrt(target / 100_000)


def test_the_planner_refuses_what_no_test_can_tell() -> None:
    with pytest.raises(BlindError, match="noise hides an attack"):
        plan_tests(shots=100, colours=2, corrupted_fraction=0.5, target=1e-3, failure_rate=0.25)


def test_planned_rounds_are_fewer_than_for_other_shots() -> None:
    plan = plan_rounds(colours=2, target=1e-3, failure_rate=0.02)
    assert soundness_error(plan, harmless=harmless_rounds(plan.shots, 0.5)) <= 1e-3
    for shots in (plan.shots // 2, plan.shots * 3):
        other = plan_tests(shots=shots, colours=2, corrupted_fraction=0.5, target=1e-3, failure_rate=0.02)
        assert other.rounds >= plan.rounds
    with pytest.raises(BlindError, match="noise hides an attack"):
        plan_rounds(colours=2, target=1e-3, failure_rate=0.3)


def test_an_honest_noisy_server_is_accepted_at_its_planned_rate() -> None:
    """Depolarising noise of 1 % on a plan for its failure rate; 50 runs, at least 95 % expected to be accepted."""
    rate = failures(QuantumServer, depolarising=0.01) / 20_000 * 1.1
    plan = plan_tests(
        shots=50, colours=GRAPH.n_colours, corrupted_fraction=0.5, target=1e-3, failure_rate=rate
    )
    accepted = 0
    for seed in range(50):
        executor = Shots(
            shots=plan.shots,
            tests=plan.tests,
            threshold=plan.threshold,
            seed=seed,
            secrets=SeededSecrets(seed),
            depolarising=0.01,
        )
        try:
            blind_expectations(CIRCUIT, WEIGHTS, FEATURES, executor=executor)
            accepted += 1
        except ProtocolAbort:
            pass
    assert accepted >= 45
    assert executor.seeded


def test_the_bias_bound_holds_against_a_server_that_uses_it() -> None:
    """Of 300 runs under the worst number of attacked rounds, at most the stated fraction exceeds the bound."""
    counts = RoundCounts(shots=200, tests=100, threshold=2, colours=2)
    bound = bias_bound(counts, error=0.05)
    assert 0 < bound.bias == 2 * bound.corrupted < 1
    assert bound.status == "engineering"
    assert bound.error <= 0.05
    rng = np.random.default_rng(3)
    for attacked in range(4, 60, 4):
        tests = rng.hypergeometric(100, 200, attacked, size=20_000)
        passed = rng.binomial(tests, 0.5) <= 2
        bias = 2 * (attacked - tests) / 200  # each attacked round turns a +1 into a -1
        assert (passed & (bias > bound.bias)).mean() <= 0.05 + 4.4 * np.sqrt(0.05 / 20_000)


def test_more_tests_bound_the_bias_better() -> None:
    biases = [
        bias_bound(RoundCounts(shots=500, tests=t, threshold=0, colours=2), error=1e-3).bias
        for t in (0, 50, 200, 800)
    ]
    assert biases[0] == 2.0
    assert sorted(biases, reverse=True) == biases
    assert biases[-1] < 0.1
