"""The whole chain of BB84, from the first pulse to a key at both ends or to an abort."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qflsec.attacks.channel import InterceptResend, ManInTheMiddle, intercept_resend_qber
from qflsec.base import ConfigError, Secrets, SeededSecrets
from qflsec.protocols.bb84 import DetectorModel, FibreChannel
from qflsec.protocols.bb84.agreement import PostprocessConfig
from qflsec.protocols.bb84.key_pool import KeyPool
from qflsec.protocols.bb84.optimise import Requirements
from qflsec.protocols.bb84.run import BB84Result, Impersonator, run_bb84, share_beforehand
from qflsec.protocols.bb84.run_config import BB84Config, agree, length_formula
from qflsec.protocols.bb84.transcript import Message

SINGLE = BB84Config(
    pulses=400_000, expected=FibreChannel(distance_km=5), detector=DetectorModel(efficiency=0.5)
)


def go(config: BB84Config = SINGLE, *, seed: int = 1, **options: Any) -> BB84Result:
    """A run whose secrets are seeded too."""
    secrets = {f"{party}_secrets": SeededSecrets(seed, party) for party in ("alice", "bob")}
    return run_bb84(config, seed=seed, **{**secrets, **options})


def test_without_an_adversary_both_ends_hold_the_same_key() -> None:
    """A run aborts with probability of about 1e-3; this seed does not."""
    result = run_bb84(SINGLE, seed=1)
    assert result.abort_reason is None
    assert result.key_length == result.plan.config.length - 256 > 10_000
    assert result.net_key_bits == result.key_length - 128
    assert np.array_equal(result.alice_key, result.bob_key)
    assert result.alice_key.size == result.key_length
    assert not np.shares_memory(result.alice_key, result.bob_key)
    assert result.rate == result.key_length / SINGLE.pulses
    assert not result.key.seeded


def test_decoy_states_end_in_a_key_too() -> None:
    config = BB84Config(
        source="decoy",
        pulses=10_000_000,
        expected=FibreChannel(distance_km=5),
        detector=DetectorModel(efficiency=0.5),
    )
    result = go(config)
    assert result.abort_reason is None
    assert np.array_equal(result.alice_key, result.bob_key)
    assert result.key_length > 100_000
    account = result.to_dict()
    assert len(account["intensities_photons_per_pulse"]) == 3
    assert account["length_proved"] is True
    assert "Lim" in account["length_formula"]


def test_the_physics_repeat_and_the_secrets_do_not() -> None:
    """One intensity and equal detectors: what is detected does not depend on any secret."""
    one, two = run_bb84(SINGLE, seed=3), run_bb84(SINGLE, seed=3)
    assert one.counts.n_detected == two.counts.n_detected
    assert one.counts.n_detected != run_bb84(SINGLE, seed=4).counts.n_detected
    assert not np.array_equal(one.alice_key, two.alice_key)


def test_with_seeded_secrets_everything_repeats_and_says_so() -> None:
    one, two = go().to_dict(), go().to_dict()
    del one["cpu_seconds"], two["cpu_seconds"]
    assert one == two
    assert one["seeded"] is True
    assert np.array_equal(go().alice_key, go().alice_key)


def test_the_account_is_json_and_adds_up() -> None:
    result = go()
    account = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert account["sifted_bits"] == account["sifted_key_basis_bits"] + account["sifted_test_basis_bits"]
    assert account["pulses_sent"] > account["pulses_detected"] > account["sifted_bits"]
    assert account["raw_key_bits"] <= account["sifted_key_basis_bits"]
    assert account["leak_ec_bits"] == account["alice_parity_bits"] + account["bob_parity_bits"]
    assert account["eps_total"] == account["eps_sec"] + account["eps_cor"] + account["eps_auth"]
    assert account["qber_interval"][0] <= account["qber"] <= account["qber_interval"][1]
    assert account["rate_bits_per_pulse"] * SINGLE.pulses == pytest.approx(account["key_length_bits"])
    assert account["simulated"] is True
    assert np.packbits(result.alice_key).tobytes().hex() not in repr(result)


# --- aborts ---


def aborted(result: BB84Result, reason: str) -> None:
    assert result.abort_reason == reason
    assert result.key_length == result.net_key_bits == 0
    assert result.alice_key is None
    assert result.bob_key is None
    account = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert account["key_length_bits"] == account["rate_bits_per_pulse"] == 0
    assert account["abort_reason"] == reason


def test_intercept_resend_of_a_fifth_is_noticed_at_the_rate_of_theory() -> None:
    """The interval holds the predicted rate; it is one of 95 %, and this seed is not among the others."""
    result = go(attack=InterceptResend(fraction=0.2))
    aborted(result, "test error rate above tolerance")
    expected = intercept_resend_qber(0.2, result.plan.config.expected_qber)
    assert result.qber.low < expected < result.qber.high
    assert result.to_dict()["qber"] == result.qber.rate > result.plan.config.q_tol


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (FibreChannel(distance_km=15), "too few bits"),
        (FibreChannel(distance_km=2000), "too few bits"),
        (FibreChannel(distance_km=5, misalignment=0.05), "test error rate above tolerance"),
    ],
    ids=["longer", "empty sift", "misaligned"],
)
def test_a_line_worse_than_agreed_is_an_abort(line: FibreChannel, reason: str) -> None:
    result = go(replace(SINGLE, line=line))
    aborted(result, reason)
    if line.distance_km == 2000:
        assert result.qber is None


def test_a_better_line_than_agreed_gives_the_agreed_key_and_no_more() -> None:
    result = go(replace(SINGLE, line=FibreChannel(distance_km=0, misalignment=0.0)))
    assert result.key_length == result.plan.config.length - 256


def test_nobody_gets_between_two_parties_who_share_a_key() -> None:
    """Eve holds the whole protocol with each party; she lacks 128 bits for authentication."""
    result = go(attack=ManInTheMiddle())
    aborted(result, "authentication failed")
    assert isinstance(result.quantum.eve, Impersonator)
    assert result.qber.rate < result.plan.config.q_tol, "the errors show nothing"
    assert result.key.reconciliation is not None, "she came through error correction"
    assert result.quantum.channel.alice != result.quantum.channel.bob


def test_with_the_authentication_key_a_man_in_the_middle_would_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what stops her is the key and nothing else."""
    import qflsec.protocols.bb84.run as module

    def known(config: PostprocessConfig, _: Secrets) -> tuple[KeyPool, KeyPool]:
        return share_beforehand(config, SeededSecrets(0, "everybody knows"))

    monkeypatch.setattr(module, "share_beforehand", known)
    result = go(attack=ManInTheMiddle())
    assert result.abort_reason is None
    assert result.key_length > 0
    assert not np.array_equal(result.alice_key, result.bob_key)


class _Flip:
    """An adversary who leaves the light alone and changes one bit of one public message."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def open(self, config: object, *, seed: int) -> Any:
        from qflsec.protocols.bb84 import Eavesdropper

        wanted = self.kind

        class Eve(Eavesdropper):
            def intercept(self, train: Any, line: Any) -> Any:
                return line.carry(train)

            def relay(self, message: Message) -> bytes:
                if message.kind != wanted:
                    return message.payload
                return message.payload[:-1] + bytes([message.payload[-1] ^ 0x80])

        return Eve()


@pytest.mark.parametrize("kind", ["amplification seed", "verification", "tag", "parities"])
def test_no_key_comes_of_an_altered_discussion(kind: str) -> None:
    result = go(attack=_Flip(kind))
    assert result.abort_reason is not None
    assert result.alice_key is None
    assert result.bob_key is None


def test_pools_go_on_from_run_to_run() -> None:
    plan = agree(SINGLE)
    pools = share_beforehand(plan.config, SeededSecrets(0, "meeting"))
    first = go(plan=plan, pools=pools)
    second = go(plan=plan, pools=pools, seed=2)
    assert first.key.preshared_bits > 0
    assert second.key.preshared_bits == 0
    assert second.net_key_bits == second.key_length
    assert pools[0].spent == pools[1].spent == 4
    assert first.key.eps_pads == 0.0
    assert second.key.eps_pads == first.key.eps_total


def test_per_message_tags_cost_more() -> None:
    asked = replace(SINGLE, requirements=Requirements(tags="per-message"))
    plain, tagged = go(), go(asked)
    assert tagged.abort_reason is None
    assert tagged.key.authentication_bits > 10 * plain.key.authentication_bits
    assert tagged.key_length < plain.key_length


# --- agreement ---


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"source": "candle"}, "unknown source"),
        ({"pulses": 0}, "number of pulses"),
        ({"basis_probability": 1.0}, "basis bias"),
        ({"source": "weak-coherent", "intensity": -1.0}, "intensities"),
        ({"source": "decoy", "basis_probability": 0.5}, "chosen with its intensities"),
        ({"isolation_db": -1.0}, "isolation"),
        ({"block_size": 12}, "block size"),
    ],
)
def test_impossible_arguments_are_refused(changed: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        replace(SINGLE, **changed)


@pytest.mark.parametrize("source", ["single-photon", "decoy", "weak-coherent"])
def test_a_run_that_can_give_no_key_is_refused_beforehand(source: Any) -> None:
    config = BB84Config(source=source, pulses=100_000, expected=FibreChannel(distance_km=400))
    with pytest.raises(ConfigError, match="no key can be made"):
        agree(config)


def test_a_given_basis_bias_is_kept_and_the_best_is_best() -> None:
    best = agree(SINGLE)
    given = agree(replace(SINGLE, basis_probability=0.6))
    assert given.basis_probability == 0.6
    assert given.config.length < best.config.length
    again = agree(replace(SINGLE, basis_probability=best.basis_probability))
    assert again.config == best.config


def test_laser_pulses_without_decoys_are_said_to_be_unproved() -> None:
    config = replace(SINGLE, source="weak-coherent")
    assert not config.proved
    assert length_formula("weak-coherent").startswith("none")
    assert go(config).to_dict()["length_proved"] is False
