"""Parties of masked aggregation without the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.base import OsSecrets, Secrets, SeededSecrets
from qflsec.federation import Header, Identity, PartyState, Setup
from qflsec.protocols.secagg import Masked
from qflsec.threat import SERVER, Party, Payload, client


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
        announced = {p: state.announce() for p, state in self.states.items()}
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


@pytest.fixture
def federate() -> Callable[..., Federation]:
    return Federation
