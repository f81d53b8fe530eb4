"""Every coalition with a quantum server: nothing of an honest client is in its view of a blind run.

Canaries are the records, the angles that carry data and parameters, the decoded outcomes, the pads and all
secrets that a client draws. The control delegates in the clear: there the quantum server and the wire hold
angles and outcomes, as worked out by hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from walking import blobs, head, held, near

from qflsec.base import OsSecrets, SeededSecrets
from qflsec.federation import Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.protocols.blind import Blind, BlindClient, Delegated
from qflsec.threat import PUBLIC, QUANTUM_SERVER, SERVER, WIRE, ThreatModel, View, client

Maker = Callable[..., Pipeline]
CLIENTS = (0, 1, 2)
BY_NAME = {str(party): party for party in (SERVER, WIRE, QUANTUM_SERVER, *map(client, CLIENTS))}
PARTIES = tuple(BY_NAME)
COALITIONS = [c for size in range(len(PARTIES) + 1) for c in itertools.combinations(PARTIES, size)]
EIGHTH = 2**29


def threat_of(coalition: tuple[str, ...]) -> ThreatModel:
    return ThreatModel(
        name="+".join(coalition) or "public",
        corrupted=frozenset({PUBLIC, *(BY_NAME[name] for name in coalition)}),
        knows=("architecture", "auxiliary", "defenses"),
    )


@dataclass
class Canaries:
    """What one client kept to itself."""

    angles: set[int] = field(default_factory=set)
    outcomes: list[bytes] = field(default_factory=list)
    pads: list[bytes] = field(default_factory=list)


def run_with_canaries(
    pipeline: Pipeline, layer: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[RunResult, list[Canaries], list[bytes]]:
    """A run of one round, in which each client has one delegation, in order."""
    found: list[Canaries] = []
    drawn: list[bytes] = []
    init, finish, draw = BlindClient.__init__, BlindClient.finish, SeededSecrets.draw

    def noted_init(blind: BlindClient, **how: Any) -> None:
        init(blind, **how)
        carriers = [int(a) % 2**32 for a in np.unique(blind._phi) if int(a) % EIGHTH]
        found.append(Canaries(angles=set(carriers)))

    def noted_finish(blind: BlindClient) -> None:
        pads = blind._secret
        assert pads.theta.shape[1] >= 128
        found[-1].outcomes += [np.packbits(row).tobytes()[:16] for row in blind._signals]
        found[-1].pads += [np.packbits(row).tobytes()[:16] for row in pads.r]
        found[-1].pads += [head(row.astype("<u4")) for row in pads.theta]
        finish(blind)

    def noted_draw(source: SeededSecrets, n_bytes: int) -> bytes:
        value = draw(source, n_bytes)
        drawn.append(value[:32])
        return value

    with monkeypatch.context() as patch:
        patch.setattr(BlindClient, "__init__", noted_init)
        patch.setattr(BlindClient, "finish", noted_finish)
        patch.setattr(SeededSecrets, "draw", noted_draw)
        stack = Stack(name="delegating", client=(layer,))
        result = run_batch(pipeline, stack, [RunSpec(seed=11)], secrets="seeded", grant_honest_updates=True)[
            0
        ]
    assert result.outcome == "completed"
    assert len(found) == len(CLIENTS)
    return result, found, [value for value in drawn if len(value) == 32]


def told_angles(view: View, teller: int) -> set[int]:
    """What one client tells: the parameters are common, so that another's are no canaries of its own."""
    arrays = [item.value for item in view.items if item.kind == "delta" and item.sender == client(teller)]
    return {int(a) for array in arrays if isinstance(array, np.ndarray) for a in np.unique(array)}


@pytest.mark.parametrize(
    "layer", [Blind(shots=30, tests=20), Delegated(shots=30)], ids=lambda one: one.card.name
)
def test_every_coalition_with_a_quantum_server(
    make_pipeline: Maker, monkeypatch: pytest.MonkeyPatch, layer: Any
) -> None:
    pipeline = make_pipeline(n_qubits=2, layers=1, members=6, rounds=1)
    result, canaries, drawn = run_with_canaries(pipeline, layer, monkeypatch)
    updates = result.transcript.honest_updates[0]
    open_to = {"wire", "quantum-server"} if isinstance(layer, Delegated) else set()
    for coalition in COALITIONS:
        view = result.view(threat_of(coalition))
        memory = held(view)
        assert not any(secret in memory for secret in drawn), coalition
        for i in CLIENTS:
            own = f"client:{i}" in coalition
            records = [head(row) for row in result.client_records(i).features]
            assert all((record in memory) == own for record in records), (coalition, i)
            if own:
                continue
            reads = bool(open_to & set(coalition))
            assert bool(canaries[i].angles & told_angles(view, i)) == reads, (coalition, i)
            assert any(bits in memory for bits in canaries[i].outcomes) == reads, (coalition, i)
            if not open_to:
                assert not any(pad in memory for pad in canaries[i].pads), (coalition, i)
            others = {f"client:{j}" for j in CLIENTS if j != i} <= set(coalition)
            by_sum = others or bool({"server", "wire"} & set(coalition))
            assert near(view, updates[0, i]) == by_sum, (coalition, i)


def test_the_quantum_server_alone_sees_its_traffic_and_what_is_public(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, layers=1, members=6, rounds=1)
    result = run_batch(pipeline, Stack(name="blind", client=(Blind(shots=5, tests=5),)), [RunSpec(seed=1)])[0]
    view = result.view(threat_of(("quantum-server",)))
    assert {item.kind for item in view.items} == {"graph", "qubits", "delta", "reply", "final-model"}
    for coalition in ((), ("server",)):
        kinds = {item.kind for item in result.view(threat_of(coalition)).items}
        assert kinds.isdisjoint({"graph", "qubits", "delta", "reply"})


@pytest.mark.parametrize("kind", ["angles", "outcomes", "pads", "drawn"])
def test_a_deliberate_leak_is_found(make_pipeline: Maker, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The control of the walk: each kind of canary, told to the quantum server in a message too many."""
    pipeline = make_pipeline(n_qubits=2, layers=1, members=6, rounds=1)
    result, canaries, drawn = run_with_canaries(pipeline, Blind(shots=30, tests=20), monkeypatch)
    view = result.view(threat_of(("quantum-server",)))
    memory = held(view)
    item = next(item for item in view.items if item.kind == "delta")
    assert isinstance(item.value, np.ndarray)
    if kind == "angles":
        item.value[7] = next(iter(canaries[0].angles))
        assert canaries[0].angles & told_angles(result.view(threat_of(("quantum-server",))), 0)
        return
    needle = {"outcomes": canaries[1].outcomes, "pads": canaries[1].pads, "drawn": drawn}[kind][0]
    assert needle not in memory
    item.value.view(np.uint8)[40 : 40 + len(needle)] = np.frombuffer(needle, dtype=np.uint8)
    assert needle in held(result.view(threat_of(("quantum-server",))))


def test_nothing_reachable_from_a_view_is_a_client_or_a_source_of_secrets(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, layers=1, members=6, rounds=1)
    result = run_batch(pipeline, Stack(name="blind", client=(Blind(shots=5, tests=5),)), [RunSpec(seed=1)])[0]
    seen: dict[int, Any] = {}
    for _ in blobs(result.view(threat_of(PARTIES)), seen):
        pass
    assert not [one for one in seen.values() if isinstance(one, (BlindClient, OsSecrets, SeededSecrets))]
    assert any(isinstance(one, torch.Tensor) for one in seen.values())
