"""Proofs of the norm: complete, bound to their statement, hiding, and false ones refused however they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from qflsec.base import ConfigError, OsSecrets, ProtocolAbort, SeededSecrets
from qflsec.protocols.validated import group, prover, verifier
from qflsec.protocols.validated.group import (
    IDENTITY,
    ORDER,
    VALUE_BASE,
    add,
    blind,
    challenge,
    commitment,
    draw_scalar,
    negate,
    pack_scalar,
    read_point,
    read_scalar,
    subtract,
    times,
    total,
)
from qflsec.protocols.validated.prover import BitProof, Opening, Proof, Prover, commit, prove
from qflsec.protocols.validated.statement import Statement
from qflsec.protocols.validated.verifier import announcements, opens_to, verify

SECRETS = OsSecrets()


def statement(d: int = 3, r: int = 4, **changes: Any) -> Statement:
    return Statement(
        **{
            "dimension": d,
            "resolution_bits": r,
            "max_norm": 1.0,
            "session": b"session",
            "round": 2,
            "client": 1,
            "context": b"model",
            **changes,
        }
    )


def accepts(claim: Statement, proof: Proof) -> bool:
    """As the server does it: from bytes."""
    try:
        verify(claim, Proof.from_bytes(proof.to_bytes(), claim))
    except ProtocolAbort:
        return False
    return True


# -- the group ----------------------------------------------------------------------------------------


def test_the_group_is_of_prime_order_and_the_bases_are_valid() -> None:
    assert times(ORDER - 1, VALUE_BASE) == negate(VALUE_BASE)
    assert add(times(ORDER - 1, VALUE_BASE), VALUE_BASE) == IDENTITY
    assert read_point(VALUE_BASE) == VALUE_BASE
    assert times(0, VALUE_BASE) == blind(ORDER) == IDENTITY
    a, b = draw_scalar(SECRETS), draw_scalar(SECRETS)
    assert add(commitment(5, a), commitment(-7, b)) == commitment(-2, a + b)
    assert blind(a) == times(a, blind(1))


SMALL = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
"""A point of order 8."""


def test_points_and_scalars_from_outside_are_checked() -> None:
    mixed = add(VALUE_BASE, SMALL)
    for point in (IDENTITY, SMALL, mixed, bytes(32), b"\xff" * 32, VALUE_BASE[:-1]):
        with pytest.raises(ProtocolAbort, match="prime order"):
            read_point(point)
    for scalar in (ORDER, 2**256 - 1):
        with pytest.raises(ProtocolAbort, match="order"):
            read_scalar(scalar.to_bytes(32, "little"))
    assert read_scalar(pack_scalar(-1)) == ORDER - 1


# -- completeness -------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(data=st.data(), d=st.integers(1, 4), r=st.integers(2, 6))
def test_every_short_vector_is_proved(data: st.DataObject, d: int, r: int) -> None:
    claim = statement(d, r)
    left, values = claim.bound**2, []
    for _ in range(d):
        most = int(left**0.5)
        values.append(data.draw(st.integers(-most, most)))
        left -= values[-1] ** 2
    proof = prove(claim, commit(values, SECRETS), SECRETS)
    assert len(proof.to_bytes()) == Proof.size(claim)
    assert accepts(claim, proof)


@pytest.mark.parametrize("values", [(15, 0, 0), (-15, 0, 0), (0, 0, 0), (10, -10, 5), (14, 5, 2)])
def test_vectors_on_the_bound(values: tuple[int, ...]) -> None:
    """15^2 = 225 = 100 + 100 + 25 = 196 + 25 + 4."""
    assert sum(v * v for v in values) in (0, 225)
    assert accepts(statement(), prove(statement(), commit(values, SECRETS), SECRETS))


def test_sixty_four_dimensions() -> None:
    claim = statement(64, 5)
    assert accepts(claim, prove(claim, commit([3, -3] * 32, SECRETS), SECRETS))


def test_statements_out_of_range() -> None:
    for wrong in ({"d": 0}, {"d": 65}, {"r": 1}, {"r": 25}):
        with pytest.raises(ConfigError):
            statement(**wrong)


# -- soundness: one above the bound, in every way that comes to mind ----------------------------------

LONG = (15, 1, 0)  # 226: one above 225
FAR = (-16, 0, 0)
OUT = (17, 0, 0)


class Bare(Prover):
    """The prover without its check, for vectors that are too long."""


def test_an_honest_prover_refuses_a_long_vector() -> None:
    for values in (LONG, FAR, OUT, (1, 2)):
        with pytest.raises(ConfigError, match="short"):
            prove(statement(), commit(values, SECRETS), SECRETS)


@pytest.mark.parametrize("values", [LONG, FAR, OUT, (0, -17, 0)])
def test_the_prover_without_its_check(values: tuple[int, ...]) -> None:
    """The lowest bits of a negative slack, or of a coordinate out of range, do not add up."""
    assert not accepts(statement(), Bare(statement(), commit(values, SECRETS), SECRETS).run())


class WideDigits(Prover):
    """Digits that add up to the negative slack -1: the lowest "bit" is -1, and its proof is forged."""

    digit = -1

    def _decomposed(self, value: int, blinding: int, n_bits: int) -> Any:
        if value >= 0:
            return super()._decomposed(value, blinding, n_bits)
        bits = super()._decomposed(0, blinding, n_bits)
        low = bits[0]
        low.point = commitment(self.digit, low.blinding)
        low.announced = self.forged(low)
        return bits

    def forged(self, low: Any) -> Any:
        """Prove the branch of 0 with the answer of -1: the real branch of neither."""
        return low.announced


class BothSimulated(WideDigits):
    """Both branches simulated for challenges of one's own: they add up to the common one by chance alone."""

    def forged(self, low: Any) -> Any:
        low.own = draw_scalar(SECRETS)
        low.own_answer = draw_scalar(SECRETS)
        zero = subtract(blind(low.own_answer), times(low.own, low.point))
        one = subtract(
            blind(low.simulated_answer), times(low.simulated_challenge, subtract(low.point, VALUE_BASE))
        )
        return zero, one


@pytest.mark.parametrize("forger", [WideDigits, BothSimulated])
def test_digits_that_are_no_bits(forger: type[Prover], monkeypatch: pytest.MonkeyPatch) -> None:
    answered = prover._answered

    def answer(bit: Any, common: int) -> BitProof:
        if hasattr(bit, "own"):
            return BitProof(
                point=bit.point,
                zero_challenge=bit.own,
                zero_answer=bit.own_answer,
                one_answer=bit.simulated_answer,
            )
        return answered(bit, common)

    monkeypatch.setattr(prover, "_answered", answer)
    claim = statement()
    proof = forger(claim, commit(LONG, SECRETS), SECRETS).run()
    verifier._check_sums(claim, proof)  # the digits do add up: what stops it is the proof of each bit
    assert not accepts(claim, proof)


class LiesAboutSquares(Prover):
    """D commits to the squares of a shorter vector."""

    def __init__(self, claim: Statement, opening: Opening, secrets: Any) -> None:
        super().__init__(claim, opening, secrets)
        self._lie = commitment(225 - 226, 0)
        self._squares = add(self._squares, self._lie)

    def _decomposed(self, value: int, blinding: int, n_bits: int) -> Any:
        return super()._decomposed(max(value, 0), blinding, n_bits)


def test_a_commitment_to_other_squares() -> None:
    claim = statement()
    proof = LiesAboutSquares(claim, commit(LONG, SECRETS), SECRETS).run()
    verifier._check_sums(claim, proof)
    assert not accepts(claim, proof)


def test_squares_that_wrap_round_the_order_are_stopped_by_the_ranges() -> None:
    """-1 is a square modulo the order: x = sqrt(-1) has the square -1, and with 15^2 the sum 224 is "short"."""
    root = pow(2, (ORDER - 1) // 4, ORDER)
    assert root * root % ORDER == ORDER - 1
    claim = statement()

    class Wraps(Prover):
        def bits(self) -> Any:
            opening = self._opening
            found: list[Any] = []
            for x, r in zip(opening.values, opening.blindings, strict=True):
                found += self._decomposed(x + claim.offset, r, claim.coordinate_bits)
            crossed = sum(x * r for x, r in zip(opening.values, opening.blindings, strict=True))
            slack = (claim.bound**2 - sum(x * x for x in opening.values)) % ORDER
            assert slack < 2**claim.slack_bits, "the slack alone looks fine"
            return found + self._decomposed(slack, -(crossed + self._squares_blinding), claim.slack_bits)

    proof = Wraps(claim, commit((root, 15, 0), SECRETS), SECRETS).run()
    with pytest.raises(ProtocolAbort, match="do not add up"):
        verify(claim, proof)
    # the control: with the check of sums left out, only the ranges were missing
    assert (
        challenge(
            claim.to_bytes(),
            *proof.commitments,
            proof.squares,
            *(b.point for b in proof.bits),
            *announcements(proof),
        )
        == proof.challenge
    )


GOOD = prove(statement(), commit((9, -9, 4), SECRETS), SECRETS)


def test_every_word_of_a_proof_counts() -> None:
    """Each 32-byte word replaced by a valid one of its kind, and one bit of each flipped."""
    claim, packed = statement(), GOOD.to_bytes()
    assert accepts(claim, GOOD)
    d = claim.dimension
    first_bit = (d + 1) + (2 * d + 2)
    for place in range(len(packed) // 32):
        is_point = place < d + 1 or (place >= first_bit and (place - first_bit) % 4 == 0)
        word = packed[32 * place : 32 * place + 32]
        other = add(word, VALUE_BASE) if is_point else pack_scalar(int.from_bytes(word, "little") + 1)
        flipped = bytes([word[0] ^ 1]) + word[1:]
        for changed in (other, flipped):
            forged = packed[: 32 * place] + changed + packed[32 * place + 32 :]
            with pytest.raises(ProtocolAbort):
                verify(claim, Proof.from_bytes(forged, claim))
    for size in (-32, -1, 1, 32):
        with pytest.raises(ProtocolAbort, match="size"):
            Proof.from_bytes(packed[:size] if size < 0 else packed + bytes(size), claim)


@pytest.mark.parametrize(
    "change",
    [
        {"session": b"other"},
        {"round": 3},
        {"client": 0},
        {"max_norm": 2.0},
        {"context": b"another model"},
        {"session": b"sessiom"},
    ],
)
def test_a_proof_is_good_for_one_place(change: dict[str, Any]) -> None:
    assert not accepts(statement(**change), GOOD)


def test_another_bound_or_dimension_is_another_statement() -> None:
    for claim in (statement(r=5), statement(d=2), statement(r=3)):
        with pytest.raises(ProtocolAbort):
            verify(claim, Proof.from_bytes(GOOD.to_bytes(), claim))
    assert statement(session=b"sm", context=b"") != statement(session=b"s", context=b"m")
    assert (
        statement(session=b"sm", context=b"").to_bytes() != statement(session=b"s", context=b"m").to_bytes()
    )


def test_swapped_commitments_and_bits_of_another_coordinate() -> None:
    c, b = GOOD.commitments, GOOD.bits
    for forged in (
        dataclasses.replace(GOOD, commitments=(c[1], c[0], c[2])),
        dataclasses.replace(GOOD, bits=(*b[5:10], *b[:5], *b[10:])),
        dataclasses.replace(GOOD, commitments=(c[1], c[0], c[2]), bits=(*b[5:10], *b[:5], *b[10:])),
    ):
        assert not accepts(statement(), forged)


def test_a_component_of_small_order_is_refused() -> None:
    """The control: libsodium would add it without complaint."""
    bad = add(GOOD.commitments[0], SMALL)
    assert bad != GOOD.commitments[0]
    forged = dataclasses.replace(GOOD, commitments=(bad, *GOOD.commitments[1:]))
    with pytest.raises(ProtocolAbort, match="prime order"):
        Proof.from_bytes(forged.to_bytes(), statement())


# -- zero knowledge -----------------------------------------------------------------------------------


def with_trapdoor(monkeypatch: pytest.MonkeyPatch, trapdoor: int) -> None:
    base = blind(trapdoor)
    for module in (group, prover, verifier):
        monkeypatch.setattr(module, "VALUE_BASE", base)


def test_a_commitment_says_nothing_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knew the logarithm of the value base could open each commitment to each integer: it fits them all."""
    trapdoor = draw_scalar(SECRETS)
    with_trapdoor(monkeypatch, trapdoor)
    for value in (0, 7, -15):
        r = draw_scalar(SECRETS)
        for other in range(-16, 16):
            assert commitment(other, r + trapdoor * (value - other)) == commitment(value, r)


def simulated(claim: Statement, common: int, draw: Callable[[], int]) -> Proof:
    """A transcript without any integers: answers first, for a challenge that is known beforehand."""
    d = claim.dimension
    groups, wholes = [], []
    for n_bits in [claim.coordinate_bits] * d + [claim.slack_bits]:
        points = [blind(draw()) for _ in range(n_bits)]
        groups += points
        wholes.append(verifier._weighted_sum(points))
    offset = times(claim.offset, group.VALUE_BASE)
    return Proof(
        commitments=tuple(subtract(whole, offset) for whole in wholes[:-1]),
        squares=subtract(times(claim.bound**2, group.VALUE_BASE), wholes[-1]),
        challenge=common,
        value_answers=tuple(draw() for _ in range(d)),
        blinding_answers=tuple(draw() for _ in range(d)),
        squares_answer=draw(),
        bits=tuple(
            BitProof(point=p, zero_challenge=draw(), zero_answer=draw(), one_answer=draw()) for p in groups
        ),
    )


def test_a_simulator_without_integers_makes_accepted_transcripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier's equations hold for it under a programmed hash; under the real one it is refused."""
    claim, common = statement(), draw_scalar(SECRETS)
    proof = simulated(claim, common, lambda: draw_scalar(SECRETS))
    assert not accepts(claim, proof)
    monkeypatch.setattr(verifier, "challenge", lambda *_: common)
    assert accepts(claim, proof)


def test_real_and_simulated_transcripts_are_uniform_alike() -> None:
    """Every word of 60 real proofs of one extreme vector, and of 60 simulated, by its lowest byte.

    Chi-square over 16 values, pooled by kind of word; false alarm 1e-4 for each of eight.
    """
    claim = statement(2, 2)
    opening_of = [commit((3, 0), SECRETS) for _ in range(60)]
    real = [prove(claim, opening, SECRETS) for opening in opening_of]
    fake = [simulated(claim, draw_scalar(SECRETS), lambda: draw_scalar(SECRETS)) for _ in range(60)]
    for proofs in (real, fake):
        kinds = {
            "points": [p for proof in proofs for p in (*proof.commitments, proof.squares)]
            + [bit.point for proof in proofs for bit in proof.bits],
            "answers": [
                pack_scalar(s) for proof in proofs for s in (*proof.value_answers, *proof.blinding_answers)
            ],
            "bit challenges": [pack_scalar(bit.zero_challenge) for proof in proofs for bit in proof.bits],
            "bit answers": [
                pack_scalar(s) for q in proofs for b in q.bits for s in (b.zero_answer, b.one_answer)
            ],
        }
        for name, words in kinds.items():
            counts = [sum(word[1] % 16 == k for word in words) for k in range(16)]
            assert chisquare(counts).pvalue > 1e-4, name


def test_the_branch_of_a_bit_does_not_show() -> None:
    """First branch challenges of bits 0 and of bits 1 are uniform alike; the control keeps the simulated one small."""
    claim = statement(1, 2)
    for value in (0, 3):
        firsts = [
            bit.zero_challenge >> 248
            for _ in range(150)
            for bit in prove(claim, commit([value], SECRETS), SECRETS).bits
        ]
        counts = [sum(first == k for first in firsts) for k in range(16)]
        assert chisquare(counts).pvalue > 1e-4
    small = [k % 3 for k in range(1000)]
    assert chisquare([small.count(k) for k in range(16)]).pvalue < 1e-6


def test_fresh_randomness_for_every_proof() -> None:
    opening = commit((1, 2, 3), SECRETS)
    one, two = (prove(statement(), opening, SECRETS) for _ in range(2))
    assert one.commitments == two.commitments
    words = [{p.to_bytes()[i : i + 32] for i in range(96, len(p.to_bytes()), 32)} for p in (one, two)]
    assert not words[0] & words[1]
    seeded = [prove(statement(), opening, SeededSecrets(1, "x")).to_bytes() for _ in range(2)]
    assert seeded[0] == seeded[1]


# -- sums ---------------------------------------------------------------------------------------------


def test_the_product_of_commitments_opens_to_the_sums_and_to_nothing_else() -> None:
    openings = [commit((i, -2 * i, 5), SECRETS) for i in range(4)]
    points = [[commitment(x, r) for x, r in zip(o.values, o.blindings, strict=True)] for o in openings]
    for j, expected in enumerate((6, -12, 20)):
        column = [row[j] for row in points]
        blinding = sum(o.blindings[j] for o in openings)
        assert opens_to(column, expected, blinding)
        assert not opens_to(column, expected + 1, blinding)
        assert not opens_to(column, expected, blinding + 1)
    assert total([]) == IDENTITY
