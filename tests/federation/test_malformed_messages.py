"""Messages that nobody's honest code would send end a protocol, never the program: every layer with secrets, fuzzed.

Three authors are tried: a network that alters whatever it carries, and a client and a server that sign what is
malformed. Whatever they do, the run completes or stops with a reason, and every coalition's view can be read.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partialmethod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qflsec.base import ProtocolAbort, find, names
from qflsec.base.framing import pack_named, unpack_entries, unpack_indices
from qflsec.data import DataSpec, PartitionSpec
from qflsec.federation import (
    Adversary,
    FederationConfig,
    Identity,
    Pipeline,
    RunSpec,
    ServerHands,
    Stack,
    run_batch,
)
from qflsec.federation.layers import SecretLayer
from qflsec.federation.round.session import _unpack
from qflsec.models import build_model
from qflsec.protocols.secagg import HeBfv, HeCkks, scheme
from qflsec.protocols.secagg.he import envelope
from qflsec.protocols.secagg.he.state import load_context
from qflsec.protocols.secagg.messages import Mail
from qflsec.protocols.secagg.rounds import records
from qflsec.protocols.secagg.rounds.terms import Terms
from qflsec.protocols.validated.prover import Proof
from qflsec.protocols.validated.statement import Statement
from qflsec.protocols.validated.states import Parcel
from qflsec.threat import (
    SERVER,
    Payload,
    Tapped,
    coalition,
    honest_but_curious_server,
    malicious_server,
    wire_eavesdropper,
)
from qflsec.threat.codec import decode

PARAMETERS: dict[str, dict[str, Any]] = {
    "ddp": {"clip_norm": 0.5},
    "validated": {"resolution_bits": 5},
    "validated-groups": {"groups": 3, "min_groups": 1},
    "ghz": {"shots": 1, "tests": 4},
    "blind": {"shots": 1},
    "delegated": {"shots": 1},
}
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "secagg, ML-DSA": ("secagg", {"signature": "ml-dsa-65"}),
    "secagg, hybrid": ("secagg", {"agreement": "hybrid"}),
    "secagg, BB84": ("secagg", {"agreement": "bb84"}),
    "he-ckks, released": ("he-ckks", {"mode": "released", "precision": 0.1}),
}
LAYERS = {
    **{name: (name, PARAMETERS.get(name, {})) for name in names("layer")},
    **MORE,
}
LAYERS = {label: part for label, part in LAYERS.items() if issubclass(find("layer", part[0]), SecretLayer)}
VIEWS = (honest_but_curious_server(), wire_eavesdropper(), coalition(server=True, n=2))
FUZZ = settings(
    max_examples=6,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
seeds = st.integers(0, 2**20)
shares = st.sampled_from([0.03, 0.1, 0.4, 1.0])


def altered(rng: random.Random, payload: Payload) -> Payload | None:
    """A payload of the same or of another type, or none."""
    if not isinstance(payload, bytes):
        changed = [None, rng.randbytes(rng.randrange(40)), payload[:-1], payload[:0], np.zeros(3)]
        if isinstance(payload, torch.Tensor):
            changed += [payload * float("nan"), payload + 1e30, payload.to(torch.complex64)]
        else:
            changed += [payload.astype(np.float32), ~payload if payload.dtype.kind in "iu" else payload]
        return rng.choice(changed)
    return rng.choice([None, np.zeros(3), np.zeros(2, dtype=complex), *[changed_bytes(rng, payload)] * 3])


def changed_bytes(rng: random.Random, blob: bytes) -> bytes:
    n = len(blob)
    place, end = rng.randrange(n + 1), rng.randrange(n + 1)
    flipped = bytearray(blob)
    if n:
        flipped[rng.choice([place % n, place % min(n, 8)])] ^= 1 << rng.randrange(8)
    return rng.choice(
        [
            b"",
            rng.randbytes(rng.randrange(60)),
            rng.randbytes(n),
            blob[:place],
            blob + rng.randbytes(1 + rng.randrange(40)),
            blob + blob,
            bytes(flipped),
            blob[:place] + rng.randbytes(min(16, n - place)) + blob[place + 16 :],
            blob[:place] + blob[end:],
        ]
    )


class Wire(Adversary):
    """A network that alters a share of what it carries."""

    def __init__(self, seed: int, share: float) -> None:
        self.seed, self.share = seed, share

    def start(self, n_params: int) -> object:
        return 0

    def tamper(self, tapped: Tapped) -> Any:
        count = tapped.state
        assert isinstance(count, int)
        rng = random.Random(f"{self.seed}/{count}")
        found = altered(rng, tapped.payload) if rng.random() < self.share else tapped.payload
        return found, count + 1

    def identity(self) -> dict[str, object]:
        return {"name": "wire", "seed": self.seed, "share": self.share}


def _called(owner: Any, replacement: Callable[..., bytes], *rest: Any) -> bytes:
    return replacement(owner, *rest)


class Signer:
    """Makes one party sign malformed bodies: at every place where bytes get a signature or a tag."""

    def __init__(self, patch: pytest.MonkeyPatch, party: str, rng: random.Random, share: float) -> None:
        self.party, self.rng, self.share, self.depth = party, rng, share, 0
        self._sign, self._pack = Identity.sign, Mail.pack
        self._seal, self._box = envelope.seal_envelope, records.seal_box
        patch.setattr(Identity, "sign", partialmethod(_called, self._signed))
        patch.setattr(Mail, "pack", partialmethod(_called, self._packed))
        for module in [m for name, m in sys.modules.items() if name.startswith("qflsec.protocols.secagg")]:
            for name, mine in (("seal_envelope", self._sealed), ("seal_box", self._boxed)):
                if hasattr(module, name):
                    patch.setattr(module, name, mine)

    def _strikes(self, party: object) -> bool:
        return self.depth == 0 and str(party) == self.party and self.rng.random() < self.share

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """A signature over a digest is made of the body that is sent."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def _signed(self, me: Any, body: bytes, context: bytes) -> bytes:
        return self._sign(me, changed_bytes(self.rng, body) if self._strikes(me.party) else body, context)

    def _packed(self, me: Any, kind: Any, round_index: int, receiver: Any, body: bytes) -> bytes:
        if self._strikes(me._signer.party):
            body = changed_bytes(self.rng, bytes(body))
        with self._inside():
            return self._pack(me, kind, round_index, receiver, body)

    def _sealed(self, identity: Any, *, chunks: Sequence[bytes], **rest: Any) -> bytes:
        listed = list(chunks)
        if self._strikes(identity.party):
            place = self.rng.randrange(len(listed) + 1)
            other = [
                changed_bytes(self.rng, chunk) if i == place else chunk for i, chunk in enumerate(listed)
            ]
            listed = self.rng.choice([[], listed + listed, other, other])
        with self._inside():
            return self._seal(identity, chunks=listed, **rest)

    def _boxed(self, key: bytes, plain: bytes, about: bytes) -> bytes:
        strikes = self.depth == 0 and self.rng.random() < self.share / 4
        return self._box(key, changed_bytes(self.rng, plain) if strikes else plain, about)


def pipeline(n_clients: int) -> Pipeline:
    return Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2, members=18, nonmembers=2, auxiliary=4, test=4),
        partition=PartitionSpec(),
        model=build_model({"name": "vqc", "n_qubits": 2, "layers": 1, "ansatz": "ry-cz"}),
        federation=FederationConfig(n_clients=n_clients, rounds=2, learning_rate=0.2),
    )


def outcome(label: str, adversary: Adversary | None) -> str:
    name, parameters = LAYERS[label]
    stack = Stack.from_layers(label, [find("layer", name)(**parameters)])
    threat = None if adversary is None else wire_eavesdropper(active=True)
    spec = RunSpec(seed=0, adversary=adversary, threat=threat)
    pipe = pipeline(9 if name == "validated-groups" else 4)
    run = run_batch(pipe, stack, [spec], secrets="seeded")[0]
    for view in VIEWS:
        assert run.view(view).items
    assert bool(torch.isfinite(run.params).all())
    # a layer of statements drops a client whose statement is none, and stops no run
    return "dropped" if run.outcome == "completed" and run.dropped else run.outcome


@pytest.mark.parametrize("label", list(LAYERS))
def test_a_network_that_alters_messages_stops_a_run_and_no_program(label: str) -> None:
    found = set()

    @FUZZ
    @given(seed=seeds, share=shares)
    def fuzz(seed: int, share: float) -> None:
        found.add(outcome(label, Wire(seed, share)).partition(":")[0])

    fuzz()
    assert found <= {"completed", "dropped", "aborted", "lost"}
    noticed = {"dropped"} if label == "circuit-attestation" else {"aborted", "lost"}
    assert found & noticed, "nothing was noticed: the fuzz has no teeth"


@pytest.mark.parametrize("party", ["client:0", "client:1", "server"])
@pytest.mark.parametrize("label", [label for label in LAYERS if "link" not in label and label != "delegated"])
def test_a_party_that_signs_malformed_bodies_stops_a_run_and_no_program(
    label: str, party: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @FUZZ
    @given(seed=seeds, share=shares)
    @example(seed=8, share=0.1)
    def fuzz(seed: int, share: float) -> None:
        with monkeypatch.context() as patch:
            Signer(patch, party, random.Random(seed), share)
            assert outcome(label, None).partition(":")[0] in {"completed", "dropped", "aborted"}

    fuzz()


def test_a_key_of_another_scheme_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first client makes the key of all: one that its layer cannot use is its doing, and no error."""
    other = HeCkks()
    monkeypatch.setattr(HeBfv, "new_context", lambda _, *sizes: other.new_context(*sizes))
    assert outcome("he-bfv", None).startswith("aborted: an update cannot be encrypted under the clients' key")


@pytest.mark.parametrize("name", ["client:" + "9" * 5000, "client:\u0662", "client:-1", "edge:0", "client:"])
def test_a_relayed_announcement_of_a_stranger_is_not_read(name: str) -> None:
    packed = struct.pack("<HI", len(name.encode()), 2) + name.encode() + b"ab"
    assert list(_unpack(packed)) == []
    assert list(_unpack(packed + pack_named({"server": b"c"}))) == [(SERVER, b"c")]


def test_an_overflow_that_the_network_caused_is_no_mistake_of_the_experiment() -> None:
    class Inflating(Adversary):
        def tamper(self, tapped: Tapped) -> Payload | None:
            changed = tapped.kind == "update" and isinstance(tapped.payload, torch.Tensor)
            return torch.full_like(tapped.payload, 1e30) if changed else tapped.payload  # type: ignore[arg-type]

        def identity(self) -> dict[str, object]:
            return {"name": "inflating"}

    pipe = replace(pipeline(4), federation=replace(pipeline(4).federation, server_learning_rate=1e10))
    spec = RunSpec(seed=0, adversary=Inflating(), threat=wire_eavesdropper(active=True))
    run = run_batch(pipe, Stack(name="none"), [spec])[0]
    assert run.outcome.startswith(
        "lost: wire sent another update; then the server's step of round 0 leaves a"
    )


def test_a_model_that_is_not_finite_is_refused_by_its_client() -> None:
    """A corrupted server cannot make an honest client's training look as if it had diverged."""

    class Poisoned(Adversary):
        def broadcast(self, hands: ServerHands) -> torch.Tensor:
            sent = hands.params[:, None, :].repeat(1, hands.n_clients, 1)
            sent[:, 1] = float("nan")
            return sent

        def identity(self) -> dict[str, object]:
            return {"name": "poisoned"}

    spec = RunSpec(seed=0, adversary=Poisoned(), threat=malicious_server())
    run = run_batch(pipeline(4), Stack(name="none"), [spec])[0]
    assert run.outcome == "completed"
    assert run.transcript.facts[0].participants == {0: frozenset({0, 2, 3}), 1: frozenset({0, 2, 3})}


AGREED = scheme("x25519")
STATEMENT = Statement(
    dimension=2, resolution_bits=3, max_norm=1.0, session=b"s", round=0, client=1, context=b"m"
)
READERS: dict[str, Callable[[bytes], object]] = {
    "decode": decode,
    "entries": unpack_entries,
    "indices": unpack_indices,
    "reveal": records.unpack_reveal,
    "terms": Terms.from_bytes,
    "advertisement": lambda blob: records.Advertisement.from_bytes(blob, AGREED),
    "sharing": records.Sharing.from_bytes,
    "statement": records.Statement.from_bytes,
    "said": records.Said.from_bytes,
    "envelope": envelope.read_envelope,
    "parcel": Parcel.from_bytes,
    "proof": lambda blob: Proof.from_bytes(blob, STATEMENT),
    "context": load_context,
}


@pytest.mark.parametrize("name", list(READERS))
@settings(max_examples=60, derandomize=True, deadline=None)
@given(data=st.data())
def test_readers_of_bytes_refuse_what_nobody_wrote(name: str, data: st.DataObject) -> None:
    """Random bytes, some of the size that a reader expects."""
    sizes = st.sampled_from([0, 1, 5, 10, 160, 164, Proof.size(STATEMENT), 2 * 32 + AGREED.mask_bytes + 32])
    blob = data.draw(
        st.one_of(st.binary(max_size=80), sizes.flatmap(lambda n: st.binary(min_size=n, max_size=n)))
    )
    with suppress(ProtocolAbort):
        READERS[name](blob)
