from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from qflsec.protocols.bb84.bits import Bits, PositionSet, pack
from qflsec.protocols.bb84.sifting import Announcement, BlockAnnouncement, BlockReply, Reply, sift
from qflsec.protocols.bb84.transcript import TranscriptError

BLOCK = 64


def made_up(
    n_pulses: int, n_intensities: int, rng: np.random.Generator, share: float = 0.4
) -> tuple[dict[str, Bits], list[Bits], Announcement, Reply]:
    """Plain arrays of one run, and the two announcements made of them."""
    clicked = np.flatnonzero(rng.random(n_pulses) < share)
    plain = {
        "bits": rng.integers(0, 2, clicked.size, dtype=np.uint8),
        "alice_x": rng.integers(0, 2, clicked.size, dtype=np.uint8),
        "bob_x": rng.integers(0, 2, clicked.size, dtype=np.uint8),
        "level": rng.integers(0, n_intensities, clicked.size, dtype=np.uint8),
    }
    heard, answers, own = [], [], []
    for start in range(0, n_pulses, BLOCK):
        n = min(BLOCK, n_pulses - start)
        here = (clicked >= start) & (clicked < start + n)
        equal = plain["alice_x"][here] == plain["bob_x"][here]
        positions = PositionSet.of(clicked[here] - start, n)
        heard.append(BlockAnnouncement(positions=positions, x_axis=pack(plain["bob_x"][here])))
        levels = plain["level"][here][equal]
        answers.append(BlockReply(x_axis=pack(plain["alice_x"][here]), intensity=levels))
        own.append(plain["bits"][here])
    announcement = Announcement(n_pulses=n_pulses, block_size=BLOCK, alarm=False, blocks=tuple(heard))
    sent = tuple(range(n_intensities))
    return plain, own, announcement, Reply(sent_key=sent, sent_test=sent, blocks=tuple(answers))


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 300), k=st.integers(1, 4), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_sifting_by_announcements_is_sifting_of_plain_arrays(n: int, k: int, seed: int, share: float) -> None:
    plain, own, announcement, reply = made_up(n, k, np.random.default_rng(seed), share)
    heard = Announcement.from_bytes(announcement.to_bytes(), n_pulses=n, block_size=BLOCK)
    answer = Reply.from_bytes(reply.to_bytes(), heard, n_intensities=k)
    sifted = sift(own, heard, answer)
    key = (plain["alice_x"] == 1) & (plain["bob_x"] == 1)
    test = (plain["alice_x"] == 0) & (plain["bob_x"] == 0)
    assert np.array_equal(sifted["key_bits"], plain["bits"][key])
    assert np.array_equal(sifted["test_bits"], plain["bits"][test])
    assert np.array_equal(sifted["key_intensity"], plain["level"][key])
    assert np.array_equal(sifted["test_intensity"], plain["level"][test])
    counts = sifted["counts"]
    assert counts.key == tuple(np.bincount(plain["level"][key], minlength=k))
    assert counts.n_detected == len(plain["bits"]) == counts.n_key + counts.n_test + counts.n_mismatched
    assert counts.n_pulses == n


@pytest.mark.parametrize("k", [1, 3])
def test_a_message_cut_or_lengthened_anywhere_is_refused(k: int) -> None:
    _, _, announcement, reply = made_up(150, k, np.random.default_rng(1))
    said = announcement.to_bytes()
    for bad in [said[:i] for i in range(len(said))] + [said + b"\0"]:
        with pytest.raises(TranscriptError):
            Announcement.from_bytes(bad, n_pulses=150, block_size=BLOCK)
    said = reply.to_bytes()
    for bad in [said[:i] for i in range(len(said))] + [said + b"\0"]:
        with pytest.raises(TranscriptError):
            Reply.from_bytes(bad, announcement, n_intensities=k)


def test_an_announcement_of_another_run_is_refused() -> None:
    _, _, announcement, reply = made_up(150, 1, np.random.default_rng(1))
    for n, block in ((151, BLOCK), (150, 2 * BLOCK)):
        with pytest.raises(TranscriptError, match="another run"):
            Announcement.from_bytes(announcement.to_bytes(), n_pulses=n, block_size=block)
    with pytest.raises(TranscriptError, match="another run"):
        Reply.from_bytes(reply.to_bytes(), announcement, n_intensities=3)


def test_an_intensity_that_does_not_exist_is_refused() -> None:
    _, _, announcement, reply = made_up(150, 4, np.random.default_rng(1))
    forged = Reply(sent_key=(1, 2, 3), sent_test=(1, 2, 3), blocks=reply.blocks)
    with pytest.raises(TranscriptError, match="unknown intensity"):
        Reply.from_bytes(forged.to_bytes(), announcement, n_intensities=3)


@settings(deadline=None, max_examples=100)
@given(junk=st.binary(max_size=80))
def test_junk_raises_nothing_but_the_clear_error(junk: bytes) -> None:
    with pytest.raises(TranscriptError):
        Announcement.from_bytes(junk, n_pulses=1000, block_size=BLOCK)
