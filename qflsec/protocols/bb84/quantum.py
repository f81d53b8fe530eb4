"""The quantum phase of BB84: a fixed number of pulses, then sifting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from qflsec.base import OsSecrets, Secrets
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.eavesdropper import Eavesdropper, OpensEavesdropper
from qflsec.protocols.bb84.parties import Alice, Bob
from qflsec.protocols.bb84.sifting import AliceSifted, BobSifted, SiftedCounts
from qflsec.protocols.bb84.signal import Nature
from qflsec.protocols.bb84.transcript import PublicChannel, Transcript

__all__ = ["QuantumPhase", "run_quantum"]


@dataclass(frozen=True, kw_only=True)
class QuantumPhase:
    """What the quantum phase leaves behind: two halves, and the public channel with its transcripts.

    Attributes:
        config: What was agreed.
        alice: What Alice holds.
        bob: What Bob holds.
        channel: The public channel, on which post-processing goes on; it holds each party's transcript.
        eve: The adversary, if there was one.
        simulated: Always true: these photons were simulated.
    """

    config: QuantumConfig
    alice: AliceSifted
    bob: BobSifted
    channel: PublicChannel = field(repr=False)
    eve: Eavesdropper | None = None
    simulated: bool = True

    @property
    def transcript(self) -> Transcript:
        """Alice's transcript, which is Bob's too where nobody altered a message."""
        return self.channel.alice

    @property
    def counts(self) -> SiftedCounts:
        """The public counts as Alice knows them."""
        return self.alice.counts


def run_quantum(
    config: QuantumConfig,
    *,
    seed: int,
    alice_secrets: Secrets | None = None,
    bob_secrets: Secrets | None = None,
    attack: OpensEavesdropper | None = None,
    progress: Callable[[int], None] | None = None,
) -> QuantumPhase:
    """Prepare, send, measure and sift.

    Args:
        config: What Alice and Bob agreed.
        seed: Of the physics of line and detectors, and of the adversary's choices; never of a secret.
        alice_secrets: Alice's source of secrets; the operating system by default.
        bob_secrets: Bob's, likewise.
        attack: An adversary on the line.
        progress: Told after each block how many pulses have been sent.
    """
    alice = Alice(config=config, secrets=alice_secrets or OsSecrets(), nature=Nature(seed, "line"))
    bob = Bob(config=config, secrets=bob_secrets or OsSecrets())
    eve = None if attack is None else attack.open(config, seed=seed)
    for start in range(0, config.n_pulses, config.block_size):
        train = alice.prepare(min(config.block_size, config.n_pulses - start))
        arriving = config.channel.carry(train) if eve is None else eve.intercept(train, config.channel)
        detected = bob.receive(arriving)
        alice.settle(detected if eve is None else eve.settle(detected))
        if progress is not None:
            progress(min(start + config.block_size, config.n_pulses))
    channel = PublicChannel(None if eve is None else eve.relay)
    heard = channel.send("bob", "detections", bob.announce())
    answer = channel.send("alice", "bases", alice.reply(heard))
    return QuantumPhase(config=config, alice=alice.sifted, bob=bob.sift(answer), channel=channel, eve=eve)
