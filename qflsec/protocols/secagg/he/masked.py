"""Masks inside the plaintext: whoever opens a ciphertext still reads noise.

Clients of shared-key encryption can open each other's updates. Here each client adds its pairwise masks to
its integers before it encrypts them, modulo the plaintext modulus; the masks cancel in the sum over all
participants, which clients decrypt as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import DefenseCard, IncompatibleStack, ProtocolAbort, Secrets, Source, register
from qflsec.base.framing import pack_entries, unpack_entries
from qflsec.federation import Control, Header, Identity, PartyState, Pipeline, Setup
from qflsec.federation.control import Question
from qflsec.protocols.key_agreement import in_order, key_exchange
from qflsec.protocols.secagg.he.bfv import HeBfv
from qflsec.protocols.secagg.he.envelope import open_envelope, seal_envelope
from qflsec.protocols.secagg.he.ledger import he_masked_rows
from qflsec.protocols.secagg.he.state import KEY_NAME, HeClient
from qflsec.protocols.secagg.masks.expansion import check_peers, keystream_of, pair_masks, participants_digest
from qflsec.protocols.stages import stage
from qflsec.threat import SERVER, Party, Payload, Traffic, Workload, client

__all__ = ["HeMasked", "MaskingClient", "he_mask_name", "masks_below"]

_PROTOCOL = "qflsec/he-masked/2"
_SETUP_ROUND = 0
_MIN_CLIENTS = 3


def he_mask_name(one: Party, other: Party) -> str:
    """The name of the mask key that two clients share, such as ``"he-mask:2-5"``."""
    lower, higher = in_order(one, other)
    return f"he-mask:{lower.index}-{higher.index}"


def masks_below(key: bytes, n: int, modulus: int) -> npt.NDArray[np.int64]:
    """Uniform integers below a modulus from the ChaCha20 keystream under a key that serves this mask only.

    Words that would favour small integers are skipped, so that the result is exactly uniform if the keystream is.

    Shapes:
        returns: ``(n,)``
    """
    keystream = keystream_of(key)
    bits = modulus.bit_length()
    found = np.zeros(0, dtype=np.int64)
    while found.size < n:
        words = np.frombuffer(keystream.update(bytes(8 * n)), dtype="<u8") >> np.uint64(64 - bits)
        found = np.concatenate([found, words[words < modulus].astype(np.int64)])
    return found[:n]


class MaskingClient(HeClient):
    """A client that shares a mask key with each other client besides the one key that all share."""

    def __init__(
        self, setup: Setup, identity: Identity, secrets: Secrets, protocol: str, agreement: str
    ) -> None:
        super().__init__(setup, identity, secrets, protocol, key_exchange(agreement))
        self._pairs: dict[Party, bytes] = {}

    def key_names(self) -> frozenset[str]:
        """The shared key, and the pairs that this client belongs to."""
        peers = [party for party in self.setup.clients if party != self.party]
        return super().key_names() | {he_mask_name(self.party, peer) for peer in peers}

    @stage("key")
    def offer(self) -> bytes:
        """For each higher client, a fresh pair secret, encapsulated and signed."""
        entries = {}
        for peer in (party for party in self.setup.clients if party > self.party):
            self._pairs[peer], ciphertext = self.agreement.encapsulate(peer)
            entries[peer.index] = seal_envelope(
                self.identity,
                context=self.bound("mask key", str(peer)),
                key_id=self.key_id,
                round_index=_SETUP_ROUND,
                chunks=[ciphertext],
            )
        return pack_entries(entries)

    @stage("offer")
    def accept(self, message: bytes) -> None:
        """Take the pair secrets that lower clients offered.

        Raises:
            ProtocolAbort: An offer is missing or not authentic.
        """
        offers = {client(index): blob for index, blob in unpack_entries(message).items()}
        expected = {party for party in self.setup.clients if party < self.party}
        if set(offers) != expected:
            raise ProtocolAbort(f"{self.party} was not handed one mask key of each lower client")
        for peer, blob in offers.items():
            (ciphertext,) = open_envelope(
                self.identity,
                peer,
                blob,
                context=self.bound("mask key", str(self.party)),
                key_id=self.key_id,
                round_index=_SETUP_ROUND,
                n=1,
            )
            self._pairs[peer] = self.agreement.decapsulate(peer, ciphertext)

    @stage("accept", opens=True, each="header.round")
    def mask(self, header: Header, n: int, modulus: int) -> npt.NDArray[np.int64]:
        """The sum of this client's masks of a round, modulo the modulus.

        Raises:
            ProtocolAbort: The participants are not acceptable.

        Shapes:
            returns: ``(n,)``
        """
        peers = check_peers(self.party, header, self._pairs, least=_MIN_CLIENTS)
        about = (_PROTOCOL, self.setup.session, header.round, participants_digest(header), self.key_id)
        total = np.zeros(n, dtype=np.int64)
        for sign, key in pair_masks(self.party, self._pairs, peers, *about):
            total = (total + sign * masks_below(key, n, modulus)) % modulus
        return total


@register("layer", "he-masked")
@dataclass(frozen=True, kw_only=True)
class HeMasked(HeBfv):
    """Exact homomorphic sums of masked integers: no single client can open another's update.

    All participants of a round must be heard, or the round aborts.
    """

    card = DefenseCard(
        name="he-masked",
        idea="Clients mask their integers pairwise, modulo the plaintext modulus, before they encrypt them under "
        "the key that they share.",
        source=Source(
            paper="Bonawitz et al., CCS 2017, eprint 2017/281 (pairwise masks), inside Fan and Vercauteren, eprint "
            "2012/144; by TenSEAL, Benaissa et al., arXiv:2104.03152",
            year=2017,
            where="section 4 of the former, the protocol with pairwise masks alone; section 4 of the latter",
        ),
        claim="The server and the network read no update, no sum and no model before the final one is published; "
        "together with clients that collude they read the sum over the others, and no part of it while two others "
        "do not collude.",
        assumption="computational",
        hides="single updates from the server, the network and colluding clients; sums and "
        "intermediate models from the server and the network alone",
        does_not=(
            "It does not survive a dropout.",
            "It does not hide the sum from clients.",
            "It does not hide who takes part, sizes, times, or numbers of records, which are taken as public.",
            "It does not let the server evaluate or bound anything.",
            "It does not bound what a client submits.",
        ),
        cost="about 59 kB for every 4096 parameters at quantum-128, in each direction, and one mask for each pair "
        "and round; 0.2 MB of key for each client, and one key exchange for each pair",
    )
    protocol = _PROTOCOL

    def check(self, pipeline: Pipeline) -> None:
        """Refuse rounds with fewer than three participants.

        Raises:
            IncompatibleStack: A round has fewer.
        """
        if pipeline.federation.n_participants < _MIN_CLIENTS:
            raise IncompatibleStack(
                f"'he-masked' needs {_MIN_CLIENTS} clients in a round: of a sum of two, each reads the other's update",
                got=f"{pipeline.federation.n_participants} participants",
                fix="raise 'participation' or 'n_clients', or use 'he-bfv'",
            )

    def new_client(self, setup: Setup, identity: Identity, secrets: Secrets) -> HeClient:
        """A client's state."""
        return MaskingClient(setup, identity, secrets, self.protocol, self.agreement)

    def prepare(self, control: Control) -> frozenset[Party]:
        """Before the first round, hand out the shared key, then a mask key for each pair.

        Raises:
            ProtocolAbort: Some party did not get its part.
        """
        server = control.state(SERVER)
        first = not getattr(server, "key_id", b"")
        ready = super().prepare(control)
        if first:
            self._exchange_pairs(control)
        return ready

    def _exchange_pairs(self, control: Control) -> None:
        everybody = control.state(SERVER).setup.clients  # type: ignore[attr-defined]
        routed: dict[Party, dict[int, bytes]] = {party: {} for party in everybody}
        for author, message in control.hear("offer", everybody, self.answer).items():
            for index, blob in unpack_entries(message).items():
                if client(index) in routed:
                    routed[client(index)][author.index] = blob
        messages = {party: pack_entries(blobs) for party, blobs in routed.items()}
        handed = control.tell("accept", messages, self.answer)
        for party in everybody:
            if party not in handed:
                raise ProtocolAbort(f"{party} did not hear of its mask keys")

    def answer(self, state: PartyState, question: Question) -> bytes:
        """A client's half of the handing out of the key and of the mask keys.

        Raises:
            ProtocolAbort: The client refuses.
        """
        assert isinstance(state, MaskingClient)
        if question.step == "offer":
            return state.offer()
        if question.step == "accept":
            state.accept(question.body)
            return b""
        return super().answer(state, question)

    def protect(
        self, state: HeClient, update: torch.Tensor, weight: float, header: Header, *, checked: bool
    ) -> tuple[list[bytes], torch.Tensor]:
        """A client's ciphertexts of masked integers, and what they carry.

        Raises:
            ProtocolAbort: The participants are not acceptable.
            UpdateError: A weighted coordinate exceeds its share of the plaintext modulus.
        """
        assert isinstance(state, MaskingClient)
        n_clients = len(state.setup.clients)
        fixed = self.words(n_clients)
        words = fixed.encode(update, weight, n=n_clients, secrets=state.secrets, checked=checked)
        masked = (words.view(np.int64) + state.mask(header, words.size, fixed.modulus)) % fixed.modulus
        signed = np.where(masked > fixed.modulus // 2, masked - fixed.modulus, masked)
        return self.encrypt_integers(state.context, signed, n_clients), fixed.inside(words, update)

    def combine(self, state: PartyState, payloads: Mapping[Party, Payload], header: Header) -> Payload:
        """The sum of the ciphertexts of all participants.

        Raises:
            ProtocolAbort: A participant is missing, an envelope is not authentic, or ciphertexts do not fit.
        """
        missing = sorted(set(header.participants) - set(payloads))
        if missing:
            raise ProtocolAbort(
                f"masked homomorphic aggregation of round {header.round} is incomplete",
                got=f"nothing from {', '.join(map(str, missing))}",
                expected="every participant: their masks do not cancel otherwise",
            )
        return super().combine(state, payloads, header)

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """As without masks, and a key for each pair before the first round."""
        return self.sizes(load).traffic(load, pairs=True)

    def keys(self, sender: Party, participants: tuple[Party, ...]) -> frozenset[str]:
        """The shared key; for a client's ciphertexts also its pairs with the other participants."""
        if sender == SERVER:
            return frozenset({KEY_NAME})
        return frozenset({KEY_NAME, *(he_mask_name(sender, peer) for peer in participants if peer != sender)})

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What it hides from this observer."""
        return he_masked_rows(self.card.name, context, security=self.security, agreement=self.agreement)
