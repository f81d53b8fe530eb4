"""Threat models as values and sentences."""

from __future__ import annotations

import pytest

from qflsec.base import ConfigError
from qflsec.threat import (
    NOBODY,
    PUBLIC,
    QUANTUM_SERVER,
    SERVER,
    ThreatModel,
    client,
    coalition,
    corrupted_clients,
    honest_but_curious_quantum_server,
    honest_but_curious_server,
    malicious_quantum_server,
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


def test_configuration_round_trip_and_every_field_in_it() -> None:
    threat = coalition(server=True, n=2, wire=True, active=True, rushing=True, knows=("defenses",))
    assert threat_from_config(threat.to_config()) == threat
    assert set(threat.to_config()) == set(ThreatModel.__dataclass_fields__)
    with pytest.raises(ConfigError, match="unknown key"):
        threat_from_config({"name": "x", "sever": True})


def test_withdrawn_corrupts_nobody() -> None:
    assert wire_eavesdropper().withdrawn().parties == frozenset()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"clients": (1, 1)}, "distinct"),
        ({"clients": (-1,)}, "not negative"),
        ({"knows": ("all",)}, "unknown knowledge"),
    ],
)
def test_impossible_threat_models(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ThreatModel(name="x", **fields)  # type: ignore[arg-type]


def test_order_of_clients_and_knowledge_does_not_matter() -> None:
    a = ThreatModel(name="x", clients=(2, 0), knows=("defenses", "auxiliary"))
    b = ThreatModel(name="x", clients=(0, 2), knows=("auxiliary", "defenses"))
    assert a == b
    assert hash(a) == hash(b)


def test_a_quantum_server_is_a_party_of_its_own() -> None:
    curious, malicious = honest_but_curious_quantum_server(), malicious_quantum_server()
    assert curious.parties == malicious.parties == frozenset({QUANTUM_SERVER, PUBLIC})
    assert (curious.active, malicious.active) == (False, True)
    assert str(malicious).startswith("The quantum server deviates")
    both = coalition(server=True, quantum_server=True, n=1)
    assert both.name == "server+quantum-server+1-clients"
    assert both.parties == frozenset({SERVER, QUANTUM_SERVER, client(0), PUBLIC})
    assert threat_from_config(both.to_config()) == both
