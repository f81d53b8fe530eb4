"""Pools of pads for authentication: used once whatever breaks, refilled first, and how much spoiling they survive."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, ProtocolAbort, SeededSecrets, StoreError, numpy_stream
from qflsec.protocols.bb84 import authentication
from qflsec.protocols.bb84.agreement import PostprocessConfig
from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.authentication import PolynomialHash
from qflsec.protocols.bb84.key_length import tomamichel_length
from qflsec.protocols.bb84.key_pool import SPEAKERS, KeyPool, PoolState, preshared_bits, spoiled_rounds
from qflsec.protocols.bb84.postprocess import KeyResult, run, share_beforehand
from qflsec.protocols.bb84.sifting import AliceSifted, BobSifted, SiftedCounts
from qflsec.protocols.bb84.stored_pool import KeyPoolCorrupt, StoredKeyPool
from qflsec.protocols.bb84.transcript import Message, PublicChannel, Transcript

N, K, QBER, Q_TOL = 4000, 4000, 0.01, 0.02
BUDGET = int(2.9 * N * binary_entropy(QBER))
LENGTH = tomamichel_length(n=N, k=K, q_tol=Q_TOL, leak_ec=BUDGET, eps_sec=1e-9, eps_cor=1e-12)
SMALL = PostprocessConfig(
    n=N, k=K, q_tol=Q_TOL, expected_qber=QBER, leak_budget=BUDGET, length=LENGTH,
    eps_sec=1e-9, eps_cor=1e-12, schedule="original",
)  # fmt: skip
Pools = tuple[KeyPool, KeyPool]
Relay = Callable[[Message], bytes]
FORK = multiprocessing.get_context("fork")


def halves(seed: int) -> tuple[AliceSifted, BobSifted]:
    """Two sifted halves with exactly as many errors as are expected."""
    rng = numpy_stream(seed, "sifted halves")
    alice = rng.integers(0, 2, N + K, dtype="uint8")
    bob = alice.copy()
    bob[rng.choice(N, round(QBER * N), replace=False)] ^= 1
    bob[N + rng.choice(K, round(QBER * K), replace=False)] ^= 1
    counts = SiftedCounts(
        n_pulses=4 * (N + K), n_detected=2 * (N + K), key=(N,), test=(K,), sent_key=(N,), sent_test=(K,)
    )
    common: dict[str, Any] = {"counts": counts, "seeded": True}
    zeros = {"key_intensity": alice[:N] * 0, "test_intensity": alice[N:] * 0}
    return (
        AliceSifted(key_bits=alice[:N], test_bits=alice[N:], **zeros, **common),
        BobSifted(key_bits=bob[:N], test_bits=bob[N:], **zeros, **common),
    )


def go(pools: Pools, seed: int, relay: Relay | None = None) -> tuple[KeyResult, PublicChannel]:
    line = PublicChannel(relay) if relay else PublicChannel()
    return run(*halves(seed), SMALL, SeededSecrets(seed, "run"), pools=pools, channel=line), line


def shared(pads: int) -> bytes:
    return SeededSecrets(9, "shared").draw(preshared_bits(pads) // 8)


def in_memory(_: Path, pads: int) -> Pools:
    return KeyPool(shared(pads)), KeyPool(shared(pads))


def in_files(directory: Path, pads: int) -> Pools:
    one, two = (StoredKeyPool.make(directory / f"{name}.pads", shared(pads)) for name in SPEAKERS)
    return one, two


def the_same(pools: Pools, _: Path) -> Pools:
    return pools


def opened_again(_: Pools, directory: Path) -> Pools:
    """As after a crash: nothing is known but what is on the disk."""
    one, two = (StoredKeyPool(directory / f"{name}.pads") for name in SPEAKERS)
    return one, two


KINDS = pytest.mark.parametrize(
    ("make", "later"), [(in_memory, the_same), (in_files, opened_again)], ids=["memory", "files"]
)


def spoil_last_tag(message: Message) -> bytes:
    return bytes(16) if message.kind == "tag" and message.sender == "bob" else message.payload


def pads_of(line: PublicChannel, hash_key: bytes) -> Iterator[bytes]:
    """The pads that a round's tags were encrypted with: each speaker's tag, and the hash of what it had said and heard."""
    hashed = PolynomialHash(hash_key)
    for speaker, transcript in (("alice", line.alice), ("bob", line.bob)):
        before = Transcript(tuple(m for m in transcript if m.kind != "tag"))
        for message in transcript:
            if message.kind == "tag" and message.sender == speaker:
                digest = hashed(before.to_bytes())
                yield bytes(a ^ b for a, b in zip(message.payload, digest, strict=True))


@KINDS
def test_a_round_that_broke_off_never_uses_its_pads_again(
    tmp_path: Path, make: Callable[..., Pools], later: Callable[..., Pools]
) -> None:
    """The pads are computed from the tags on the line: whoever uses one twice shows it here, and to Eve."""
    secret, pools = shared(10), make(tmp_path, 10)
    seen: list[bytes] = []
    for seed, relay in enumerate((None, spoil_last_tag, spoil_last_tag, None, None)):
        pools = later(pools, tmp_path)
        result, line = go(pools, seed, relay)
        assert result.abort_reason == ("authentication failed" if relay else None)
        seen += pads_of(line, secret[:16])
    assert len(seen) == 10
    assert len(set(seen)) == len(seen)
    for turn in range(2):  # a pad of Alice's encrypts no tag of Bob's, nor the other way round
        own = {secret[at : at + 16] for at in range(16 * (1 + turn), len(secret), 32)}
        assert {*seen[turn:6:2]} <= own


@KINDS
def test_the_pool_is_refilled_first_and_to_its_level(
    tmp_path: Path, make: Callable[..., Pools], later: Callable[..., Pools]
) -> None:
    """Ten pads: a spoiled round takes two; the next key gives back these and its own, and is that much shorter."""
    pools = make(tmp_path, 10)
    spoiled, _ = go(pools, 1, spoil_last_tag)
    assert (spoiled.authentication_bits, spoiled.refilled_bits) == (256, 0)
    pools = later(pools, tmp_path)
    assert pools[0].pads_left == pools[1].pads_left == 8
    good, _ = go(pools, 2)
    assert (good.authentication_bits, good.refilled_bits) == (256, 512)
    assert good.key_length == LENGTH - 512
    pools = later(pools, tmp_path)
    assert pools[0].pads_left == pools[1].pads_left == pools[0].level == 10
    again, _ = go(pools, 3)
    assert (again.refilled_bits, again.key_length) == (256, LENGTH - 256)
    assert (again.alice.key == again.bob.key).all()


@pytest.mark.parametrize(
    ("pads", "tags", "expected"),
    [(2, 2, 0), (4, 2, 0), (6, 2, 1), (10, 2, 2), (18, 2, 4), (0, 2, 0), (3, 1, 1)],
)
def test_how_many_spoiled_rounds_a_pool_survives(pads: int, tags: int, expected: int) -> None:
    assert spoiled_rounds(pads, tags=tags) == expected


def spoil_twice(pools: Pools) -> Relay:
    """Eve's best: Bob believes that Alice lacks the first pad that both have, so that they use different ones."""

    def relay(message: Message) -> bytes:
        if message.kind == "tag":
            return bytes(16)
        if message.kind != "pads left" or message.sender != "alice":
            return message.payload
        said = b""
        for speaker in SPEAKERS:
            state, other = (pool.state(speaker) for pool in pools)
            both = state.free & other.free
            fewer = state.free - {min(both)} if len(both) > 1 else state.free
            said += PoolState(level=state.level, end=state.end, free=fewer).to_bytes()
        return said

    return relay


@pytest.mark.parametrize("pads", [2, 6, 10])
def test_the_stated_number_of_spoiled_rounds_is_survived_and_no_more(pads: int) -> None:
    stated = spoiled_rounds(pads, tags=2)
    for attacks in (stated, stated + 1):
        pools = in_memory(Path(), pads)
        for seed in range(attacks):
            spoiled, _ = go(pools, seed, spoil_twice(pools))
            assert spoiled.abort_reason == "authentication failed"
        result, _ = go(pools, 99)
        assert result.abort_reason == (None if attacks == stated else "authentication key exhausted")
        if attacks == stated:
            assert pools[0].pads_left == pools[1].pads_left == pads
            assert result.spoiled_rounds == stated
            assert pools[0].says() == pools[1].says()


def test_what_an_account_says_of_spoiled_rounds_is_true_amid_an_attack() -> None:
    """Eve takes pads of one direction only, and each party another one: the pads of one party do not tell."""
    pools = in_memory(Path(), 10)
    for attack in (1, 2):
        spoiled, _ = go(pools, attack, spoil_twice(pools))
        assert spoiled.spoiled_rounds == 2 - attack
    assert go(pools, 3)[0].abort_reason is None


@pytest.mark.parametrize("claim", ["no pads", "far ahead", "another level", "garbage", "nothing"])
def test_a_false_claim_uses_up_one_pad_of_each_direction_at_most(claim: str) -> None:
    """The old rule went on from the later of two claimed positions: one forged number emptied a pool of 64 pads."""

    def forge(message: Message) -> bytes:
        if message.kind != "pads left":
            return message.payload
        level = 20
        state = {
            "no pads": PoolState(level=level, end=20, free=frozenset()),
            "far ahead": PoolState(level=level, end=60, free=frozenset(range(19, 60))),
            "another level": PoolState(level=3, end=20, free=frozenset(range(20))),
        }.get(claim)
        if state is not None:
            return 2 * state.to_bytes()
        return b"" if claim == "nothing" else struct.pack(">3Q", level, 5, 1 << 60) * 2

    pools = in_memory(Path(), 40)
    assert go(pools, 1, forge)[0].abort_reason is not None
    assert min(pool.pads_left for pool in pools) >= 38
    assert go(pools, 2)[0].abort_reason is None


def test_pools_of_different_levels_are_not_of_one_pair() -> None:
    """They would be refilled to different levels, so that the two copies of the key would differ in length."""
    pools = KeyPool(shared(6)), KeyPool(shared(10))
    result, _ = go(pools, 1)
    assert result.abort_reason == "the authentication pools have different levels"
    assert (pools[0].spent, pools[1].spent) == (0, 0)


@pytest.mark.parametrize("make", [in_memory, in_files])
def test_one_party_dies_before_its_refill(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[..., Pools]
) -> None:
    """Alice's pool then holds pads that Bob never got: they are dropped, and the pools are equal again."""
    from qflsec.protocols.bb84.postprocess_parties import BobPost

    pools = make(tmp_path, 6)
    with monkeypatch.context() as patch:
        patch.setattr(BobPost, "release", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            go(pools, 1)
    assert (pools[0].pads_left, pools[1].pads_left) == (6, 4)
    result, _ = go(pools, 2)
    assert result.abort_reason is None
    assert (result.alice.key == result.bob.key).all()
    assert pools[0].says() == pools[1].says()
    assert pools[0].pads_left == 6
    if make is in_memory:
        assert pools[0]._pads == pools[1]._pads


@pytest.mark.parametrize("forgery", [None, 1e-6], ids=["as it is", "large"])
def test_pads_that_came_from_earlier_blocks_carry_their_epsilon(
    monkeypatch: pytest.MonkeyPatch, forgery: float | None
) -> None:
    """By the union bound over the blocks that the pads were taken from, their authentication included."""
    if forgery is not None:
        monkeypatch.setattr(authentication, "forgery_bound", lambda _: forgery)
    pools = in_memory(Path(), 2)
    results = [go(pools, seed)[0] for seed in range(3)]
    own = [r.config.eps_sec + r.config.eps_cor + r.eps_auth for r in results]
    assert [r.eps_pads for r in results] == pytest.approx([0.0, own[0], own[0] + own[1]], rel=1e-12)
    assert results[2].eps_total == pytest.approx(sum(own), rel=1e-12)
    assert results[2].epsilons.total == pytest.approx(sum(own), rel=1e-12), (
        "so do the keys that are cut from it"
    )


@pytest.mark.parametrize("make", [in_memory, in_files])
def test_pads_are_used_once_erased_and_run_out(tmp_path: Path, make: Callable[..., Pools]) -> None:
    pool = make(tmp_path, 6)[0]
    pads = {pool.pad(speaker) for speaker in SPEAKERS for _ in range(3)}
    assert len(pads) == 6
    for speaker in SPEAKERS:
        with pytest.raises(ProtocolAbort, match="exhausted"):
            pool.pad(speaker)
    assert (pool.pads_left, pool.spent) == (0, 6)
    taken = pool.refill(bytes(range(64)), eps=1e-9)
    assert taken == 64
    assert (pool.pads_left, pool.refills, pool.eps) == (4, 1, 1e-9)
    assert pool.pad("alice") == bytes(range(16))
    on_disk = b"".join(path.read_bytes() for path in tmp_path.glob("alice.pads*"))
    assert not any(pad in on_disk for pad in pads)
    assert pool.hash_key.hex() not in repr(pool)


def test_share_beforehand_reckons_with_spoiled_rounds() -> None:
    for spoiled in (0, 1, 5):
        pool, _ = share_beforehand(SMALL, SeededSecrets(1), spoiled=spoiled)
        assert spoiled_rounds(pool.pads_left, tags=2) == spoiled


@settings(deadline=None)
@given(end=st.integers(0, 300), data=st.data(), rest=st.binary(max_size=9))
def test_what_is_said_of_a_pool_is_heard(end: int, data: st.DataObject, rest: bytes) -> None:
    free = data.draw(st.frozensets(st.integers(0, end - 1))) if end else frozenset()
    state = PoolState(level=7, end=end, free=free)
    assert PoolState.read(state.to_bytes() + rest) == (state, rest)


@given(payload=st.binary(max_size=80))
def test_any_bytes_are_a_state_or_refused(payload: bytes) -> None:
    pool = KeyPool(shared(4))
    try:
        pool.agree(payload)
    except ProtocolAbort:
        assert pool.pads_left == 4


def use(path: Path, log: int) -> None:
    """A party that authenticates until it is killed; its tags leave the process."""
    pool = StoredKeyPool(path)
    while True:
        os.write(log, pool.pad("alice").hex().encode() + b"\n")


def test_a_killed_process_may_lose_a_pad_but_uses_none_twice(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    directory = memory if os.access(memory, os.W_OK) else tmp_path
    path, kills, moments = directory / f"{os.getpid()}.pads", 12, random.Random(4)
    secret = shared(4000)
    StoredKeyPool.make(path, secret)
    used: list[str] = []
    try:
        for _ in range(kills):
            reader, writer = os.pipe()
            process = FORK.Process(target=use, args=(path, writer), daemon=True)
            process.start()
            os.close(writer)
            first = os.read(reader, 1 << 16)
            time.sleep(moments.uniform(0.0, 0.03))
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            rest = b"".join(iter(lambda fd=reader: os.read(fd, 1 << 16), b""))
            os.close(reader)
            used += (first + rest).decode().split()
        left = len(StoredKeyPool(path).state("alice").free)
    finally:
        for leftover in directory.glob(f"{path.name}*"):
            leftover.unlink()
    assert len(used) >= kills
    assert len(set(used)) == len(used)
    assert set(used) <= {secret[at : at + 16].hex() for at in range(16, len(secret), 32)}
    assert 0 <= 2000 - len(used) - left <= kills


def test_files_of_pools(tmp_path: Path) -> None:
    path = tmp_path / "a.pads"
    with pytest.raises(StoreError, match="is gone"):
        StoredKeyPool(path)
    with pytest.raises(ConfigError, match="shared beforehand"):
        StoredKeyPool.make(path, bytes(32))
    StoredKeyPool.make(path, shared(2)).pad("alice")
    with pytest.raises(StoreError, match="there is a key pool at"):
        StoredKeyPool.make(path, shared(2))
    assert StoredKeyPool(path).pads_left == 1
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"x" * 4096)
    with pytest.raises(KeyPoolCorrupt):
        StoredKeyPool(path)


def test_two_processes_of_one_party_share_no_pad(tmp_path: Path) -> None:
    one = StoredKeyPool.make(tmp_path / "a.pads", shared(6))
    two = StoredKeyPool(tmp_path / "a.pads")
    for pool in (one, two):
        pool.agree(one.says())
    first = one.pad("alice")
    with pytest.raises(ProtocolAbort, match="another process"):
        two.pad("alice")
    assert two.pad("alice") != first
    assert one.refill(shared(10), eps=0.0) == 16
    with pytest.raises(
        ProtocolAbort, match="another process refilled"
    ):  # and the file is not said to be damaged
        two.refill(shared(10), eps=0.0)
