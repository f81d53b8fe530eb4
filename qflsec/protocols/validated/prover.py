"""The prover: commitments to integers, and a proof that they are short.

For integers x_j with commitments ``C_j = x_j G + r_j B``:

* ``D = sum_j x_j C_j + t B`` is a commitment to the sum of the squares, with the blinding factor
  ``sum_j x_j r_j + t``; that D is so made is shown by one proof of knowledge of all (x_j, r_j) and t, linear in them;
* ``C_j + 2^r G``, and ``bound^2 G - D``, are each sums ``sum_k 2^k V_k`` of commitments to bits, and each V_k is shown
  to be a commitment to 0 or to 1 by a disjunction of two proofs of knowledge of a logarithm.

All announcements are answered under one challenge, the hash of the statement, all commitments and all announcements
(Fiat and Shamir), so that a proof is good for one session, round, client and bound.

*Soundness*: from two accepting answers to one announcement the witnesses follow (special soundness, error about
2^-252 for each hashed announcement), so that a prover who makes one without a short vector computes the logarithm of G.
Computational, in the random oracle model; a quantum computer breaks it.
*Zero knowledge*: the commitments are uniform whatever the integers (perfectly hiding), and for any challenge that is
known beforehand the answers are uniform and the announcements follow from them: a simulator without the integers makes
transcripts of the very same distribution (perfect honest-verifier zero knowledge, in the random oracle model against
any verifier). No quantum computer changes that: what was proved stays hidden.

Source:
    Pedersen, CRYPTO 1991; Schnorr, J. Cryptology 4 (1991); Cramer, Damgard, Schoenmakers, CRYPTO 1994 (disjunctions);
    Fiat, Shamir, CRYPTO 1986; the use in aggregation is that of RoFL (Lycklama et al., IEEE S&P 2023,
    arXiv:2107.03311), with shorter proofs from Bulletproofs there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qflsec.base import ConfigError, ProtocolAbort, Secrets
from qflsec.protocols.validated.group import (
    ORDER,
    POINT_BYTES,
    SCALAR_BYTES,
    VALUE_BASE,
    Point,
    add,
    blind,
    challenge,
    commitment,
    draw_scalar,
    pack_scalar,
    read_point,
    read_scalar,
    subtract,
    times,
    total,
)
from qflsec.protocols.validated.statement import Statement

__all__ = ["BitProof", "Opening", "Proof", "commit", "prove"]


@dataclass(frozen=True, kw_only=True)
class BitProof:
    """A commitment to a bit, and the answers that show that it is one.

    Attributes:
        point: The commitment.
        zero_challenge: The challenge of the branch "it is 0"; that of the other is what is left of the common one.
        zero_answer: The answer of the branch "it is 0".
        one_answer: The answer of the branch "it is 1".
    """

    point: Point
    zero_challenge: int
    zero_answer: int
    one_answer: int


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Commitments and answers.

    Attributes:
        commitments: C_j.
        squares: D.
        challenge: The common challenge.
        value_answers: Answers for x_j.
        blinding_answers: Answers for r_j.
        squares_answer: The answer for t.
        bits: The bits of all coordinates, lowest first, and then of the slack.
    """

    commitments: tuple[Point, ...]
    squares: Point
    challenge: int
    value_answers: tuple[int, ...]
    blinding_answers: tuple[int, ...]
    squares_answer: int
    bits: tuple[BitProof, ...]

    def to_bytes(self) -> bytes:
        """The proof as bytes, of constant size."""
        scalars = [self.challenge, *self.value_answers, *self.blinding_answers, self.squares_answer]
        parts = [*self.commitments, self.squares, *map(pack_scalar, scalars)]
        for bit in self.bits:
            answers = (bit.zero_challenge, bit.zero_answer, bit.one_answer)
            parts += [bit.point, *map(pack_scalar, answers)]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, packed: bytes, statement: Statement) -> Proof:
        """What :meth:`to_bytes` wrote for a statement of this form.

        Raises:
            ProtocolAbort: The size is wrong, or something is no point or scalar.
        """
        d = statement.dimension
        if len(packed) != cls.size(statement):
            raise ProtocolAbort("a proof has the wrong size", got=len(packed), expected=cls.size(statement))
        words = [packed[i : i + 32] for i in range(0, len(packed), 32)]
        points, rest = [read_point(word) for word in words[: d + 1]], words[d + 1 :]
        scalars, rest = [read_scalar(word) for word in rest[: 2 * d + 2]], rest[2 * d + 2 :]
        bits = [
            BitProof(
                point=read_point(rest[i]),
                zero_challenge=read_scalar(rest[i + 1]),
                zero_answer=read_scalar(rest[i + 2]),
                one_answer=read_scalar(rest[i + 3]),
            )
            for i in range(0, len(rest), 4)
        ]
        return cls(
            commitments=tuple(points[:d]),
            squares=points[d],
            challenge=scalars[0],
            value_answers=tuple(scalars[1 : d + 1]),
            blinding_answers=tuple(scalars[d + 1 : 2 * d + 1]),
            squares_answer=scalars[2 * d + 1],
            bits=tuple(bits),
        )

    @staticmethod
    def size(statement: Statement) -> int:
        """The number of bytes of a proof."""
        d = statement.dimension
        return (
            (d + 1) * POINT_BYTES
            + (2 * d + 2) * SCALAR_BYTES
            + statement.n_bits * (POINT_BYTES + 3 * SCALAR_BYTES)
        )


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a client keeps: its integers, and what blinds them.

    Attributes:
        values: The integers.
        blindings: The blinding factors.
    """

    values: tuple[int, ...] = field(repr=False)
    blindings: tuple[int, ...] = field(repr=False)


def commit(values: Sequence[int], secrets: Secrets) -> Opening:
    """Fresh blinding factors for integers."""
    return Opening(values=tuple(values), blindings=tuple(draw_scalar(secrets) for _ in values))


def prove(statement: Statement, opening: Opening, secrets: Secrets) -> Proof:
    """Commit to the integers and prove the statement.

    Raises:
        ConfigError: The statement is not true of them.
    """
    if not statement.holds(opening.values):
        raise ConfigError(
            "only a short vector can be proved short",
            got=f"sum of squares {sum(value * value for value in opening.values)}",
            expected=f"{statement.dimension} integers with at most {statement.bound**2}",
        )
    return Prover(statement, opening, secrets).run()


@dataclass(kw_only=True)
class _Bit:
    value: int
    blinding: int
    point: Point
    nonce: int
    simulated_challenge: int
    simulated_answer: int
    announced: tuple[Point, Point]


class Prover:
    """The steps of a proof.

    Args:
        statement: What is proved.
        opening: The integers.
        secrets: The prover's own source.
    """

    def __init__(self, statement: Statement, opening: Opening, secrets: Secrets) -> None:
        self._statement, self._opening, self._secrets = statement, opening, secrets
        self._commitments = [commitment(x, r) for x, r in zip(opening.values, opening.blindings, strict=True)]
        self._squares_blinding = draw_scalar(secrets)
        self._squares = add(self._weighted(opening.values), blind(self._squares_blinding))

    def run(self) -> Proof:
        """The proof."""
        statement, opening = self._statement, self._opening
        values, nonces, blind_nonces = opening.values, self._draws(), self._draws()
        squares_nonce = draw_scalar(self._secrets)
        announced = [commitment(a, b) for a, b in zip(nonces, blind_nonces, strict=True)]
        announced.append(add(self._weighted(nonces), blind(squares_nonce)))
        bits = self.bits()
        for bit in bits:
            announced += bit.announced
        common = challenge(
            statement.to_bytes(), *self._commitments, self._squares, *(bit.point for bit in bits), *announced
        )
        return Proof(
            commitments=tuple(self._commitments),
            squares=self._squares,
            challenge=common,
            value_answers=tuple((a + common * x) % ORDER for a, x in zip(nonces, values, strict=True)),
            blinding_answers=tuple(
                (b + common * r) % ORDER for b, r in zip(blind_nonces, opening.blindings, strict=True)
            ),
            squares_answer=(squares_nonce + common * self._squares_blinding) % ORDER,
            bits=tuple(_answered(bit, common) for bit in bits),
        )

    def bits(self) -> list[_Bit]:
        """The bits of all coordinates and of the slack, whose weighted blinding factors fit their commitments."""
        statement, opening = self._statement, self._opening
        found = []
        for x, r in zip(opening.values, opening.blindings, strict=True):
            found += self._decomposed(x + statement.offset, r, statement.coordinate_bits)
        squares = sum(x * x for x in opening.values)
        crossed = sum(x * r for x, r in zip(opening.values, opening.blindings, strict=True))
        slack_blinding = -(crossed + self._squares_blinding)
        return found + self._decomposed(statement.bound**2 - squares, slack_blinding, statement.slack_bits)

    def _decomposed(self, value: int, blinding: int, n_bits: int) -> list[_Bit]:
        blindings = [draw_scalar(self._secrets) for _ in range(n_bits - 1)]
        first = (blinding - sum(r << (k + 1) for k, r in enumerate(blindings))) % ORDER
        return [self.bit((value >> k) & 1, r) for k, r in enumerate([first, *blindings])]

    def bit(self, value: int, blinding: int) -> _Bit:
        """A commitment to a bit; the branch that is not true is simulated before the challenge is known."""
        nonce, guessed, answer = (draw_scalar(self._secrets) for _ in range(3))
        zero = blind(blinding)
        point = add(zero, VALUE_BASE) if value else zero
        other = point if value else subtract(point, VALUE_BASE)
        real, simulated = blind(nonce), subtract(blind(answer), times(guessed, other))
        return _Bit(
            value=value,
            blinding=blinding,
            point=point,
            nonce=nonce,
            simulated_challenge=guessed,
            simulated_answer=answer,
            announced=(simulated, real) if value else (real, simulated),
        )

    def _draws(self) -> list[int]:
        return [draw_scalar(self._secrets) for _ in self._opening.values]

    def _weighted(self, weights: Sequence[int]) -> Point:
        return total(times(weight, point) for weight, point in zip(weights, self._commitments, strict=True))


def _answered(bit: _Bit, common: int) -> BitProof:
    own = (common - bit.simulated_challenge) % ORDER
    answer = (bit.nonce + own * bit.blinding) % ORDER
    if bit.value:
        return BitProof(
            point=bit.point,
            zero_challenge=bit.simulated_challenge,
            zero_answer=bit.simulated_answer,
            one_answer=answer,
        )
    return BitProof(point=bit.point, zero_challenge=own, zero_answer=answer, one_answer=bit.simulated_answer)
