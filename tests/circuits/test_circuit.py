from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from qflsec.base import QflsecError
from qflsec.circuits import Angle, Circuit, CircuitError, Gate, Observable, build_circuit, pauli_z


def small(**changes: Any) -> Circuit:
    fields: dict[str, Any] = {
        "n_qubits": 2,
        "gates": (
            Gate("RX", (0,), (Angle.feature(0),)),
            Gate("CRY", (0, 1), (Angle.weight(0, scale=2.0, offset=0.1),)),
            Gate("RZ", (1,), (Angle.constant(0.4),)),
        ),
        "observables": (Observable(((1.0, "ZI"), (0.5, "XY"))),),
        "n_weights": 2,
        "n_features": 2,
    }
    return Circuit(**(fields | changes))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Angle("other", 0), "unknown kind of angle"),  # type: ignore[arg-type]
        (lambda: Angle("weight", -1), "bad angle index"),
        (lambda: Angle("weight", 0, float("nan")), "scale is not finite"),
        (lambda: Angle("weight", 0, 1.0, float("inf")), "offset is not finite"),
        (lambda: Angle("constant", 1), "no index"),
        (lambda: Gate("RW", (0,)), "unknown gate"),
        (lambda: Gate("RX", (0,)), "0 angles"),
        (lambda: Gate("CNOT", (0,)), "1 wires"),
        (lambda: Gate("CNOT", (0, 0)), "twice"),
        (lambda: Gate("X", (-1,)), "bad wires"),
        (lambda: Gate("RX", (0,), (0.3,)), "expected Angle objects"),  # type: ignore[arg-type]
        (lambda: Gate("AmplitudeEmbedding", (0,), (Angle.weight(0),)), "takes feature angles"),
        (lambda: Observable(()), "without terms"),
        (lambda: Observable(((1.0, "ZQ"),)), "bad Pauli word"),
        (lambda: Observable(((float("nan"), "Z"),)), "not finite"),
        (lambda: pauli_z(2, 2), "no such wire"),
        (lambda: small(n_qubits=0), "bad n_qubits"),
        (lambda: small(n_weights=0), "reads a weight that is not there"),
        (lambda: small(n_features=0), "reads a feature that is not there"),
        (lambda: small(observables=()), "without observables"),
        (lambda: small(observables=(pauli_z(0, 3),)), "another length"),
        (lambda: small(gates=(Gate("X", (2,)),)), "off the register"),
        (lambda: small(weight_shape=(3,)), "shape does not fit"),
        (
            lambda: small(gates=(Gate("X", (0,)), Gate("AmplitudeEmbedding", (0, 1), (Angle.feature(0),)))),
            "must be the first gate",
        ),
        (
            lambda: small(gates=(Gate("AmplitudeEmbedding", (1, 0), (Angle.feature(0),)),)),
            "all wires in order",
        ),
        (
            lambda: small(gates=(Gate("AmplitudeEmbedding", (0, 1), (Angle.feature(0),) * 5),)),
            "too many amplitudes",
        ),
        (lambda: Circuit.from_config({"n_qubits": 1}), "not a circuit's configuration"),
        (lambda: Circuit.from_config({**small().to_config(), "gates": 3}), "not a circuit's configuration"),
    ],
)
def test_mistakes_are_refused_on_one_line(make: Any, words: str) -> None:
    with pytest.raises(CircuitError, match=words) as caught:
        make()
    assert isinstance(caught.value, QflsecError)
    assert "\n" not in str(caught.value)


def test_config_round_trip_through_json() -> None:
    circuit = small(weight_shape=(2, 1))
    again = Circuit.from_config(json.loads(json.dumps(circuit.to_config())))
    assert again == circuit
    assert hash(again) == hash(circuit)
    assert again.digest() == circuit.digest()


def test_digest_changes_with_every_field() -> None:
    circuit = small()
    gates, word = circuit.gates, circuit.observables[0]
    changed_angle = Gate("CRY", (0, 1), (Angle.weight(0, scale=2.0, offset=0.1000001),))
    variants = [
        circuit,
        replace(circuit, n_weights=3),
        replace(circuit, n_features=3),
        replace(circuit, weight_shape=(2,)),
        replace(circuit, gates=gates[:-1]),
        replace(circuit, gates=gates[::-1]),
        replace(circuit, gates=(gates[0], changed_angle, gates[2])),
        replace(circuit, gates=(gates[0], replace(gates[1], name="CRX"), gates[2])),
        replace(circuit, gates=(gates[0], replace(gates[1], wires=(1, 0)), gates[2])),
        replace(circuit, gates=(replace(gates[0], angles=(Angle.feature(1),)), *gates[1:])),
        replace(circuit, gates=(replace(gates[0], angles=(Angle.weight(0),)), *gates[1:])),
        replace(circuit, gates=(replace(gates[0], angles=(Angle.feature(0, scale=-1.0),)), *gates[1:])),
        replace(circuit, observables=(Observable(((1.0, "ZI"), (0.5, "XX"))),)),
        replace(circuit, observables=(Observable(((1.0, "ZI"), (0.25, "XY"))),)),
        replace(circuit, observables=(word, word)),
        small(n_qubits=3, observables=(Observable(((1.0, "ZII"), (0.5, "XYI"))),)),
    ]
    assert len({variant.digest() for variant in variants}) == len(variants)
    assert len(set(variants)) == len(variants)


def test_digest_is_the_same_in_another_process() -> None:
    """And hashes, which differ between processes, do not travel with a pickle."""
    circuit = small()
    code = "import pickle, sys; c = pickle.load(sys.stdin.buffer); d = {c: 1}; print(c.digest(), d[pickle.loads(pickle.dumps(c))])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(circuit),
        capture_output=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.decode().split() == [circuit.digest(), "1"]


def test_negative_zero_is_zero() -> None:
    assert Angle.weight(0, offset=-0.0) == Angle.weight(0)
    assert str(Angle.weight(0, offset=-0.0).offset) == "0.0"


def test_reads_features() -> None:
    assert small().reads_features
    assert not small(gates=(Gate("X", (0,)),)).reads_features
    assert build_circuit(n_qubits=2, encoder="amplitude").reads_features
