"""Cascade between two parties: what it costs, what it corrects, and what goes over the line."""

from __future__ import annotations

import statistics
import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ProtocolAbort, SeededSecrets, UnknownName, numpy_stream
from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.cascade import CascadeConfig, CascadeParty, reconcile
from qflsec.protocols.bb84.cascade_search import Search, shuffle
from qflsec.protocols.bb84.cascade_variants import SCHEDULES, schedule
from qflsec.protocols.bb84.transcript import Message, PublicChannel

Bits = npt.NDArray[np.uint8]
PUBLISHED = {0.01: 1.139, 0.02: 1.156, 0.03: 1.171, 0.05: 1.183}


def keys(n: int, errors: int, seed: int) -> tuple[Bits, Bits]:
    """A key and a copy with exactly so many errors."""
    rng = numpy_stream(seed, "cascade test")
    alice = rng.integers(0, 2, n, dtype=np.uint8)
    bob = alice.copy()
    bob[rng.choice(n, errors, replace=False)] ^= 1
    return alice, bob


def efficiencies(name: str, n: int, qber: float, runs: int) -> tuple[list[float], int]:
    config = CascadeConfig(schedule=name, qber=qber)
    found, left = [], 0
    for seed in range(runs):
        alice, bob = keys(n, round(n * qber), seed)
        corrected, count = reconcile(alice, bob, config, SeededSecrets(seed, "cascade"))
        found.append(count.efficiency(n, qber))
        left += int(not np.array_equal(corrected, alice))
    return found, left


@pytest.mark.parametrize("qber", PUBLISHED)
def test_the_original_schedule_has_the_efficiency_of_cascade_python(qber: float) -> None:
    """cascade-python (commit c6706ab, stored data, n = 1e5): f = 1.139/1.156/1.171/1.183; mean of 20, to 2 %.

    Ours lies about 1 % below, since a second search of a block starts in its shortest odd part, and the last
    block's parity is inferred. Over 20 runs the mean's standard error is below 0.1 %.
    """
    found, left = efficiencies("original", 10**5, qber, 20)
    assert statistics.mean(found) == pytest.approx(PUBLISHED[qber], rel=0.02)
    assert left == 0


@pytest.mark.parametrize(("name", "most"), [("biconf", 1.07), ("yan-14", 1.055), ("option8", 1.045)])
def test_variants_correct_everything_at_less_cost(name: str, most: float) -> None:
    """Cascade-python's stored data give Yan et al. 1.060 and biconf 1.064 at 3 %, n = 1e5."""
    found, left = efficiencies(name, 10**5, 0.03, 3)
    assert 1.0 < statistics.mean(found) < most
    assert left == 0


@pytest.mark.parametrize(("name", "most"), [("yan", 5), ("yan-14", 1)])
def test_errors_are_left_about_once_in_two_to_the_passes_over_halves(name: str, most: int) -> None:
    """100 runs; 2^-8 and 2^-12 a run make more than 5 and 1 of them less likely than 1 in 1000."""
    _, left = efficiencies(name, 1000, 0.04, 100)
    assert left <= most


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_planned_efficiency_is_seldom_exceeded(name: str) -> None:
    """30 runs at sizes and rates off the calibration's; at most 2 may cost more than planned."""
    above = 0
    for n, qber in ((5000, 0.015), (20000, 0.04), (8000, 0.07)):
        found, _ = efficiencies(name, n, qber, 10)
        above += sum(f > schedule(name).planned_efficiency(qber, n) for f in found)
    assert above <= 2


def test_both_parties_together_reach_a_megabit_per_second() -> None:
    """One core, process time, n = 1e5, the original schedule; the best of three, since the machine is shared."""
    alice, bob = keys(10**5, 3000, 1)
    config = CascadeConfig(schedule="original", qber=0.03)
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        reconcile(alice, bob, config, SeededSecrets(1, "speed"))
        best = max(best, 1e5 / (time.process_time() - start))
    assert best > 1e6


def spoken(
    name: str, n: int, qber: float, seed: int
) -> tuple[dict[int, list[Bits]], int, CascadeParty, CascadeParty, Bits]:
    """Run party by party; returns the intervals asked, pass by pass, and the parities that went over the line."""
    alice_bits, bob_bits = keys(n, round(n * qber), seed)
    config = CascadeConfig(schedule=name, qber=qber)
    shuffled = SeededSecrets(seed, "seed").draw(32)
    alice, bob = CascadeParty(alice_bits, config, shuffled), CascadeParty(bob_bits, config, shuffled)
    asked: dict[int, list[Bits]] = {}
    bits = 0
    while not alice.done:
        question = alice._search.question
        for low, high in zip(question.low, question.high, strict=True):
            row = np.zeros(n, dtype=np.uint8)
            row[low:high] = 1
            asked.setdefault(question.number, []).append(row)
        from_alice, from_bob = alice.speak(), bob.speak()
        assert len(from_alice) == len(from_bob) == -(-question.low.size // 8)
        bits += question.low.size
        alice.hear(from_bob)
        bob.hear(from_alice)
    assert bob.done
    return asked, bits, alice, bob, alice_bits


def rank(rows: list[Bits]) -> int:
    basis: dict[int, int] = {}
    for row in rows:
        value = int("".join(map(str, row)), 2)
        while value and (top := value.bit_length()) in basis:
            value ^= basis[top]
        if value:
            basis[value.bit_length()] = value
    return len(basis)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_parity_is_counted_once_and_none_is_asked_that_was_known(name: str) -> None:
    asked, bits, alice, bob, alice_bits = spoken(name, 600, 0.03, 4)
    for party in (alice, bob):
        assert party.count().alice_bits == party.count().bob_bits == bits
        assert party.count().rounds == party.rounds
    whole = np.ones(600, dtype=np.uint8)
    for number, rows in asked.items():
        known = rows if number == 0 else [*rows, whole]
        assert rank(known) == len(known), f"pass {number} asks for a parity that follows from others"
    assert np.array_equal(bob.corrected(), alice_bits)


def test_the_leak_counts_both_directions_unless_the_other_analysis_is_named() -> None:
    alice, bob = keys(20000, 400, 7)
    _, count = reconcile(alice, bob, CascadeConfig(qber=0.02), SeededSecrets(7, "x"))
    assert count.leak("both-parties") == count.alice_bits + count.bob_bits
    assert count.leak("error-pattern-public") == count.alice_bits
    assert count.efficiency(20000, 0.02) == count.alice_bits / (20000 * binary_entropy(0.02)) > 1


def test_bobs_messages_follow_from_alices_and_the_error_pattern() -> None:
    """What the analysis with a public error pattern rests on: Bob's parity is Alice's, xor the pattern's."""
    n = 3000
    alice, bob = keys(n, 90, 3)
    said: dict[str, list[bytes]] = {"alice": [], "bob": []}

    def listen(message: Message) -> bytes:
        if message.kind == "parities":
            said[message.sender].append(message.payload)
        return message.payload

    config = CascadeConfig(qber=0.03)
    reconcile(alice, bob, config, SeededSecrets(3, "w"), PublicChannel(listen))
    simulated = CascadeParty(alice ^ bob, config, SeededSecrets(3, "w").draw(32))
    for from_alice, from_bob in zip(said["alice"], said["bob"], strict=True):
        pattern = np.frombuffer(simulated.speak(), dtype=np.uint8)
        assert bytes(np.frombuffer(from_alice, dtype=np.uint8) ^ pattern) == from_bob
        simulated.hear(bytes(pattern.size))


def test_the_search_holds_no_key() -> None:
    """Its state is the same for other keys with the same differences."""
    difference = keys(2000, 60, 5)
    pattern = difference[0] ^ difference[1]
    states = []
    for seed in (1, 2):
        alice = numpy_stream(seed, "other key").integers(0, 2, 2000, dtype=np.uint8)
        config, shuffled = CascadeConfig(qber=0.03), bytes(32)
        one, two = CascadeParty(alice, config, shuffled), CascadeParty(alice ^ pattern, config, shuffled)
        while not one.done:
            said = one.speak(), two.speak()
            one.hear(said[1])
            two.hear(said[0])
        assert np.array_equal(one._search.flips, two._search.flips)
        states.append(one._search.flips)
    assert np.array_equal(states[0], states[1])


def test_a_run_stops_before_its_budget_is_exceeded() -> None:
    alice, bob = keys(10000, 300, 2)
    _, count = reconcile(alice, bob, CascadeConfig(qber=0.03), SeededSecrets(2, "b"))
    needed = count.leak("both-parties")
    heard = []

    def listen(message: Message) -> bytes:
        heard.append(message)
        return message.payload

    enough = CascadeConfig(qber=0.03, budget_bits=needed)
    assert reconcile(alice, bob, enough, SeededSecrets(2, "b"))[1] == count
    short = CascadeConfig(qber=0.03, budget_bits=needed - 1)
    with pytest.raises(ProtocolAbort, match="leak above budget"):
        reconcile(alice, bob, short, SeededSecrets(2, "b"), PublicChannel(listen))
    assert 8 * sum(len(m.payload) - 1 for m in heard if m.kind == "parities") < needed


def test_the_shuffle_seed_is_drawn_for_each_run() -> None:
    alice, bob = keys(500, 5, 1)
    seeds = []
    secrets = SeededSecrets(1, "fresh")
    for _ in range(2):
        line = PublicChannel()
        reconcile(alice, bob, CascadeConfig(qber=0.01), secrets, line)
        seeds.append(line.alice.last("shuffle seed").payload)
    assert seeds[0] != seeds[1]


def test_a_shuffle_is_a_permutation_that_spreads_positions() -> None:
    order = shuffle(b"seed", 1, 100_000)
    assert np.array_equal(np.sort(order), np.arange(100_000))
    assert not np.array_equal(order, shuffle(b"seed", 2, 100_000))
    assert abs(np.corrcoef(order, np.arange(100_000))[0, 1]) < 0.02


@settings(deadline=None, max_examples=80)
@given(
    n=st.integers(1, 400),
    seed=st.integers(0, 2**32),
    share=st.floats(0.0, 0.5),
    qber=st.floats(0.0, 0.2),
    name=st.sampled_from(sorted(SCHEDULES)),
)
def test_any_keys_end_with_equal_parities_in_every_block(
    n: int, seed: int, share: float, qber: float, name: str
) -> None:
    """However wrong the expected rate: it ends, and all blocks agree (up to 100 errors it never gives up)."""
    alice, bob = keys(n, min(int(share * n), 100), seed)
    config = CascadeConfig(schedule=name, qber=qber)
    shuffled = SeededSecrets(seed, "any").draw(32)
    one, two = CascadeParty(alice, config, shuffled), CascadeParty(bob, config, shuffled)
    while not one.done:
        said = one.speak(), two.speak()
        one.hear(said[1])
        two.hear(said[0])
    left = alice ^ two.corrected()
    assert left.sum() % 2 == 0
    for each in one._search._passes:
        ordered = left if each.order is None else left[each.order]
        assert not np.add.reduceat(ordered, np.arange(0, n, each.size), dtype=np.int64).__mod__(2).any()


@settings(deadline=None, max_examples=40)
@given(at=st.integers(1, 60), bit=st.integers(0, 10**6), seed=st.integers(0, 1000))
def test_altered_parities_never_hang_or_crash_it(at: int, bit: int, seed: int) -> None:
    alice, bob = keys(2000, 60, seed)
    sent = 0

    def alter(message: Message) -> bytes:
        nonlocal sent
        sent += 1
        if sent != at + 1 or not message.payload:
            return message.payload
        changed = bytearray(message.payload)
        where = bit % (8 * len(changed))
        changed[where // 8] ^= 0x80 >> where % 8
        return bytes(changed)

    config = CascadeConfig(schedule="original", qber=0.03)
    try:
        reconcile(alice, bob, config, SeededSecrets(seed, "altered"), PublicChannel(alter))
    except ProtocolAbort as abort:
        assert abort.what in {"malformed message", "too many corrections"}  # noqa: PT017


def test_contradictory_answers_end_the_search() -> None:
    """An answer of ones everywhere is no pair of keys; the search must not run in circles."""
    search = Search(schedule("yan"), 0.05, 500, b"s")

    def answer_with_ones() -> None:
        while search.question is not None:
            search.answer(np.ones(search.question.low.size, dtype=np.uint8))

    with pytest.raises(ProtocolAbort, match="too many corrections"):
        answer_with_ones()


def test_block_sizes_are_the_papers() -> None:
    """Brassard and Salvail 1993; Yan et al. 2008; Martinez-Mateo et al. 2015, at Q = 3 %, n = 1e5."""
    assert schedule("original").block_sizes(0.03, 10**5) == (25, 50, 100, 200)
    assert schedule("yan").block_sizes(0.03, 10**5) == (27, 135, *[50_000] * 8)
    assert schedule("biconf").block_sizes(0.03, 10**5) == (31, 93, *[50_000] * 10)
    assert schedule("option8").block_sizes(0.03, 10**5) == (32, 512, 4096, *[50_000] * 11)
    with pytest.raises(UnknownName, match="one of original"):
        schedule("turbo")
