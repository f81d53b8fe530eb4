"""Signed circuits: who says the truth of a tampered one is dropped, and who lies is not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from qflsec.attacks.poisoning import GateInsertion
from qflsec.base import AttackCard, IncompatibleStack, SeededSecrets
from qflsec.circuits import Circuit, Gate, build_circuit
from qflsec.data import DataSpec
from qflsec.defenses.backdoor import CircuitAttestation, CircuitSigner
from qflsec.defenses.robust import TrimmedMean
from qflsec.federation import FederationConfig, Identity, Pipeline, RunSpec, Stack, run_batch
from qflsec.models import Model, build_model
from qflsec.protocols.links import OneTimePadLink
from qflsec.protocols.secagg import Masked
from qflsec.threat import SERVER, client, corrupted_clients

CIRCUIT = build_circuit(n_qubits=2)
MODEL = torch.rand(6)
ATTESTED = Stack.from_layers("attested", [CircuitAttestation()])


def pipeline(n_clients: int = 5) -> Pipeline:
    return Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2, members=30, nonmembers=0, auxiliary=10, test=20),
        model=build_model({"name": "vqc", "n_qubits": 2, "layers": 1}),
        federation=FederationConfig(n_clients=n_clients, rounds=2, learning_rate=0.5, declared_corrupted=1),
    )


def signers() -> dict[str, CircuitSigner]:
    parties = (client(0), client(1), SERVER)
    found = Identity.of_all(parties, {party: SeededSecrets(0, str(party)) for party in parties})
    return {str(party): CircuitSigner(identity=found[party], session=b"s") for party in parties}


def tampered(circuit: Circuit) -> Circuit:
    return replace(circuit, gates=(*circuit.gates, Gate("X", (0,))))


def test_a_statement_is_of_one_author_circuit_model_round_and_session() -> None:
    held = signers()
    server, said = held["server"], held["client:0"].sign(CIRCUIT, MODEL, 3)
    assert server.refusal(client(0), said, CIRCUIT, MODEL, 3) is None
    wrong = {
        "another author": (client(1), said, CIRCUIT, MODEL, 3),
        "another circuit": (client(0), said, tampered(CIRCUIT), MODEL, 3),
        "another model": (client(0), said, CIRCUIT, MODEL + 1, 3),
        "another round": (client(0), said, CIRCUIT, MODEL, 2),
        "a flipped bit": (client(0), bytes([said[0] ^ 1]) + said[1:], CIRCUIT, MODEL, 3),
        "nothing": (client(0), None, CIRCUIT, MODEL, 3),
        "too short": (client(0), b"", CIRCUIT, MODEL, 3),
    }
    for name, given in wrong.items():
        assert server.refusal(*given) is not None, name
    other = replace(server, session=b"t")
    assert other.refusal(client(0), said, CIRCUIT, MODEL, 3) is not None


def test_who_signs_what_it_trained_is_dropped_and_who_lies_is_not() -> None:
    """The liar's run is the undefended one to the last bit: a signature says who spoke, and not what ran."""
    threat = corrupted_clients(n=1)
    truth, lie = GateInsertion(kind="pauli", confesses=True), GateInsertion(kind="pauli")
    specs = [RunSpec(seed=0, adversary=attack, threat=threat, evaluate="never") for attack in (truth, lie)]
    caught, fooled = run_batch(pipeline(), ATTESTED, specs)
    undefended = run_batch(pipeline(), Stack(name="none"), specs[1:])[0]
    honest = run_batch(pipeline(), ATTESTED, [RunSpec(seed=0, evaluate="never")])[0]
    assert [(drop.round, drop.client) for drop in caught.dropped] == [(0, 0), (1, 0)]
    assert "signed another circuit" in caught.dropped[0].reason
    assert not fooled.dropped
    assert torch.equal(fooled.params, undefended.params)
    assert not torch.equal(caught.params, undefended.params)
    assert not honest.dropped
    assert honest.costs["circuit_statements"] == 10


@pytest.mark.parametrize("layer", [Masked(), TrimmedMean()])
def test_a_dropped_client_is_out_of_the_sum_and_out_of_f(layer: Masked | TrimmedMean) -> None:
    """Under masks the others seal without it; a rule gets four rows and an f less by one."""
    attack = GateInsertion(kind="pauli", confesses=True, boost=50.0)
    spec = RunSpec(seed=0, adversary=attack, threat=corrupted_clients(n=1), evaluate="never")
    stack = Stack.from_layers("both", [CircuitAttestation(), layer])
    mean = run_batch(pipeline(), ATTESTED, [spec])[0]
    found = run_batch(pipeline(), stack, [spec], secrets="seeded")[0]
    assert found.outcome == "completed"
    assert [drop.client for drop in found.dropped] == [0, 0]
    if isinstance(layer, Masked):
        assert torch.allclose(found.params, mean.params, atol=1e-3)


@dataclass(frozen=True, kw_only=True)
class Faulty(GateInsertion):
    """An attack whose statement is a mistake of its code."""

    card = AttackCard(**{**vars(GateInsertion.card), "name": "faulty"})

    def stated(self, model: Model) -> Model:
        raise ZeroDivisionError


def test_what_is_refused() -> None:
    classical = build_model({"name": "classical", "n_features": 2, "n_classes": 2})
    with pytest.raises(IncompatibleStack, match="circuit"):
        ATTESTED.check(replace(pipeline(), model=classical))
    spec = RunSpec(seed=0, adversary=Faulty(), threat=corrupted_clients(n=1), evaluate="never")
    assert run_batch(pipeline(), ATTESTED, [spec])[0].outcome.startswith("failed: ")


def test_links_under_quantum_keys_plan_for_statements() -> None:
    """The key that a run takes is known beforehand, statements and all: 96 bytes more for each client and round."""
    plain, signed = (
        Stack.from_layers("links", [*layers, OneTimePadLink()]) for layers in ((), (CircuitAttestation(),))
    )
    made = pipeline()
    signed.check(made)
    (less,), (more,) = (list(stack.carried(made.workload).values()) for stack in (plain, signed))
    assert less is not None
    assert more is not None
    assert more.n_bytes - less.n_bytes == 96 * made.federation.rounds


def test_nobody_is_left() -> None:
    """All clients confess: rounds of nobody, and the model stays."""
    attack = GateInsertion(kind="pauli", confesses=True)
    spec = RunSpec(seed=0, adversary=attack, threat=corrupted_clients(n=3), evaluate="never")
    run = run_batch(pipeline(3), ATTESTED, [spec])[0]
    assert torch.equal(run.params, run.initial)
    masked = run_batch(pipeline(3), Stack.from_layers("m", [CircuitAttestation(), Masked()]), [spec])[0]
    assert masked.outcome.startswith("lost: ")
