"""The whole post-processing between two parties: keys, aborts, tampering, and the account."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, OsSecrets, SeededSecrets, numpy_stream
from qflsec.protocols.bb84 import agreement, postprocess_parties
from qflsec.protocols.bb84.agreement import PostprocessConfig
from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.authentication import Authenticator, forgery_bound
from qflsec.protocols.bb84.key_length import tomamichel_length
from qflsec.protocols.bb84.key_pool import KeyPool, preshared_bits
from qflsec.protocols.bb84.postprocess import KeyResult, run
from qflsec.protocols.bb84.sifting import AliceSifted, BobSifted, SiftedCounts
from qflsec.protocols.bb84.transcript import Message, PublicChannel

Bits = npt.NDArray[np.uint8]
N, K, QBER, Q_TOL = 4000, 4000, 0.01, 0.02
BUDGET = int(2.9 * N * binary_entropy(QBER))
LENGTH = tomamichel_length(n=N, k=K, q_tol=Q_TOL, leak_ec=BUDGET, eps_sec=1e-9, eps_cor=1e-12)
SMALL = PostprocessConfig(
    n=N, k=K, q_tol=Q_TOL, expected_qber=QBER, leak_budget=BUDGET, length=LENGTH,
    eps_sec=1e-9, eps_cor=1e-12, schedule="original",
)  # fmt: skip


def halves(
    *,
    n: int = N + 50,
    k: int = K + 30,
    qber: float = QBER,
    test_qber: float | None = None,
    seed: int = 0,
    alarm: bool = False,
) -> tuple[AliceSifted, BobSifted]:
    """Two sifted halves with exactly so many errors each."""
    rng = numpy_stream(seed, "sifted halves")

    def pair(size: int, rate: float) -> tuple[Bits, Bits]:
        one = rng.integers(0, 2, size, dtype=np.uint8)
        two = one.copy()
        two[rng.choice(size, round(rate * size), replace=False)] ^= 1
        return one, two

    key, test = pair(n, qber), pair(k, qber if test_qber is None else test_qber)
    counts = SiftedCounts(
        n_pulses=4 * (n + k),
        n_detected=2 * (n + k),
        key=(n,),
        test=(k,),
        sent_key=(n,),
        sent_test=(k,),
        alarm=alarm,
    )
    levels = {"key_intensity": np.zeros(n, np.uint8), "test_intensity": np.zeros(k, np.uint8)}
    common = {**levels, "counts": counts, "seeded": True}
    return (
        AliceSifted(key_bits=key[0], test_bits=test[0], **common),
        BobSifted(key_bits=key[1], test_bits=test[1], **common),
    )


def go(seed: int = 0, config: PostprocessConfig = SMALL, **sifted: float) -> KeyResult:
    return run(*halves(seed=seed, **sifted), config, SeededSecrets(seed, "run"))


def test_both_parties_end_with_the_same_key_and_each_with_its_own_copy() -> None:
    result = go()
    assert result.abort_reason is None
    assert np.array_equal(result.alice.key, result.bob.key)
    assert result.alice.key is not result.bob.key
    assert not np.shares_memory(result.alice.key, result.bob.key)
    assert result.alice.key.size == result.key_length
    assert set(np.unique(result.alice.key)) == {0, 1}


def test_the_account_adds_up() -> None:
    result = go(n=N, k=K)
    count = result.reconciliation
    assert result.leak_ec == count.alice_bits + count.bob_bits <= SMALL.leak_budget
    assert result.authentication_bits == 256
    assert result.preshared_bits == 384 == preshared_bits(2)
    assert result.key_length == SMALL.length - 256
    assert result.net_gain == SMALL.length - 384
    assert result.eps_total == SMALL.eps_sec + SMALL.eps_cor + result.eps_auth
    before_tags = result.public_bytes - 32
    assert 2 * forgery_bound(before_tags) < result.eps_auth < 2 * forgery_bound(2 * before_tags)
    assert count.corrected == 40
    assert result.f_ec == count.alice_bits / (N * binary_entropy(0.01))


def test_the_single_photon_length_is_the_theorems() -> None:
    assert SMALL.length == SMALL.single_photon_length == LENGTH > 256


def test_the_account_is_json_without_a_key_in_it() -> None:
    result = go()
    told = json.loads(json.dumps(result.to_dict()))
    assert told["key_length_bits"] == result.key_length
    assert told["abort_reason"] is None
    assert told["simulated"] is True
    key = np.packbits(result.alice.key).tobytes()
    assert all(not isinstance(value, list) or len(value) == 2 for value in told.values())
    assert key.hex() not in repr(result) + repr(result.alice) + str(told)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"test_qber": 0.03}, "test error rate above tolerance"),
        ({"test_qber": 0.25}, "test error rate above tolerance"),
        ({"qber": 0.05, "test_qber": 0.01}, "leak above budget"),
        ({"n": N - 1}, "too few bits"),
        ({"k": K - 1}, "too few bits"),
        ({"n": 0, "k": 0}, "too few bits"),
        ({"alarm": True}, "detector alarm"),
    ],
)
def test_an_abort_is_a_result_without_a_key(changed: dict[str, float], reason: str) -> None:
    result = go(**changed)
    assert result.abort_reason == reason
    assert result.key_length == result.net_gain == 0
    assert result.alice.key is None
    assert result.bob.key is None
    assert json.loads(json.dumps(result.to_dict()))["abort_reason"] == reason


def test_keys_that_differ_after_reconciliation_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bob leaves one error in place: the hash finds it but for eps_cor = 1e-12."""
    honest = postprocess_parties.BobPost.correct

    def careless(self: postprocess_parties.BobPost) -> None:
        honest(self)
        self._raw = self._raw.copy()
        self._raw[17] ^= 1

    monkeypatch.setattr(postprocess_parties.BobPost, "correct", careless)
    assert go().abort_reason == "verification failed"


def said_otherwise(kind: str, instead: bytes, **sifted: float) -> KeyResult:
    """A run in which the listener hears something else than the speaker said."""

    def relay(message: Message) -> bytes:
        return instead if message.kind == kind else message.payload

    return run(*halves(**sifted), SMALL, SeededSecrets(0, "run"), channel=PublicChannel(relay))


def test_bob_stops_at_a_failed_verification_whatever_alice_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = postprocess_parties.BobPost.correct

    def careless(self: postprocess_parties.BobPost) -> None:
        honest(self)
        self._raw = self._raw ^ 1

    monkeypatch.setattr(postprocess_parties.BobPost, "correct", careless)
    result = said_otherwise("verdict", b"\x01")
    assert result.abort_reason == "verification failed"


@pytest.mark.parametrize("errors", [81, 4000])
def test_alice_judges_the_errors_that_she_hears_of(errors: int) -> None:
    """Bob saw 1 % and is content; the tolerance of 2 % is 80 errors of 4000."""
    result = said_otherwise("test errors", errors.to_bytes(8, "big"))
    assert result.abort_reason == "test error rate above tolerance"


def test_bob_judges_the_errors_that_he_sees() -> None:
    result = said_otherwise("test errors", (0).to_bytes(8, "big"), test_qber=0.03)
    assert result.abort_reason == "test error rate above tolerance"


@pytest.mark.parametrize(("errors", "reason"), [(80, None), (81, "test error rate above tolerance")])
def test_the_tolerated_error_rate_is_tolerated(errors: int, reason: str | None) -> None:
    result = go(k=K, test_qber=errors / K)
    assert result.abort_reason == reason
    assert reason or result.test.errors == errors


def test_the_key_depends_on_every_raw_bit_and_on_fresh_seeds() -> None:
    one, two = go(seed=1), run(*halves(seed=1), SMALL, SeededSecrets(2, "run"))
    # Two independent keys of this length agree in 6 standard deviations more than half of their bits never.
    size = one.key_length
    same = int((one.alice.key == two.alice.key).sum())
    assert abs(same - size / 2) < 6 * (size / 4) ** 0.5


def kinds(channel: PublicChannel) -> list[str]:
    return [message.kind for message in channel.alice]


def test_seeds_are_said_only_after_what_they_must_be_independent_of() -> None:
    line = PublicChannel()
    run(*halves(), SMALL, SeededSecrets(0, "order"), channel=line)
    said = kinds(line)
    order = ["kept bits", "test bits", "test errors", "shuffle seed", "parities", "verification", "verdict"]
    order += ["amplification seed", "tag"]
    assert list(dict.fromkeys(said))[1:] == order
    assert said[-2:] == ["tag", "tag"]


def test_test_bits_are_in_no_key() -> None:
    """Other test bits with the same errors: the key stays the same, bit for bit."""
    alice, bob = halves()
    other = replace(alice, test_bits=alice.test_bits ^ 1), replace(bob, test_bits=bob.test_bits ^ 1)
    one, two = (run(*pair, SMALL, SeededSecrets(0, "test bits")) for pair in ((alice, bob), other))
    assert np.array_equal(one.alice.key, two.alice.key)
    flipped = alice.key_bits.copy()
    flipped[:100] ^= 1
    assert not np.array_equal(
        run(
            replace(alice, key_bits=flipped),
            replace(bob, key_bits=flipped),
            SMALL,
            SeededSecrets(0, "test bits"),
        ).alice.key,
        one.alice.key,
    )


def altered(index: int, change: object) -> KeyResult:
    """A run in which Eve changes message number ``index``."""
    sent = 0

    def relay(message: Message) -> bytes:
        nonlocal sent
        sent += 1
        return change(message.payload) if sent == index + 1 else message.payload

    return run(*halves(), SMALL, SeededSecrets(0, "run"), channel=PublicChannel(relay))


def flip(bit: int) -> object:
    def change(payload: bytes) -> bytes:
        where = bit % (8 * len(payload))
        altered_payload = bytearray(payload)
        altered_payload[where // 8] ^= 0x80 >> where % 8
        return bytes(altered_payload)

    return change


MESSAGES = go().messages


@pytest.mark.parametrize("index", range(MESSAGES))
def test_a_flipped_bit_in_any_message_leaves_no_key(index: int) -> None:
    result = altered(index, flip(7919 * (index + 1)))
    assert result.abort_reason is not None
    assert result.key_length == 0
    assert result.alice.key is None
    assert result.bob.key is None


@settings(deadline=None, max_examples=40)
@given(index=st.integers(0, MESSAGES - 1), bit=st.integers(0, 10**6))
def test_any_flipped_bit_is_found(index: int, bit: int) -> None:
    assert altered(index, flip(bit)).abort_reason is not None


@settings(deadline=None, max_examples=40)
@given(index=st.integers(0, MESSAGES - 1), tail=st.binary(min_size=1, max_size=20), cut=st.integers(0, 40))
def test_messages_of_another_length_are_aborts_and_not_crashes(index: int, tail: bytes, cut: int) -> None:
    assert altered(index, lambda payload: payload + tail).abort_reason is not None
    shorter = altered(index, lambda payload: payload[: max(0, len(payload) - cut)])
    assert cut == 0 or shorter.abort_reason is not None


def test_without_authentication_an_altered_message_passes_negative_control(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eve makes Alice hear of one error more than Bob saw; only the tags would have noticed."""
    monkeypatch.setattr(Authenticator, "check_hashed", lambda *_: None)

    def relay(message: Message) -> bytes:
        if message.kind == "test errors":
            return (int.from_bytes(message.payload, "big") + 1).to_bytes(8, "big")
        return message.payload

    result = run(*halves(), SMALL, SeededSecrets(0, "run"), channel=PublicChannel(relay))
    assert result.abort_reason is None
    honest = PublicChannel(relay)
    monkeypatch.undo()
    caught = run(*halves(), SMALL, SeededSecrets(0, "run"), channel=honest)
    assert caught.abort_reason == "authentication failed"


def test_a_man_in_the_middle_without_the_shared_key_gets_nothing() -> None:
    """Eve plays Bob to Alice: same bits, same protocol, but another key pool."""
    secrets = SeededSecrets(0, "mitm")
    alice_pool = KeyPool(secrets.draw(preshared_bits(2) // 8))
    eves_pool = KeyPool(secrets.draw(preshared_bits(2) // 8))
    result = run(*halves(), SMALL, secrets, pools=(alice_pool, eves_pool))
    assert result.abort_reason == "authentication failed"


def test_the_sifting_messages_are_authenticated_too() -> None:
    """A message altered before post-processing began is found at its end."""
    line = PublicChannel(lambda m: b"other bases" if m.kind == "bases" else m.payload)
    line.send("alice", "bases", b"true bases")
    result = run(*halves(), SMALL, SeededSecrets(0, "sift"), channel=line)
    assert result.abort_reason == "authentication failed"


def test_rounds_live_on_their_own_key() -> None:
    """The first round draws on a shared key; each later one on what the one before put back."""
    secrets = SeededSecrets(4, "rounds")
    shared = secrets.draw(preshared_bits(2) // 8)
    pools = KeyPool(shared), KeyPool(shared)
    gains = []
    for seed in range(3):
        result = run(*halves(seed=seed), SMALL, secrets, pools=pools)
        assert result.abort_reason is None
        gains.append(result.net_gain)
        assert pools[0].pads_left == pools[1].pads_left == 2
        assert pools[0]._pads == pools[1]._pads
    assert gains == [SMALL.length - 384, SMALL.length - 256, SMALL.length - 256]
    assert result.preshared_bits == 0


def test_what_goes_back_to_the_pool_is_not_in_the_released_key() -> None:
    secrets = SeededSecrets(4, "rounds")
    shared = secrets.draw(preshared_bits(2) // 8)
    pools = KeyPool(shared), KeyPool(shared)
    result = run(*halves(), SMALL, secrets, pools=pools)
    released = "".join(map(str, result.alice.key))
    for pad in (pad for pads in pools[0]._pads.values() for pad in pads.values()):
        put_back = np.unpackbits(np.frombuffer(bytes(pad), dtype=np.uint8))
        assert "".join(map(str, put_back[:64])) not in released


def test_an_abort_costs_no_pad_and_a_spent_pool_stops_the_next_round() -> None:
    secrets = SeededSecrets(4, "rounds")
    shared = secrets.draw(preshared_bits(2) // 8)
    pools = KeyPool(shared), KeyPool(shared)
    assert run(*halves(qber=0.05), SMALL, secrets, pools=pools).authentication_bits == 0
    line = PublicChannel(lambda m: bytes(16) if m.kind == "tag" and m.sender == "bob" else m.payload)
    spoiled = run(*halves(), SMALL, secrets, pools=pools, channel=line)
    assert (spoiled.abort_reason, spoiled.authentication_bits) == ("authentication failed", 256)
    assert run(*halves(), SMALL, secrets, pools=pools).abort_reason == "authentication key exhausted"
    assert spoiled.spoiled_rounds == 0


def test_a_tag_for_every_message_finds_tampering_at_once_and_costs_more() -> None:
    config = replace(SMALL, tags="per-message", n=60_000, k=20_000, leak_budget=16_000, length=24_000)
    result = go(config=config, n=60_000, k=20_000)
    assert result.abort_reason is None
    tagged = result.messages - 2
    assert result.authentication_bits == 128 * tagged
    assert result.key_length == config.length - 128 * tagged
    sent = []

    def relay(message: Message) -> bytes:
        sent.append(message)
        return flip(5)(message.payload) if len(sent) == 4 else message.payload

    spoiled = run(*halves(n=60_000, k=20_000), config, SeededSecrets(0, "r"), channel=PublicChannel(relay))
    assert (spoiled.abort_reason, len(sent)) == ("authentication failed", 4)


def test_tags_that_cost_more_than_the_key_leave_none() -> None:
    result = go(config=replace(SMALL, tags="per-message"))
    assert result.abort_reason == "the authentication pools took the whole key"


def test_reproducible_secrets_brand_the_key() -> None:
    alice, bob = halves()
    seeded = go()
    assert seeded.seeded
    assert np.array_equal(seeded.alice.key, go().alice.key)
    honest = run(replace(alice, seeded=False), replace(bob, seeded=False), SMALL, OsSecrets())
    assert not honest.seeded
    assert run(replace(alice, seeded=True), replace(bob, seeded=False), SMALL, OsSecrets()).seeded
    assert honest.simulated


def test_alice_does_not_hold_bobs_bits_nor_bob_hers() -> None:
    """Walk each party's state: the other's raw key is not in it."""
    alice, bob = halves(qber=0.02, test_qber=0.01)
    result = run(alice, bob, replace(SMALL, expected_qber=0.02), SeededSecrets(1, "walk"))
    seen: list[Bits] = []

    def walk(thing: object, depth: int = 0) -> None:
        if isinstance(thing, np.ndarray):
            seen.append(thing)
        elif depth < 6 and hasattr(thing, "__dict__"):
            for inner in vars(thing).values():
                walk(inner, depth + 1)
        elif depth < 6 and isinstance(thing, list | tuple | dict):
            for inner in thing.values() if isinstance(thing, dict) else thing:
                walk(inner, depth + 1)

    walk(result.alice)
    assert any(np.array_equal(array, alice.key_bits) for array in seen)
    assert not any(np.array_equal(array, bob.key_bits) for array in seen)
    assert not any(np.array_equal(array, bob.test_bits) for array in seen)


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": LENGTH + 1},
        {"length": 0},
        {"length": 256},
        {"k": 300},
        {"leak_budget": N},
        {"q_tol": 0.11},
        {"q_tol": 0.6},
        {"expected_qber": -0.1},
        {"eps_cor": 0.0},
        {"n": 0},
        {"schedule": "turbo"},
    ],
)
def test_configurations_without_a_secure_key_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Exception, match="got") as refused:
        replace(SMALL, **wrong)
    assert refused.value.__class__.__name__ in {"ConfigError", "UnknownName"}
    assert "\n" not in str(refused.value)


def test_an_unproved_length_is_shown_as_such_and_not_used() -> None:
    result = go()
    assert result.variable_length_unproved > SMALL.length
    assert "unproved_variable_length_bits" in result.to_dict()


def test_decoy_bits_of_another_source_are_a_mistake_of_the_user() -> None:
    decoy = agreement.DecoySource(intensities=(0.5, 0.1, 0.0), probabilities=(0.5, 0.3, 0.2))
    with pytest.raises(ConfigError, match="agreed source"):
        go(config=replace(SMALL, decoy=decoy))


MODULES = sorted(Path(agreement.__file__).parent.glob("*.py"))
POST = {
    "agreement", "asymptotic", "authentication", "cascade", "cascade_search", "cascade_variants", "decoy_length",
    "estimation", "key_length", "optimise", "optimise_decoy", "postprocess", "postprocess_parties",
    "privacy_amplification", "verification",
}  # fmt: skip


def statistical_generators(tree: ast.AST) -> list[str]:
    """Names by which a module could reach a generator that is not a source of secrets."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name in {"random", "numpy.random"}]
        elif isinstance(node, ast.ImportFrom):
            found += [a.name for a in node.names if a.name in {"numpy_stream", "stream", "random"}]
            found += [node.module or ""] if (node.module or "").endswith("random") else []
        elif isinstance(node, ast.Attribute) and node.attr == "random":
            found.append(ast.unparse(node))
    return found


def test_party_and_key_code_reaches_no_statistical_generator() -> None:
    modules = [path for path in MODULES if path.stem in POST]
    assert len(modules) == len(POST)
    for path in modules:
        assert statistical_generators(ast.parse(path.read_text())) == [], path.name
    guilty = ast.parse("import numpy as np\nfrom random import choice\nkey = np.random.default_rng(1)")
    assert len(statistical_generators(guilty)) == 2
