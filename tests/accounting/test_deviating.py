"""Rows against observers that deviate: what needs an observer to follow the protocol is not claimed against one that does
not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qflsec.accounting import LedgerRow
from qflsec.federation import Layer, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.protocols.ghz import Ghz
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import Ddp, HeBfv, HeMasked, HeThreshold, Masked, SecAgg
from qflsec.threat import ThreatModel, coalition, corrupted_clients, malicious_server, wire_eavesdropper

Maker = Callable[..., Pipeline]
LAYERS: dict[str, Layer] = {
    "masked": Masked(),
    "ghz": Ghz(shots=20, tests=4),
    "he-bfv": HeBfv(),
    "he-masked": HeMasked(),
    "he-threshold": HeThreshold(),
    "secagg": SecAgg(),
    "ddp": Ddp(),
}


@pytest.fixture(scope="module")
def results() -> dict[str, RunResult]:
    return {}


@pytest.fixture
def run(make_pipeline: Maker, results: dict[str, RunResult]) -> Callable[[str], RunResult]:
    def found(name: str) -> RunResult:
        if name not in results:
            pipeline = make_pipeline(n_qubits=2, n_clients=5, members=20, rounds=1, test=0)
            results[name] = run_batch(
                pipeline, Stack.from_layers(name, [LAYERS[name]]), [RunSpec(seed=0)], secrets="os"
            )[0]
        return results[name]

    return found


def hidden(result: RunResult, threat: ThreatModel) -> list[LedgerRow]:
    """What the layer says that it hides."""
    names = {layer.card.name for layer in result.stack.layers}
    kinds = {"secrecy", "anonymity"}
    return [row for row in result.ledger(threat) if row.layer in names and row.guarantee in kinds]


@pytest.mark.parametrize("name", ["masked", "ghz", "he-bfv", "he-threshold"])
def test_what_only_an_obedient_server_is_kept_from(run: Callable[[str], RunResult], name: str) -> None:
    """A server that sends clients different models, or hands on one ciphertext, reads one client's update."""
    result = run(name)
    assert hidden(result, coalition(server=True))
    for threat in (malicious_server(), coalition(server=True, wire=True, active=True)):
        assert not hidden(result, threat)
        rows = [row for row in result.ledger(threat) if row.statement.startswith("it deviates: ")]
        assert [row.guarantee for row in rows] == ["not covered"]
        assert [row.layer for row in rows] == [name]


@pytest.mark.parametrize("name", ["masked", "ghz", "he-threshold"])
def test_deviating_clients_alone_gain_nothing_on_a_sum(run: Callable[[str], RunResult], name: str) -> None:
    result = run(name)
    assert hidden(result, corrupted_clients(n=1, active=True))


def test_a_colluding_client_with_a_deviating_server_opens_he_masked(run: Callable[[str], RunResult]) -> None:
    result = run("he-masked")
    assert hidden(result, malicious_server()), "it holds no key, and a sum of one opens to nothing"
    assert hidden(result, coalition(server=True, n=1))
    assert not hidden(result, coalition(server=True, n=1, active=True))


def test_secagg_counts_what_a_deviating_server_can_force(run: Callable[[str], RunResult]) -> None:
    """Five clients, threshold four: an obedient server reads the sum of five; one that deviates has one of them
    dropped; with two colluders it could have two lists of survivors signed."""
    result = run("secagg")

    def anonymity(threat: ThreatModel) -> list[str]:
        return [
            row.statement.split(" or more")[0]
            for row in hidden(result, threat)
            if row.guarantee == "anonymity"
        ]

    assert anonymity(coalition(server=True)) == ["a round's sum mixes 5"]
    assert anonymity(malicious_server()) == ["a round's sum mixes 4"]
    assert anonymity(coalition(server=True, n=2, active=True)) == ["a round's sum mixes 2"]
    assert anonymity(coalition(server=True, n=3)) == ["a round's sum mixes 2"]
    assert anonymity(coalition(server=True, n=3, active=True)) == []
    assert any(
        "two lists of survivors" in row.statement
        for row in result.ledger(coalition(server=True, n=3, active=True))
        if row.guarantee == "not covered"
    )


def test_ddp_counts_one_share_of_noise_once_sums_may_open(run: Callable[[str], RunResult]) -> None:
    result = run("ddp")

    def epsilon(threat: ThreatModel) -> float:
        (row,) = [row for row in result.ledger(threat) if row.guarantee == "differential privacy"]
        return row.epsilon or 0.0

    followed, deviated = (epsilon(coalition(server=True, n=3, active=active)) for active in (False, True))
    assert epsilon(malicious_server()) == epsilon(coalition(server=True))
    assert followed == deviated, "a threshold of four less three leaves one share either way"
    two = epsilon(coalition(server=True, n=2))
    assert epsilon(malicious_server()) < two < followed
    assert epsilon(coalition(server=True, n=4)) == followed, (
        "the last one's update is read, with its own noise"
    )


@pytest.mark.parametrize("name", ["masked", "secagg", "he-masked", "he-threshold"])
def test_numbers_of_records_are_not_claimed_to_be_hidden(run: Callable[[str], RunResult], name: str) -> None:
    """Views and rows take them as public, so no row may say that a single weight is hidden."""
    for threat in (coalition(server=True), wire_eavesdropper(), coalition(server=True, n=1)):
        for row in run(name).ledger(threat):
            if row.guarantee in {"secrecy", "anonymity"}:
                assert "or weight" not in row.statement
    card = LAYERS[name].card
    assert "numbers of examples" not in card.hides
    assert any("numbers of records" in text for text in card.does_not)


def test_a_link_binds_a_network_that_deviates(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, n_clients=3, members=12, rounds=1, test=0)
    result = run_batch(pipeline, Stack.from_layers("link", [Masked(), AesGcmLink()]), [RunSpec(seed=0)])[0]
    rows = result.ledger(wire_eavesdropper(active=True))
    assert {row.guarantee for row in rows if row.layer == "aes-gcm-link"} == {"secrecy", "integrity"}
    assert not any(row.statement.startswith("it deviates") for row in rows)
