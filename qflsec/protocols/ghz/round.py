"""One round of quantum secure aggregation outside the loop: real parties, any source, any clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qflsec.base import OsSecrets, ProtocolAbort, Secrets
from qflsec.federation import Identity
from qflsec.protocols.ghz.parties import GhzClient, GhzServer, Terms
from qflsec.protocols.ghz.phases import Phases
from qflsec.protocols.ghz.physics import Laboratory, Qubits
from qflsec.threat import SERVER, Party, client

__all__ = ["GhzOutcome", "GhzSource", "MakesClient", "run_ghz_round"]

Floats = npt.NDArray[np.float64]
MakesClient = Callable[[Terms, Identity, Secrets], GhzClient]
"""How a client is made; for a corrupted one, another class."""


class GhzSource(Protocol):
    """Who makes the states: the server's bench, honest or not."""

    def distribute(self, laboratory: Laboratory, n: int, copies: int) -> list[Qubits]:
        """One handle for each client."""


class HonestSource:
    """Every copy is a GHZ state."""

    def distribute(self, laboratory: Laboratory, n: int, copies: int) -> list[Qubits]:
        """One handle for each client."""
        return laboratory.send(n, copies)


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
    phases = Phases(n=len(updates), max_abs=max_abs, span=span, shots=shots)
    terms, parties, server = _open(phases, updates.shape[1], tests, allowed, clients or {})
    laboratory = Laboratory(seed, "round", depolarising=depolarising)
    sealed: dict[Party, bytes] = {}
    reason, total = "", None
    try:
        _prepare(parties, source or HonestSource(), laboratory, terms)
        present = [i for i in range(len(parties)) if i not in missing]
        sealed = {terms.clients[i]: parties[i].seal(0, updates[i]) for i in present}
        total = server.total(0, sealed)
    except ProtocolAbort as abort:
        reason = str(abort)
    return GhzOutcome(
        status="aborted" if reason else "sum",
        reason=reason,
        mean=None if total is None else phases.mean(total),
        total=total,
        failed=parties[0].failed,
        sealed=sealed,
        tested=parties[0].tested,
        ghz_states=terms.copies,
        qubits=terms.copies * len(parties),
    )


def _open(
    phases: Phases, n_params: int, tests: int, allowed: int, makers: Mapping[int, MakesClient]
) -> tuple[Terms, list[GhzClient], GhzServer]:
    """What everybody knows, and the parties with their own secrets."""
    everybody = tuple(client(i) for i in range(phases.n))
    secrets: dict[Party, Secrets] = {party: OsSecrets() for party in (*everybody, SERVER)}
    identities = Identity.of_all((*everybody, SERVER), secrets)
    terms = Terms(
        session=secrets[SERVER].draw(16),
        clients=everybody,
        n_params=n_params,
        phases=phases,
        tests=tests,
        allowed=allowed,
    )
    parties = [
        makers.get(i, _honest)(terms, identities[party], secrets[party]) for i, party in enumerate(everybody)
    ]
    return terms, parties, GhzServer(terms=terms, signer=identities[SERVER])


def _honest(terms: Terms, identity: Identity, secrets: Secrets) -> GhzClient:
    return GhzClient(terms=terms, signer=identity, secrets=secrets)


def _prepare(parties: list[GhzClient], source: GhzSource, laboratory: Laboratory, terms: Terms) -> None:
    """Stages 1 to 4; the server relays faithfully."""
    who = terms.clients
    hashes = {p: party.commit(0) for p, party in zip(who, parties, strict=True)}
    qubits = source.distribute(laboratory, len(parties), terms.copies)
    opened = {p: party.receive(hashes, q) for p, party, q in zip(who, parties, qubits, strict=True)}
    outcome_hashes = {p: party.test(opened) for p, party in zip(who, parties, strict=True)}
    outcomes = {p: party.open_outcomes(outcome_hashes) for p, party in zip(who, parties, strict=True)}
    for party in parties:
        party.judge(outcomes)
