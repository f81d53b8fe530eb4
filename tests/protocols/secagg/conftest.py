"""Parties of masked aggregation without the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.base import OsSecrets, Secrets, SeededSecrets
from qflsec.federation import Header, Identity, PartyState, Setup
from qflsec.protocols.keystore import IdealLinks
from qflsec.protocols.secagg import (
    SIGNATURE_BYTES,
    Client,
    Masked,
    MlDsaIdentity,
    Policy,
    Server,
    default_threshold,
    scheme,
)
from qflsec.threat import SERVER, Party, Payload, client


@pytest.fixture(scope="session")
def integers_in() -> Callable[[torch.Tensor, float], np.ndarray[Any, np.dtype[np.int64]]]:
    """The integers behind what whoever removes a client's protection reads, in double precision."""

    def whole(read: torch.Tensor, scale: float) -> np.ndarray[Any, np.dtype[np.int64]]:
        assert read.dtype == torch.float64
        numbers = torch.cat([read[:-1] * read[-1], read[-1:]]) * scale
        assert torch.allclose(numbers, numbers.round(), rtol=0.0, atol=1e-6)
        return numbers.round().to(torch.int64).numpy()

    return whole


def ml_dsa_identities(
    parties: tuple[Party, ...], sources: Mapping[Party, Secrets]
) -> dict[Party, MlDsaIdentity]:
    """An ML-DSA identity for each party, with a common directory."""
    keys = {party: MlDsaIdentity.new_key(sources[party]) for party in parties}
    directory = {party: key.public_key().public_bytes_raw() for party, key in keys.items()}
    return {p: MlDsaIdentity(party=p, directory=directory, _key=key) for p, key in keys.items()}


class Federation:
    """The states of a server and ``n`` clients after their set-up."""

    def __init__(
        self,
        layer: Masked,
        n: int,
        *,
        n_params: int = 5,
        max_count: int = 100,
        seed: int | None = None,
        session: bytes = b"a session",
    ) -> None:
        self.layer = layer
        self.clients = tuple(client(index) for index in range(n))
        parties = (*self.clients, SERVER)
        secrets: dict[Party, Secrets] = {
            p: OsSecrets() if seed is None else SeededSecrets(seed, str(p)) for p in parties
        }
        self.setup = Setup(
            session=session,
            clients=self.clients,
            server=SERVER,
            n_params=n_params,
            rounds=10,
            max_count=max_count,
        )
        identities = Identity.of_all(parties, secrets)
        self.identities = identities
        self.states: dict[Party, PartyState] = {
            p: layer.open(self.setup, identities[p], secrets[p]) for p in parties
        }
        self.announced = announced = {p: state.announce() for p, state in self.states.items()}
        for party, state in self.states.items():
            for author, blob in announced.items():
                if author != party:
                    state.learn(author, blob)

    def header(
        self, sender: Party, participants: Sequence[int] | None = None, round_index: int = 0
    ) -> Header:
        chosen = self.clients if participants is None else tuple(client(index) for index in participants)
        return Header(round=round_index, sender=sender, participants=chosen)

    def seal(
        self,
        index: int,
        update: torch.Tensor,
        weight: float = 1.0,
        participants: Sequence[int] | None = None,
        round_index: int = 0,
    ) -> tuple[np.ndarray[Any, Any], torch.Tensor]:
        party = client(index)
        header = self.header(party, participants, round_index)
        payload, read = self.layer.seal(self.states[party], update, weight, header)
        assert isinstance(payload, np.ndarray)
        return payload, read

    def aggregate(
        self,
        updates: Mapping[int, torch.Tensor],
        weights: Mapping[int, float],
        round_index: int = 0,
    ) -> tuple[torch.Tensor, float, dict[Party, Payload], dict[int, torch.Tensor]]:
        """Seal, combine and reveal one round among the clients that have an update."""
        who = sorted(updates)
        sealed = {i: self.seal(i, updates[i], weights[i], who, round_index) for i in who}
        payloads: dict[Party, Payload] = {client(i): payload for i, (payload, _) in sealed.items()}
        header = self.header(SERVER, who, round_index)
        combined = self.layer.combine(self.states[SERVER], payloads, header)
        mean, weight = self.layer.reveal(self.states[SERVER], combined, header)
        return mean, weight, payloads, {i: read for i, (_, read) in sealed.items()}


class Quantum(IdealLinks):
    """Ideal quantum links between clients, as a test sets them up and looks into them."""

    def __init__(self, clients: Sequence[Party], *, key_bits: int) -> None:
        super().__init__(clients, OsSecrets(), key_bits=256, budget_bits=key_bits)

    def waiting(self) -> int:
        """Keys that were drawn and not fetched."""
        return sum(len(box) for box in self._boxes.values())

    def snapshot(self) -> Any:
        """What the links hold now."""
        return dict(self._stock), {pair: dict(box) for pair, box in self._boxes.items()}

    def restore(self, kept: Any) -> None:
        """Put the links back to what they held."""
        stock, boxes = kept
        self._stock.update(stock)
        for pair, box in boxes.items():
            self._boxes[pair] = dict(box)


STAGES = ("advertise", "share", "mask", "agree", "reveal")
Tamper = Callable[[str, int, bytes], bytes | None]


class Aggregation:
    """Clients and a server of ``secagg``, driven by bytes."""

    def __init__(
        self,
        n: int,
        *,
        size: int = 6,
        bits: int = 32,
        agreement: str = "x25519",
        signature: Any = "ed25519",
        policy: Policy | None = None,
        client_class: type[Client] = Client,
        session: bytes = b"s" * 16,
        links: Any = None,
        key_bits: int = 1 << 20,
    ) -> None:
        parties = (*(client(i) for i in range(n)), SERVER)
        sources: dict[Party, Secrets] = {p: OsSecrets() for p in parties}
        signers = Identity.of_all if signature == "ed25519" else ml_dsa_identities
        self.identities: Any = signers(parties, sources)
        common = {"session": session, "signature_bytes": SIGNATURE_BYTES[signature]}
        agreed = scheme(agreement)
        ends = Quantum(parties[:-1], key_bits=key_bits) if links is None and agreement == "bb84" else links
        self.n, self.size, self.bits = n, size, bits
        self.clients = {
            i: client_class(
                signer=self.identities[client(i)],
                secrets=sources[client(i)],
                policy=policy or Policy(),
                scheme=agreed,
                links=None if ends is None else ends.end(client(i)),
                **common,
            )
            for i in range(n)
        }
        self.quantum = ends
        self.server = Server(signer=self.identities[SERVER], scheme=agreed, **common)
        self.heard: dict[tuple[str, int], bytes] = {}
        """What each client was last sent, and sent, by stage: ``("to share", 2)`` and ``("share", 2)``."""

    def vectors(self, seed: int = 0) -> dict[int, np.ndarray[Any, Any]]:
        draws = np.random.Generator(np.random.PCG64(seed))
        dtype = np.uint32 if self.bits == 32 else np.uint64
        return {
            i: draws.integers(0, 2**self.bits, self.size, dtype=dtype, endpoint=False) for i in range(self.n)
        }

    def client_turn(
        self,
        stage: str,
        i: int,
        message: bytes,
        *,
        round_index: int,
        vectors: Mapping[int, np.ndarray[Any, Any]],
        models: Mapping[int, bytes],
    ) -> bytes:
        party = self.clients[i]
        if stage == "advertise":
            model = models.get(i, b"m" * 32)
            return party.advertise(
                message, round_index=round_index, model=model, size=self.size, bits=self.bits
            )
        if stage == "mask":
            return party.mask(message, vectors[i])
        turn: Callable[[bytes], bytes] = getattr(party, stage)
        return turn(message)

    def run(
        self,
        *,
        round_index: int = 0,
        vectors: Mapping[int, np.ndarray[Any, Any]] | None = None,
        drops: Mapping[int, str] | None = None,
        models: Mapping[int, bytes] | None = None,
        participants: Sequence[int] | None = None,
        threshold: int | None = None,
        tamper: Tamper | None = None,
        until: str | None = None,
    ) -> Any:
        """One round; a client in ``drops`` is gone from the named stage on.

        ``tamper(name, index, message)`` may alter or drop any message; ``until`` stops before a stage's clients act.
        """
        vectors = self.vectors() if vectors is None else vectors
        who = tuple(range(self.n)) if participants is None else tuple(participants)
        gone: set[int] = set()
        messages = self.server.start(
            round_index,
            participants=who,
            threshold=threshold or default_threshold(len(who)),
            size=self.size,
            bits=self.bits,
        )
        for stage in STAGES:
            gone |= {i for i, when in (drops or {}).items() if when == stage}
            messages = self._carried(f"to {stage}", messages, tamper)
            if stage == until:
                return messages
            sent = {
                i: self.client_turn(
                    stage, i, m, round_index=round_index, vectors=vectors, models=models or {}
                )
                for i, m in messages.items()
                if i not in gone
            }
            sent = self._carried(stage, sent, tamper)
            after = {
                "advertise": self.server.collect_keys,
                "share": self.server.collect_parcels,
                "mask": self.server.collect_vectors,
                "agree": self.server.collect_statements,
                "reveal": self.server.open,
            }[stage]
            messages = after(sent)  # type: ignore[assignment]
        return messages

    def _carried(self, name: str, messages: Mapping[int, bytes], tamper: Tamper | None) -> dict[int, bytes]:
        found = {}
        for i, message in messages.items():
            carried = message if tamper is None else tamper(name, i, message)
            if carried is not None:
                self.heard[name, i] = found[i] = carried
        return found


@pytest.fixture
def aggregation() -> Callable[..., Aggregation]:
    return Aggregation


@pytest.fixture
def federate() -> Callable[..., Federation]:
    return Federation
