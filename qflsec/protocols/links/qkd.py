"""What all links under QKD keys share: their configuration, and a party's ends of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qflsec.base import ConfigError, IncompatibleStack, ProtocolAbort, Secrets
from qflsec.federation import Identity, LinkLayer, PartyState, Pipeline, Setup
from qflsec.protocols.keystore import KeyProvider
from qflsec.protocols.links.key_stream import MOST_IDS, Frame, ReceivingKeys, SendingKeys
from qflsec.protocols.links.link_end import LinkEnd, link_name
from qflsec.protocols.links.sources import KeySource, open_ends, source_names, what_it_says
from qflsec.threat import Party, Traffic

__all__ = ["QkdEnd", "QkdLink"]


class QkdEnd(LinkEnd):
    """One party's ends of its links: what it has sent and received, and its end of the quantum links.

    Args:
        setup: What every party knows, with this party's end of the quantum links.
        identity: Who the party is.

    Attributes:
        planned_bits: Key that sending to each peer may take in the run.

    Raises:
        ConfigError: There is no end of quantum links.
    """

    family = "qkd"

    def __init__(self, setup: Setup, identity: Identity) -> None:
        if not isinstance(setup.quantum, KeyProvider):
            raise ConfigError(
                f"a QKD link of {identity.party} has no quantum link under it",
                expected="a KeyProvider as 'quantum' of the set-up",
            )
        super().__init__(setup, identity)
        self.planned_bits = 0
        self._quantum = setup.quantum
        self._talks_to = setup.clients if identity.party == setup.server else (setup.server,)
        self._sending = {peer: SendingKeys(setup.quantum, peer) for peer in self._peers}
        self._receiving = {peer: ReceivingKeys(setup.quantum, peer) for peer in self._peers}

    def check_ready(self) -> None:
        """Refuse a run that may take more key than there is, before a bit of it is spent.

        Raises:
            ProtocolAbort: It may.
        """
        for peer in self._talks_to:
            self._quantum.require(self.party, peer, self.planned_bits)

    def costs(self) -> Mapping[str, float]:
        """Key drawn for what this party sent; the receivers' copies are not counted again."""
        return {"qkd_key_bits": float(sum(keys.drawn_bits for keys in self._sending.values()))}

    def _keys_to(self, receiver: Party) -> SendingKeys:
        if receiver not in self._sending:
            raise ProtocolAbort(f"{self.party} has no QKD link with {receiver}")
        return self._sending[receiver]

    def _open_frame(self, sender: Party, blob: bytes) -> Frame:
        """The frame, if it claims to be the next one; the claim is checked with its tag."""
        frame = Frame.from_bytes(blob)
        self._expect(sender, frame.number)
        return frame


@dataclass(frozen=True, kw_only=True)
class QkdLink(LinkLayer):
    """Links under keys of quantum key distribution.

    Attributes:
        source: Where the keys come from: ``"ideal"`` or ``"stores"``.
        directory: The directory of the parties' key stores, for the source ``"stores"``.
        key_bits: The length of a key.
        budget_bits: What each direction of each link gives to one run. A run that may take more is refused before
            its first round, with the figure; so is one for which a link has less than that left.
        eps_sec: The worst secrecy of a block of key; a round of a link may use one such block, or several better ones.
        eps_cor: Its correctness, likewise.
        eps_auth: Failure of the authentication of its public discussion, likewise.

    Units:
        key_bits, budget_bits: bits

    Raises:
        ConfigError: A value is out of range.
    """

    source: str = "ideal"
    directory: str = ""
    key_bits: int = 256
    budget_bits: int = 1 << 20
    eps_sec: float = 1e-10
    eps_cor: float = 1e-15
    eps_auth: float = 1e-30

    def __post_init__(self) -> None:
        if self.source not in source_names():
            raise ConfigError("unknown source of keys", got=repr(self.source), expected=list(source_names()))
        if self.key_bits < 64 or self.key_bits % 8:
            raise ConfigError("'key_bits' is out of range", got=self.key_bits, expected="64, 72, 80 ...")
        if self.budget_bits < 0:
            raise ConfigError("'budget_bits' is negative", got=self.budget_bits)
        for name in ("eps_sec", "eps_cor", "eps_auth"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"'{name}' is a probability", got=getattr(self, name), expected="in (0, 1)")

    @abstractmethod
    def takes_bits(self, sizes: Sequence[int]) -> int:
        """Key that one direction of a link takes for messages of these sizes, in whole keys.

        Args:
            sizes: The sizes of the messages in order, before their encoding.

        Units:
            sizes: bytes; returns: bits
        """

    @abstractmethod
    def sealed_bytes(self, n_bytes: int) -> int:
        """The size of a sealed message of so many encoded bytes, at most."""

    def planned_bits(self, traffic: Traffic | None) -> int:
        """Key that each direction of each link may take in a run: what the larger direction does.

        Args:
            traffic: What the link gets to carry.

        Raises:
            IncompatibleStack: That cannot be told, or a message takes more keys than a frame can name.
        """
        if traffic is None:
            raise IncompatibleStack(
                f"{self.card.name!r} cannot tell how much key a run takes",
                got="a layer before it that does not state its traffic",
                fix="let that layer implement 'traffic', or use 'aes-gcm-link'",
            )
        largest = max((*traffic.of("up"), *traffic.of("down")), default=0)
        if self.takes_bits([largest]) // self.key_bits > MOST_IDS:
            raise IncompatibleStack(
                f"a message of {largest:,} bytes takes more keys than a frame of {self.card.name!r} can name",
                got=f"key_bits={self.key_bits}",
                expected=f"at most {MOST_IDS:,} keys for one message",
                fix="raise 'key_bits'",
            )
        return max(self.takes_bits(traffic.of("up")), self.takes_bits(traffic.of("down")))

    def check_traffic(self, traffic: Traffic | None) -> None:
        """Refuse a run that may take more key than a direction of a link gives.

        Raises:
            IncompatibleStack: It may.
        """
        needed = self.planned_bits(traffic)
        if needed > self.budget_bits:
            raise IncompatibleStack(
                f"{self.card.name!r} has too little key for the run: each direction of a link takes up to "
                f"{needed:,} bits",
                got=f"budget_bits={self.budget_bits}",
                expected=f"{needed} or more",
                fix="raise 'budget_bits', lower the number of rounds, or let AES-256 stretch the key",
            )

    def remarks(self, pipeline: Pipeline, traffic: Traffic | None = None) -> tuple[str, ...]:
        """How much key a run may take of what there is."""
        needed = self.planned_bits(traffic)
        said = f"each direction of a link takes up to {needed:,} bits of key of the {self.budget_bits:,} that it has"
        return (f"{self.card.name!r}: {said}",)

    @property
    def eps_round(self) -> float:
        """How far the key of one link and round may be from an ideal one."""
        return self.eps_sec + self.eps_cor + self.eps_auth

    @property
    def says_of_keys(self) -> str:
        """What the ledger says of the keys."""
        return what_it_says(self.source)

    def quantum_ends(self, setup: Setup, secrets: Secrets) -> Mapping[Party, object]:
        """Each party's own end of the quantum links."""
        source = KeySource(
            name=self.source,
            directory=self.directory,
            key_bits=self.key_bits,
            budget_bits=self.budget_bits,
            eps_sec=self.eps_sec,
            eps_cor=self.eps_cor,
            eps_auth=self.eps_auth,
        )
        return open_ends(source, setup, secrets)

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> QkdEnd:
        """A party's ends of its links, which know how much key the run may take."""
        end = self.new_end(setup, identity, secrets)
        if setup.traffic is not None:
            end.planned_bits = self.takes_bits(
                setup.traffic.of("down" if identity.party == setup.server else "up")
            )
        return end

    @abstractmethod
    def new_end(self, setup: Setup, identity: Identity, secrets: Secrets) -> QkdEnd:
        """A party's ends of its links."""

    def key_name(self, sender: Party, receiver: Party) -> str:
        """The name of the link's keys; both ends hold those of both directions."""
        return link_name("qkd", sender, receiver)

    def seal(self, state: PartyState, receiver: Party, payload: bytes, header: bytes) -> bytes:
        """The sender's half.

        Raises:
            ProtocolAbort: Too little key is left.
        """
        assert isinstance(state, QkdEnd)
        return state.seal(receiver, payload, header)

    def unseal(self, state: PartyState, sender: Party, blob: bytes, header: bytes) -> bytes:
        """The receiver's half.

        Raises:
            ProtocolAbort: The blob is not the next message that the sender sealed under this header.
        """
        assert isinstance(state, QkdEnd)
        return state.unseal(sender, blob, header)
