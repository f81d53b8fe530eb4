"""The whole chain: quantum phase, sifting, estimation, Cascade, verification, hashing, authentication, key.

Alice and Bob are two objects from beginning to end, and meet only through light and public messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from qflsec.base import OsSecrets, Secrets
from qflsec.protocols.bb84.agreement import PostprocessConfig
from qflsec.protocols.bb84.bits import Bits
from qflsec.protocols.bb84.eavesdropper import OpensEavesdropper
from qflsec.protocols.bb84.estimation import ErrorEstimate
from qflsec.protocols.bb84.key_pool import KeyPool
from qflsec.protocols.bb84.optimise import Plan
from qflsec.protocols.bb84.postprocess import KeyResult, share_beforehand
from qflsec.protocols.bb84.postprocess import run as postprocess
from qflsec.protocols.bb84.quantum import QuantumPhase, run_quantum
from qflsec.protocols.bb84.run_config import BB84Config, agree, length_formula
from qflsec.protocols.bb84.sifting import AliceSifted, BobSifted, SiftedCounts
from qflsec.protocols.bb84.transcript import PublicChannel, Transcript

__all__ = ["BB84Result", "Impersonator", "run_bb84", "share_beforehand"]


@runtime_checkable
class Impersonator(Protocol):
    """An adversary who answers Alice in Bob's name and Bob in Alice's, and holds a half with each."""

    @property
    def with_bob(self) -> AliceSifted:
        """The half that it shares with Bob, who takes it for Alice."""

    def partner(self, bob: BobSifted) -> BobSifted:
        """The half that it shares with Alice, who takes it for Bob."""


@dataclass(frozen=True, kw_only=True)
class BB84Result:
    """What one run came to. An abort is a result too: no key, and the reason.

    Attributes:
        config: What was asked.
        plan: What was agreed before the first pulse.
        seed: Of the physics.
        quantum: The quantum phase, with what each party held after it; for whoever scores the run.
        key: Post-processing, with each party's copy of the key.
        cpu_seconds: Processor time of the whole run.
    """

    config: BB84Config
    plan: Plan
    seed: int
    quantum: QuantumPhase = field(repr=False)
    key: KeyResult = field(repr=False)
    cpu_seconds: float

    @property
    def counts(self) -> SiftedCounts:
        """What everybody knows after sifting, as Alice heard it."""
        return self.quantum.counts

    @property
    def sifted_bits(self) -> int:
        """Detections in equal bases, of the key and of the test."""
        return self.counts.n_key + self.counts.n_test

    @property
    def abort_reason(self) -> str | None:
        """Why there is no key; None if there is one."""
        return self.key.abort_reason

    @property
    def key_length(self) -> int:
        """Bits of key at each end, after authentication is paid for; 0 where the run aborted."""
        return self.key.key_length

    @property
    def net_key_bits(self) -> int:
        """Those, less the hash key that a first round takes from what was shared beforehand."""
        return self.key.net_gain

    @property
    def rate(self) -> float:
        """Bits of key for each pulse sent."""
        return self.key_length / self.config.pulses

    @property
    def qber(self) -> ErrorEstimate | None:
        """Error rate of the test bits with its interval; None if the run did not come so far.

        Alice is the first to judge it, and where she stops Bob never does.
        """
        return self.key.test or self.key.alice.test

    @property
    def alice_key(self) -> Bits | None:
        """Alice's copy of the key, 0/1; None where there is none."""
        return self.key.alice.key

    @property
    def bob_key(self) -> Bits | None:
        """Bob's."""
        return self.key.bob.key

    def to_dict(self) -> dict[str, object]:
        """The public account, ready for JSON, with units in the names; no key is in it."""
        config, counts = self.config, self.counts
        line, test = config.line or config.expected, self.qber
        return {
            "source": config.source,
            "length_formula": length_formula(config.source),
            "length_proved": config.proved,
            "expected_distance_km": config.expected.distance_km,
            "distance_km": line.distance_km,
            "loss_db_per_km": line.loss_db_per_km,
            "misalignment": line.misalignment,
            "detector_efficiency": config.detector.efficiency,
            "dark_count_per_gate": config.detector.dark_count,
            "basis_probability": self.plan.basis_probability,
            "intensities_photons_per_pulse": list(self.plan.source.means) or None,
            "intensity_probabilities": list(self.plan.source.stated_probabilities),
            "seed": self.seed,
            "pulses_sent": config.pulses,
            "pulses_detected": counts.n_detected,
            "sifted_bits": self.sifted_bits,
            "sifted_key_basis_bits": counts.n_key,
            "sifted_test_basis_bits": counts.n_test,
            **self.key.to_dict(),
            "test_errors": None if test is None else test.errors,
            "qber": None if test is None else test.rate,
            "qber_interval": None if test is None else [test.low, test.high],
            "rate_bits_per_pulse": self.rate,
            "net_rate_bits_per_pulse": self.net_key_bits / config.pulses,
            "cpu_seconds": self.cpu_seconds,
        }


def run_bb84(
    config: BB84Config,
    *,
    seed: int,
    plan: Plan | None = None,
    attack: OpensEavesdropper | None = None,
    alice_secrets: Secrets | None = None,
    bob_secrets: Secrets | None = None,
    pools: tuple[KeyPool, KeyPool] | None = None,
    progress: Callable[[int], None] | None = None,
) -> BB84Result:
    """Run BB84 from the first pulse to a key at both ends, or to an abort.

    Args:
        config: What is asked.
        seed: Of the physics of line and detectors, and of the adversary's choices; never of a secret.
        plan: What was agreed; by default the best plan for the expected line.
        attack: An adversary on the line.
        alice_secrets: Alice's source of secrets; the operating system by default.
        bob_secrets: Bob's, likewise.
        pools: Alice's and Bob's key pools for authentication, kept from run to run; by default a first run,
            with a key that is shared beforehand.
        progress: Told after each block how many pulses have been sent.

    Raises:
        ConfigError: No key can be expected, or an argument is impossible.
    """
    start = time.process_time()
    agreed = plan or agree(config)
    secrets = alice_secrets or OsSecrets()
    quantum = run_quantum(
        config.quantum(agreed),
        seed=seed,
        alice_secrets=secrets,
        bob_secrets=bob_secrets,
        attack=attack,
        progress=progress,
    )
    both = pools or share_beforehand(agreed.config, secrets)
    eve: object = quantum.eve
    if isinstance(eve, Impersonator):
        key = _between(quantum, eve, agreed.config, secrets, both)
    else:
        key = postprocess(
            quantum.alice, quantum.bob, agreed.config, secrets, channel=quantum.channel, pools=both
        )
    return BB84Result(
        config=config,
        plan=agreed,
        seed=seed,
        quantum=quantum,
        key=key,
        cpu_seconds=time.process_time() - start,
    )


def _between(
    quantum: QuantumPhase,
    eve: Impersonator,
    config: PostprocessConfig,
    secrets: Secrets,
    pools: tuple[KeyPool, KeyPool],
) -> KeyResult:
    """Post-processing with somebody in the middle, who holds it with each party in the other's name.

    All that the adversary lacks is the key for authentication; it takes random bits in its place.
    """
    forged = share_beforehand(config, OsSecrets())
    with_alice = postprocess(
        quantum.alice,
        eve.partner(quantum.bob),
        config,
        secrets,
        channel=_overheard(quantum.channel.alice),
        pools=(pools[0], forged[1]),
    )
    with_bob = postprocess(
        eve.with_bob,
        quantum.bob,
        config,
        OsSecrets(),
        channel=_overheard(quantum.channel.bob),
        pools=(forged[0], pools[1]),
    )
    return replace(
        with_alice,
        bob=with_bob.bob,
        abort_reason=with_alice.abort_reason or with_bob.abort_reason,
        seeded=secrets.seeded or quantum.alice.seeded or quantum.bob.seeded,
    )


def _overheard(transcript: Transcript) -> PublicChannel:
    """A line on which the adversary knows all that one party said and heard before."""
    line = PublicChannel()
    line.alice = transcript
    line.bob = Transcript(tuple(transcript))
    return line
