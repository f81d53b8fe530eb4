"""Man in the middle: be Bob to Alice and Alice to Bob."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qflsec.attacks.channel.base import ChannelAttack, ChannelEve, KeyGuess
from qflsec.base import AttackCard, Source, numpy_stream, register
from qflsec.protocols.bb84.bits import Bits
from qflsec.protocols.bb84.channel import FibreChannel
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.parties import Alice, Bob
from qflsec.protocols.bb84.sifting import AliceSifted, BobSifted
from qflsec.protocols.bb84.signal import PulseTrain
from qflsec.protocols.bb84.transcript import Message, Transcript

__all__ = ["ManInTheMiddle", "MiddleEve"]


class _OwnCoins:
    """The adversary's own secrets: an experiment stream, since nobody relies on them."""

    def __init__(self, seed: int) -> None:
        self._rng = numpy_stream(seed, "bb84", "eve", "middle")

    @property
    def seeded(self) -> bool:
        """Always true."""
        return True

    def draw(self, n_bytes: int) -> bytes:
        """The next bytes of the stream."""
        return self._rng.bytes(n_bytes)


@register("attack", "man-in-the-middle")
@dataclass(frozen=True, kw_only=True)
class ManInTheMiddle(ChannelAttack):
    """Run the protocol twice: with Alice, posing as Bob, and with Bob, posing as Alice."""

    card: ClassVar[AttackCard] = AttackCard(
        name="man-in-the-middle",
        idea="Run BB84 with each party in the other's name, and rewrite the public discussion.",
        source=Source(
            paper="Bennett, Brassard: Quantum cryptography: public key distribution and coin tossing",
            year=1984,
            where="Proc. IEEE Int. Conf. Computers, Systems and Signal Processing, 175; section III",
        ),
        family="channel",
        goal="confidentiality",
        needs=("the quantum line", "a public channel that is not authenticated"),
        metric="eve_information",
    )

    def open(self, config: QuantumConfig, *, seed: int) -> MiddleEve:
        """The adversary of one run."""
        return MiddleEve(config, seed=seed)


class MiddleEve(ChannelEve):
    """The adversary: a Bob for Alice and an Alice for Bob."""

    def __init__(self, config: QuantumConfig, *, seed: int) -> None:
        super().__init__(config, seed=seed)
        coins = _OwnCoins(seed)
        self._as_bob = Bob(config=config, secrets=coins)
        self._as_alice = Alice(config=config, secrets=coins, nature=self.nature)
        self._detected = np.zeros(0, dtype=np.int64)
        self._to_bob = b""
        self._with_alice: BobSifted | None = None

    def intercept(self, train: PulseTrain, line: FibreChannel) -> PulseTrain:
        """Receive Alice's pulses as Bob would, and send Bob one's own."""
        n = len(train)
        self._detected = self._as_bob.receive(line.carry(train))
        return line.carry(self._as_alice.prepare(n))

    def settle(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Bob's detections concern Eve's pulses; Alice hears of Eve's."""
        self._as_alice.settle(positions)
        return self._detected

    def relay(self, message: Message) -> bytes:
        """Answer each party in the other's name."""
        if message.kind == "detections":
            self._to_bob = self._as_alice.reply(message.payload)
            return self._as_bob.announce()
        if message.kind == "bases":
            self._with_alice = self._as_bob.sift(message.payload)
            return self._to_bob
        return message.payload

    def partner(self, bob: BobSifted) -> BobSifted:
        """The half that Eve shares with Alice, who takes her for Bob."""
        assert self._with_alice is not None, "the public discussion is not over"
        return self._with_alice

    @property
    def with_bob(self) -> AliceSifted:
        """The half that Eve shares with Bob, who takes her for Alice."""
        return self._as_alice.sifted

    def guess(self, transcript: Transcript) -> KeyGuess:
        """Eve holds a key of her own with Alice."""
        assert self._with_alice is not None, "the public discussion is not over"
        bits = self._with_alice.key_bits
        return KeyGuess(bits=bits, confidence=np.ones(bits.size))

    def read(self, columns: dict[str, npt.NDArray[np.uint8]]) -> tuple[Bits, npt.NDArray[np.float64]]:
        """Nothing is read off records: :meth:`guess` knows the key."""
        return np.zeros(0, dtype=np.uint8), np.zeros(0)
