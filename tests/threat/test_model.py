"""Threat models as values and sentences."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

import pytest

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.threat import (
    NOBODY,
    PUBLIC,
    QUANTUM_SERVER,
    SERVER,
    WIRE,
    Party,
    ThreatModel,
    client,
    coalition,
    corrupted_clients,
    drawn_clients,
    edge,
    honest_but_curious_edge,
    honest_but_curious_quantum_server,
    honest_but_curious_server,
    malicious_quantum_server,
    malicious_server,
    nobody,
    public_final_model,
    threat_from_config,
    wire_eavesdropper,
)


def test_a_threat_model_is_a_sentence() -> None:
    assert str(honest_but_curious_server()) == (
        "The server follow the protocol and look in every round, knowing architecture, auxiliary."
    ).replace("follow the protocol and look", "follows the protocol and looks")
    assert "2 clients deviate from the protocol" in str(corrupted_clients(n=2))
    assert "after seeing the others' messages" in str(corrupted_clients(n=1, rushing=True))
    assert str(NOBODY) == "Nobody is corrupted."
    assert "The server, the network and 2 clients" in str(coalition(server=True, n=2, wire=True))


# Name, sentence and the digest of the configuration, as they were when parties were separate fields.
STORED = [
    (
        honest_but_curious_server(),
        "honest-but-curious-server",
        "e725d7d7a91c1b82",
        "The server follows the protocol and looks in every round, knowing architecture, auxiliary.",
    ),
    (
        malicious_server(knows=("defenses",)),
        "malicious-server",
        "85ba872eb109c9d3",
        "The server deviates from the protocol in every round, knowing defenses.",
    ),
    (
        honest_but_curious_quantum_server(),
        "honest-but-curious-quantum-server",
        "d6cf9a5ce6f3448f",
        "The quantum server follows the protocol and looks in every round, knowing architecture, auxiliary.",
    ),
    (
        malicious_quantum_server(),
        "malicious-quantum-server",
        "4a725698ea5951df",
        "The quantum server deviates from the protocol in every round, knowing architecture, auxiliary.",
    ),
    (
        corrupted_clients(),
        "2-corrupted-clients",
        "36920df349962bde",
        "2 clients deviate from the protocol in every round, knowing architecture, auxiliary.",
    ),
    (
        corrupted_clients(n=1, active=False),
        "1-corrupted-clients",
        "b20959295dbc2ff1",
        "1 client follows the protocol and looks in every round, knowing architecture, auxiliary.",
    ),
    (
        corrupted_clients(n=1, rushing=True, knows=("honest-updates", "auxiliary")),
        "1-corrupted-clients",
        "da6f42792b55aa2e",
        "1 client deviates from the protocol in every round, after seeing the others' messages, knowing auxiliary, honest-updates.",
    ),
    (
        wire_eavesdropper(),
        "wire-eavesdropper",
        "84d5c759aa1cde08",
        "The network follows the protocol and looks in every round, knowing architecture, auxiliary.",
    ),
    (
        wire_eavesdropper(active=True, knows=()),
        "wire-eavesdropper",
        "63929365205eeceb",
        "The network deviates from the protocol in every round, knowing nothing else.",
    ),
    (
        public_final_model(),
        "public-final-model",
        "015cdafc60438b4c",
        "The public follows the protocol and looks at the final model only, knowing architecture, auxiliary.",
    ),
    (nobody(), "nobody", "ba064b6da4a6abbf", "Nobody is corrupted."),
    (
        coalition(),
        "nobody",
        "d0443eb59e928394",
        "The public follows the protocol and looks in every round, knowing architecture, auxiliary.",
    ),
    (
        coalition(server=True, n=2, wire=True, quantum_server=True, active=True, rushing=True),
        "server+wire+quantum-server+2-clients",
        "87f4ad53f32b280d",
        "The server, the network, the quantum server and 2 clients deviate from the protocol in every round, after seeing the others' messages, knowing architecture, auxiliary.",
    ),
    (
        coalition(server=True, n=1),
        "server+1-clients",
        "69219cf16c2bd7e4",
        "The server and 1 client follow the protocol and look in every round, knowing architecture, auxiliary.",
    ),
    (
        coalition(n=3, wire=True),
        "wire+3-clients",
        "3062b66e915d329a",
        "The network and 3 clients follow the protocol and look in every round, knowing architecture, auxiliary.",
    ),
    (wire_eavesdropper().withdrawn(), "nobody", "ba064b6da4a6abbf", "Nobody is corrupted."),
]


@pytest.mark.parametrize(("threat", "name", "digest", "sentence"), STORED)
def test_names_sentences_and_ids_are_as_stored(
    threat: ThreatModel, name: str, digest: str, sentence: str
) -> None:
    text = json.dumps(threat.to_config(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert (threat.name, str(threat)) == (name, sentence)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_configuration_round_trip() -> None:
    threat = coalition(server=True, n=2, wire=True, active=True, rushing=True, knows=("defenses",))
    assert threat_from_config(threat.to_config()) == threat
    assert threat_from_config({"name": "x"}) == ThreatModel(name="x", corrupted=frozenset({PUBLIC}))
    with pytest.raises(ConfigError, match="unknown key"):
        threat_from_config({"name": "x", "sever": True})


def test_withdrawn_corrupts_nobody() -> None:
    assert wire_eavesdropper().withdrawn().corrupted == frozenset()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"corrupted": frozenset({client(-1)})}, "negative index"),
        ({"corrupted": frozenset({edge(-2)})}, "negative index"),
        ({"corrupted": frozenset({SERVER}), "knows": ("all",)}, "unknown knowledge"),
    ],
)
def test_impossible_threat_models(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ThreatModel(name="x", **fields)


def test_order_of_clients_and_knowledge_does_not_matter() -> None:
    a = ThreatModel(name="x", corrupted=frozenset({client(2), client(0)}), knows=("defenses", "auxiliary"))
    b = ThreatModel(name="x", corrupted=frozenset({client(0), client(2)}), knows=("auxiliary", "defenses"))
    assert a == b
    assert hash(a) == hash(b)


def test_a_quantum_server_is_a_party_of_its_own() -> None:
    curious, malicious = honest_but_curious_quantum_server(), malicious_quantum_server()
    assert curious.corrupted == malicious.corrupted == frozenset({QUANTUM_SERVER, PUBLIC})
    assert (curious.active, malicious.active) == (False, True)
    assert str(malicious).startswith("The quantum server deviates")
    both = coalition(server=True, quantum_server=True, n=1)
    assert both.name == "server+quantum-server+1-clients"
    assert both.corrupted == frozenset({SERVER, QUANTUM_SERVER, client(0), PUBLIC})
    assert threat_from_config(both.to_config()) == both


def test_an_edge_server_is_a_party_with_an_index() -> None:
    curious = honest_but_curious_edge(index=2)
    assert curious.corrupted == frozenset({edge(2), PUBLIC})
    assert (curious.edges, curious.clients, curious.server, curious.active) == ((2,), (), False, False)
    assert str(edge(2)) == "edge:2"
    assert str(curious).startswith("1 edge server follows the protocol and looks in every round")
    several = coalition(edges=2, n=1, server=True)
    assert several.name == "server+2-edges+1-clients"
    assert str(several).startswith("The server, 2 edge servers and 1 client follow the protocol")
    assert several.corrupted == frozenset({SERVER, edge(0), edge(1), client(0), PUBLIC})
    assert several.to_config()["edges"] == [0, 1]
    assert "edges" not in coalition(server=True).to_config()
    for threat in (curious, several):
        assert threat_from_config(threat.to_config()) == threat


def test_parties_that_do_not_exist_are_refused() -> None:
    """A missing client is a mistake of the specification; a missing edge server does not fit the topology."""

    def parties(n_clients: int, n_edges: int = 0) -> set[Party]:
        return {SERVER, PUBLIC, *map(client, range(n_clients)), *map(edge, range(n_edges))}

    coalition(n=3, edges=2).check(parties(3, 2))
    with pytest.raises(ConfigError, match="got client 2; expected an index below 2"):
        coalition(n=3).check(parties(2))
    with pytest.raises(IncompatibleStack, match="topology lacks; got edge:1; expected an index below 1"):
        coalition(edges=2).check(parties(2, 1))
    with pytest.raises(IncompatibleStack, match="topology lacks; got edge:0; expected no edge"):
        honest_but_curious_edge().check(parties(2))
    with pytest.raises(IncompatibleStack, match="topology lacks; got server"):
        coalition(server=True).check(parties(2) - {SERVER})


def test_everybody_corrupted_reads_what_is_published() -> None:
    for party in (SERVER, QUANTUM_SERVER, WIRE, client(3), edge(0)):
        assert ThreatModel(name="x", corrupted=frozenset({party})).public
    assert not NOBODY.public


def test_a_drawn_pool() -> None:
    """So many different clients, the same ones for the same draw, and every client in some draw."""
    pools = [drawn_clients(n=3, among=12, draw=draw) for draw in range(40)]
    assert all(len(set(pool.clients)) == 3 and max(pool.clients) < 12 for pool in pools)
    assert drawn_clients(n=3, among=12, draw=5) == pools[5]
    assert {client for pool in pools for client in pool.clients} == set(range(12))
    assert pools[0].active
    assert pools[0].to_config()["clients"] == list(pools[0].clients)
    with pytest.raises(ConfigError, match="cannot draw so many"):
        drawn_clients(n=4, among=3)


def test_a_pool_for_each_seed() -> None:
    """Each seed has a draw of its own, the same whenever it is asked, and every client is drawn as often."""
    pool = drawn_clients(n=3, among=12, each_seed=True)
    drawn = [pool.at(seed) for seed in range(400)]
    assert all(len(one.clients) == 3 and one.drawn_among == 0 for one in drawn)
    assert pool.at(7) == drawn[7]
    assert drawn[7].at(8) == drawn[7], "who was drawn stays"
    often = Counter(index for one in drawn for index in one.clients)
    assert set(often) == set(range(12))
    # 100 of 400 expected, standard deviation 8.7
    assert max(abs(count - 100) for count in often.values()) < 44
    assert "3 clients, drawn anew for each seed, deviate" in str(pool)
    assert threat_from_config(pool.to_config()) == pool
    assert pool.to_config() != drawn_clients(n=3, among=12).to_config()
    assert corrupted_clients(n=2).at(3) == corrupted_clients(n=2)
