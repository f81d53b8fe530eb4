"""Whole runs under attack, judged by whoever sees both parties and the adversary."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from qflsec.attacks.channel import (
    ChannelAttack,
    DetectorBlinding,
    InterceptResend,
    ManInTheMiddle,
    PhotonNumberSplitting,
    TimeShift,
    TrojanHorse,
)
from qflsec.base import ConfigError, SeededSecrets, UnknownName
from qflsec.lab.worlds.channel import Judgement, attack_from_text, judge, prepare
from qflsec.protocols.bb84 import DetectorModel, FibreChannel
from qflsec.protocols.bb84.run import BB84Result, run_bb84
from qflsec.protocols.bb84.run_config import BB84Config, agree

LASER = BB84Config(
    source="weak-coherent",
    pulses=6_000_000,
    expected=FibreChannel(distance_km=30),
    detector=DetectorModel(efficiency=0.2, shift_ratio=0.005),
)
SINGLE = replace(LASER, source="single-photon", pulses=400_000)


def attacked(
    attack: ChannelAttack | None, config: BB84Config, *countermeasures: str
) -> tuple[BB84Result, Judgement]:
    better, plan = prepare(config, countermeasures)
    secrets = {f"{party}_secrets": SeededSecrets(1, party) for party in ("alice", "bob")}
    result = run_bb84(better, seed=1, plan=plan, attack=attack, **secrets)
    return result, judge(result)


@pytest.mark.parametrize("config", [SINGLE, LASER], ids=lambda config: config.source)
def test_an_honest_run_keeps_what_it_claims(config: BB84Config) -> None:
    result, judgement = attacked(None, config)
    assert result.key_length > 0
    assert judgement.key_claimed
    assert judgement.claim_holds
    assert judgement.keys_equal
    assert judgement.eve_information == 0.0


@pytest.mark.parametrize(
    ("attack", "config", "known"),
    [
        (PhotonNumberSplitting(), LASER, 0.8),
        (TimeShift(), SINGLE, 0.8),
        (DetectorBlinding(), SINGLE, 0.99),
        (TrojanHorse(), SINGLE, 0.99),
    ],
    ids=lambda value: value.card.name if isinstance(value, ChannelAttack) else "",
)
def test_these_leave_no_trace_and_a_false_key(
    attack: ChannelAttack, config: BB84Config, known: float
) -> None:
    result, judgement = attacked(attack, config)
    assert result.abort_reason is None
    assert result.qber.rate <= result.plan.config.q_tol
    assert judgement.eve_information > known
    assert judgement.key_claimed
    assert not judgement.claim_holds
    assert "FALSE" in judgement.sentence


@pytest.mark.parametrize(
    ("attack", "config", "names", "reason"),
    [
        (InterceptResend(fraction=0.2), SINGLE, (), "test error rate above tolerance"),
        (InterceptResend(fraction=0.2, basis="breidbart"), SINGLE, (), "test error rate above tolerance"),
        (ManInTheMiddle(), SINGLE, (), "authentication failed"),
        (DetectorBlinding(), SINGLE, ("detector-monitor",), "detector alarm"),
        (TimeShift(), SINGLE, ("random-assignment",), None),
        (TrojanHorse(), SINGLE, ("isolator",), None),
    ],
    ids=lambda value: value.card.name if isinstance(value, ChannelAttack) else "",
)
def test_these_are_stopped_or_learn_nothing(
    attack: ChannelAttack, config: BB84Config, names: tuple[str, ...], reason: str | None
) -> None:
    result, judgement = attacked(attack, config, *names)
    assert result.abort_reason == reason
    assert judgement.claim_holds
    assert judgement.key_claimed == (reason is None)
    if reason is None:
        assert judgement.eve_information < 0.01


@pytest.mark.slow
def test_decoy_states_stop_photon_number_splitting() -> None:
    config = replace(LASER, source="decoy", pulses=30_000_000)
    assert attacked(None, config)[0].key_length > 0
    result, judgement = attacked(PhotonNumberSplitting(), config)
    assert result.abort_reason == "decoy counts do not support the agreed length"
    assert judgement.claim_holds
    assert not judgement.key_claimed


def test_the_control_a_monitor_does_not_stop_a_time_shift() -> None:
    _, judgement = attacked(TimeShift(), SINGLE, "detector-monitor")
    assert not judgement.claim_holds


@pytest.mark.parametrize(
    "config",
    [
        SINGLE,
        pytest.param(replace(SINGLE, source="decoy", pulses=200_000_000), marks=pytest.mark.slow),
    ],
    ids=lambda config: config.source,
)
def test_an_isolator_costs_some_key_and_not_all(config: BB84Config) -> None:
    plain = agree(config)
    better, plan = prepare(config, ["isolator"])
    assert better.isolation_db == config.isolation_db + 130
    assert 0 < plain.config.length - plan.config.length < plain.config.length / 2


@pytest.mark.parametrize("name", ["tin-foil", "authentication", "decoy-states"])
def test_countermeasures_that_are_no_devices_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown countermeasure"):
        prepare(SINGLE, [name])


def test_the_judgement_is_json() -> None:
    result, judgement = attacked(InterceptResend(fraction=0.5), SINGLE)
    told = json.loads(json.dumps(judgement.to_dict()))
    assert told["claim_holds"] is True
    assert told["secret_bits_at_most"] is None
    assert result.key_length == 0


# --- attacks as text ---


@pytest.mark.parametrize(
    ("text", "attack"),
    [
        ("intercept-resend:0.2", InterceptResend(fraction=0.2)),
        ("intercept-resend", InterceptResend()),
        ("intercept-resend:0.2,basis=breidbart", InterceptResend(fraction=0.2, basis="breidbart")),
        ("intercept-resend:basis=breidbart", InterceptResend(basis="breidbart")),
        ("trojan-horse:1e6", TrojanHorse(injected=1e6)),
        ("man-in-the-middle", ManInTheMiddle()),
    ],
)
def test_attacks_are_read(text: str, attack: ChannelAttack) -> None:
    assert attack_from_text(text) == attack


@pytest.mark.parametrize(
    ("text", "kind", "what"),
    [
        ("no-such-attack", UnknownName, "unknown attack"),
        ("dlg", ConfigError, "not one on the quantum channel"),
        ("intercept-resend:2", ConfigError, "impossible fraction"),
        ("intercept-resend:much", ConfigError, "wrong value"),
        ("intercept-resend:0.2,breidbart", ConfigError, "without a name"),
        ("intercept-resend:share=0.2", ConfigError, "unknown key"),
        ("time-shift:3", ConfigError, "without a name"),
    ],
)
def test_attacks_that_are_none_are_refused(text: str, kind: type[Exception], what: str) -> None:
    with pytest.raises(kind, match=what):
        attack_from_text(text)
