"""The parties of quantum secure aggregation: clients that turn and measure qubits, and a server that counts.

A round, with every message signed by its author and relayed by the server:

1. every client is bound to a contribution to common coins;
2. the server's source hands out copies of a GHZ state, and a client opens its contribution only once it holds its
   qubits: nobody knew the coins when the states were made;
3. the coins choose copies and stabiliser tests; every client measures its qubits of those and is bound to the
   outcomes before it hears another's;
4. the outcomes are opened; every client counts failures itself, and refuses the states above the tolerance. No
   angle has touched a qubit until here;
5. every client turns its remaining qubits by its angles, measures them and sends the outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qflsec.base import LostRound, ProtocolAbort, Secrets
from qflsec.federation.identity import ED25519_BYTES
from qflsec.protocols.ghz.phases import Phases
from qflsec.protocols.ghz.physics import Bits, Floats, Mask, Qubits, measure, rotate, split
from qflsec.protocols.ghz.state_tests import StateTests, pack, unpack
from qflsec.protocols.secagg.groups.common_coins import (
    BOUND_BYTES,
    CONTRIBUTION_BYTES,
    bound,
    check_opened,
    draw_coins,
)
from qflsec.protocols.secagg.signatures import Signer
from qflsec.protocols.stages import Staged, stage
from qflsec.threat import Party

__all__ = ["GhzClient", "GhzServer", "Terms", "parities", "read_signed", "said_bytes"]

_NONCE_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What everybody knows of a session.

    Attributes:
        session: Its public name.
        clients: The clients; all take part in every round.
        n_params: The number of coordinates.
        phases: How coordinates become angles.
        tests: How many copies are tested in a round.
        allowed: How many failed tests a client tolerates.
    """

    session: bytes
    clients: tuple[Party, ...]
    n_params: int
    phases: Phases
    tests: int
    allowed: int

    @property
    def copies(self) -> int:
        """How many copies a round takes."""
        return self.phases.copies(self.n_params) + self.tests

    def label(self, round_index: int, stage: str) -> bytes:
        """What a message is bound to."""
        return b"qflsec/ghz/1|" + self.session + f"|{round_index}|{stage}".encode()


@dataclass(kw_only=True)
class _Round:
    index: int
    contribution: bytes = field(repr=False)
    hashes: dict[Party, bytes] = field(default_factory=dict)
    qubits: Qubits | None = None
    tests: StateTests | None = None
    outcomes: bytes = b""
    outcome_hashes: dict[Party, bytes] = field(default_factory=dict)


class GhzClient(Staged):
    """One client.

    Args:
        terms: What everybody knows.
        signer: Its signature key, and the others' public keys.
        secrets: Its own source of secrets.

    Attributes:
        failed: How many tests failed in the last round.
        tested: Which copies were tested in it: public, as the coins are.
    """

    def __init__(self, *, terms: Terms, signer: Signer, secrets: Secrets) -> None:
        self.party = signer.party
        self.failed = 0
        self.tested: Mask | None = None
        self._terms, self._signer, self._secrets = terms, signer, secrets
        self._index = terms.clients.index(self.party)
        self._round: _Round | None = None

    @stage(opens=True, each="round_index")
    def commit(self, round_index: int) -> bytes:
        """Stage 1: what binds this client to its contribution.

        Raises:
            ProtocolAbort: The round was begun already, or a later one.
        """
        state = _Round(index=round_index, contribution=self._secrets.draw(CONTRIBUTION_BYTES))
        self._round = state
        return self._sign(state, "coins", bound(self._label(state, "coins"), self.party, state.contribution))

    @stage("commit")
    def receive(self, hashes: Mapping[Party, bytes], qubits: Qubits) -> bytes:
        """Stage 2: take in everybody's hashes and one's qubits; the contribution is opened.

        Raises:
            ProtocolAbort: A message is missing or not authentic.
        """
        state = self._now()
        state.hashes = self._heard(state, "coins", hashes, BOUND_BYTES)
        state.qubits = qubits
        return self._sign(state, "opened coins", state.contribution)

    @stage("receive")
    def test(self, contributions: Mapping[Party, bytes]) -> bytes:
        """Stage 3: measure the copies that the coins choose; what binds this client to its outcomes.

        Raises:
            ProtocolAbort: Somebody did not open what it was bound to.
        """
        state, terms = self._now(), self._terms
        assert state.qubits is not None
        opened = self._heard(state, "opened coins", contributions, CONTRIBUTION_BYTES)
        coins = draw_coins(self._label(state, "coins"), state.hashes, opened, signed=True)
        tests = StateTests.draw(coins, n=len(terms.clients), copies=terms.copies, tests=terms.tests)
        tested, state.qubits = split(state.qubits, tests.tested)
        bits = measure(tested, tests.radians(self._index), tests.along_z)
        state.tests, self.tested = tests, tests.tested
        state.outcomes = self._secrets.draw(_NONCE_BYTES) + pack(bits)
        return self._sign(
            state, "outcomes", bound(self._label(state, "outcomes"), self.party, state.outcomes)
        )

    @stage("test")
    def open_outcomes(self, hashes: Mapping[Party, bytes]) -> bytes:
        """Stage 4: open the outcomes, once everybody is bound to its own.

        Raises:
            ProtocolAbort: A message is missing or not authentic.
        """
        state = self._now()
        state.outcome_hashes = self._heard(state, "outcomes", hashes, BOUND_BYTES)
        return self._sign(state, "opened outcomes", state.outcomes)

    @stage("open_outcomes")
    def judge(self, outcomes: Mapping[Party, bytes]) -> None:
        """Stage 4: count the tests that failed.

        Raises:
            ProtocolAbort: More failed than are tolerated, or a message is missing or not authentic.
        """
        state, terms = self._now(), self._terms
        size = _NONCE_BYTES + -(-terms.tests // 8)
        opened = self._heard(state, "opened outcomes", outcomes, size)
        check_opened(self._label(state, "outcomes"), state.outcome_hashes, opened, size, signed=True)
        rows = [unpack(opened[party][_NONCE_BYTES:], terms.tests) for party in terms.clients]
        assert state.tests is not None
        self.failed = state.tests.failures(np.stack([row for row in rows if row is not None]))
        if self.failed > terms.allowed:
            # the source, the channels or a client that lies about its outcomes: the tests cannot tell them apart
            raise ProtocolAbort(
                f"{self.party} refuses the quantum states of round {state.index}",
                got=f"{self.failed} of {terms.tests} stabiliser tests failed",
                expected=f"at most {terms.allowed}",
            )

    @stage("judge")
    def seal(self, round_index: int, update: Floats, *, checked: bool = True) -> bytes:
        """Stage 5: turn the qubits that are left, measure them and send the outcomes.

        Args:
            round_index: The round.
            update: The update.
            checked: Whether this client keeps to the range of a coordinate; a corrupted one does not.

        Shapes:
            update: ``(n_params,)``

        Raises:
            ProtocolAbort: The states were not tested, or the round was sealed already.
            UpdateError: A number is not finite.
        """
        state = self._now()
        if state.index != round_index:
            raise ProtocolAbort(f"{self.party} was asked to seal round {round_index} out of order")
        assert state.qubits is not None
        angles = self._angles(update, checked=checked)
        rotate(state.qubits, angles)
        bases = self._terms.phases.bases(self._terms.n_params, first=self._index == 0)
        bits = measure(state.qubits, bases)
        self._round = None
        return self._sign(state, "sealed", pack(bits))

    def _angles(self, update: Floats, *, checked: bool) -> Floats:
        return self._terms.phases.angles(update, checked=checked)

    def _now(self) -> _Round:
        assert self._round is not None
        return self._round

    def _forget(self) -> None:
        self._round = None

    def _label(self, state: _Round, stage: str) -> bytes:
        return self._terms.label(state.index, stage)

    def _sign(self, state: _Round, stage: str, body: bytes) -> bytes:
        return self._signer.sign(body, self._label(state, stage))

    def _heard(
        self, state: _Round, stage: str, messages: Mapping[Party, bytes], size: int
    ) -> dict[Party, bytes]:
        return read_signed(self._signer, self._terms, self._label(state, stage), messages, size)


class GhzServer(Staged):
    """The server: it relays, and counts parities.

    Args:
        terms: What everybody knows.
        signer: The clients' public keys.
    """

    def __init__(self, *, terms: Terms, signer: Signer) -> None:
        self.party, self._terms, self._signer = signer.party, terms, signer

    @stage(opens=True, each="round_index")
    def total(self, round_index: int, sealed: Mapping[Party, bytes]) -> npt.NDArray[np.float64]:
        """The sum of the angles for each coordinate.

        Shapes:
            returns: ``(n_params,)``

        Raises:
            LostRound: A client is missing, or a message is not authentic.
        """
        phases, terms = self._terms.phases, self._terms
        copies = phases.copies(terms.n_params)
        label = terms.label(round_index, "sealed")
        try:
            bodies = read_signed(self._signer, terms, label, sealed, -(-copies // 8))
        except ProtocolAbort as abort:  # the next round has states of its own
            raise LostRound(str(abort), caused_by=abort.caused_by) from None
        return phases.total(parities(bodies, copies))


def parities(bodies: Mapping[Party, bytes], copies: int) -> Bits:
    """The parity of everybody's outcomes in each copy."""
    rows = [unpack(body, copies) for body in bodies.values()]
    total: Bits = np.bitwise_xor.reduce([row for row in rows if row is not None], axis=0)
    return total


def said_bytes(tests: int) -> dict[str, int]:
    """The sizes of what a client says before it turns a qubit, by what it is."""
    opened = _NONCE_BYTES + -(-tests // 8)
    bodies = {
        "coins": BOUND_BYTES,
        "opened coins": CONTRIBUTION_BYTES,
        "outcomes": BOUND_BYTES,
        "opened outcomes": opened,
    }
    return {what: size + ED25519_BYTES for what, size in bodies.items()}


def read_signed(
    signer: Signer, terms: Terms, label: bytes, messages: Mapping[Party, bytes], size: int
) -> dict[Party, bytes]:
    """The bodies of everybody's messages.

    Raises:
        ProtocolAbort: One is missing, of another size or not authentic.
    """
    found = {}
    for party in terms.clients:
        message = messages.get(party, b"")
        if len(message) != size + ED25519_BYTES:
            raise ProtocolAbort(
                f"{signer.party} did not hear {party}",
                expected="every client: a GHZ state has a qubit of each",
            )
        found[party] = signer.verify(party, message, label)
    return found
