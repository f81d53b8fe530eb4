"""The verifier: announcements that follow from the answers, and the hash that they must give."""

from __future__ import annotations

from collections.abc import Sequence

from qflsec.base import ProtocolAbort
from qflsec.protocols.validated.group import (
    ORDER,
    VALUE_BASE,
    Point,
    add,
    blind,
    challenge,
    commitment,
    subtract,
    times,
    total,
)
from qflsec.protocols.validated.prover import BitProof, Proof
from qflsec.protocols.validated.statement import Statement

__all__ = ["announcements", "opens_to", "verify"]


def verify(statement: Statement, proof: Proof) -> None:
    """Check a proof whose points and scalars were read by :meth:`Proof.from_bytes`.

    Raises:
        ProtocolAbort: It does not prove the statement.
    """
    _check_sums(statement, proof)
    expected = challenge(
        statement.to_bytes(),
        *proof.commitments,
        proof.squares,
        *(bit.point for bit in proof.bits),
        *announcements(proof),
    )
    if expected != proof.challenge:
        raise ProtocolAbort(
            f"client:{statement.client} did not prove that its update is short",
            got="a proof that does not hold for this session, round, client and bound",
        )


def announcements(proof: Proof) -> list[Point]:
    """What the prover must have announced for these answers to be right."""
    found = [
        subtract(commitment(z, w), times(proof.challenge, point))
        for z, w, point in zip(proof.value_answers, proof.blinding_answers, proof.commitments, strict=True)
    ]
    weighted = total(times(z, p) for z, p in zip(proof.value_answers, proof.commitments, strict=True))
    squares = add(weighted, blind(proof.squares_answer))
    found.append(subtract(squares, times(proof.challenge, proof.squares)))
    for bit in proof.bits:
        found += _bit_announcements(bit, proof.challenge)
    return found


def _bit_announcements(bit: BitProof, common: int) -> list[Point]:
    rest = (common - bit.zero_challenge) % ORDER
    return [
        subtract(blind(bit.zero_answer), times(bit.zero_challenge, bit.point)),
        subtract(blind(bit.one_answer), times(rest, subtract(bit.point, VALUE_BASE))),
    ]


def _check_sums(statement: Statement, proof: Proof) -> None:
    """The weighted sums of the bits are the commitments that they take apart."""
    points, place = [bit.point for bit in proof.bits], 0
    offset = times(statement.offset, VALUE_BASE)
    wholes = [(add(point, offset), statement.coordinate_bits) for point in proof.commitments]
    slack = subtract(times(statement.bound**2, VALUE_BASE), proof.squares)
    for whole, n_bits in (*wholes, (slack, statement.slack_bits)):
        if _weighted_sum(points[place : place + n_bits]) != whole:
            raise ProtocolAbort(
                f"client:{statement.client} did not prove that its update is short",
                got="bits that do not add up",
            )
        place += n_bits


def _weighted_sum(points: Sequence[Point]) -> Point:
    found = points[-1]
    for point in reversed(points[:-1]):
        found = add(add(found, found), point)
    return found


def opens_to(points: Sequence[Point], value: int, blinding: int) -> bool:
    """Whether the sum of commitments opens to a sum of values and one of blinding factors."""
    return total(points) == commitment(value, blinding)
