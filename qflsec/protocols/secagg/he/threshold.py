"""Threshold aggregation: the key is shared out among all clients, and only all of them open a sum."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from typing import Literal

import numpy as np
import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import (
    ConfigError,
    DefenseCard,
    IncompatibleStack,
    LostRound,
    ProtocolAbort,
    Secrets,
    Source,
    register,
)
from qflsec.federation import AggregationLayer, Control, Header, Identity, PartyState, Pipeline, Setup
from qflsec.federation.control import Question
from qflsec.protocols.secagg.derived_sums import Heard, Sum, derived_sums
from qflsec.protocols.secagg.he.bfv import PrimeFixedPoint
from qflsec.protocols.secagg.he.envelope import envelope_bytes, read_envelope
from qflsec.protocols.secagg.he.ledger import threshold_rows
from qflsec.protocols.secagg.he.openfhe_scheme import OpenFheScheme
from qflsec.protocols.secagg.he.parameters import LARGEST_MODULUS, Security
from qflsec.protocols.secagg.he.rlwe import DEGREE, RlweScheme
from qflsec.protocols.secagg.he.threshold_scheme import ThresholdScheme
from qflsec.protocols.secagg.he.threshold_state import (
    ThresholdClient,
    ThresholdServer,
    share_key_name,
)
from qflsec.threat import SERVER, Item, LaneFacts, Party, Payload, Traffic, Workload, client

__all__ = ["HeThreshold"]

_SIZE = struct.Struct("<I")


@register("layer", "he-threshold")
@dataclass(frozen=True, kw_only=True)
class HeThreshold(AggregationLayer):
    """Exact homomorphic sums that the server reads once every client gave its part of the decryption.

    Attributes:
        scheme: ``"rlwe"``: this package's own small scheme, for teaching. ``"openfhe"``: threshold BFV by OpenFHE,
            where it can be imported.
        security: The row of the security table.
        plain_bits: The size of the plaintext modulus: room for the sum of the weighted coordinates.
        fractional_bits: The resolution of a weighted coordinate is ``2^-fractional_bits``.
        smudging_bits: For ``"rlwe"``, by how many bits the noise of a part exceeds the error that it drowns.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="he-threshold",
        idea="Each client holds a share of the key; the server adds ciphertexts, and reads a sum once all clients "
        "gave their parts of its decryption.",
        source=Source(
            paper="Asharov et al.: Multiparty computation with low communication, computation and interaction via "
            "threshold FHE, EUROCRYPT 2012, eprint 2011/613; Mouchet et al., PoPETs 2021, eprint 2020/304",
            year=2012,
            where="section 3 of the former, section 4 of the latter (key generation, addition, smudged decryption)",
        ),
        claim="A server that follows the protocol, and all clients but one that collude with it, learn the sum of "
        "each round and nothing else of the last client's updates.",
        assumption="computational",
        hides="single updates from the server, the network and colluding clients",
        does_not=(
            "It does not survive a client that stays away.",
            "It does not hide the sum, who takes part, sizes, times, or numbers of records, which are taken as public.",
            "It does not stop a server and one client: with a ciphertext that it crafts they get every share of the key.",
            "It does not stop a client that chooses its public key after it saw the others'.",
            "It does not bound what a client submits.",
            "The scheme 'rlwe' is for teaching: it is not constant time and was not reviewed.",
        ),
        cost="rlwe: for every 4096 parameters 131 kB from each client, all of them to each client, and 66 kB from each "
        "for the decryption; openfhe: about twice that",
    )
    takes = frozenset({"plain"})
    gives = "ciphertext"
    leaves = "sum"
    additive = True
    remote = True

    scheme: Literal["rlwe", "openfhe"] = "rlwe"
    security: Security = "quantum-128"
    plain_bits: int = 32
    fractional_bits: int = 16
    smudging_bits: int = 40

    def __post_init__(self) -> None:
        if self.scheme not in {"rlwe", "openfhe"}:
            raise ConfigError("unknown 'scheme'", got=repr(self.scheme), expected="'rlwe' or 'openfhe'")
        if self.security not in LARGEST_MODULUS:
            raise ConfigError("unknown 'security'", got=repr(self.security), expected=list(LARGEST_MODULUS))
        for name, low, high in (
            ("plain_bits", 20, 40),
            ("fractional_bits", 1, self.plain_bits - 8),
            ("smudging_bits", 20, 60),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(
                    f"{name!r} is out of range", got=getattr(self, name), expected=f"{low} to {high}"
                )

    @property
    def grid(self) -> float:
        """The resolution of a weighted coordinate."""
        return 2.0**-self.fractional_bits

    def check(self, pipeline: Pipeline) -> None:
        """Refuse rounds without some client: only all together open a sum.

        Raises:
            IncompatibleStack: Not every client takes part, or there is one only.
        """
        federation = pipeline.federation
        if federation.n_participants != federation.n_clients or federation.n_clients < 2:
            raise IncompatibleStack(
                "'he-threshold' needs every client in every round, and two or more",
                got=f"{federation.n_participants} participants of {federation.n_clients}",
                fix="set participation = 1, or use 'secagg'",
            )

    def new_scheme(self, session: bytes, n_parties: int) -> ThresholdScheme:
        """The scheme of a session.

        Raises:
            ConfigError: No parameters fit.
            MissingExtra: OpenFHE is asked for and cannot be imported.
        """
        if self.scheme == "openfhe":
            return OpenFheScheme(plain_bits=self.plain_bits, n_parties=n_parties, security=self.security)
        return RlweScheme(
            session=session,
            n_parties=n_parties,
            plain_bits=self.plain_bits,
            smudging_bits=self.smudging_bits,
            security=self.security,
        )

    def words(self, scheme: ThresholdScheme) -> PrimeFixedPoint:
        """How numbers become integers."""
        return PrimeFixedPoint(fractional_bits=self.fractional_bits, modulus=scheme.modulus)

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """A party's state.

        Raises:
            ConfigError: The session's sums do not fit.
            MissingExtra: OpenFHE is asked for and cannot be imported.
        """
        scheme = self.new_scheme(setup.session, len(setup.clients))
        largest = self.words(scheme).largest(len(setup.clients))
        if setup.max_count > largest:
            raise ConfigError(
                f"the plaintexts of 'he-threshold' are too small for {len(setup.clients)} clients with up to "
                f"{setup.max_count} examples",
                got=f"plain_bits={self.plain_bits}, fractional_bits={self.fractional_bits}",
                expected=f"at most {largest:.6g} examples",
                fix="raise 'plain_bits' or lower 'fractional_bits'",
            )
        if identity.party in setup.clients:
            return ThresholdClient(setup, identity, scheme, secrets)
        return ThresholdServer(setup, identity, scheme)

    def prepare(self, control: Control) -> frozenset[Party]:
        """Before the first round, make the key: each client in turn adds its own.

        Raises:
            ProtocolAbort: Some client was not heard, or a message is not authentic.
        """
        server = control.state(SERVER)
        assert isinstance(server, ThresholdServer)
        if server.public:
            return frozenset(control.participants)
        message = b""
        for party in server.setup.clients:
            heard = control.ask("extend", {party: message}, self.answer)
            if party not in heard:
                raise ProtocolAbort(f"the public key of {party} was not heard")
            message = heard[party]
        server.finish(message)
        control.tell("finish", dict.fromkeys(server.setup.clients, message), self.answer)
        return frozenset(control.participants)

    def answer(self, state: PartyState, question: Question) -> bytes:
        """A client's part of the key, and of the decryption of a sum.

        Raises:
            ProtocolAbort: The client refuses.
        """
        assert isinstance(state, ThresholdClient)
        if question.step == "extend":
            return state.extend(question.body)
        if question.step == "finish":
            state.finish(question.body)
            return b""
        if question.step == "open":
            return state.open_part(question.body, question.round)
        return super().answer(state, question)

    def seal(
        self, state: PartyState, update: torch.Tensor, weight: float, header: Header, *, checked: bool = True
    ) -> tuple[Payload, torch.Tensor]:
        """A client's ciphertexts in a signed envelope, and what they carry.

        Raises:
            ProtocolAbort: The client has no key, or sealed this round already.
            UpdateError: A weighted coordinate exceeds its share of the plaintext modulus.
        """
        assert isinstance(state, ThresholdClient)
        fixed = self.words(state.scheme)
        words = fixed.encode(
            update, weight, n=len(state.setup.clients), secrets=state.secrets, checked=checked
        )
        envelope = state.encrypt(header.round, words.view(np.int64))
        return envelope, fixed.inside(words, update)

    def conclude(self, control: Control, payloads: Mapping[Party, Payload]) -> Mapping[Party, Payload]:
        """Add the ciphertexts, and show them to every client, which adds them too and gives its part of the decryption.

        Raises:
            LostRound: An envelope is missing or not authentic, or a client gave no part.
            ProtocolAbort: A client refuses.
        """
        server = control.state(SERVER)
        assert isinstance(server, ThresholdServer)
        server.require_key()
        sent = {p: blob for p in server.setup.clients if isinstance(blob := payloads.get(p), bytes)}
        _everybody(server, sent, "update")
        with _losing():
            total = server.added(sent, control.round)
        size = _SIZE.pack(server.setup.n_params + 1)
        asked = server.seal("sum", control.round, [size, *sent.values()])
        heard = control.ask("open", dict.fromkeys(server.setup.clients, asked), self.answer)
        _everybody(server, heard, "part of the decryption")
        with _losing():
            opened = [_part(server, p, control.round, heard[p], len(total)) for p in server.setup.clients]
            server.opened[control.round] = _fuse(server.scheme, total, opened, server.setup.n_params + 1)
        return payloads

    def combine(self, state: PartyState, payloads: Mapping[Party, Payload], header: Header) -> Payload:
        """The opened sum as words.

        Raises:
            ProtocolAbort: The round was not concluded.
        """
        assert isinstance(state, ThresholdServer)
        found = state.opened.pop(header.round, None)
        if found is None:
            raise ProtocolAbort(f"threshold aggregation of round {header.round} was not concluded")
        return found

    def reveal(self, state: PartyState, combined: Payload, header: Header) -> tuple[torch.Tensor, float]:
        """The weighted mean and the weight.

        Raises:
            ProtocolAbort: The weight is impossible.
        """
        assert isinstance(state, ThresholdServer)
        assert isinstance(combined, bytes)
        most = float(state.setup.max_count * len(header.participants))
        return self.words(state.scheme).read(np.frombuffer(combined, dtype=np.uint64), most=most)

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """The key, made in a chain; then ciphertexts up, all of them down, and a part of their sum's decryption up."""
        scheme = self.new_scheme(b"", load.n_clients)
        sizes = scheme.message_bytes()
        if sizes is None:
            return None
        public, ciphertext, part = sizes
        n = -(-(load.n_params + 1) // scheme.slots)
        key = envelope_bytes(len(b"public"), public)
        setup = Traffic().then(down={"keys so far": key, "key": key}, up={"key": key})
        update = envelope_bytes(len(b"update"), *[ciphertext] * n)
        each = Traffic().then(
            down={
                "model": load.model_bytes,
                "updates": envelope_bytes(len(b"sum"), _SIZE.size, *[update] * load.n_clients),
            },
            up={
                "update": update,
                "partial": envelope_bytes(len(b"partial"), *[part] * n),
            },
        )
        return Traffic.of_rounds(load.rounds, each=each, setup=setup)

    def keys(self, sender: Party, participants: tuple[Party, ...]) -> frozenset[str]:
        """Every client's share."""
        return frozenset(share_key_name(party) for party in participants)

    def derive(
        self, items: Sequence[Item], facts: LaneFacts, parties: frozenset[Party], held: frozenset[str]
    ) -> Sequence[Item]:
        """The sum of a round, for whoever hears the ciphertexts and everybody's parts."""
        clients = tuple(client(index) for index in range(len(facts.counts)))
        return derived_sums(items, facts, partial(_sum, self, clients))

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What it hides from this observer."""
        return threshold_rows(
            self.card.name,
            context,
            scheme=self.scheme,
            security=self.security,
            smudging_bits=self.smudging_bits if self.scheme == "rlwe" else None,
            slots=DEGREE,
        )


def _everybody(server: ThresholdServer, heard: Mapping[Party, object], what: str) -> None:
    """A sum without somebody is not opened: everybody holds a share of the key."""
    missing = [str(party) for party in server.setup.clients if party not in heard]
    if missing:
        raise LostRound(f"a threshold sum needs every client's {what}", got=f"none of {', '.join(missing)}")


@contextmanager
def _losing() -> Iterator[None]:
    """What is wrong with a message to the server costs the round; the next one has ciphertexts of its own."""
    try:
        yield
    except ProtocolAbort as abort:
        raise LostRound(str(abort), caused_by=abort.caused_by) from None


def _part(server: ThresholdServer, party: Party, round_index: int, message: bytes, n: int) -> list[bytes]:
    parts = server.unseal("partial", party, round_index, message)
    if len(parts) != n:
        raise ProtocolAbort(f"{party} gave parts of another sum", caused_by=party)
    return parts


def _fuse(
    scheme: ThresholdScheme, sums: Sequence[bytes], parts: Sequence[Sequence[bytes]], size: int
) -> bytes:
    """The integers of a sum, from every client's parts, as words."""
    integers = [scheme.fuse(blob, [own[k] for own in parts]) for k, blob in enumerate(sums)]
    return np.concatenate(integers)[:size].view(np.uint64).tobytes()


def _sum(layer: HeThreshold, clients: Sequence[Party], heard: Heard) -> Sum | None:
    envelopes: list[bytes] = []
    parts: dict[Party, list[bytes]] = {}
    for item in heard.control:
        kind, *chunks = _chunks(item.value)
        if kind == b"sum":
            envelopes = chunks
        elif kind == b"partial":
            parts[item.sender] = chunks
    if not envelopes or len(envelopes[0]) != _SIZE.size or set(parts) != set(clients):
        return None
    # whoever only listens needs no common polynomial to add parts up
    scheme = layer.new_scheme(b"", len(clients))
    columns = zip(*(_chunks(envelope)[1:] for envelope in envelopes[1:]), strict=True)
    sums = [reduce(scheme.add, column) for column in columns]
    raw = _fuse(scheme, sums, [parts[p] for p in clients], _SIZE.unpack(envelopes[0])[0])
    mean, weight = layer.words(scheme).read(np.frombuffer(raw, dtype=np.uint64))
    return Sum(mean=mean, weight=weight, said=heard.control[-1])


def _chunks(value: Payload) -> list[bytes]:
    try:
        found = read_envelope(value) if isinstance(value, bytes) else []
    except ProtocolAbort:
        found = []
    return found or [b""]
