"""From sifted bits to a key: the whole public discussion between two parties, and its account."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from qflsec.base import ProtocolAbort, Secrets
from qflsec.protocols.bb84.agreement import TRANSCRIPT_TAGS, PostprocessConfig
from qflsec.protocols.bb84.authentication import BLOCK_BYTES, TAG_BITS
from qflsec.protocols.bb84.cascade import CascadeCount
from qflsec.protocols.bb84.estimation import ErrorEstimate
from qflsec.protocols.bb84.key_length import variable_length_unproved
from qflsec.protocols.bb84.key_pool import KeyPool, common_pads, preshared_bits, spoiled_rounds
from qflsec.protocols.bb84.postprocess_parties import AlicePost, BobPost, PostParty
from qflsec.protocols.bb84.sifting import AliceSifted, BobSifted
from qflsec.protocols.bb84.transcript import PartyName, PublicChannel
from qflsec.protocols.epsilons import Epsilons

__all__ = ["KeyResult", "round_tags", "run", "share_beforehand"]

# Per-message tags take one pad for each message; a first run brings room for so many.
_MANY_TAGS = 1 << 14


@dataclass(frozen=True, kw_only=True)
class KeyResult:
    """What a run came to. An abort is a result too: no key, and the reason.

    Attributes:
        alice: Alice, with her copy of the key.
        bob: Bob, with his.
        config: What was agreed.
        abort_reason: Why there is no key; None if there is one.
        key_length: Bits released, after authentication is paid for.
        net_gain: Those, less the hash key that a first round takes from what was shared beforehand.
        authentication_bits: Bits that tags used.
        refilled_bits: Bits of the new key that brought the pools back to their level: what this run's tags used, and
            what spoiled runs before it had used.
        preshared_bits: Of a first round: what it took from the key shared beforehand.
        test: Error rate of the test bits; None if it was not reached.
        reconciliation: What error correction cost; None if it was not reached.
        messages: Public messages of this run, sifting included.
        public_bytes: Their size.
        eps_auth: Probability bound that an altered message was accepted.
        eps_pads: How far the pads of this run may be from ideal ones: what the earlier blocks may be from theirs that
            the pads were taken from; 0 while they were shared beforehand.
        spoiled_rounds: How many spoiled runs the pools survive now, whatever Eve does.
        seeded: Whether secrets could be reproduced, so that the key protects nothing.
        simulated: Whether the quantum channel was simulated.
    """

    alice: PostParty = field(repr=False)
    bob: PostParty = field(repr=False)
    config: PostprocessConfig = field(repr=False)
    abort_reason: str | None
    key_length: int
    net_gain: int
    authentication_bits: int
    refilled_bits: int
    preshared_bits: int
    test: ErrorEstimate | None
    reconciliation: CascadeCount | None
    messages: int
    public_bytes: int
    eps_auth: float
    eps_pads: float
    spoiled_rounds: int
    seeded: bool
    simulated: bool

    @property
    def leak_ec(self) -> int:
        """Bits of error correction that the agreed accounting takes off the key."""
        return 0 if self.reconciliation is None else self.reconciliation.leak(self.config.accounting)

    @property
    def eps_total(self) -> float:
        """eps_sec + eps_cor + eps_auth + eps_pads: how far the run may be from an ideal one."""
        return self.config.eps_sec + self.config.eps_cor + self.eps_auth + self.eps_pads

    @property
    def epsilons(self) -> Epsilons:
        """Those of the key as a block; its authentication takes in the pads."""
        return Epsilons(
            eps_sec=self.config.eps_sec,
            eps_cor=self.config.eps_cor,
            eps_auth=min(1.0, self.eps_auth + self.eps_pads),
        )

    @property
    def f_ec(self) -> float | None:
        """Efficiency by Alice's parities alone and the errors found, as the literature counts it."""
        count = self.reconciliation
        if count is None or not 0 < count.corrected < self.config.n / 2:
            return None
        return count.efficiency(self.config.n, count.corrected / self.config.n)

    @property
    def variable_length_unproved(self) -> int | None:
        """Single photons: the length if the observed error rate stood in for the tolerance; not a claim."""
        if self.test is None or self.reconciliation is None or self.config.decoy is not None:
            return None
        return variable_length_unproved(
            n=self.config.n, k=self.config.k, observed=self.test.rate, leak_ec=self.leak_ec,
            eps_sec=self.config.eps_sec, eps_cor=self.config.eps_cor,
        )  # fmt: skip

    def to_dict(self) -> dict[str, object]:
        """The public account, ready for JSON; no key is in it."""
        config, test, count = self.config, self.test, self.reconciliation
        return {
            "key_length_bits": self.key_length,
            "abort_reason": self.abort_reason,
            "net_gain_bits": self.net_gain,
            "agreed_length_bits": config.length,
            "raw_key_bits": config.n,
            "test_bits": config.k,
            "tolerated_error_rate": config.q_tol,
            "test_errors": None if test is None else test.errors,
            "qber": None if test is None else test.rate,
            "qber_interval": None if test is None else [test.low, test.high],
            "errors_corrected": None if count is None else count.corrected,
            "alice_parity_bits": None if count is None else count.alice_bits,
            "bob_parity_bits": None if count is None else count.bob_bits,
            "cascade_rounds": None if count is None else count.rounds,
            "cascade_schedule": config.schedule,
            "leak_ec_bits": self.leak_ec,
            "leak_budget_bits": config.leak_budget,
            "leak_accounting": config.accounting,
            "f_ec_alice_only": self.f_ec,
            "verification_bits": config.verification_bits,
            "authentication_bits": self.authentication_bits,
            "authentication_tags": config.tags,
            "pool_refill_bits": self.refilled_bits,
            "pool_spoiled_rounds": self.spoiled_rounds,
            "preshared_bits": self.preshared_bits,
            "public_messages": self.messages,
            "public_bytes": self.public_bytes,
            "eps_sec": config.eps_sec,
            "eps_cor": config.eps_cor,
            "eps_auth": self.eps_auth,
            "eps_pads": self.eps_pads,
            "eps_total": self.eps_total,
            "unproved_variable_length_bits": self.variable_length_unproved,
            "seeded": self.seeded,
            "simulated": self.simulated,
        }


def run(
    alice_sifted: AliceSifted,
    bob_sifted: BobSifted,
    config: PostprocessConfig,
    secrets: Secrets,
    *,
    channel: PublicChannel | None = None,
    pools: tuple[KeyPool, KeyPool] | None = None,
    simulated: bool = True,
) -> KeyResult:
    """Post-process one sifted block.

    Either both parties end with a key or, as far as the run can see, neither. On a real line the last
    message may be lost after Bob has checked his tag: he then holds a key that is secret but that Alice
    never confirms, which is for the key store's identifiers to keep from use.

    Args:
        alice_sifted: Alice's half.
        bob_sifted: Bob's half.
        config: What was agreed before the first pulse.
        secrets: Alice's source of public randomness.
        channel: The public channel of the quantum phase, whose transcripts are authenticated too.
        pools: Alice's and Bob's key pools, kept from round to round; by default a first round, with a key
            that is shared beforehand.
        simulated: Whether the quantum channel was simulated.

    Returns:
        The result; the parties in it hold the keys. An abort is a result with a reason.
    """
    line = PublicChannel() if channel is None else channel
    alice_pool, bob_pool = share_beforehand(config, secrets) if pools is None else pools
    first_round = alice_pool.refills == 0
    alice = AlicePost(alice_sifted, config, alice_pool, line.alice, secrets)
    bob = BobPost(bob_sifted, config, bob_pool, line.bob)
    reason = None
    try:
        _Discussion(alice, bob, line, config).hold()
    except ProtocolAbort as abort:
        reason = abort.what
        alice.discard()
        bob.discard()
    seeded = secrets.seeded or alice_sifted.seeded or bob_sifted.seeded
    return _account(
        alice, bob, line, config, reason, pads_left=common_pads(alice_pool, bob_pool),
        first_round=first_round, seeded=seeded, simulated=simulated,
    )  # fmt: skip


def _account(
    alice: AlicePost,
    bob: BobPost,
    line: PublicChannel,
    config: PostprocessConfig,
    reason: str | None,
    *,
    pads_left: int,
    first_round: bool,
    seeded: bool,
    simulated: bool,
) -> KeyResult:
    length = 0 if alice.key is None else int(alice.key.size)
    spent = TAG_BITS * max(alice.pads_spent, bob.pads_spent)
    return KeyResult(
        alice=alice,
        bob=bob,
        config=config,
        abort_reason=reason,
        key_length=length,
        net_gain=length - TAG_BITS if first_round and length else length,
        authentication_bits=spent,
        refilled_bits=alice.refilled_bits,
        preshared_bits=spent + TAG_BITS if first_round else 0,
        test=bob.test,
        reconciliation=bob.cascade.count() if bob.reconciling else None,
        messages=len(line.alice),
        public_bytes=line.alice.n_bytes,
        eps_auth=alice.eps_auth + bob.eps_auth,
        eps_pads=max(alice.eps_pads, bob.eps_pads),
        spoiled_rounds=spoiled_rounds(pads_left, tags=round_tags(config)),
        seeded=seeded,
        simulated=simulated,
    )


def round_tags(config: PostprocessConfig) -> int:
    """The most tags of one round, for which pads are shared beforehand."""
    return TRANSCRIPT_TAGS if config.tags == "transcript" else _MANY_TAGS


def share_beforehand(
    config: PostprocessConfig, secrets: Secrets, *, spoiled: int = 0
) -> tuple[KeyPool, KeyPool]:
    """Two pools with the same secret bits, as from a meeting of the parties.

    Args:
        config: What was agreed.
        secrets: Where the bits come from.
        spoiled: How many spoiled rounds in a row the pools are to survive, whatever Eve does; by default none: then one
            altered tag ends every later round.
    """
    tags = round_tags(config) * (1 + 2 * spoiled)
    preshared = secrets.draw(math.ceil(preshared_bits(tags) / 8))
    return KeyPool(preshared), KeyPool(preshared)


class _Discussion:
    """Carries the messages; it looks into none of them."""

    def __init__(
        self, alice: AlicePost, bob: BobPost, line: PublicChannel, config: PostprocessConfig
    ) -> None:
        self._alice, self._bob, self._line = alice, bob, line
        self._config = config
        self._per_message = config.tags == "per-message"
        self._sealed = 0

    def hold(self) -> None:
        """The whole protocol, in order.

        Raises:
            ProtocolAbort: A check failed.
        """
        alice, bob = self._alice, self._bob
        alice.check_counts()
        bob.check_counts()
        at_alice, at_bob = alice.pads(), bob.pads()
        bob.hear_pads(self._line.send("alice", "pads left", at_alice))
        alice.hear_pads(self._line.send("bob", "pads left", at_bob))
        bob.hear_choice(self._carry("alice", "kept bits", alice.choose()))
        errors = bob.compare(self._carry("alice", "test bits", alice.reveal()))
        alice.hear_errors(self._carry("bob", "test errors", errors))
        bob.judge()
        self._reconcile()
        verdict = bob.verdict(self._carry("alice", "verification", alice.verify()))
        alice.hear_verdict(self._carry("bob", "verdict", verdict))
        bob.stand_by_verdict()
        seed = alice.amplification_seed()
        heard = self._carry("alice", "amplification seed", seed)
        alice.amplify(seed)
        bob.amplify(heard)
        self._authenticate()

    def _reconcile(self) -> None:
        alice, bob = self._alice, self._bob
        bob.begin_cascade(self._carry("alice", "shuffle seed", alice.shuffle_seed()))
        while not (alice.cascade.done or bob.cascade.done):
            from_alice, from_bob = alice.cascade.speak(), bob.cascade.speak()
            bob.cascade.hear(self._carry("alice", "parities", from_alice))
            alice.cascade.hear(self._carry("bob", "parities", from_bob))
        if not (alice.cascade.done and bob.cascade.done):
            raise ProtocolAbort("malformed message")
        bob.correct()

    def _authenticate(self) -> None:
        """One tag for each direction over the transcript so far; only then is anything released."""
        alice, bob = self._alice, self._bob
        alice.take_digest()
        bob.take_digest()
        bob.check_tag(self._line.send("alice", "tag", alice.tag()))
        alice.check_tag(self._line.send("bob", "tag", bob.tag()))
        eps = self._config.eps_sec + self._config.eps_cor + alice.eps_auth + bob.eps_auth
        alice.release(eps)
        bob.release(eps)
        if alice.key is None or bob.key is None:
            raise ProtocolAbort("the authentication pools took the whole key")

    def _carry(self, sender: PartyName, kind: str, payload: bytes) -> bytes:
        """One message, with a tag of its own where that was agreed."""
        if not self._per_message:
            return self._line.send(sender, kind, payload)
        speaker, listener = (self._alice, self._bob) if sender == "alice" else (self._bob, self._alice)
        header = f"{self._sealed} {sender} {kind}".encode().ljust(4 * BLOCK_BYTES)
        self._sealed += 1
        return listener.unseal(header, self._line.send(sender, kind, speaker.seal(header, payload)))
