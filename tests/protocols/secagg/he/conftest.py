"""One session of a homomorphic layer outside the loop: states, keys handed out, and a way to play each party."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from qflsec.base import OsSecrets
from qflsec.federation import Control, Header, Identity, Setup
from qflsec.threat import SERVER, Network, Party, Transcript, client


class Parties:
    """The states of one session."""

    def __init__(self, layer: Any, n: int, *, n_params: int = 5, session: bytes = b"one session") -> None:
        self.layer, self.clients = layer, tuple(client(i) for i in range(n))
        parties = (*self.clients, SERVER)
        self.secrets = {p: OsSecrets() for p in parties}
        self.setup = Setup(
            session=session, clients=self.clients, server=SERVER, n_params=n_params, rounds=5, max_count=100
        )
        self.identities = Identity.of_all(parties, self.secrets)
        self.states = {p: layer.open(self.setup, self.identities[p], self.secrets[p]) for p in parties}
        announced = {party: state.announce() for party, state in self.states.items()}
        for author, receiver in itertools.permutations(parties, 2):
            self.states[receiver].learn(author, announced[author])
        self.network = Network(Transcript())
        layer.prepare(self.control(0))

    def control(self, round_index: int) -> Control:
        return Control(
            states=self.states.__getitem__,
            network=self.network,
            lane=0,
            round_index=round_index,
            participants=self.clients,
            models={},
        )

    def header(self, sender: Party, round_index: int = 0, participants: Any = None) -> Header:
        return Header(round=round_index, sender=sender, participants=participants or self.clients)

    def seal(self, i: int, update: torch.Tensor, weight: float, round_index: int = 0, **more: Any) -> Any:
        header = self.header(client(i), round_index, **more)
        return self.layer.seal(self.states[client(i)], update, weight, header)

    def conclude(self, payloads: dict[Party, Any], round_index: int = 0) -> Any:
        return self.layer.conclude(self.control(round_index), payloads)

    def combine(self, payloads: dict[Party, Any], round_index: int = 0) -> Any:
        return self.layer.combine(self.states[SERVER], payloads, self.header(SERVER, round_index))

    def reveal(self, party: Party, combined: Any, round_index: int = 0) -> Any:
        return self.layer.reveal(self.states[party], combined, self.header(SERVER, round_index))


@pytest.fixture(scope="session")
def parties_of() -> Callable[..., Parties]:
    """Makes a session of a layer."""
    return Parties


@pytest.fixture(scope="session")
def updates_of() -> Callable[..., list[torch.Tensor]]:
    """Random updates."""

    def make(n: int, size: int = 5, seed: int = 0) -> list[torch.Tensor]:
        return list(torch.randn(n, size, generator=torch.Generator().manual_seed(seed)))

    return make
