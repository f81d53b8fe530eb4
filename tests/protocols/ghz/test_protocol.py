"""The protocol: the error of the sum, tests that catch a bad source, what nobody can catch, what parties refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from qflsec.attacks.poisoning.ghz_phase import GhzPhaseShift
from qflsec.attacks.server.product_states import GhzProductStates
from qflsec.base import ConfigError, OsSecrets, ProtocolAbort, UpdateError
from qflsec.federation import Identity
from qflsec.protocols.ghz import (
    GhzClient,
    GhzServer,
    Laboratory,
    Phases,
    escape_probability,
    failure_rate,
    ghz_fidelity,
    measure,
    product_failure_rate,
    rmse,
    rmse_one_quadrature,
    rotate,
    run_ghz_round,
    untested_failure_bound,
)
from qflsec.protocols.ghz.parties import Terms
from qflsec.threat import SERVER, Party, client


def draws(*shape: int, seed: int = 0, width: float = 1.0) -> Any:
    return np.random.Generator(np.random.PCG64(seed)).uniform(-width, width, shape)


# -- the estimator ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "p", "shots", "expected"),
    [(4, 0.0, 1000, 0.0318), (4, 0.0, 10_000, 0.0099), (8, 0.05, 1000, 0.0484), (8, 0.05, 10_000, 0.0155)],
)
def test_the_formula_of_one_quadrature(n: int, p: float, shots: int, expected: float) -> None:
    """Error of one quadrature; simulations with PennyLane gave .0318, .0099, .0484 and .0155 (within 2 %)."""
    assert rmse_one_quadrature(0.3, n=n, depolarising=p, shots=shots) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("total", [-1.4, 0.0, 0.3, 1.5])
@pytest.mark.parametrize(("n", "p"), [(3, 0.0), (8, 0.05)])
def test_the_error_of_the_sum_is_the_formulas(n: int, p: float, total: float) -> None:
    """1,000 coordinates of one sum, 400 shots: rms error within 10 % (4.5 deviations, 7e-6), and no bias."""
    phases = Phases(n=n, max_abs=1.0, span=1.6, shots=400)
    shares = draws(n, seed=n) * 0.1
    shares[0] += total - shares.sum()
    parity = np.zeros(phases.copies(1000), dtype=np.uint8)
    for i, held in enumerate(Laboratory(7, "rmse", depolarising=p).send(n, len(parity))):
        rotate(held, np.full(len(parity), shares[i]))
        parity ^= measure(held, phases.bases(1000, first=i == 0))
    errors = phases.total(parity) - total
    expected = rmse(total, n=n, depolarising=p, shots=400)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(expected, rel=0.1)
    assert abs(errors.mean()) < 5 * expected / math.sqrt(1000) + expected**2


def test_both_quadratures_carry_sign_and_size_whatever_the_visibility() -> None:
    updates = np.repeat(np.array([[-1.0, -0.4, 0.0, 0.4, 1.0]]), 4, axis=0)
    for p in (0.0, 0.08):
        outcome = run_ghz_round(updates, shots=4000, depolarising=p, allowed=80)
        assert outcome.mean is not None
        error = 5 * rmse(0.7, n=4, depolarising=p, shots=4000) / (math.pi / 2)
        assert np.abs(outcome.mean - updates[0]).max() < error
        assert outcome.total is not None
        assert np.abs(outcome.total).max() < math.pi / 2 + 0.2


def test_honest_phases_cannot_wrap() -> None:
    for n in (2, 3, 10):
        phases = Phases(n=n, max_abs=0.5, span=3.0, shots=2)
        angles = phases.angles(np.array([1e9, -1e9, 0.5]))
        assert np.abs(angles).max() * n == pytest.approx(3.0)
        assert np.allclose(phases.mean(n * angles[::4]), [0.5, -0.5, 0.5])
    with pytest.raises(ConfigError, match="wrap"):
        Phases(n=3, max_abs=1.0, span=math.pi, shots=2)
    with pytest.raises(UpdateError, match="finite"):
        phases.clip(np.array([np.nan]))


# -- the resource -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "p"), [(3, 0.0), (3, 0.05), (5, 0.02)])
def test_honest_states_fail_as_often_as_their_fidelity_says(n: int, p: float) -> None:
    """4,000 tests; within 4.5 standard deviations (false alarm 7e-6)."""
    outcome = run_ghz_round(np.zeros((n, 1)), shots=1, tests=4000, allowed=4000, depolarising=p)
    rate = failure_rate(ghz_fidelity(n, p))
    assert abs(outcome.failed - 4000 * rate) <= 4.5 * math.sqrt(4000 * rate * (1 - rate)) + 1e-9


@pytest.mark.parametrize(("n", "q"), [(3, 1.0), (3, 0.3), (4, 1.0), (4, 0.1), (7, 0.5)])
def test_product_states_are_caught_at_the_theoretical_rate(n: int, q: float) -> None:
    """4,000 tests; within 4.5 standard deviations (false alarm 7e-6); and the attack's card states the rate."""
    attack = GhzProductStates(fraction=q)
    outcome = run_ghz_round(
        np.zeros((n, 1)), shots=1, tests=4000, allowed=4000, source=attack.open(3), seed=n
    )
    rate = attack.detection(n)
    assert rate <= q * 0.5
    assert n % 2 or rate == pytest.approx(q * product_failure_rate(n))
    assert abs(outcome.failed - 4000 * rate) <= 4.5 * math.sqrt(4000 * rate * (1 - rate))


def test_escape_is_the_binomial_tail() -> None:
    """150 rounds with 12 tests, a fifth of the copies bad: passes as often as stated (false alarm 1e-5)."""
    attack = GhzProductStates(fraction=0.2)
    passed = sum(
        run_ghz_round(np.zeros((4, 1)), shots=1, tests=12, allowed=0, source=attack.open(s), seed=s).status
        == "sum"
        for s in range(150)
    )
    expected = escape_probability(4, tests=12, allowed=0, fraction=0.2)
    assert expected == pytest.approx((1 - 0.2 * 0.4375) ** 12)
    assert binom.cdf(passed, 150, expected) > 5e-6
    assert binom.sf(passed - 1, 150, expected) > 5e-6
    assert escape_probability(5, tests=200, allowed=4, fraction=0.5) < 1e-16


def test_what_passing_says_of_the_untested_copies() -> None:
    """Against all sources of 12 copies by enumeration, and as it must move with tests and tolerance."""
    from math import comb

    for allowed in (0, 1):
        for epsilon in (0.3, 0.05):
            passing = [
                sum(comb(k, f) * comb(12 - k, 5 - f) for f in range(allowed + 1)) / comb(12, 5)
                for k in range(13)
            ]
            worst = max(k for k in range(13) if passing[k] > epsilon)
            bound = untested_failure_bound(copies=12, tests=5, allowed=allowed, epsilon=epsilon)
            assert bound == pytest.approx(min(1.0, worst / 7))
    few, more = (untested_failure_bound(copies=40_000, tests=t, allowed=0, epsilon=1e-6) for t in (200, 2000))
    assert 0.05 < few < 0.08
    assert 0.005 < more < 0.008
    assert untested_failure_bound(copies=40_000, tests=200, allowed=4, epsilon=1e-6) > few
    assert untested_failure_bound(copies=40_000, tests=2, allowed=0, epsilon=1e-6) > 0.9


def test_product_states_show_every_update_where_nothing_is_tested_and_none_where_it_is() -> None:
    updates = draws(4, 6, width=0.8)
    phases = Phases(n=4, max_abs=1.0, span=math.pi / 2, shots=3000)
    attack = GhzProductStates()
    source = attack.open(1)
    open_door = run_ghz_round(updates, shots=3000, tests=1, allowed=1, source=source)
    read = source.read(open_door, phases, 6)
    assert read is not None
    assert np.abs(read - updates).max() < 0.25
    assert np.sqrt(np.mean((read - updates) ** 2)) < 0.1 * np.sqrt(np.mean(updates**2)) + 0.03
    source = attack.open(1)
    tested = run_ghz_round(updates, shots=3000, tests=200, allowed=4, source=source)
    assert tested.status == "aborted"
    assert "stabiliser tests failed" in tested.reason
    assert not tested.sealed, "no angle has touched a qubit"
    assert source.read(tested, phases, 6) is None


def test_a_server_of_few_product_states_reads_little_before_it_is_caught() -> None:
    """A mixture of 2 % passes 50 tests often; what it reads is the error of so few shots."""
    updates = draws(4, 40, width=0.8)
    phases = Phases(n=4, max_abs=1.0, span=math.pi / 2, shots=500)
    errors = {}
    for q in (0.02, 0.5):
        source = GhzProductStates(fraction=q).open(2)
        outcome = run_ghz_round(updates, shots=500, tests=50, allowed=50, source=source)
        read = source.read(outcome, phases, 40)
        assert read is not None
        errors[q] = float(np.sqrt(np.mean((read - updates) ** 2)))
    assert errors[0.5] < 0.2 < errors[0.02]
    assert escape_probability(4, tests=50, allowed=0, fraction=0.02) > 0.6
    assert escape_probability(4, tests=50, allowed=0, fraction=0.5) < 1e-5


def test_from_ghz_states_the_same_reading_gets_nothing() -> None:
    """The negative control: one client's outcomes on GHZ states are coins; correlation within 4.5/sqrt(n)."""
    updates = draws(4, 200, width=0.9)
    source = GhzProductStates(fraction=0.0).open(2)
    outcome = run_ghz_round(updates, shots=50, tests=1, source=source)
    source._product[:] = True  # reads as if every copy were bad
    read = source.read(outcome, Phases(n=4, max_abs=1.0, span=math.pi / 2, shots=50), 200)
    assert read is not None
    assert abs(np.corrcoef(read.ravel(), updates.ravel())[0, 1]) < 4.5 / math.sqrt(800)


# -- Byzantine phases ---------------------------------------------------------------------------------


def test_a_byzantine_phase_moves_the_mean_and_no_test_notices() -> None:
    updates = draws(4, 5, width=0.2)
    attack = GhzPhaseShift(phase=1.2)
    outcome = run_ghz_round(updates, shots=4000, clients={2: attack.client})
    assert (outcome.status, outcome.failed) == ("sum", 0)
    assert outcome.mean is not None
    shift = outcome.mean - updates.mean(axis=0)
    assert np.allclose(shift, 1.2 / (math.pi / 2), atol=0.08)
    assert shift.min() > 1 / 4, "more than a client within the range could do"


def test_byzantine_phases_give_what_an_honest_larger_update_gives() -> None:
    """Exact: undetectable, since the states are those of honest clients with another sum."""
    import pennylane as qml

    @qml.qnode(qml.device("default.mixed", wires=3))  # type: ignore[untyped-decorator]
    def outcomes(thetas: Any) -> Any:
        qml.Hadamard(0)
        qml.CNOT([0, 1])
        qml.CNOT([1, 2])
        for wire in range(3):
            qml.DepolarizingChannel(0.1, wires=wire)
            qml.RZ(thetas[wire], wires=wire)
            qml.Hadamard(wire)
        return qml.probs(wires=range(3))

    assert np.allclose(outcomes([0.2 + 0.9, 0.1, -0.3]), outcomes([0.2, 0.1, -0.3 + 0.9]), atol=1e-12)


# -- what parties refuse ------------------------------------------------------------------------------


class Parties:
    def __init__(self, n: int = 3, tests: int = 20) -> None:
        self.who = tuple(client(i) for i in range(n))
        secrets = {p: OsSecrets() for p in (*self.who, SERVER)}
        identities = Identity.of_all((*self.who, SERVER), secrets)
        phases = Phases(n=n, max_abs=1.0, span=1.0, shots=3)
        self.terms = Terms(session=b"s", clients=self.who, n_params=2, phases=phases, tests=tests, allowed=0)
        self.clients = {
            p: GhzClient(terms=self.terms, signer=identities[p], secrets=secrets[p]) for p in self.who
        }
        self.server = GhzServer(terms=self.terms, signer=identities[SERVER])
        self.laboratory = Laboratory(0, "parties")

    def until(self, stage: int, round_index: int = 0) -> Any:
        told: Any = {p: c.commit(round_index) for p, c in self.clients.items()}
        if stage > 1:
            qubits = dict(zip(self.who, self.laboratory.send(len(self.who), self.terms.copies), strict=True))
            told = {p: c.receive(told, qubits[p]) for p, c in self.clients.items()}
        if stage > 2:
            told = {p: c.test(told) for p, c in self.clients.items()}
        if stage > 3:
            told = {p: c.open_outcomes(told) for p, c in self.clients.items()}
        if stage > 4:
            for c in self.clients.values():
                c.judge(told)
        return told


def turn(parties: Parties, stage: int, told: dict[Party, bytes]) -> None:
    """What client 0 does with the messages of a stage."""
    me = parties.clients[client(0)]
    if stage == 1:
        me.receive(told, parties.laboratory.send(3, parties.terms.copies)[0])
    elif stage == 2:
        me.test(told)
    elif stage == 3:
        me.open_outcomes(told)
    else:
        me.judge(told)


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
@pytest.mark.parametrize("how", ["flip", "drop", "swap", "replay"])
def test_altered_messages_are_refused_at_every_stage(stage: int, how: str) -> None:
    parties = Parties()
    old = parties.until(stage)
    told = parties.until(stage, round_index=1)
    victim = client(1)
    if how == "flip":
        for bit in range(0, 8 * len(told[victim]), 37):
            changed = bytearray(told[victim])
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(ProtocolAbort):
                turn(parties, stage, {**told, victim: bytes(changed)})
    changes = {
        "flip": {},
        "drop": {p: m for p, m in told.items() if p != victim},
        "swap": {**told, victim: told[client(2)]},
        "replay": {**told, victim: old[victim]},
    }
    if how != "flip":
        with pytest.raises(ProtocolAbort):
            turn(parties, stage, changes[how])


def test_nothing_is_sealed_before_the_tests_and_nothing_twice() -> None:
    for stage in range(1, 5):
        parties = Parties()
        parties.until(stage)
        with pytest.raises(ProtocolAbort, match="out of order"):
            parties.clients[client(0)].seal(0, np.zeros(2))
    parties = Parties()
    parties.until(5)
    sealed = {p: c.seal(0, np.zeros(2)) for p, c in parties.clients.items()}
    with pytest.raises(ProtocolAbort, match="twice"):
        parties.clients[client(0)].seal(0, np.zeros(2))
    with pytest.raises(ProtocolAbort, match="twice"):
        parties.clients[client(0)].commit(0)
    parties.server.total(0, sealed)
    with pytest.raises(ProtocolAbort):
        parties.server.total(1, sealed)
    broken = bytearray(sealed[client(1)])
    broken[0] ^= 1
    with pytest.raises(ProtocolAbort):
        parties.server.total(0, {**sealed, client(1): bytes(broken)})


def test_a_client_that_lies_about_its_outcomes_after_hearing_the_others_is_caught() -> None:
    """It is bound to its outcomes before it hears any: without that it could mend every parity."""
    parties = Parties()
    told = parties.until(4)
    liar = parties.clients[client(1)]
    state = liar._round
    assert state is not None
    forged = state.outcomes[:32] + bytes([state.outcomes[32] ^ 1]) + state.outcomes[33:]
    signed = liar._sign(state, "opened outcomes", forged)
    with pytest.raises(ProtocolAbort, match="client:1 opened another content") as abort:
        parties.clients[client(0)].judge({**told, client(1): signed})
    assert abort.value.caused_by == "client:1", "it signed both"


@pytest.mark.parametrize("stage", [2, 3, 4, 5])
def test_a_server_cannot_hand_out_other_qubits_once_it_knows_the_coins(stage: int) -> None:
    """It would pass every test with GHZ states and have product states turned: each client takes qubits once."""
    parties = Parties()
    parties.until(stage)
    me = parties.clients[client(0)]
    assert me._round is not None
    hashes, before = dict.fromkeys(parties.who, b""), me._round.qubits
    others = parties.laboratory.send(3, parties.terms.copies)[0]
    with pytest.raises(ProtocolAbort, match="twice"):
        me.receive(hashes, others)
    assert me._round.qubits is before, "nothing has changed"


def test_a_missing_client_kills_the_round() -> None:
    outcome = run_ghz_round(np.zeros((4, 2)), shots=10, missing=frozenset({2}))
    assert outcome.status == "aborted"
    assert "did not hear client:2" in outcome.reason
