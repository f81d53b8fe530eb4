"""Quantum secure aggregation in the training loop: the five stages around the upload, qubits on simulated lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import (
    ConfigError,
    DefenseCard,
    IncompatibleStack,
    ProtocolAbort,
    Secrets,
    Source,
    register,
)
from qflsec.base.framing import entries_bytes, pack_entries, unpack_entries
from qflsec.federation import AggregationLayer, Control, Header, Identity, PartyState, Pipeline, Setup
from qflsec.federation.identity import ED25519_BYTES
from qflsec.protocols.ghz.ledger import ghz_rows
from qflsec.protocols.ghz.parties import GhzClient, GhzServer, Terms, parities, said_bytes
from qflsec.protocols.ghz.phases import Phases
from qflsec.protocols.ghz.physics import Laboratory, Qubits
from qflsec.protocols.ghz.resource import escape_probability, untested_failure_bound
from qflsec.protocols.secagg.derived_sums import Heard, Sum, derived_sums
from qflsec.protocols.stages import Staged, stage
from qflsec.threat import SERVER, Item, LaneFacts, Party, Payload, Traffic, Workload, client

__all__ = ["ClientState", "Ghz", "MakesStates"]

_MOST_COPIES = 5_000_000
MakesStates = Callable[[Laboratory, int, int], list[Qubits]]
"""What a source makes of so many copies for so many clients: one handle for each client."""


@register("layer", "ghz")
@dataclass(frozen=True, kw_only=True)
class Ghz(AggregationLayer):
    """Phases on the qubits of GHZ states: the server reads a noisy sum of the updates, and nothing else.

    Every client counts the same. Where a client is missing the round is lost: a GHZ state has a qubit of each.

    Attributes:
        shots: GHZ states for each parameter and quadrature.
        max_abs: Honest clients clip the coordinates of their updates to this absolute value.
        span: The largest absolute value of the sum of the phases, below pi.
        tests: GHZ states that are tested in each round.
        max_failed: The fraction of failed tests that a client tolerates.
        depolarising: The probability with which a qubit on its way is replaced by a random one: the simulated line.

    Units:
        span: radians

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="ghz",
        idea="Clients turn their qubits of shared GHZ states by their updates: only the parity of all outcomes "
        "carries anything, the cosine or sine of the sum.",
        source=Source(
            paper="Zhang, Zhang, Zhang, Fan, Zeng, Yang: Federated learning with quantum secure aggregation, "
            "arXiv:2207.07444; its clustered form, CQSA, arXiv:2602.22269",
            year=2022,
            where="the aggregation of phases on GHZ states; the tests of the resource are those of Pappa et al. 2012 "
            "and of Markham and Krause 2020",
        ),
        claim="On GHZ states, the outcomes of all clients together depend on the updates through their sum alone, and "
        "those of any n - 1 clients not at all; a server that hands out other states is caught with the stated "
        "probability before an update touches a qubit.",
        assumption="information-theoretic",
        hides="single updates from the server and the network, as far as the tests vouch for the states",
        does_not=(
            "It does not survive a missing client.",
            "It does not notice a client that turns its qubit by any phase.",
            "Its shot noise is no differential privacy.",
            "It does not hide the sum.",
            "It does not vouch for states that a server shares with corrupted clients.",
            "It does not run on quantum hardware: states and lines are simulated.",
        ),
        cost="2 x shots x parameters GHZ states in each round, a qubit of each for every client, besides the tests",
    )
    takes = frozenset({"plain"})
    gives = "masked"
    leaves = "sum"
    weighted = False

    shots: int = 500
    max_abs: float = 1.0
    span: float = math.pi / 2
    tests: int = 200
    max_failed: float = 0.02
    depolarising: float = 0.0

    def __post_init__(self) -> None:
        self.phases(2)
        if self.tests < 1:
            raise ConfigError("'tests' is too small", got=self.tests, expected="at least 1")
        if not 0 <= self.max_failed < 0.5:
            raise ConfigError(
                "'max_failed' is out of range", got=self.max_failed, expected="0 or more, below 0.5"
            )
        if not 0 <= self.depolarising < 1:
            raise ConfigError(
                "'depolarising' is out of range", got=self.depolarising, expected="0 or more, below 1"
            )

    def phases(self, n: int) -> Phases:
        """How the coordinates of ``n`` clients become angles."""
        return Phases(n=n, max_abs=self.max_abs, span=self.span, shots=self.shots)

    @property
    def allowed(self) -> int:
        """How many failed tests a client tolerates."""
        return math.floor(self.max_failed * self.tests)

    def check(self, pipeline: Pipeline) -> None:
        """Refuse rounds that cannot be run.

        Raises:
            IncompatibleStack: Not everybody takes part, there are too few clients, or too many states are needed.
        """
        config = pipeline.federation
        if config.n_participants != config.n_clients or config.n_clients < 3:
            raise IncompatibleStack(
                "'ghz' needs three clients, and all of them in every round",
                got=f"{config.n_participants} participants of {config.n_clients} clients",
                fix="set participation = 1.0",
            )
        copies = self.phases(config.n_clients).copies(pipeline.model.n_params)
        if copies > _MOST_COPIES:
            raise IncompatibleStack(
                f"'ghz' needs {copies} GHZ states in a round of this model",
                expected=f"at most {_MOST_COPIES} in simulation",
                fix="lower 'shots' or take a smaller model",
            )

    def quantum_ends(self, setup: Setup, secrets: Secrets) -> Mapping[Party, object]:
        """The server's bench, and each client's end of its line."""
        seed = int.from_bytes(secrets.draw(7), "big")
        return self.bench(setup, Laboratory(seed, "loop", depolarising=self.depolarising), Laboratory.send)

    @staticmethod
    def bench(setup: Setup, laboratory: Laboratory, makes: MakesStates) -> Mapping[Party, object]:
        """A bench and the lines from it."""
        lines: dict[Party, list[Qubits]] = {party: [] for party in setup.clients}
        return {SERVER: Bench(laboratory, lines, makes), **{party: Line(box) for party, box in lines.items()}}

    def new_client(self, terms: Terms, identity: Identity, secrets: Secrets) -> GhzClient:
        """A client's half of the protocol."""
        return GhzClient(terms=terms, signer=identity, secrets=secrets)

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """A party's state.

        Raises:
            ConfigError: The model needs too many states.
        """
        copies = self.phases(len(setup.clients)).copies(setup.n_params)
        if copies > _MOST_COPIES:
            raise ConfigError(
                f"'ghz' needs {copies} GHZ states in a round of {setup.n_params} parameters",
                expected=f"at most {_MOST_COPIES} in simulation",
                fix="lower 'shots' or take fewer parameters",
            )
        terms = Terms(
            session=setup.session,
            clients=setup.clients,
            n_params=setup.n_params,
            phases=self.phases(len(setup.clients)),
            tests=self.tests,
            allowed=self.allowed,
        )
        if identity.party in setup.clients:
            assert isinstance(setup.quantum, Line)
            return ClientState(self.new_client(terms, identity, secrets), terms, setup.quantum)
        assert isinstance(setup.quantum, Bench)
        return _Server(GhzServer(terms=terms, signer=identity), terms, setup.quantum)

    def prepare(self, control: Control) -> frozenset[Party]:
        """Stages 1 to 4: coins, states, tests.

        Raises:
            ProtocolAbort: A client is missing, or refuses the states.
        """
        clients = {party: _client(control, party) for party in control.participants}
        hashes = _relayed(control, {p: state.protocol.commit(control.round) for p, state in clients.items()})
        server = control.state(SERVER)
        assert isinstance(server, _Server)
        server.distribute(control.round)
        opened = _relayed(control, {p: clients[p].receive(m) for p, m in hashes.items()})
        bound = _relayed(control, {p: clients[p].protocol.test(m) for p, m in opened.items()})
        outcomes = _relayed(control, {p: clients[p].protocol.open_outcomes(m) for p, m in bound.items()})
        for party, heard in outcomes.items():
            clients[party].protocol.judge(heard)
        return frozenset(outcomes)

    def seal(
        self, state: PartyState, update: torch.Tensor, weight: float, header: Header, *, checked: bool = True
    ) -> tuple[Payload, torch.Tensor]:
        """Stage 5: a client's outcomes, and the update that its qubits were turned by.

        Raises:
            ProtocolAbort: The states of the round were not tested.
            UpdateError: A number is not finite.
        """
        assert isinstance(state, ClientState)
        values = update.detach().cpu().numpy().astype(np.float64)
        payload = state.protocol.seal(header.round, values, checked=checked)
        phases = state.terms.phases
        read = torch.from_numpy(phases.clip(values) if checked else phases.nearest(values)).to(update)
        return payload, torch.cat([read, torch.ones(1).to(update)])

    def combine(self, state: PartyState, payloads: Mapping[Party, Payload], header: Header) -> Payload:
        """The sum of the angles.

        Raises:
            ProtocolAbort: A client is missing, or a message is not authentic.
        """
        assert isinstance(state, _Server)
        sealed = {party: blob for party, blob in payloads.items() if isinstance(blob, bytes)}
        return state.protocol.total(header.round, sealed)

    def reveal(self, state: PartyState, combined: Payload, header: Header) -> tuple[torch.Tensor, float]:
        """The estimated mean, and the number of clients."""
        assert isinstance(state, _Server)
        assert isinstance(combined, np.ndarray)
        return torch.from_numpy(state.terms.phases.mean(combined.astype(np.float64))), float(
            len(state.terms.clients)
        )

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """Four messages that everybody hears of everybody, and the outcomes; qubits travel on lines of their own."""
        said = said_bytes(self.tests)
        outcomes = -(-self.phases(load.n_clients).copies(load.n_params) // 8) + ED25519_BYTES
        each = Traffic().then(
            down={
                "model": load.model_bytes,
                **{what: entries_bytes(load.n_clients, size) for what, size in said.items()},
            },
            up={**said, "update": outcomes},
        )
        return Traffic.of_rounds(load.rounds, each=each)

    def keys(self, sender: Party, participants: tuple[Party, ...]) -> frozenset[str]:
        """A name that nobody holds: an outcome opens to nothing, whoever colludes.

        What all others together learn is the sum less their own updates, with its noise: the closure's business.
        """
        return frozenset({f"phases:{sender.index}"})

    def derive(
        self, items: Sequence[Item], facts: LaneFacts, parties: frozenset[Party], held: frozenset[str]
    ) -> Sequence[Item]:
        """The estimated sum of a round for whoever hears all clients' outcomes."""
        n_params = next((len(i.value) for i in items if isinstance(i.value, torch.Tensor)), 0)
        return derived_sums(items, facts, partial(self._sum, len(facts.counts), n_params))

    def _sum(self, n_clients: int, n_params: int, heard: Heard) -> Sum | None:
        bodies = {
            item.sender: item.value[:-ED25519_BYTES]
            for item in heard.uploads.values()
            if isinstance(item.value, bytes)
        }
        # without one client's outcomes the parity of the others' is a coin
        if not heard.complete or len(bodies) < n_clients:
            return None
        phases = self.phases(n_clients)
        mean = phases.mean(phases.total(parities(bodies, phases.copies(n_params))))
        last = list(heard.uploads.values())[-1]
        return Sum(mean=torch.from_numpy(mean), weight=float(len(bodies)), said=last)

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What it hides from this observer."""
        n = context.training.n_clients
        half, tenth = (
            escape_probability(n, tests=self.tests, allowed=self.allowed, fraction=fraction)
            for fraction in (0.5, 0.1)
        )
        copies = self.phases(n).copies(context.training.n_params) + self.tests
        rest = untested_failure_bound(copies=copies, tests=self.tests, allowed=self.allowed, epsilon=1e-6)
        return ghz_rows(
            self.card.name,
            context,
            tests=self.tests,
            allowed=self.allowed,
            half=half,
            tenth=tenth,
            rest=rest,
        )


@dataclass(kw_only=False)
class Bench:
    """The server's bench: it makes states, and sends a qubit of each to every client."""

    laboratory: Laboratory = field(repr=False)
    lines: Mapping[Party, list[Qubits]] = field(repr=False)
    makes: MakesStates = field(repr=False)

    def distribute(self, copies: int) -> None:
        """Hand out copies of a GHZ state."""
        sent = self.makes(self.laboratory, len(self.lines), copies)
        for box, qubits in zip(self.lines.values(), sent, strict=True):
            box[:] = [qubits]


@dataclass(kw_only=False)
class Line:
    """A client's end of its line: what arrived and was not taken yet."""

    box: list[Qubits] = field(repr=False)

    def take(self) -> Qubits:
        """The qubits that arrived.

        Raises:
            ProtocolAbort: None did.
        """
        if not self.box:
            raise ProtocolAbort("no qubits arrived")
        return self.box.pop()


class _State(PartyState):
    """Nothing is announced: signatures use the parties' identities, and keys there are none."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.spent = 0

    def key_names(self) -> frozenset[str]:
        """None."""
        return frozenset()


class ClientState(_State):
    """A client's half of the protocol, and its end of the line."""

    def __init__(self, protocol: GhzClient, terms: Terms, line: Line) -> None:
        super().__init__(terms)
        self.protocol, self._line = protocol, line

    def receive(self, hashes: Mapping[Party, bytes]) -> bytes:
        """Stage 2, with the qubits that arrived.

        Raises:
            ProtocolAbort: None did, or a message is missing or not authentic.
        """
        self.spent += self.terms.copies
        return self.protocol.receive(hashes, self._line.take())

    def costs(self) -> Mapping[str, float]:
        """Qubits that it was sent, each measured once."""
        return {"ghz_qubits": float(self.spent)}


class _Server(_State, Staged):
    def __init__(self, protocol: GhzServer, terms: Terms, bench: Bench) -> None:
        super().__init__(terms)
        self.protocol, self._bench = protocol, bench

    @stage(opens=True, each="round_index")
    def distribute(self, round_index: int) -> None:
        """Hand out the states of a round."""
        self.spent += self.terms.copies
        self._bench.distribute(self.terms.copies)

    def costs(self) -> Mapping[str, float]:
        """GHZ states that it made."""
        return {"ghz_states": float(self.spent)}


def _client(control: Control, party: Party) -> ClientState:
    state = control.state(party)
    assert isinstance(state, ClientState)
    return state


def _relayed(control: Control, messages: Mapping[Party, bytes]) -> dict[Party, dict[Party, bytes]]:
    """Everybody's messages to everybody, through the server."""
    arrived = control.to_server(messages)
    packed = pack_entries({party.index: blob for party, blob in arrived.items()})
    heard = control.to_clients(dict.fromkeys(arrived, packed))
    return {
        party: {client(index): part for index, part in unpack_entries(blob).items()}
        for party, blob in heard.items()
    }
