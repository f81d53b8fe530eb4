"""Key recovery from released CKKS sums: two of them, in full precision, give the secret key away.

A server that adds ciphertexts holds each sum ``(c0, c1)``; where it is handed the decryption as well, it knows
``d`` in ``c0 + c1 s = d`` modulo ``q`` and solves for ``s``. The library's decryption gives the real parts of
the slots only, which is ``d`` plus its conjugate, one equation for each pair of conjugate values; two sums
give two equations for the two unknowns of each pair.

All slots of a ciphertext must be released: ``N / 2`` numbers for a ring of degree ``N``. Of a model with fewer
parameters (or in the last, partly filled ciphertext of a larger one) each release gives as many real equations
as it has numbers, and brings ``N`` fresh unknowns of noise, so that no number of releases makes the system
solvable by linear algebra; that it is hard is not proved. If the decrypting party hands over the padding of the
unused slots as well, the attack works for every size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from qflsec.attacks.base import Attack
from qflsec.attacks.challenges import Blocked
from qflsec.base import AttackCard, ProtocolAbort, Score, Source, register
from qflsec.protocols.secagg.he.envelope import read_envelope
from qflsec.protocols.secagg.he.ring import Integers, Negacyclic, negacyclic
from qflsec.threat import SERVER, View

__all__ = ["KeyClaim", "LiMicciancio", "ReleasedSum", "open_with_key", "score_key"]

_TERNARY = 0.999
Handle = Any


@dataclass(frozen=True, kw_only=True)
class ReleasedSum:
    """One ciphertext of a sum, and what was released of it.

    Attributes:
        ciphertext: The serialised ciphertext.
        numbers: The released numbers.

    Shapes:
        numbers: ``(n,)``
    """

    ciphertext: bytes = field(repr=False)
    numbers: npt.NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class KeyClaim:
    """What the attack takes for the secret key.

    Attributes:
        values: The key's values modulo the first prime, in the library's order.
        prime: The prime.
        ternary: The fraction of the claim's coefficients that are -1, 0 or 1: all of a true key, almost none of
            anything else. This is the attacker's own check, not a score.

    Shapes:
        values: ``(N,)``, Python integers
    """

    values: Integers = field(repr=False)
    prime: int
    ternary: float

    @property
    def convincing(self) -> bool:
        """Whether the attacker has reason to believe it."""
        return self.ternary > _TERNARY


@register("attack", "li-micciancio")
@dataclass(frozen=True, kw_only=True)
class LiMicciancio(Attack):
    """Solve for the shared secret key with ciphertext sums and their released decryptions."""

    card: ClassVar[AttackCard] = AttackCard(
        name="li-micciancio",
        idea="The server solves for the clients' secret key with the ciphertexts of two sums and their exact "
        "decryptions.",
        source=Source(
            paper="Li and Micciancio: On the security of homomorphic encryption on approximate numbers, EUROCRYPT "
            "2021, eprint 2020/1533",
            year=2021,
            where="section 4.1 (key recovery by linear algebra), here from real parts",
        ),
        family="server",
        goal="confidentiality",
        needs=("ciphertexts of sums", "their decryptions, released in double precision", "full ciphertexts"),
        metric="key_fraction",
    )

    @final
    def __call__(self, view: View) -> KeyClaim | Blocked:
        """The claim from what the server (or whoever hears it) holds of a run."""
        context, sums = read_view(view)
        if context is None or not sums:
            return Blocked(reason="no released sum of ciphertexts is in the view")
        return self.solve(context, sums)

    def solve(self, context: bytes, sums: Sequence[ReleasedSum]) -> KeyClaim | Blocked:
        """The claim from public parameters and released sums alone.

        Args:
            context: The serialised parameters, without any key.
            sums: Released sums; those whose slots are not all released are of no use.
        """
        import tenseal

        public = tenseal.context_from(context)
        ring, full = None, []
        for released in sums:
            vector = tenseal.ckks_vector_from(public, released.ciphertext)
            degree = int(vector.ciphertext()[0].poly_modulus_degree())
            ring = ring or negacyclic(degree, _first_prime(public))
            if len(released.numbers) == degree // 2:
                # twice the sum less twice its real part: the conjugate-odd part, exact integers by the encoder
                full.append(_components((vector + vector) - (2 * released.numbers).tolist(), degree))
        if ring is None or len(full) < 2:
            return Blocked(reason="fewer than two ciphertexts have all their slots released")
        values = _solve_pairs(full, ring.prime)
        coefficients = ring.centred(ring.coefficients(values))
        ternary = float(np.mean([abs(int(c)) <= 1 for c in coefficients]))
        return KeyClaim(values=values, prime=ring.prime, ternary=ternary)


def _first_prime(context: Handle) -> int:
    import tenseal.sealapi  # noqa: F401 - registers the types that the next line returns

    return int(context.seal_context().data.first_context_data().parms().coeff_modulus()[0].value())


def _components(vector: Handle, degree: int) -> tuple[Integers, Integers]:
    """Both polynomials of a ciphertext, as values."""
    ciphertext = vector.ciphertext()[0]
    entries = np.array([int(ciphertext[i]) for i in range(2 * degree)], dtype=object)
    return entries[:degree], entries[degree:]


def _solve_pairs(sums: Sequence[tuple[Integers, Integers]], prime: int) -> Integers:
    """The key's values, pair by pair: conjugate values stand at mirrored places."""
    degree = len(sums[0][0])
    found = np.zeros(degree, dtype=object)
    for i in range(degree // 2):
        j = degree - 1 - i
        for one, two in pairwise(sums):
            determinant = (one[1][i] * two[1][j] - one[1][j] * two[1][i]) % prime
            if not determinant:
                continue
            inverse = pow(int(determinant), -1, prime)
            u, v = -(one[0][i] + one[0][j]), -(two[0][i] + two[0][j])
            found[i] = (u * two[1][j] - one[1][j] * v) * inverse % prime
            found[j] = (one[1][i] * v - u * two[1][i]) * inverse % prime
            break
    return found


def read_view(view: View) -> tuple[bytes | None, list[ReleasedSum]]:
    """The parameters and the released sums in the control messages of a view."""
    context: bytes | None = None
    asked: dict[int, list[bytes]] = {}
    answered: dict[int, npt.NDArray[np.float64]] = {}
    for item, chunks in _envelopes(view):
        if item.receiver != SERVER:
            if item.round not in answered:
                asked[item.round] = chunks  # what the server says last before an answer is the sum
        elif len(chunks) > 1:
            context = chunks[0]
        elif len(chunks[0]) % 8 == 0:
            answered[item.round] = np.frombuffer(chunks[0], dtype="<f8").astype(np.float64)
    sums: list[ReleasedSum] = []
    for round_index, numbers in sorted(answered.items()):
        start = 0
        for chunk in asked.get(round_index, []) if context is not None else []:
            size = _numbers_in(context, chunk)
            sums.append(ReleasedSum(ciphertext=chunk, numbers=numbers[start : start + size]))
            start += size
    return context, sums


def _numbers_in(context: bytes | None, ciphertext: bytes) -> int:
    """How many numbers a ciphertext says that it holds."""
    import tenseal

    return int(tenseal.ckks_vector_from(tenseal.context_from(context), ciphertext).size())


def _envelopes(view: View) -> Iterator[tuple[Any, list[bytes]]]:
    for item in view.readable("control"):
        if isinstance(item.value, bytes):
            try:
                yield item, read_envelope(item.value)
            except ProtocolAbort:
                continue


def open_with_key(claim: KeyClaim, context: bytes, ciphertext: bytes, n: int) -> npt.NDArray[np.float64]:
    """The first numbers of any ciphertext under a claimed key: what the attacker reads once it has it.

    Args:
        claim: The claimed key.
        context: The serialised parameters.
        ciphertext: A serialised ciphertext, such as a single client's.
        n: How many numbers.

    Shapes:
        returns: ``(n,)``
    """
    import tenseal

    vector = tenseal.ckks_vector_from(tenseal.context_from(context), ciphertext)
    degree = len(claim.values)
    ring: Negacyclic = negacyclic(degree, claim.prime)
    c0, c1 = _components(vector, degree)
    message = ring.centred(ring.coefficients((c0 + c1 * claim.values) % claim.prime)).astype(np.float64)
    turned = message * np.exp(1j * math.pi * np.arange(degree) / degree)
    slots = np.fft.ifft(turned, norm="forward")  # entry k is the value at the root of exponent 2k + 1
    places = [(pow(3, k, 2 * degree) - 1) // 2 for k in range(n)]
    return np.asarray(slots.real[places] / float(vector.ciphertext()[0].scale), dtype=np.float64)


def score_key(claim: KeyClaim | Blocked, secret_context: Handle) -> Score:
    """The fraction of the key's values that a claim has right, by somebody who holds the key.

    Args:
        claim: The attack's claim.
        secret_context: A TenSEAL context with the secret key.
    """
    key = secret_context.secret_key().data.data()
    if isinstance(claim, Blocked):
        right, n = 0, 1
    else:
        n = len(claim.values)
        right = sum(int(key.data(i)) == int(claim.values[i]) for i in range(n))
    return Score(
        name="key_fraction",
        value=right / n,
        low=math.nan,
        high=math.nan,
        n=n,
        baseline=0.0,
        ideal=1.0,
    )
