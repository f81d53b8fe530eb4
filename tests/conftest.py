"""Shared fixtures: one torch thread, small pipelines, and a teaching stand-in for shared-key encryption."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.accounting import LedgerContext, Observer, Seeds, Training
from qflsec.base import DefenseCard, ProtocolAbort, Secrets, Source
from qflsec.data import DataSpec, PartitionSpec
from qflsec.federation import (
    AggregationLayer,
    FederationConfig,
    Header,
    Identity,
    PartyState,
    Pipeline,
    Setup,
)
from qflsec.models import build_model
from qflsec.threat import NOBODY, SERVER, Party, Payload, Traffic, Workload, threat_from_config


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make_pipeline() -> Callable[..., Pipeline]:
    """A small pipeline on breast cancer; keyword arguments go to the federation."""

    def make(
        *,
        n_qubits: int = 4,
        layers: int = 1,
        members: int = 30,
        partition: PartitionSpec | None = None,
        test: int = 40,
        **federation: Any,
    ) -> Pipeline:
        return Pipeline(
            data=DataSpec(
                name="breast-cancer",
                n_features=n_qubits,
                members=members,
                nonmembers=30,
                auxiliary=40,
                test=test,
            ),
            partition=partition or PartitionSpec(),
            model=build_model(
                {
                    "name": "vqc",
                    "n_qubits": n_qubits,
                    "layers": layers,
                    "n_features": n_qubits,
                    "n_classes": 2,
                }
            ),
            federation=FederationConfig(**{"n_clients": 3, "rounds": 2, "learning_rate": 0.2, **federation}),
        )

    return make


@pytest.fixture
def ledger_context() -> Callable[..., LedgerContext]:
    """The server reads every update of a small run; keyword arguments are fields of whatever owns them, and the
    parties by role, as in a threat model's configuration."""

    def make(**changes: Any) -> LedgerContext:
        def own(kind: type) -> dict[str, Any]:
            return {item.name: changes.pop(item.name) for item in fields(kind) if item.name in changes}

        parties = {name: changes.pop(name) for name in NOBODY.to_config() if name in changes}
        threat = threat_from_config({"name": "o", "server": True, **parties})
        seen = {"smallest_k": 1, "reads_model": True, "reads_clients": True, **own(Observer)}
        training = Training(**{"counts": (8,) * 10, "rounds": 15, "n_params": 36, **own(Training)})
        seeds = Seeds(**{"noise": False, **own(Seeds)})
        return LedgerContext(
            observer=Observer(threat=threat, **seen), training=training, seeds=seeds, **changes
        )

    return make


class SharedKeyState(PartyState):
    """Every client holds one key that the server does not hold."""

    def __init__(self, key: bytes | None) -> None:
        self.key = key

    def announce(self) -> bytes:
        return b""

    def learn(self, author: Party, announcement: bytes) -> None:
        pass

    def key_names(self) -> frozenset[str]:
        return frozenset() if self.key is None else frozenset({"shared"})


@dataclass(frozen=True, kw_only=True)
class SharedKeyStub(AggregationLayer):
    """A stand-in with the key structure of shared-key homomorphic encryption, for tests of the seams only.

    Payloads are added under one-time pads that only key holders can compute.
    """

    card = DefenseCard(
        name="shared-key-stub",
        idea="Pads from a key that all clients share.",
        source=Source(paper="test stand-in", year=2026, where="tests/conftest.py"),
        claim="none: a test stand-in",
        assumption="none",
        hides="updates from the server alone, for tests of the seams",
        does_not=("It protects nothing.",),
        cost="none",
    )
    gives = "ciphertext"
    leaves = "nothing"

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        return SharedKeyState(None if identity.party == SERVER else hashlib.sha256(setup.session).digest())

    def seal(
        self, state: PartyState, update: torch.Tensor, weight: float, header: Header, *, checked: bool = True
    ) -> tuple[Payload, torch.Tensor]:
        assert isinstance(state, SharedKeyState)
        vector = torch.cat([update * weight, torch.tensor([weight])]).double().numpy()
        integers = np.round(vector * 2**32).astype(np.int64).view(np.uint64)
        pad = _pad(state.key, f"{header.round}|{header.sender}", len(integers))
        read = torch.from_numpy(integers.view(np.int64) / 2**32)
        return integers + pad, torch.cat([read[:-1] / read[-1], read[-1:]]).float()

    def combine(self, state: PartyState, payloads: Mapping[Party, Payload], header: Header) -> Payload:
        assert isinstance(state, SharedKeyState)
        assert state.key is None
        if set(payloads) != set(header.participants):
            raise ProtocolAbort("a participant's ciphertext is missing")
        return np.sum([np.asarray(p) for p in payloads.values()], axis=0, dtype=np.uint64)

    def reveal(self, state: PartyState, combined: Payload, header: Header) -> tuple[torch.Tensor, float]:
        assert isinstance(state, SharedKeyState)
        if state.key is None:
            raise ProtocolAbort("the server has no key")
        total = np.asarray(combined).astype(np.uint64)
        for party in header.participants:
            total = total - _pad(state.key, f"{header.round}|{party}", len(total))
        values = total.view(np.int64) / 2**32
        return torch.from_numpy(values[:-1] / values[-1]).float(), float(values[-1])

    def traffic(self, load: Workload, inner: Traffic) -> Traffic:
        words = 8 * (load.n_params + 1)
        each = Traffic().then(up={"update": words}, down={"aggregate": words})
        return Traffic.of_rounds(load.rounds, each=each).then(down={"model": load.model_bytes})

    def keys(self, sender: Party, participants: tuple[Party, ...]) -> frozenset[str]:
        return frozenset({"shared"})


def _pad(key: bytes | None, label: str, size: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    assert key is not None
    blocks = b"".join(
        hmac.digest(key, f"{label}|{block}".encode(), "sha256") for block in range(-(-size * 8 // 32))
    )
    return np.frombuffer(blocks[: size * 8], dtype=np.uint64)


@pytest.fixture
def shared_key_stub() -> SharedKeyStub:
    return SharedKeyStub()
