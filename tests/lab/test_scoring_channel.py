"""Attack against countermeasure: the matrix."""

from __future__ import annotations

import gc
import types
from dataclasses import replace

import numpy as np
import pytest

from qflsec.attacks.base import attack_from_config
from qflsec.attacks.channel import (
    COUNTERMEASURES,
    ChannelAttack,
    DetectorBlinding,
    InterceptResend,
    KeyGuess,
    ManInTheMiddle,
    PhotonNumberSplitting,
    TimeShift,
    TrojanHorse,
    equip,
    leakage_term,
)
from qflsec.base import ConfigError, Source, find
from qflsec.lab.scoring.channel import channel_outcome, eve_information
from qflsec.lab.scoring.channel_outcome import ChannelOutcome
from qflsec.protocols.bb84 import (
    Alice,
    DetectorModel,
    FibreChannel,
    QuantumConfig,
    WeakCoherentSource,
)
from qflsec.protocols.bb84.signal import Nature

BARE = QuantumConfig(
    n_pulses=3_000_000,
    source=WeakCoherentSource(intensities=(0.5,), probabilities=(1.0,)),
    channel=FibreChannel(distance_km=30, misalignment=0.01),
    detector=DetectorModel(efficiency=0.5, dark_count=1e-6, shift_ratio=0.1),
    block_size=1 << 15,
)
ATTACKS: list[ChannelAttack] = [
    InterceptResend(fraction=0.2),
    PhotonNumberSplitting(),
    TimeShift(),
    DetectorBlinding(),
    TrojanHorse(),
    ManInTheMiddle(),
]
CURES = {
    "photon-number-splitting": "decoy-states",
    "time-shift": "random-assignment",
    "detector-blinding": "detector-monitor",
    "trojan-horse": "isolator",
    "man-in-the-middle": "authentication",
}


def outcome(
    attack: ChannelAttack | None, *names: str, n: int = BARE.n_pulses, seed: int = 1
) -> ChannelOutcome:
    return channel_outcome(attack, names, config=replace(BARE, n_pulses=n), seed=seed, seeded=True)


@pytest.mark.parametrize("name", [None, *COUNTERMEASURES])
def test_an_honest_line_gives_a_key_that_holds_whatever_is_done(name: str | None) -> None:
    """False alarm below 1e-5 for each: five standard deviations for each check."""
    cell = outcome(None, *([name] if name else []), n=8_000_000 if name == "decoy-states" else BARE.n_pulses)
    assert cell.attack == "none"
    assert not cell.detected
    assert cell.key_claimed
    assert cell.claim_holds
    assert cell.eve_information == 0.0


@pytest.mark.parametrize("attack", ATTACKS[1:], ids=lambda attack: attack.card.name)
def test_without_countermeasures_a_key_is_claimed_that_eve_knows(attack: ChannelAttack) -> None:
    cell = outcome(attack)
    assert not cell.detected
    assert cell.key_claimed
    assert not cell.claim_holds
    assert cell.eve_information > 0.4
    assert cell.qber < 0.012


@pytest.mark.parametrize("attack", ATTACKS[1:], ids=lambda attack: attack.card.name)
def test_its_countermeasure_ends_the_false_claim(attack: ChannelAttack) -> None:
    name = CURES[attack.card.name]
    cell = outcome(attack, name)
    assert cell.claim_holds
    if name in ("random-assignment", "isolator"):
        assert cell.key_claimed
        assert cell.eve_information < 0.01
    else:
        assert not cell.key_claimed
        fired = {"decoy-states": "decoy-gains"}.get(name, name)
        assert fired in cell.detected_by


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (TimeShift(), "detector-monitor"),
        (DetectorBlinding(), "random-assignment"),
        (TrojanHorse(), "authentication"),
        (ManInTheMiddle(), "isolator"),
        (PhotonNumberSplitting(), "authentication"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.card.name,
)
def test_another_countermeasure_does_not(attack: ChannelAttack, name: str) -> None:
    cell = outcome(attack, name)
    assert cell.key_claimed
    assert not cell.claim_holds


def test_intercept_resend_shows_in_the_test_bits() -> None:
    cell = outcome(InterceptResend(fraction=0.2))
    assert cell.detected_by == ("test-errors",)
    assert cell.key_length == 0
    assert cell.eve_information == pytest.approx(0.1, abs=0.01)


def test_a_little_intercepting_is_paid_for_by_privacy_amplification() -> None:
    """Below the tolerance nothing is noticed, and the shortened key is safe all the same."""
    cell = outcome(InterceptResend(fraction=0.002))
    assert not cell.detected
    assert cell.key_claimed
    assert cell.claim_holds


def test_too_few_pulses_leave_no_key() -> None:
    cell = outcome(None, n=20_000)
    assert cell.detected_by == ("no-key-left",)
    assert cell.key_length == 0
    empty = channel_outcome(
        None, (), config=replace(BARE, n_pulses=1000, channel=FibreChannel(distance_km=900)), seed=1
    )
    assert empty.n_key == 0
    assert empty.detected_by == ("no-key-left",)


def test_unknown_countermeasures_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown countermeasure"):
        equip(BARE, ["tin-foil"])


def test_information_is_counted_by_confidence() -> None:
    rng = np.random.default_rng(0)
    key = rng.integers(0, 2, 100_000, dtype=np.uint8)
    noise = rng.integers(0, 2, key.size, dtype=np.uint8)
    sure = rng.random(key.size) < 0.3
    guess = KeyGuess(bits=np.where(sure, key, noise), confidence=np.where(sure, 1.0, 0.5))
    assert eve_information(guess, key) == pytest.approx(sure.mean(), abs=1e-3)
    assert eve_information(replace(guess, bits=noise), key) < 1e-3
    assert eve_information(replace(guess, bits=1 - key), key) == 1.0
    assert eve_information(KeyGuess(bits=key[:0], confidence=np.zeros(0)), key[:0]) == 0.0


def test_a_leak_costs_key_and_no_leak_costs_none() -> None:
    cost = [
        leakage_term(n_single=1e5, phase_error=0.02, reflected=mu, single_photon_yield=0.1)
        for mu in (0.0, 1e-6, 1e-3)
    ]
    assert cost[0] == 0.0
    assert 0 < cost[1] < cost[2] < 1e5


# --- cards and separation ---


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.card.name)
def test_cards_are_registered_and_complete(attack: ChannelAttack) -> None:
    card = attack.card
    assert find("attack", card.name) is type(attack)
    assert card.family == "channel"
    assert isinstance(card.source, Source)
    assert card.source.year >= 1984
    assert card.needs
    assert attack_from_config(attack.to_config()) == attack


def reachable(root: object) -> set[int]:
    seen: set[int] = set()
    todo = [root]
    while todo:
        thing = todo.pop()
        code = types.ModuleType | type | types.FunctionType | types.MethodType
        if id(thing) in seen or isinstance(thing, code):
            continue
        seen.add(id(thing))
        todo += gc.get_referents(thing)
    return seen


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.card.name)
def test_eve_cannot_reach_what_alice_holds(attack: ChannelAttack) -> None:
    config = replace(BARE, n_pulses=4096)

    class Secret:
        seeded = True

        def draw(self, n_bytes: int) -> bytes:
            return bytes(n_bytes)

    secret = Secret()
    alice = Alice(config=config, secrets=secret, nature=Nature(0))
    eve = attack.open(config, seed=0)
    eve.intercept(alice.prepare(4096), config.channel)
    block = alice._blocks[0]
    held = {id(thing) for thing in (secret, alice, alice._blocks, block, block.bits, block.x)}
    assert not reachable(eve) & held
    eve.leak = alice  # type: ignore[attr-defined]
    assert held <= reachable(eve)
