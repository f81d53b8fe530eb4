"""Every coalition of a three-client run, its view walked for canaries that it could not have.

Canaries are the bytes of every record, update and model, of everything drawn from a source of secrets, of the
keys and masks made from it, and of every coin. What a coalition may hold is worked out here from first
principles, independently of the library's peeling and closure.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from walking import blobs, head, held, near

from qflsec.base import OsSecrets
from qflsec.federation import Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.federation.streams import RoundStreams
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import Masked
from qflsec.threat import PUBLIC, SERVER, WIRE, ThreatModel, client, honest_but_curious_server

Maker = Callable[..., Pipeline]
CLIENTS = (0, 1, 2)
BY_NAME = {str(party): party for party in (SERVER, WIRE, *map(client, CLIENTS))}
PARTIES = tuple(BY_NAME)
COALITIONS = [c for size in range(len(PARTIES) + 1) for c in itertools.combinations(PARTIES, size)]


def stacks(stub: Any) -> dict[str, Stack]:
    return {
        "none": Stack(name="none"),
        "mask": Stack(name="mask", client=(Masked(),)),
        "link": Stack(name="link", client=(AesGcmLink(),)),
        "mask+link": Stack(name="mask+link", client=(Masked(), AesGcmLink())),
        "shared key": Stack(name="shared key", client=(stub,)),
    }


def threat_of(coalition: tuple[str, ...]) -> ThreatModel:
    return ThreatModel(
        name="+".join(coalition) or "public",
        corrupted=frozenset({PUBLIC, *(BY_NAME[name] for name in coalition)}),
        knows=("architecture", "auxiliary", "defenses"),
    )


def readers_of_update(stack: str, target: int, coalition: tuple[str, ...]) -> bool:
    """Whether this coalition can compute an honest client's update, worked out by hand."""
    corrupted = {i for i in CLIENTS if f"client:{i}" in coalition}
    if target in corrupted or corrupted == set(CLIENTS) - {target}:
        return True  # its own, or two consecutive models less the coalition's own updates
    server, wire = "server" in coalition, "wire" in coalition
    return {
        "none": server or wire,
        "link": server,
        "shared key": bool(corrupted) and (server or wire),
        "mask": False,
        "mask+link": False,
    }[stack]


def readers_of_sum(stack: str, coalition: tuple[str, ...]) -> bool:
    """Whether it can compute the sum over all clients."""
    if "client:0" in coalition or "client:1" in coalition or "client:2" in coalition:
        return True
    server, wire = "server" in coalition, "wire" in coalition
    return {
        "none": server or wire,
        "mask": server or wire,
        "link": server,
        "mask+link": server,
        "shared key": False,
    }[stack]


@dataclasses.dataclass
class Canaries:
    """Marked values of one run."""

    records: dict[int, list[bytes]]
    updates: dict[tuple[int, int], torch.Tensor]
    secrets: dict[str, list[bytes]]
    coins: list[bytes]


class Recorder:
    """Notes every secret that is drawn, with its owner, and every coin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drawn: list[bytes] = []
        self.coins: list[bytes] = []
        draw, normal, uniform = OsSecrets.draw, RoundStreams.normal, RoundStreams.uniform

        def noted_draw(source: OsSecrets, n_bytes: int) -> bytes:
            value = draw(source, n_bytes)
            self.drawn.append(value)
            return value

        def noted(original: Any) -> Any:
            def call(streams: RoundStreams, purpose: str, shape: Any) -> torch.Tensor:
                value: torch.Tensor = original(streams, purpose, shape)
                self.coins.append(head(value.reshape(-1)))
                return value

            return call

        monkeypatch.setattr(OsSecrets, "draw", noted_draw)
        monkeypatch.setattr(RoundStreams, "normal", noted(normal))
        monkeypatch.setattr(RoundStreams, "uniform", noted(uniform))


def run_with_canaries(
    pipeline: Pipeline, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> tuple[RunResult, Canaries]:
    states: dict[str, list[bytes]] = {}
    from qflsec.federation.round.session import Session

    original = Session.handshake

    def handshake(session: Session, network: Any) -> None:
        original(session, network)
        for by_party in session._states[0]:
            for party, state in by_party.items():
                own = {
                    k: v
                    for k, v in vars(state).items()
                    if k not in {"_identity", "identity", "_setup", "setup"}
                }
                found = [blob for blob in blobs(own) if 16 <= len(blob) <= 64]
                states.setdefault(str(party), []).extend(found)

    with monkeypatch.context() as patch:
        recorder = Recorder(patch)
        patch.setattr(Session, "handshake", handshake)
        result = run_batch(pipeline, stack, [RunSpec(seed=11)], grant_honest_updates=True)[0]
    assert result.outcome == "completed"
    public = {
        blob for m in result.transcript.messages if m.kind == "announcement" for blob in blobs(m.layers)
    }
    secret = {
        party: [key for key in keys if not any(key in blob for blob in public)]
        for party, keys in states.items()
    }
    secret["drawn"] = [value for value in recorder.drawn if len(value) >= 32]
    return result, Canaries(
        records={i: [head(row) for row in result.client_records(i).features] for i in CLIENTS},
        updates=dict(result.transcript.honest_updates[0]),
        secrets=secret,
        coins=recorder.coins,
    )


@pytest.mark.parametrize("name", ["none", "mask", "link", "mask+link", "shared key"])
def test_every_coalition_holds_what_it_could_and_nothing_else(
    make_pipeline: Maker, shared_key_stub: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pipeline = make_pipeline(layers=2, members=9, batch_size=2, rounds=2)
    result, canaries = run_with_canaries(pipeline, stacks(shared_key_stub)[name], monkeypatch)
    all_updates = torch.stack([canaries.updates[0, i] for i in CLIENTS])
    counts = torch.tensor([len(rows) for rows in result.clients], dtype=torch.float32)
    mean = (all_updates * counts[:, None]).sum(dim=0) / counts.sum()
    for coalition in COALITIONS:
        view = result.view(threat_of(coalition))
        memory = held(view)
        for i in CLIENTS:
            corrupted = f"client:{i}" in coalition
            assert all((record in memory) == corrupted for record in canaries.records[i]), (coalition, i)
            allowed = readers_of_update(name, i, coalition)
            assert near(view, canaries.updates[0, i]) == allowed, (name, coalition, i)
            if not allowed:
                assert head(canaries.updates[0, i]) not in memory
        assert near(view, mean) == readers_of_sum(name, coalition), (name, coalition)
        for secret in canaries.secrets["drawn"]:
            assert secret not in memory, coalition
        for party, keys in canaries.secrets.items():
            if party not in coalition and party != "drawn":
                assert not any(key in memory for key in keys), (coalition, party)
        assert not any(coin in memory for coin in canaries.coins), coalition


def test_anonymity_sets(make_pipeline: Maker, shared_key_stub: Any) -> None:
    """k counts the honest clients behind a readable aggregate whose shares the coalition does not know."""
    pipeline = make_pipeline(members=9)
    expected = {
        ("mask", ("server",)): 3,
        ("mask", ("wire",)): 3,
        ("mask", ("server", "client:0")): 2,
        ("mask", ("client:0",)): 2,
        ("mask", ("client:0", "client:1")): 1,
        ("none", ("server",)): 1,
        ("none", ("client:0",)): 2,
        ("link", ("wire",)): 0,
        ("shared key", ("server",)): 0,
        ("shared key", ("server", "client:2")): 1,
    }
    for (name, coalition), k in expected.items():
        result = run_batch(pipeline, stacks(shared_key_stub)[name], [RunSpec(seed=2)])[0]
        threat = threat_of(coalition)
        items = result.view(threat).readable("update", "aggregate", "step")
        honest = [item.k for item in items if item.k > 0]
        assert min(honest, default=0) == k, (name, coalition)


@pytest.mark.parametrize("kind", ["records", "updates", "secrets", "coins", "view of a batch"])
def test_a_deliberate_leak_is_found(make_pipeline: Maker, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The control: hide each kind of canary somewhere in a view, and the walk must see it."""
    pipeline = make_pipeline(layers=2, members=9, batch_size=2)
    result, canaries = run_with_canaries(pipeline, Stack(name="mask", client=(Masked(),)), monkeypatch)
    view = result.view(threat_of(("wire",)))
    update = canaries.updates[0, 1]
    leak: Any = {
        "records": result.client_records(1).features[0],
        "updates": {"deep": [update]},
        "secrets": [canaries.secrets["drawn"][0]],
        "coins": (canaries.coins[0],),
        "view of a batch": torch.stack([torch.zeros_like(update), update])[0],
    }[kind]
    leaky = dataclasses.replace(view, granted=dataclasses.replace(view.granted, defenses=leak))
    needle = {
        "records": canaries.records[1][0],
        "updates": head(update),
        "secrets": canaries.secrets["drawn"][0],
        "coins": canaries.coins[0],
        "view of a batch": head(update),
    }[kind]
    assert needle not in held(view)
    assert needle in held(leaky)


def test_a_leak_through_the_seams_is_found(make_pipeline: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other control: name the keys wrongly, as a careless layer would, and the oracle disagrees."""
    pipeline = make_pipeline(members=9)
    none: frozenset[str] = frozenset()
    monkeypatch.setattr(Masked, "keys", lambda *_: none)
    result = run_batch(
        pipeline, Stack(name="mask", client=(Masked(),)), [RunSpec(seed=11)], grant_honest_updates=True
    )[0]
    update = result.transcript.honest_updates[0][0, 1]
    assert near(result.view(threat_of(("server",))), update)
    assert not readers_of_update("mask", 1, ("server",))


def test_granted_knowledge_is_only_what_is_granted(make_pipeline: Maker) -> None:
    result = run_batch(
        make_pipeline(members=9), Stack(name="none"), [RunSpec(seed=1)], grant_honest_updates=True
    )[0]
    seen = result.view(honest_but_curious_server(knows=()))
    nothing = seen.granted
    assert nothing.model is None
    assert nothing.auxiliary is None
    assert nothing.defenses is None
    assert not any(item.granted for item in seen.items)
    assert not nothing.data
    strong = result.view(ThreatModel(name="x", corrupted=frozenset({client(1)}), knows=("honest-updates",)))
    assert set(strong.granted.data) == {client(1)}
    held = {(item.round, min(item.about)): item for item in strong.items if item.granted}
    assert set(held) == {(r, i) for r, i in result.transcript.honest_updates[0] if i != 1}
    assert torch.equal(held[0, 2].vector, result.transcript.honest_updates[0][0, 2])
    assert (held[0, 2].k, held[0, 2].base) == (1, "0")
