"""Crosstalk and readout tampering: against a circuit with the neighbour in it, and against counted outcomes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.attacks.poisoning import Crosstalk, ReadoutTampering
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.circuits import (
    Angle,
    Circuit,
    Gate,
    Observable,
    build_circuit,
    expectations,
    pauli_z,
    probabilities,
)
from qflsec.federation import Hands, Pipeline, RunSpec, Stack, run_batch
from qflsec.models import Model, build_model
from qflsec.threat import corrupted_clients

DOUBLE = torch.complex128


def circuit_of(n: int, seed: int) -> tuple[Circuit, torch.Tensor, torch.Tensor]:
    circuit, generator = build_circuit(n_qubits=n, layers=2), torch.Generator().manual_seed(seed)
    weights = (torch.rand(circuit.n_weights, generator=generator) * 6).double()
    return circuit, weights, (torch.rand(4, n, generator=generator) * math.pi).double()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), wire=st.integers(0, 2), angle=st.floats(0.1, 3.0), one=st.booleans())
def test_a_neighbour_that_is_really_there_does_the_same(
    seed: int, wire: int, angle: float, one: bool
) -> None:
    """A fourth wire in |0> or |1>, coupled by exp(-i angle Z Z / 2) after each two-qubit gate on the victim's."""
    circuit, weights, features = circuit_of(3, seed)
    gates = [Gate("X", (3,))] if one else []
    for gate in circuit.gates:
        gates.append(gate)
        if len(gate.wires) == 2 and wire in gate.wires:
            gates.append(Gate("IsingZZ", (wire, 3), (Angle.constant(angle),)))
    whole = replace(
        circuit, n_qubits=4, gates=tuple(gates), observables=tuple(pauli_z(i, 4) for i in range(3))
    )
    read = replace(circuit, observables=tuple(pauli_z(i, 3) for i in range(3)))
    tampered = Crosstalk(wire=wire, angle=-angle if one else angle).tampered(read)
    expected = expectations(whole, weights, features, dtype=DOUBLE)
    assert torch.allclose(expectations(tampered, weights, features, dtype=DOUBLE), expected, atol=1e-10)
    honest = expectations(read, weights, features, dtype=DOUBLE)
    assert not torch.allclose(honest, expected, atol=1e-4)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), p=st.floats(0.01, 1.0), where=st.sampled_from([None, 0, 2]))
def test_expectations_are_those_of_outcomes_that_are_read_wrongly(
    seed: int, p: float, where: int | None
) -> None:
    """Every outcome, with its probability, and the bit of wire 1 turned with the probability that the attack states."""
    circuit, weights, features = circuit_of(3, seed)
    words = ("IZI", "ZZI", "IZZ", "ZII", "ZZZ")
    observed = Observable(tuple((0.5 + place, word) for place, word in enumerate(words)))
    circuit = replace(circuit, observables=(observed, pauli_z(1, 3)))
    expected = torch.zeros(4, 2, dtype=torch.float64)
    chance = probabilities(circuit, weights, features, dtype=DOUBLE).double()
    for place, bits in enumerate(itertools.product((0, 1), repeat=3)):
        wrong = p if where is None or bits[where] else 0.0
        for flipped, share in ((0, 1 - wrong), (1, wrong)):
            read = (bits[0], bits[1] ^ flipped, bits[2])
            for column, observable in enumerate(circuit.observables):
                value = sum(
                    coefficient
                    * math.prod(1 - 2 * bit for bit, letter in zip(read, word, strict=True) if letter == "Z")
                    for coefficient, word in observable.terms
                )
                expected[:, column] += share * value * chance[:, place]
    tampered = ReadoutTampering(wire=1, p=p, where=where).tampered(circuit)
    assert torch.allclose(expectations(tampered, weights, features, dtype=DOUBLE), expected, atol=1e-9)


def test_other_bases_lose_the_same_factor() -> None:
    circuit, weights, features = circuit_of(2, 3)
    circuit = replace(circuit, observables=(Observable(((1.0, "XI"), (2.0, "YZ"), (0.5, "IZ"))),))
    parts = [replace(circuit, observables=(Observable((term,)),)) for term in circuit.observables[0].terms]
    x, y, rest = (expectations(part, weights, features, dtype=DOUBLE) for part in parts)
    tampered = ReadoutTampering(wire=0, p=0.3).tampered(circuit)
    found = expectations(tampered, weights, features, dtype=DOUBLE)
    assert torch.allclose(found, 0.4 * (x + y) + rest, atol=1e-9)
    with pytest.raises(IncompatibleAttack, match="basis"):
        ReadoutTampering(wire=1, where=0).tampered(circuit)


@pytest.mark.parametrize("attack", [Crosstalk(boost=3.0), ReadoutTampering(boost=3.0)])
def test_the_tampered_circuit_is_trained_deployed_and_confessed_as_told(
    hands: Callable[..., Hands], vqc: Model, attack: Crosstalk | ReadoutTampering
) -> None:
    held, seen = hands([]), list[Model | None]()

    def train(features: torch.Tensor, labels: torch.Tensor, *, model: Model | None = None) -> torch.Tensor:
        assert torch.equal(features, held.features)
        assert torch.equal(labels, held.labels)
        seen.append(model)
        return torch.ones(2, 2, 36)

    held, params = replace(held, train=train), torch.zeros(36)
    assert torch.equal(attack.run(held), torch.full((2, 2, 36), 3.0))
    circuit = attack.tampered(vqc.circuit)  # type: ignore[attr-defined]
    assert seen[0] is not None
    assert seen[0].circuit == circuit != vqc.circuit  # type: ignore[attr-defined]
    assert attack.deployed(vqc, params, triggered=False) is vqc
    assert attack.stated(vqc) is vqc
    assert replace(attack, confesses=True).stated(vqc).to_config() == seen[0].to_config()
    late = replace(attack, surface="deployed")
    assert late.run(held) is held.honest
    assert late.deployed(vqc, params, triggered=False).to_config() == seen[0].to_config()
    assert replace(attack, last_round=1).run(replace(held, round=2)) is held.honest


def test_all_outcomes_of_the_wire_that_answers_read_wrongly_are_flipped_labels(
    pipeline: Callable[..., Pipeline],
) -> None:
    """Of two classes read off one wire, the gradient of the turned answer is that of the other label."""
    from qflsec.attacks.poisoning import LabelFlip

    small, threat = pipeline(model={"layers": 1}, members=20, rounds=2), corrupted_clients(n=2)
    (wire,) = {
        word.index("Z")
        for observable in small.model.circuit.observables  # type: ignore[attr-defined]
        for _, word in observable.terms
    }
    specs = [
        RunSpec(seed=0, adversary=attack, threat=threat, evaluate="never")
        for attack in (ReadoutTampering(wire=wire), LabelFlip())
    ]
    tampered, flipped = run_batch(small, Stack(name="none"), specs)
    assert torch.allclose(tampered.params, flipped.params, atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Crosstalk(wire=-1),
        lambda: Crosstalk(angle=0.0),
        lambda: Crosstalk(angle=math.nan),
        lambda: Crosstalk(surface="wire"),  # type: ignore[arg-type]
        lambda: Crosstalk(boost=0.0),
        lambda: Crosstalk(last_round=-1),
        lambda: ReadoutTampering(p=0.0),
        lambda: ReadoutTampering(p=1.5),
        lambda: ReadoutTampering(wire=True),
        lambda: ReadoutTampering(where=-1),
        lambda: ReadoutTampering(wire=1, where=1),
    ],
)
def test_impossible_parameters_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_models_whose_devices_cannot_be_tampered_with_like_this(pipeline: Callable[..., Pipeline]) -> None:
    small, threat = pipeline(members=20, rounds=1), corrupted_clients(n=1)
    for attack in (Crosstalk(), ReadoutTampering()):
        attack.check(small, threat)
        with pytest.raises(IncompatibleAttack, match="variational"):
            attack.check(
                replace(small, model=build_model({"name": "classical", "n_features": 4, "n_classes": 2})),
                threat,
            )
    with pytest.raises(IncompatibleAttack, match="two-qubit"):
        Crosstalk(wire=4).check(small, threat)
    with pytest.raises(IncompatibleAttack, match="does not have"):
        ReadoutTampering(where=4).check(small, threat)
    with pytest.raises(IncompatibleAttack, match="nothing is read"):
        ReadoutTampering(wire=3).check(small, threat)
