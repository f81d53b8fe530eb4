"""Alice and Bob after sifting: two objects that turn raw bits into a key by public messages.

Neither sees more of the other than the messages. Each checks for itself whatever can make the run abort,
and each ends with its own copy of the key.
"""

from __future__ import annotations

import hmac
import struct
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qflsec.base import ConfigError, ProtocolAbort, Secrets
from qflsec.protocols.bb84.agreement import PostprocessConfig
from qflsec.protocols.bb84.authentication import BLOCK_BYTES, Authenticator
from qflsec.protocols.bb84.cascade import SEED_BYTES, CascadeParty
from qflsec.protocols.bb84.decoy_length import DecoyCounts
from qflsec.protocols.bb84.estimation import ErrorEstimate, interval, random_subset
from qflsec.protocols.bb84.key_pool import TAG_BITS, KeyPool
from qflsec.protocols.bb84.privacy_amplification import draw_seed, toeplitz_hash, toeplitz_seed_bits
from qflsec.protocols.bb84.sifting import AliceSifted, BobSifted
from qflsec.protocols.bb84.transcript import PartyName, Transcript
from qflsec.protocols.bb84.verification import verification_seed_bits, verification_tag
from qflsec.protocols.stages import Staged, stage

__all__ = ["AlicePost", "BobPost", "PostParty"]

Bits = npt.NDArray[np.uint8]


class PostParty(Staged):
    """What both parties do.

    Args:
        half: Its own half of the sifted strings.
        config: What was agreed.
        pool: Its own key pool for authentication.
        transcript: What it said and heard in public, sifting included; it grows as messages pass.

    Attributes:
        name: Which of the two it is.
        key: Its copy of the key once the run has succeeded; None before, and after an abort.
        test: The error rate of the test bits.
        eps_pads: How far the pads of this run may be from ideal ones.
        refilled_bits: What its pool took from the new key.
    """

    name: ClassVar[PartyName]

    def __init__(
        self, half: AliceSifted | BobSifted, config: PostprocessConfig, pool: KeyPool, transcript: Transcript
    ) -> None:
        self._config = config
        self._pool = pool
        self._spent_before = pool.spent
        self.eps_pads = pool.eps
        self._transcript = transcript
        self._authenticator = Authenticator(pool, self.name)
        self._half = half
        self._raw, self._raw_intensity = half.key_bits, half.key_intensity
        self._test_bits, self._test_intensity = half.test_bits, half.test_intensity
        self._final: Bits | None = None
        self._digest = b""
        self._digest_bytes = 0
        self._cascade: CascadeParty | None = None
        self.key: Bits | None = None
        self.test: ErrorEstimate | None = None
        self.refilled_bits = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={'none' if self.key is None else f'{self.key.size} bits'})"

    @property
    def pads_spent(self) -> int:
        """Pads used in this run."""
        return self._pool.spent - self._spent_before

    @property
    def eps_auth(self) -> float:
        """Bound on the probability that it accepted an altered message."""
        return self._authenticator.eps

    @property
    def cascade(self) -> CascadeParty:
        """Its half of error correction, which must have begun."""
        assert self._cascade is not None
        return self._cascade

    @property
    def reconciling(self) -> bool:
        """Whether error correction has begun."""
        return self._cascade is not None

    @stage()
    def check_counts(self) -> None:
        """Refuse a run with an alarm or with too few bits.

        Raises:
            ProtocolAbort: It cannot go on.
            ConfigError: The bits come from another source than was agreed.
        """
        if self._config.decoy is not None and len(self._half.counts.key) != self._config.n_intensities:
            raise ConfigError(
                "the bits are not from the agreed source", got=f"{len(self._half.counts.key)} intensities",
                expected=f"{self._config.n_intensities} intensities",
            )  # fmt: skip
        if self._half.counts.alarm:
            raise ProtocolAbort("detector alarm")
        if self._raw.size < self._config.n or self._test_bits.size < self._config.k:
            raise ProtocolAbort("too few bits")

    @stage("check_counts")
    def pads(self) -> bytes:
        """The message ``"pads left"``: which pads its pool still has."""
        return self._pool.says()

    @stage("pads")
    def hear_pads(self, payload: bytes) -> None:
        """Keep to the pads that both parties still have, so that none is used twice."""
        self._pool.agree(payload)

    def seal(self, header: bytes, payload: bytes) -> bytes:
        """A payload with a tag of its own."""
        return payload + self._authenticator.tag(header + payload)

    def unseal(self, header: bytes, sealed: bytes) -> bytes:
        """A payload whose own tag was checked.

        Raises:
            ProtocolAbort: The tag is wrong.
        """
        payload, tag = sealed[:-BLOCK_BYTES], sealed[-BLOCK_BYTES:]
        self._authenticator.check(header + payload, tag)
        return payload

    def _begin_cascade(self, seed: bytes) -> None:
        _require(len(seed) == SEED_BYTES)
        self._cascade = CascadeParty(self._raw, self._config.cascade, seed)

    @stage("amplification_seed", "stand_by_verdict")
    def amplify(self, payload: bytes) -> None:
        """Hash the reconciled key with a public seed."""
        seed = _bits(payload, toeplitz_seed_bits(self._config.n, self._config.length))
        self._final = toeplitz_hash(self._raw, seed, self._config.length)

    @stage("amplify")
    def take_digest(self) -> None:
        """Hash the transcript as it stands, for both tags."""
        said = self._transcript.to_bytes()
        self._digest, self._digest_bytes = self._authenticator.digest(said), len(said)

    @stage("take_digest")
    def tag(self) -> bytes:
        """The message ``"tag"``: its tag of the transcript."""
        return self._authenticator.tag_hashed(self._digest)

    @stage("take_digest")
    def check_tag(self, payload: bytes) -> None:
        """Check the other's tag against its own transcript.

        Raises:
            ProtocolAbort: The transcripts differ, or the tag is forged.
        """
        self._authenticator.check_hashed(self._digest, self._digest_bytes, payload)

    @stage("check_tag")
    def release(self, eps: float) -> None:
        """Bring the pool back to its level first, then release what is left of the key.

        Args:
            eps: How far the key may be from an ideal one, its authentication included.

        Where the key does not bring the pool to its level, the pool keeps what it took and there is no key.
        """
        self._require("tag", (None,))
        assert self._final is not None
        whole = np.packbits(self._final).tobytes()[: self._final.size // TAG_BITS * BLOCK_BYTES]
        self.refilled_bits = 8 * self._pool.refill(whole, eps=eps)
        if self._pool.pads_left >= self._pool.level and self.refilled_bits < self._final.size:
            self.key = self._final[self.refilled_bits :]

    def discard(self) -> None:
        """Forget everything that could become a key."""
        self.key = self._final = None

    def _keep(self, keys: npt.NDArray[np.bool_], tests: npt.NDArray[np.bool_]) -> None:
        self._raw, self._raw_intensity = self._raw[keys], self._raw_intensity[keys]
        self._test_bits, self._test_intensity = self._test_bits[tests], self._test_intensity[tests]

    def _accept(self, errors: tuple[int, ...]) -> None:
        """Go on if the test bits and, with decoys, the counts are as good as was agreed."""
        config = self._config
        tested = self._counts(self._test_intensity)
        _require(all(wrong <= n for wrong, n in zip(errors, tested, strict=True)))
        self.test = interval(sum(errors), config.k)
        self._test_bits = np.empty(0, dtype=np.uint8)
        if self.test.rate > config.q_tol:
            raise ProtocolAbort("test error rate above tolerance")
        if config.decoy is not None:
            counts = DecoyCounts(
                key=_triple(self._counts(self._raw_intensity)),
                test=_triple(tested),
                test_errors=_triple(errors),
            )
            if not config.supports(counts):
                raise ProtocolAbort("decoy counts do not support the agreed length")

    def _counts(self, intensity: Bits) -> tuple[int, ...]:
        if self._config.decoy is None:
            return (int(intensity.size),)
        return tuple(int(count) for count in np.bincount(intensity, minlength=3))


class AlicePost(PostParty):
    """Alice: the reference key is hers, and so is the public randomness.

    Args:
        half: Her half of the sifted strings.
        config: What was agreed.
        pool: Her key pool.
        transcript: Her transcript.
        secrets: Her source, from which seeds are drawn when the bits that they concern are fixed.
    """

    name = "alice"

    def __init__(
        self,
        half: AliceSifted,
        config: PostprocessConfig,
        pool: KeyPool,
        transcript: Transcript,
        secrets: Secrets,
    ) -> None:
        super().__init__(half, config, pool, transcript)
        self._secrets = secrets

    @stage("hear_pads")
    def choose(self) -> bytes:
        """The message ``"kept bits"``: a random choice of n raw-key bits and k test bits."""
        keys = random_subset(self._raw.size, self._config.n, self._secrets)
        tests = random_subset(self._test_bits.size, self._config.k, self._secrets)
        self._keep(keys, tests)
        return np.packbits(keys).tobytes() + np.packbits(tests).tobytes()

    @stage("choose")
    def reveal(self) -> bytes:
        """The message ``"test bits"``, which leave her strings for good."""
        return np.packbits(self._test_bits).tobytes()

    @stage("reveal")
    def hear_errors(self, payload: bytes) -> None:
        """Take in how many test bits Bob found wrong, by intensity.

        Raises:
            ProtocolAbort: Too many.
        """
        size = 8 * self._config.n_intensities
        _require(len(payload) == size)
        self._accept(struct.unpack(f">{size // 8}Q", payload))

    @stage("hear_errors")
    def shuffle_seed(self) -> bytes:
        """The message ``"shuffle seed"``."""
        seed = self._secrets.draw(SEED_BYTES)
        self._begin_cascade(seed)
        return seed

    @stage("shuffle_seed")
    def verify(self) -> bytes:
        """The message ``"verification"``: a fresh seed, and the hash of her key."""
        n_tag = self._config.verification_bits
        seed = draw_seed(self._secrets, verification_seed_bits(self._config.n, n_tag))
        return np.packbits(seed).tobytes() + verification_tag(self._raw, seed, n_tag)

    @stage("verify")
    def hear_verdict(self, payload: bytes) -> None:
        """Learn whether Bob's key has the same hash.

        Raises:
            ProtocolAbort: It does not.
        """
        if payload != b"\x01":
            raise ProtocolAbort("verification failed")

    @stage("hear_verdict")
    def amplification_seed(self) -> bytes:
        """The message ``"amplification seed"``, drawn only now, after verification."""
        n_bits = toeplitz_seed_bits(self._config.n, self._config.length)
        return np.packbits(draw_seed(self._secrets, n_bits)).tobytes()


class BobPost(PostParty):
    """Bob: he corrects his key to Alice's."""

    name = "bob"

    @stage("hear_pads")
    def hear_choice(self, payload: bytes) -> None:
        """Keep the bits that Alice chose."""
        split = -(-self._raw.size // 8)
        _require(len(payload) >= split)
        keys = _bits(payload[:split], self._raw.size).astype(np.bool_)
        tests = _bits(payload[split:], self._test_bits.size).astype(np.bool_)
        _require(int(keys.sum()) == self._config.n and int(tests.sum()) == self._config.k)
        self._keep(keys, tests)

    @stage("hear_choice")
    def compare(self, payload: bytes) -> bytes:
        """The message ``"test errors"``: how many test bits are wrong, by intensity.

        Too many make him abort after he has said so.
        """
        wrong = self._test_bits != _bits(payload, self._config.k)
        errors = self._counts(self._test_intensity[wrong])
        self._errors = errors
        return struct.pack(f">{len(errors)}Q", *errors)

    @stage("compare")
    def judge(self) -> None:
        """Go on only if the test came out as agreed.

        Raises:
            ProtocolAbort: Too many errors.
        """
        self._accept(self._errors)

    @stage("judge")
    def begin_cascade(self, seed: bytes) -> None:
        """Open error correction with Alice's public seed."""
        self._begin_cascade(seed)

    @stage("begin_cascade")
    def correct(self) -> None:
        """Take over what error correction found."""
        self._raw = self.cascade.corrected()

    @stage("correct")
    def verdict(self, payload: bytes) -> bytes:
        """The message ``"verdict"``: whether his key has the hash of Alice's."""
        n_tag = self._config.verification_bits
        n_seed = verification_seed_bits(self._config.n, n_tag)
        split = -(-n_seed // 8)
        seed = _bits(payload[:split], n_seed)
        self._verified = hmac.compare_digest(verification_tag(self._raw, seed, n_tag), payload[split:])
        return bytes([self._verified])

    @stage("verdict")
    def stand_by_verdict(self) -> None:
        """Go on only if the keys were found equal.

        Raises:
            ProtocolAbort: They were not.
        """
        if not self._verified:
            raise ProtocolAbort("verification failed")


def _require(condition: bool) -> None:
    if not condition:
        raise ProtocolAbort("malformed message")


def _bits(payload: bytes, n: int) -> Bits:
    """The ``n`` bits of a message, with nothing after them."""
    packed = np.frombuffer(payload, dtype=np.uint8)
    _require(packed.size == -(-n // 8) and not (n % 8 and packed[-1] & (0xFF >> (n % 8))))
    return np.unpackbits(packed, count=n)


def _triple(values: tuple[int, ...]) -> tuple[float, float, float]:
    first, second, third = values
    return (first, second, third)
