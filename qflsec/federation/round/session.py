"""Sessions: the parties' states for the secret layers of a stack, and how they are set up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from qflsec.base import OsSecrets, ProtocolAbort, Secrets, SeededSecrets
from qflsec.base.framing import pack_named, unpack_named
from qflsec.federation.identity import Identity
from qflsec.federation.layers import LinkLayer, SecretLayer
from qflsec.federation.parties import PartyState, Setup
from qflsec.federation.stack import Stack
from qflsec.threat import SERVER, Envelope, Network, Party, Slot, Workload, client

__all__ = ["SecretsMode", "Session"]

SecretsMode = Literal["os", "seeded"]


class Session:
    """The states of all parties for all runs of a batch.

    Each state is made by :meth:`SecretLayer.open` from public set-up and that party's own secrets; parties
    learn of each other only what the network delivers to them.

    Args:
        stack: The stack.
        seeds: The seed of each run.
        n_clients: The number of clients.
        n_params: The number of parameters.
        rounds: The number of rounds.
        max_count: The largest number of examples that a client may have.
        participants: How many clients take part in a round; 0 stands for all.
        mode: Whether secrets come from the operating system or are seeded, and so protect nothing.
        checked_once: Whether the parties of a run check each signature once for all of them, as
            :meth:`Identity.of_all` says: not where one party's own work is measured.
    """

    def __init__(
        self,
        stack: Stack,
        seeds: Sequence[int],
        *,
        n_clients: int,
        n_params: int,
        rounds: int,
        max_count: int,
        mode: SecretsMode,
        participants: int = 0,
        checked_once: bool = False,
    ) -> None:
        self._checked_once = checked_once
        self._carried = stack.carried(
            Workload(
                n_params=n_params, n_clients=n_clients, participants=participants or n_clients, rounds=rounds
            )
        )
        self._layers = [layer for layer in stack.client if isinstance(layer, SecretLayer)]
        self._clients = tuple(client(index) for index in range(n_clients))
        self._parties = (*self._clients, SERVER) if self._layers else ()
        self._n_params, self._rounds, self._max_count = n_params, rounds, max_count
        self._participants = participants
        self._states: list[list[dict[Party, PartyState]]] = [self._open(seed, mode) for seed in seeds]
        self.seeded = mode == "seeded"

    def _open(self, seed: int, mode: SecretsMode) -> list[dict[Party, PartyState]]:
        if not self._layers:
            return []
        sources = {party: _source(mode, seed, str(party)) for party in self._parties}
        setup = Setup(
            session=sources[SERVER].draw(16),
            clients=self._clients,
            server=SERVER,
            n_params=self._n_params,
            rounds=self._rounds,
            max_count=self._max_count,
            participants=self._participants,
        )
        identities = Identity.of_all(self._parties, sources, checked_once=self._checked_once)
        states = []
        for place, layer in enumerate(self._layers):
            known = (
                replace(setup, traffic=self._carried.get(layer)) if isinstance(layer, LinkLayer) else setup
            )
            ends = layer.quantum_ends(known, _source(mode, seed, f"quantum links {place}"))
            own = {party: replace(known, quantum=ends.get(party)) for party in self._parties}
            states.append({p: layer.open(own[p], identities[p], sources[p]) for p in self._parties})
        return states

    def state(self, lane: int, layer: SecretLayer, party: Party) -> PartyState:
        """One party's state for one layer of one run."""
        return self._states[lane][self._layers.index(layer)][party]

    def links(self) -> list[_BoundLink]:
        """The stack's link layers, with both ends' states, for the network."""
        return [_BoundLink(self, layer) for layer in self._layers if isinstance(layer, LinkLayer)]

    def key_names(self) -> dict[Party, frozenset[str]]:
        """The names of the keys that each party holds; they are the same in every run."""
        return {
            party: frozenset(name for states in self._states[0] for name in states[party].key_names())
            for party in self._parties
        }

    def costs(self, lane: int) -> dict[str, float]:
        """What the parties of one run have spent, by name with the unit at its end."""
        total: dict[str, float] = {}
        for states in self._states[lane]:
            for state in states.values():
                for name, value in state.costs().items():
                    total[name] = total.get(name, 0.0) + value
        return total

    def handshake(self, network: Network) -> None:
        """Announce over the network: clients to the server, which relays everything to everybody.

        A run that a party is not ready for, or in which an announcement is not authentic, is named in the network's
        ``aborts``.
        """
        for lane, states in enumerate(self._states):
            try:
                for state in (state for held in states for state in held.values()):
                    state.check_ready()
            except ProtocolAbort as abort:
                network.aborts.setdefault(lane, abort)
        for place in range(len(self._layers)):
            announced = [
                [states[place][party].announce() for party in self._parties] for states in self._states
            ]
            if not any(blob for row in announced for blob in row):
                continue
            self._relay(network, place, announced)

    def _relay(self, network: Network, place: int, announced: list[list[bytes]]) -> None:
        lanes = range(len(self._states))
        up = _announcements(
            network, [Slot(p, SERVER) for p in self._clients], [r[:-1] for r in announced], lanes
        )
        relayed = []
        for lane in lanes:
            arrived = {p: up[lane][i] for i, p in enumerate(self._clients)}
            self._learn(network, lane, place, SERVER, arrived)
            everything = {**arrived, SERVER: announced[lane][-1]}
            blob = pack_named({str(party): said for party, said in everything.items()})
            relayed.append([blob] * len(self._clients))
        down = _announcements(network, [Slot(SERVER, p) for p in self._clients], relayed, lanes)
        for lane in lanes:
            for index, party in enumerate(self._clients):
                heard = dict(_unpack(down[lane][index]))
                if set(heard) != set(self._parties):
                    network.aborts.setdefault(
                        lane, ProtocolAbort(f"{party} did not hear every announcement of the set-up")
                    )
                self._learn(network, lane, place, party, heard)

    def _learn(
        self, network: Network, lane: int, place: int, party: Party, arrived: dict[Party, bytes]
    ) -> None:
        if lane in network.aborts:
            return
        try:
            for author, blob in arrived.items():
                if author != party:
                    self._states[lane][place][party].learn(author, blob)
        except ProtocolAbort as abort:
            network.aborts[lane] = abort


class _BoundLink:
    """A link layer together with the states of both ends."""

    def __init__(self, session: Session, layer: LinkLayer) -> None:
        self._session = session
        self._layer = layer

    @property
    def form(self) -> str:
        """The form of a sealed payload."""
        return str(self._layer.gives)

    def key_name(self, sender: Party, receiver: Party) -> str:
        """The key that opens it."""
        return self._layer.key_name(sender, receiver)

    def seal(self, lane: int, sender: Party, receiver: Party, payload: bytes, header: bytes) -> bytes:
        """The sender's half, with the sender's state."""
        return self._layer.seal(self._session.state(lane, self._layer, sender), receiver, payload, header)

    def open(self, lane: int, sender: Party, receiver: Party, blob: bytes, header: bytes) -> bytes:
        """The receiver's half, with the receiver's state."""
        return self._layer.unseal(self._session.state(lane, self._layer, receiver), sender, blob, header)


def _source(mode: SecretsMode, seed: int, owner: str) -> Secrets:
    return OsSecrets() if mode == "os" else SeededSecrets(seed, owner)


def _announcements(
    network: Network, slots: list[Slot], values: list[list[bytes]], lanes: range
) -> list[list[bytes]]:
    delivery = network.send(
        Envelope.plain(values),
        kind="announcement",
        round_index=-1,
        lanes=list(lanes),
        slots=slots,
        present=[[True] * len(slots) for _ in lanes],
        members=[[frozenset()] * len(slots) for _ in lanes],
        linked=False,
    )
    rows = []
    for lane in lanes:
        arrived = [delivery.at(lane, slot) for slot in range(len(slots))]
        rows.append([blob if isinstance(blob, bytes) else b"" for blob in arrived])
    return rows


def _unpack(packed: bytes) -> Iterator[tuple[Party, bytes]]:
    for name, blob in unpack_named(packed).items():
        role, _, index = name.partition(":")
        if role == "client" and index.isascii() and index.isdecimal() and len(index) < 10:
            yield client(int(index)), blob
        elif role == "server":
            yield SERVER, blob
