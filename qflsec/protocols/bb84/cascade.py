"""Cascade between two parties that exchange parities and nothing else.

In every round both announce the parities of the same intervals of their keys; which intervals follows from
what was announced before, so that positions cost no messages and every bit on the line is a parity. All of
them are counted, for each party. How they come off the key is said by
:data:`~qflsec.protocols.bb84.key_length.LeakAccounting`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.base import ProtocolAbort, Secrets, finite
from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.cascade_search import Search
from qflsec.protocols.bb84.cascade_variants import DEFAULT_SCHEDULE, schedule
from qflsec.protocols.bb84.key_length import LeakAccounting, leak_bits
from qflsec.protocols.bb84.transcript import PublicChannel
from qflsec.protocols.stages import OutOfOrder, Staged, stage

__all__ = ["CascadeConfig", "CascadeCount", "CascadeParty", "reconcile"]

Bits = npt.NDArray[np.uint8]
SEED_BYTES = 32


@finite
@dataclass(frozen=True, kw_only=True)
class CascadeConfig:
    """What the parties agree on before the run.

    Attributes:
        schedule: Name of the schedule.
        qber: Expected error rate, from which block sizes follow.
        budget_bits: Most bits of leak before the run aborts; None for no limit.
        accounting: What counts as leak.
    """

    schedule: str = DEFAULT_SCHEDULE
    qber: float
    budget_bits: int | None = None
    accounting: LeakAccounting = "both-parties"


@dataclass(frozen=True, kw_only=True)
class CascadeCount:
    """What a reconciliation cost, as both parties counted it.

    Attributes:
        alice_bits: Parities that Alice announced.
        bob_bits: Parities that Bob announced.
        rounds: Exchanges, in each of which both announce.
        corrected: Bits of Bob's key that were flipped.
    """

    alice_bits: int
    bob_bits: int
    rounds: int
    corrected: int

    def leak(self, accounting: LeakAccounting) -> int:
        """Bits that come off the key."""
        return leak_bits(self.alice_bits, self.bob_bits, accounting)

    def efficiency(self, n: int, qber: float) -> float:
        """f_EC as the literature counts it, by Alice's parities alone: at least 1."""
        return self.alice_bits / (n * binary_entropy(qber))


class CascadeParty(Staged):
    """One party: its own key, and its own copy of the public search.

    Args:
        bits: Its raw key, 0/1.
        config: What was agreed.
        seed: Public seed of the shuffles.
    """

    def __init__(self, bits: Bits, config: CascadeConfig, seed: bytes) -> None:
        self._bits = bits
        self._config = config
        self._search = Search(schedule(config.schedule), config.qber, bits.size, seed)
        self._prefix: dict[int, Bits] = {}
        self._said: Bits | None = None
        self._announced = 0
        self.rounds = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left to ask."""
        return self._search.question is None

    @stage(opens=True)
    def speak(self) -> bytes:
        """The parities of the current question, packed.

        Raises:
            ProtocolAbort: Announcing them would exceed the leak budget.
        """
        if self._said is not None:
            raise OutOfOrder("a question is asked again before its answer was heard")
        question = self._search.question
        assert question is not None
        after = self._announced + question.low.size
        budget = self._config.budget_bits
        if budget is not None and leak_bits(after, after, self._config.accounting) > budget:
            raise ProtocolAbort("leak above budget")
        prefix = self._parities(question.number)
        self._said = prefix[question.high] ^ prefix[question.low]
        return np.packbits(self._said).tobytes()

    @stage("speak")
    def hear(self, payload: bytes) -> None:
        """Take in the other's parities of the same question.

        Raises:
            ProtocolAbort: They are not an answer to it, or far more bits seem wrong than expected.
        """
        assert self._said is not None
        n = self._said.size
        packed = np.frombuffer(payload, dtype=np.uint8)
        if packed.size != -(-n // 8) or (n % 8 and packed[-1] & (0xFF >> (n % 8))):
            raise ProtocolAbort("malformed message")
        self._announced += n
        self.rounds += 1
        said, self._said = self._said, None
        self._search.answer(said ^ np.unpackbits(packed, count=n))

    def corrected(self) -> Bits:
        """Its key with every bit flipped that the search found: what Bob goes on with."""
        result = self._bits.copy()
        np.bitwise_xor.at(result, self._search.flips, np.uint8(1))
        return result

    def count(self) -> CascadeCount:
        """What it cost; each party announces one parity for each interval."""
        return CascadeCount(
            alice_bits=self._announced,
            bob_bits=self._announced,
            rounds=self.rounds,
            corrected=int(self._search.flips.size),
        )

    def _parities(self, number: int) -> Bits:
        """Parity of the key up to each place of a pass."""
        if number not in self._prefix:
            order = self._search.order(number)
            prefix = np.zeros(self._bits.size + 1, dtype=np.uint8)
            np.bitwise_xor.accumulate(self._bits if order is None else self._bits[order], out=prefix[1:])
            self._prefix[number] = prefix
        return self._prefix[number]


def reconcile(
    alice_bits: Bits,
    bob_bits: Bits,
    config: CascadeConfig,
    secrets: Secrets,
    channel: PublicChannel | None = None,
) -> tuple[Bits, CascadeCount]:
    """Run Cascade between two parties in one process; returns Bob's corrected key and the cost.

    Args:
        alice_bits: Alice's raw key, 0/1.
        bob_bits: Bob's raw key, 0/1.
        config: What was agreed.
        secrets: Alice's source; the seed is public, but drawn only now, after the last pulse.
        channel: What carries the messages.

    Raises:
        ProtocolAbort: The leak would exceed its budget, or a message was altered so that it shows.
    """
    line = PublicChannel() if channel is None else channel
    seed = secrets.draw(SEED_BYTES)
    alice = CascadeParty(alice_bits, config, seed)
    bob = CascadeParty(bob_bits, config, line.send("alice", "shuffle seed", seed))
    while not (alice.done or bob.done):
        from_alice, from_bob = alice.speak(), bob.speak()
        bob.hear(line.send("alice", "parities", from_alice))
        alice.hear(line.send("bob", "parities", from_bob))
    if not (alice.done and bob.done):
        raise ProtocolAbort("malformed message")
    return bob.corrected(), bob.count()
