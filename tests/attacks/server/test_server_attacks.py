"""Attacks by the quantum server against theory, and against clients that leave a pad out.

Statistical tests fix their seeds and bear 4.4 standard deviations: a false alarm in 100,000 each.
"""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qflsec.attacks.server
from qflsec.attacks.server import (
    FlipOutcomes,
    GuessRounds,
    RandomAnswers,
    ReadDelta,
    ServerManipulation,
    SkipEntanglement,
    WeakCoherent,
    WrongAngles,
    copies_advantage,
    covariant_advantage,
    weak_coherent_advantage,
)
from qflsec.attacks.server.base import Reading, WatchingServer
from qflsec.base import ConfigError, Score, UpdateError, numpy_stream
from qflsec.lab.worlds.delegation import Device, SessionOutcome, run_session, session_circuit, session_inputs
from qflsec.protocols.blind import (
    AngleGrid,
    BlindConfig,
    PulsedSource,
    RoundCounts,
    compile_patterns,
)
from qflsec.threat import NOBODY, coalition

CIRCUIT = session_circuit(2, 2)
GRAPH = compile_patterns(CIRCUIT)[0].pattern.graph
WEIGHTS, FEATURES = session_inputs(CIRCUIT, 0)
SIGMA = 4.4
N = 20_000
LYING = coalition(quantum_server=True, active=True)


def session(
    attack: Any, *, shots: int = 1000, tests: int = N, seed: int = 1, **device: Any
) -> SessionOutcome:
    return run_session(
        attack,
        Device(**device),
        circuit=CIRCUIT,
        weights=WEIGHTS,
        features=FEATURES,
        counts=RoundCounts(shots=shots, tests=tests, threshold=0, colours=1),
        seed=seed,
        seeded=True,
    )


ACTIVE: list[tuple[ServerManipulation, float]] = [
    (FlipOutcomes(), 1 / 2),
    (FlipOutcomes(fraction=0.2), 0.1),
    (FlipOutcomes(nodes=2), 1.0),
    (WrongAngles(offset=0.7, nodes=1), math.sin(0.35) ** 2 / 2),
    (WrongAngles(offset=math.pi, nodes=1), 1 / 2),
    (WrongAngles(fraction=0.5), 0.5 * (1 - 0.5**5)),
    (SkipEntanglement(edges=1), 1 / 2),
    (SkipEntanglement(fraction=0.3), 0.3 * (1 - 2.0**-4)),
    (RandomAnswers(), 1 - 2.0**-5),
    (RandomAnswers(nodes=1, fraction=0.6), 0.15),
]


@pytest.mark.parametrize(("attack", "theory"), ACTIVE, ids=lambda value: str(value)[:60])
def test_detection_rates_match_theory(attack: ServerManipulation, theory: float) -> None:
    """The formula equals the number worked out by hand, and the share of failed tests among 20,000 both."""
    assert attack.detection(GRAPH) == pytest.approx(theory)
    failures = session(attack).failures
    assert abs(failures / N - theory) <= SIGMA * math.sqrt(theory * (1 - theory) / N)


def test_detection_rates_match_theory_in_a_brickwork() -> None:
    config = BlindConfig(embedding="brickwork")
    attack = WrongAngles(nodes=3, offset=0.9, fraction=0.8)
    theory = session(attack, tests=2, config=config).detection
    assert theory is not None
    found = session(attack, tests=4000, config=config).failures / 4000
    assert abs(found - theory) < SIGMA * math.sqrt(theory * (1 - theory) / 4000)


@pytest.mark.parametrize("attack", [attack for attack, _ in ACTIVE[:3]])
def test_an_attack_that_is_seen_also_spoils_the_result(attack: ServerManipulation) -> None:
    found = session(attack, shots=4000, tests=100)
    assert found.noticeable
    assert not found.accepted
    untested = session(attack, shots=4000, tests=0)
    assert untested.accepted
    assert untested.wrong


def test_an_honest_server_fails_no_test_and_is_right() -> None:
    found = session(None)
    assert (found.failures, found.accepted, found.noticeable, found.scores) == (0, True, False, {})


def z(score: Score) -> float:
    return score.value / ((score.high - score.value) / 1.96)


@pytest.mark.parametrize("embedding", ["ansatz", "brickwork"])
def test_reading_deltas_tells_nothing_of_angles_or_outcomes(embedding: Any) -> None:
    found = session(ReadDelta(), shots=5000, tests=500, config=BlindConfig(embedding=embedding))
    assert set(found.scores) == {"angles", "outcomes"}
    for score in found.scores.values():
        assert abs(z(score)) < SIGMA


@pytest.mark.parametrize(
    ("pads", "angles", "outcomes"),
    [("none", 1, 1), ("no-angle-pads", 1, 0), ("no-outcome-pads", 0, 1), ("fixed-dummies", 0, 0)],
)
def test_reading_deltas_succeeds_without_pads(pads: Any, angles: int, outcomes: int) -> None:
    found = session(ReadDelta(), shots=3000, tests=300, pads=pads).scores
    assert found["angles"].value == pytest.approx(angles, abs=1e-6 if angles else 0.05)
    assert found["outcomes"].value == pytest.approx(outcomes, abs=1e-6 if outcomes else 0.1)


def test_guessing_rounds_gains_nothing() -> None:
    """It learns nothing, and half of its flips, which fall on tests as on computations, are seen."""
    found = session(GuessRounds(), shots=5000, tests=5000)
    assert abs(z(found.scores["rounds"])) < SIGMA
    assert 0.4 < found.failures / 5000 < 0.6
    assert not found.accepted
    quiet = session(GuessRounds(by="angles"), shots=5000, tests=5000)
    assert quiet.scores["rounds"].value == 0
    assert quiet.failures == 0


def test_fixed_dummies_let_a_server_corrupt_computations_only() -> None:
    """The whole attack on dummies that are always |0>: no test of 3,000 fails, and almost all results are flipped.

    Of the computations, those look like tests in which one of two colours of five qubits is found in |0>.
    """
    found = session(GuessRounds(), shots=3000, tests=3000, pads="fixed-dummies")
    assert found.failures == 0
    assert found.accepted
    assert found.wrong
    missed = 1 - (1 - 2**-5) ** 2
    assert found.scores["rounds"].value == pytest.approx(1 - missed, abs=SIGMA * math.sqrt(missed / 3000))
    flipped = found.estimate[-1] / found.exact[-1]
    assert flipped < -0.8


def test_tests_without_angle_pads_show_themselves() -> None:
    found = session(GuessRounds(by="angles"), shots=2000, tests=2000, pads="no-angle-pads")
    assert found.scores["rounds"].value == 1.0


SOURCES = [
    (0.1, 1.0, "lossy"),
    (0.5, 0.5, "lossy"),
    (0.5, 0.5, "split"),
    (1.0, 0.1, "split"),
    (3.0, 0.9, "lossy"),
    (3.0, 0.9, "split"),
]


@pytest.mark.parametrize(("mean", "transmittance", "line"), SOURCES)
def test_weak_coherent_leakage_matches_its_formula(mean: float, transmittance: float, line: Any) -> None:
    source = PulsedSource(mean_photons=mean, transmittance=transmittance)
    found = session(WeakCoherent(), shots=6000, tests=0, source=source, line=line)
    exposed = source.leaked(line)
    assert found.exposed is not None
    variance = max(exposed * (1 - exposed), 0.0)  # a sum of chances may be 1 and a little more
    spread = math.sqrt(variance / (6000 * GRAPH.n_nodes)) + 1e-9
    assert abs(found.exposed - exposed) < SIGMA * spread
    score = found.scores["angles"]
    assert (
        abs(score.value - weak_coherent_advantage(source, line)) < SIGMA * (score.high - score.value) / 1.96
    )
    assert weak_coherent_advantage(source, line) <= exposed
    assert not found.noticeable  # it computes with one photon, and correctly


def test_single_photons_leak_nothing() -> None:
    found = session(WeakCoherent(), shots=6000, tests=100)
    assert found.exposed == 0.0
    assert abs(z(found.scores["angles"])) < SIGMA
    assert found.failures == 0


def test_what_copies_tell() -> None:
    """None or one nothing; two 1/4; more never more than the best joint measurement, and ever more."""
    assert [copies_advantage(n) for n in (0, 1)] == pytest.approx([0, 0], abs=1e-12)
    assert copies_advantage(2) == pytest.approx(0.25)
    values = [copies_advantage(n) for n in range(1, 12)]
    assert values == sorted(values)
    for n in range(12):
        assert copies_advantage(n) <= covariant_advantage(n) + 1e-12
    assert copies_advantage(38) > 0.9


def test_two_copies_by_hand() -> None:
    """A Monte-Carlo run of the measurement itself, without the formula: 200,000 thetas, 4.4 standard deviations."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(0, 2 * np.pi, 200_000)
    first = rng.random(theta.size) < (1 + np.cos(theta)) / 2
    second = rng.random(theta.size) < (1 + np.sin(theta)) / 2
    guess = np.where(first == second, np.pi / 4, -np.pi / 4)
    values = np.cos(2 * (guess - theta))
    assert abs(values.mean() - copies_advantage(2)) < SIGMA * values.std() / math.sqrt(values.size)


def test_an_attack_draws_from_its_own_stream() -> None:
    def chosen(*purpose: str | int) -> list[bool]:
        server: Any = FlipOutcomes(fraction=0.5).factory(1, *purpose)(GRAPH, AngleGrid())
        server.start(64)
        return list(server.chosen)

    assert chosen("a", 0) == chosen("a", 0)
    assert chosen("a", 0) != chosen("a", 1)


def test_the_fraction_of_attacked_rounds() -> None:
    server: Any = FlipOutcomes(fraction=0.25).open(GRAPH, AngleGrid(), numpy_stream(0, "x"))
    server.start(40_000)
    assert abs(server.chosen.mean() - 0.25) < SIGMA * math.sqrt(0.25 * 0.75 / 40_000)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FlipOutcomes(fraction=1.5),
        lambda: FlipOutcomes(nodes=-1),
        lambda: WrongAngles(offset=math.inf),
        lambda: WrongAngles(nodes=-1),
        lambda: SkipEntanglement(edges=-2),
        lambda: RandomAnswers(nodes=-1),
        lambda: GuessRounds(by="smell"),  # type: ignore[arg-type]
    ],
)
def test_impossible_parameters_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_an_active_attack_needs_a_corrupted_quantum_server() -> None:
    FlipOutcomes().corrupts(LYING)
    with pytest.raises(ConfigError, match="leaves honest"):
        FlipOutcomes().corrupts(NOBODY)


def test_a_reading_that_does_not_fit_is_refused() -> None:
    class Bad(WatchingServer):
        def reading(self) -> Reading:
            return Reading(test=np.zeros(3))

    with pytest.raises(UpdateError, match="no guess for each round"):
        ReadDelta().read(Bad(GRAPH, AngleGrid()))
    with pytest.raises(ConfigError, match="cannot read this server"):
        ReadDelta().read(FlipOutcomes().factory(0)(GRAPH, AngleGrid()))


FOLDER = Path(qflsec.attacks.server.__path__[0])
OURS = sorted(
    FOLDER / f"{name}.py"
    for name in (
        "base", "flip_outcomes", "guess_rounds", "random_answers", "read_delta", "skip_entanglement",
        "weak_coherent", "wrong_angles",
    )
)  # fmt: skip


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_attacks_reach_neither_states_nor_the_clients_secrets(path: Path) -> None:
    """They import what a server can do with handles, and nothing of the client."""
    allowed = {"Bits", "measure", "project", "spare_photons"}
    banned = {"BlindClient", "Pads", "RoundPlan", "QuantumChannel", "Shots", "Exact"}
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        names = {alias.name for alias in node.names}
        if node.module == "qflsec.protocols.blind.qubits":
            assert names <= allowed
        if node.module == "qflsec.protocols.blind":
            assert not names & banned
        assert node.module not in ("qflsec.protocols.blind.client", "qflsec.protocols.blind.pads")
