"""What protection costs: processor time and bytes of one round, for each protocol, as ratios to none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from qflsec.base import OsSecrets, ProtocolAbort
from qflsec.federation import AggregationLayer, Control, Header, PartyState, Stack
from qflsec.federation.round.session import Session
from qflsec.protocols.secagg import catalogue
from qflsec.protocols.secagg.he.bfv import HeBfv
from qflsec.protocols.secagg.he.ckks import HeCkks
from qflsec.protocols.secagg.masks.expansion import expand, model_digest
from qflsec.protocols.secagg.masks.layer import Masked
from qflsec.protocols.secagg.one_round import run_round
from qflsec.protocols.secagg.rounds.layer import SecAgg
from qflsec.protocols.secagg.rounds.states import ClientState, ServerState
from qflsec.threat import SERVER, Network, Party, Payload, Transcript, client
from qflsec.threat.message import payload_bytes

__all__ = ["PROTOCOLS", "RoundCost", "bench_secagg", "expansion_ms", "measured", "round_cost", "targets"]

PROTOCOLS: Mapping[str, AggregationLayer | None] = {
    "plain": None,
    "masked": Masked(bits=32, fractional_bits=16),
    "secagg": SecAgg(),
    "secagg, ML-KEM-768": SecAgg(agreement="ml-kem-768"),
    "secagg, hybrid and ML-DSA-65": SecAgg(agreement="hybrid", signature="ml-dsa-65"),
    "he-bfv": HeBfv(),
    "he-ckks": HeCkks(),
}
"""What is measured party by party; homomorphic encryption at the quantum-128 row."""
_BY_ROUND: Mapping[str, str] = {
    "ddp": "ddp",
    "validated-groups": "validated-groups",
    "validated": "validated",
    "he-masked, with its keys": "he-masked",
    "he-threshold, with its keys": "he-threshold",
    "ghz": "ghz",
}
"""What is measured between the messages of a first round, what its session needs once included."""
_LARGEST = {"ghz": 1_000, "validated": 64}
"""Protocols that are not measured above some size: so many states, or proofs for so many bits, take minutes."""
_MAX_COUNT = 100


@dataclass(frozen=True, kw_only=True)
class RoundCost:
    """One round of one protocol.

    Attributes:
        protocol: Its name, as :func:`measured` lists it.
        n_params: The number of parameters.
        n_clients: The number of clients; nobody drops out.
        seal_ms: Processor time of one client until its update is sent.
        open_ms: Processor time of one client afterwards.
        server_ms: Processor time of the server.
        up_bytes: What one client sends in a round.
        down_bytes: What one client receives in a round, the model or what takes its place included.

    Units:
        milliseconds of processor time; bytes
    """

    protocol: str
    n_params: int
    n_clients: int
    seal_ms: float
    open_ms: float
    server_ms: float
    up_bytes: float
    down_bytes: float

    @property
    def client_ms(self) -> float:
        """Processor time of one client."""
        return self.seal_ms + self.open_ms


@dataclass
class _Meter:
    spent: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.spent[what] = self.spent.get(what, 0.0) + (time.process_time() - start) * 1e3

    def cost(self, protocol: str, n_params: int, n_clients: int, up: float, down: float) -> RoundCost:
        per_client = {what: self.spent.get(what, 0.0) / n_clients for what in ("seal", "open")}
        return RoundCost(
            protocol=protocol,
            n_params=n_params,
            n_clients=n_clients,
            seal_ms=per_client["seal"],
            open_ms=per_client["open"],
            server_ms=self.spent.get("server", 0.0),
            up_bytes=up / n_clients,
            down_bytes=down / n_clients,
        )


def _session(layer: AggregationLayer, n_clients: int, n_params: int) -> Callable[[Party], PartyState]:
    """The parties' states of one layer, set up as the loop does it."""
    stack = Stack(name="bench", client=(layer,))
    session = Session(
        stack,
        [0],
        n_clients=n_clients,
        n_params=n_params,
        rounds=1,
        max_count=_MAX_COUNT,
        mode="os",
    )
    session.handshake(Network(Transcript()))
    return lambda party: session.state(0, layer, party)


def _updates(n_clients: int, n_params: int) -> list[torch.Tensor]:
    return [torch.linspace(-0.5, 0.5, n_params) * (index + 1) / n_clients for index in range(n_clients)]


def _plain(n_clients: int, n_params: int) -> RoundCost:
    meter, up = _Meter(), 0
    sent = []
    for update in _updates(n_clients, n_params):
        with meter.on("seal"):
            sent.append(torch.cat([update, torch.ones(1)]).numpy().tobytes())
        up += len(sent[-1])
    with meter.on("server"):
        vectors = [np.frombuffer(blob, dtype=np.float32) for blob in sent]
        np.sum(vectors, axis=0) / n_clients
    return meter.cost("plain", n_params, n_clients, up, 4.0 * n_params * n_clients)


def _one_phase(name: str, layer: AggregationLayer, n_clients: int, n_params: int) -> RoundCost:
    """Masked or encrypted updates; the set-up of the session is not counted."""
    meter, clients = _Meter(), tuple(client(index) for index in range(n_clients))
    control = Control(
        states=_session(layer, n_clients, n_params),
        network=Network(Transcript()),
        lane=0,
        round_index=0,
        participants=clients,
        models={},
    )
    layer.prepare(control)
    payloads: dict[Party, Payload] = {}
    for party, update in zip(clients, _updates(n_clients, n_params), strict=True):
        header = Header(round=0, sender=party, participants=clients)
        with meter.on("seal"):
            payloads[party] = layer.seal(control.state(party), update, 1.0, header)[0]
    header = Header(round=0, sender=SERVER, participants=clients)
    with meter.on("server"):
        combined = layer.combine(control.state(SERVER), payloads, header)
    down = 4.0 * n_params
    if layer.leaves == "nothing":
        down = payload_bytes(combined)
        for party in clients:
            with meter.on("open"):
                layer.reveal(control.state(party), combined, header)
    else:
        with meter.on("server"):
            layer.reveal(control.state(SERVER), combined, header)
    up = sum(payload_bytes(payload) for payload in payloads.values())
    return meter.cost(name, n_params, n_clients, up, down * n_clients)


def _secagg(name: str, layer: SecAgg, n_clients: int, n_params: int) -> RoundCost:
    """All five stages: keys are fresh in every round."""
    state = _session(layer, n_clients, n_params)
    held = [state(client(index)) for index in range(n_clients)]
    states = [party for party in held if isinstance(party, ClientState)]
    clients = [party.protocol for party in states]
    serving = state(SERVER)
    assert isinstance(serving, ServerState)
    server, meter, sizes = serving.protocol, _Meter(), {"up": 0, "down": 0}
    updates, model = _updates(n_clients, n_params), torch.zeros(n_params)

    def turn(
        what: str, messages: Mapping[int, bytes], act: Callable[[int, bytes], bytes]
    ) -> dict[int, bytes]:
        sizes["down"] += sum(map(len, messages.values()))
        with meter.on(what):
            sent = {index: act(index, message) for index, message in messages.items()}
        sizes["up"] += sum(map(len, sent.values()))
        return sent

    def advertise(index: int, message: bytes) -> bytes:
        digest = model_digest(model)
        return clients[index].advertise(
            message, round_index=0, model=digest, size=n_params + 1, bits=layer.bits
        )

    def mask(index: int, message: bytes) -> bytes:
        words = layer.words.encode(updates[index], 1.0, n=n_clients, secrets=states[index].secrets)
        return clients[index].mask(message, words)

    with meter.on("server"):
        down = server.start(
            0,
            participants=tuple(range(n_clients)),
            threshold=layer.threshold_for(n_clients),
            size=n_params + 1,
            bits=layer.bits,
        )
    keys = turn("seal", down, advertise)
    with meter.on("server"):
        down = server.collect_keys(keys)
    parcels = turn("seal", down, lambda index, message: clients[index].share(message))
    with meter.on("server"):
        down = server.collect_parcels(parcels)
    vectors = turn("seal", down, mask)
    with meter.on("server"):
        down = server.collect_vectors(vectors)
    stated = turn("open", down, lambda index, message: clients[index].agree(message))
    with meter.on("server"):
        down = server.collect_statements(stated)
    opened = turn("open", down, lambda index, message: clients[index].reveal(message))
    with meter.on("server"):
        layer.words.read(server.open(opened))
    return meter.cost(name, n_params, n_clients, sizes["up"], sizes["down"] + 4.0 * n_params * n_clients)


def _first_round(name: str, n_clients: int, n_params: int) -> RoundCost:
    """Any other protocol: the first round of a session, as ``qflsec secagg`` runs it."""
    chosen = catalogue.protocol(_BY_ROUND[name])
    report = run_round(chosen.layer(), n_clients=n_clients, n_params=n_params)
    if report.status != "sum":
        raise ProtocolAbort(f"the round of {name!r} to measure stopped", got=report.reason)
    return RoundCost(
        protocol=name,
        n_params=n_params,
        n_clients=n_clients,
        seal_ms=report.client_ms,
        open_ms=0.0,
        server_ms=report.server_ms,
        up_bytes=report.up_bytes,
        down_bytes=report.down_bytes - 4.0 * n_params,  # it counts the model of the next round as well
    )


def measured(n_params: int) -> tuple[str, ...]:
    """The protocols that are compared at this size."""
    return (*PROTOCOLS, *(name for name in _BY_ROUND if n_params <= _LARGEST.get(name, n_params)))


def round_cost(protocol: str, *, n_params: int, n_clients: int = 10, repeats: int = 3) -> RoundCost:
    """The cheapest client and the cheapest server of a few rounds: other work on the machine only ever adds.

    Args:
        protocol: A name that :func:`measured` lists.
        n_params: The number of parameters.
        n_clients: The number of clients.
        repeats: How many rounds.
    """
    layer = PROTOCOLS.get(protocol)

    def once() -> RoundCost:
        if protocol in _BY_ROUND:
            return _first_round(protocol, n_clients, n_params)
        if layer is None:
            return _plain(n_clients, n_params)
        if isinstance(layer, SecAgg):
            return _secagg(protocol, layer, n_clients, n_params)
        return _one_phase(protocol, layer, n_clients, n_params)

    rounds = [once() for _ in range(repeats)]
    cheapest = min(rounds, key=lambda cost: cost.client_ms)
    return replace(cheapest, server_ms=min(cost.server_ms for cost in rounds))


def expansion_ms(*, n_params: int, n_clients: int = 10, repeats: int = 3) -> float:
    """Processor time of ChaCha20 alone for the masks of one client: one for each other client, and its own.

    Units:
        milliseconds
    """
    best = float("inf")
    keys = [OsSecrets().draw(32) for _ in range(n_clients)]
    for _ in range(repeats):
        start = time.process_time()
        for key in keys:
            expand(key, n_params + 1, np.dtype(np.uint32))
        best = min(best, (time.process_time() - start) * 1e3)
    return best


def bench_secagg(
    *, sizes: tuple[int, ...] = (36, 1_000, 100_000), n_clients: int = 10, repeats: int = 3
) -> list[dict[str, float | str]]:
    """Every protocol at every size, with ratios to ``plain``.

    Args:
        sizes: Numbers of parameters.
        n_clients: The number of clients.
        repeats: How many rounds to take the cheapest of.

    Units:
        milliseconds of processor time; bytes; ratios without unit
    """
    rows: list[dict[str, float | str]] = []
    for n_params in sizes:
        raw = expansion_ms(n_params=n_params, n_clients=n_clients, repeats=repeats)
        costs = {
            name: round_cost(name, n_params=n_params, n_clients=n_clients, repeats=repeats)
            for name in measured(n_params)
        }
        plain = costs["plain"]
        for name, cost in costs.items():
            rows.append(
                {
                    "protocol": name,
                    "parameters": n_params,
                    "clients": n_clients,
                    "client_seal_ms": cost.seal_ms,
                    "client_open_ms": cost.open_ms,
                    "server_ms": cost.server_ms,
                    "up_bytes": cost.up_bytes,
                    "down_bytes": cost.down_bytes,
                    "client_time_to_plain": cost.client_ms / plain.client_ms,
                    "server_time_to_plain": cost.server_ms / plain.server_ms,
                    "up_bytes_to_plain": cost.up_bytes / plain.up_bytes,
                    "client_time_to_expansion": cost.client_ms / raw,
                }
            )
    return rows


def targets(rows: list[dict[str, float | str]]) -> list[dict[str, float | str | bool]]:
    """What the protocols are to reach at 100,000 parameters, and whether these rows do.

    Args:
        rows: As :func:`bench_secagg` makes them; without rows of that size there is nothing to reach.
    """
    large = {str(row["protocol"]): row for row in rows if row["parameters"] == 100_000}
    if not large:
        return []
    agg, bfv, ckks = (large[name] for name in ("secagg", "he-bfv", "he-ckks"))
    asked = (
        ("secagg: bytes that a client sends, to float32", float(agg["up_bytes"]) / 400_004, 1.1),
        (
            "secagg: time of a client, to the expansion of its masks",
            float(agg["client_time_to_expansion"]),
            5.0,
        ),
        (
            "he-bfv: time to encrypt, to he-ckks",
            float(bfv["client_seal_ms"]) / float(ckks["client_seal_ms"]),
            0.75,
        ),
        ("he-bfv: bytes, to he-ckks", float(bfv["up_bytes"]) / float(ckks["up_bytes"]), 0.6),
    )
    return [
        {"what": what, "value": value, "at_most": most, "met": value <= most} for what, value, most in asked
    ]
