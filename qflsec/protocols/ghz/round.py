"""One round of quantum secure aggregation outside the loop: real parties, any source, any clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import Secrets
from qflsec.federation import Identity, Setup
from qflsec.federation.identity import ED25519_BYTES
from qflsec.protocols.ghz.layer import ClientState, Ghz
from qflsec.protocols.ghz.parties import GhzClient, Terms, parities
from qflsec.protocols.ghz.physics import Laboratory, Qubits
from qflsec.protocols.secagg.one_round import OneRound
from qflsec.threat import Party, client

__all__ = ["GhzOutcome", "GhzSource", "MakesClient", "run_ghz_round"]

Floats = npt.NDArray[np.float64]
MakesClient = Callable[[Terms, Identity, Secrets], GhzClient]
"""How a client is made; for a corrupted one, another class."""


class GhzSource(Protocol):
    """Who makes the states in place of an honest bench."""

    def distribute(self, laboratory: Laboratory, n: int, copies: int) -> list[Qubits]:
        """One handle for each client."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GhzOutcome:
    """What a round came to.

    Attributes:
        status: ``"sum"`` or ``"aborted"``.
        reason: Why it aborted; empty where it did not.
        mean: The mean of the updates as the server reads it; None where it aborted.
        total: The sum of the angles.
        failed: How many stabiliser tests failed, in the eyes of the first client.
        sealed: What the clients sent last: all that the server holds besides the coins and the tests.
        tested: Which copies were tested.
        ghz_states: The copies that were handed out.
        qubits: The qubits in them.

    Shapes:
        mean, total: ``(n_params,)``; tested: ``(copies,)``
    """

    status: str
    reason: str
    mean: Floats | None
    total: Floats | None
    failed: int
    sealed: Mapping[Party, bytes]
    tested: npt.NDArray[np.bool_] | None
    ghz_states: int
    qubits: int


def run_ghz_round(
    updates: Floats,
    *,
    max_abs: float = 1.0,
    span: float = np.pi / 2,
    shots: int = 500,
    tests: int = 200,
    allowed: int = 0,
    depolarising: float = 0.0,
    seed: int = 0,
    source: GhzSource | None = None,
    clients: Mapping[int, MakesClient] | None = None,
    missing: frozenset[int] = frozenset(),
) -> GhzOutcome:
    """Run one round.

    Args:
        updates: A row for each client.
        max_abs: The largest absolute value of a coordinate.
        span: The largest absolute value of the sum of the angles.
        shots: Copies for each coordinate and quadrature.
        tests: Copies that are tested.
        allowed: Failed tests that are tolerated.
        depolarising: The probability with which a sent qubit is replaced by a random one.
        seed: Of nature; secrets come from the operating system.
        source: Who makes the states; an honest source by default.
        clients: Corrupted clients by index.
        missing: Clients that never send their outcomes.

    Shapes:
        updates: ``(n, n_params)``

    Units:
        span: radians
    """
    layer = _Round(
        shots=shots,
        max_abs=max_abs,
        span=span,
        tests=tests,
        depolarising=depolarising,
        tolerated=allowed,
        seed=seed,
        source=source,
        makers=clients or {},
    )
    vectors = torch.from_numpy(updates)
    played = OneRound(layer, vectors, torch.ones(len(updates)).double(), drop=sorted(missing))
    report = played.run()
    first = played.session.state(0, layer, client(0))
    assert isinstance(first, ClientState)
    terms, phases = first.terms, first.terms.phases
    sealed = {party: blob for party, blob in played.sent().items() if isinstance(blob, bytes)}
    bodies = {party: blob[:-ED25519_BYTES] for party, blob in sealed.items()}
    return GhzOutcome(
        status=report.status,
        reason=report.reason,
        mean=None if report.mean is None else report.mean.numpy(),
        total=None if report.mean is None else phases.total(parities(bodies, phases.copies(terms.n_params))),
        failed=first.protocol.failed,
        sealed=sealed,
        tested=first.protocol.tested,
        ghz_states=terms.copies,
        qubits=terms.copies * len(updates),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Round(Ghz):
    """The layer with a given source, given clients and a seed of nature.

    Attributes:
        tolerated: How many failed tests a client tolerates.
        seed: Of nature.
        source: Who makes the states; an honest bench for None.
        makers: How corrupted clients are made, by index.
    """

    tolerated: int
    seed: int
    source: GhzSource | None
    makers: Mapping[int, MakesClient]

    @property
    def allowed(self) -> int:
        """How many failed tests a client tolerates."""
        return self.tolerated

    def quantum_ends(self, setup: Setup, secrets: Secrets) -> Mapping[Party, object]:
        """The given source's bench."""
        laboratory = Laboratory(self.seed, "round", depolarising=self.depolarising)
        makes = Laboratory.send if self.source is None else self.source.distribute
        return self.bench(setup, laboratory, makes)

    def new_client(self, terms: Terms, identity: Identity, secrets: Secrets) -> GhzClient:
        """A client's half of the protocol, or what a corrupted one has in its place."""
        return self.makers.get(identity.party.index, super().new_client)(terms, identity, secrets)
