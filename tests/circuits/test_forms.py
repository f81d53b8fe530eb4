"""Derived inputs: what people write into angles, read exactly, and right in every executor."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from torch import Tensor

from qflsec.circuits import (
    Angle,
    Circuit,
    CircuitError,
    Form,
    Gate,
    NoiseModel,
    build_circuit,
    derive,
    expectations,
    from_qnode,
    noisy_expectations,
    parameter_shift,
    pauli_z,
    refuse_derived,
    sample_expectations,
    shift_count,
    statevector,
    to_qiskit,
    to_qnode,
    weight_periods,
)
from qflsec.models.encoding import angle_features, measures_alone, swap_roles

PAIR = qml.device("default.qubit", wires=2)


def trainable_scaling(x: Any, w: Any) -> Any:
    for wire in range(2):
        qml.RX(w[wire] * x[wire], wire)
        qml.RY(w[2] * x[wire] + w[wire], wire)
    qml.CNOT([0, 1])
    return qml.expval(qml.Z(1))


def zz_map(x: Any, w: Any) -> Any:
    for wire in range(2):
        qml.Hadamard(wire)
        qml.PhaseShift(2 * x[wire], wire)
    qml.CNOT([0, 1])
    qml.PhaseShift(2 * (math.pi - x[0]) * (math.pi - x[1]), 1)
    qml.CNOT([0, 1])
    qml.RY(w[0], 0)
    qml.RX(w[1] - 0.5 * w[2], 1)
    return qml.expval(qml.Z(0) @ qml.Z(1)), qml.expval(qml.X(1))


def iqp(x: Any, w: Any) -> Any:
    qml.IQPEmbedding(x, wires=[0, 1], n_repeats=2)
    qml.BasicEntanglerLayers(w[None, :2], wires=[0, 1])
    return qml.expval(qml.Y(0))


def squashed(x: Any, w: Any) -> Any:
    for layer in range(2):
        qml.AngleEmbedding(math.pi * torch.tanh(x), wires=[0, 1])
        qml.Rot(w[0], w[1] * w[1], w[2] + w[layer], layer)
        qml.CNOT([0, 1])
    return qml.expval(qml.Z(0))


def arcs(x: Any, w: Any) -> Any:
    """Mitarai's encoding, of features in (-1, 1), with a head that divides and takes powers."""
    qml.RY(torch.arcsin(x[0]), 0)
    qml.RZ(torch.arccos(x[0] ** 2), 0)
    qml.RY(2 * torch.atan(x[1].clamp(-0.9, 0.9) / 2), 1)
    qml.CRX(torch.sigmoid(w[0]) * 3.0, [0, 1])
    qml.IsingXX(w[1].abs() * w[2] ** 2, [0, 1])
    return qml.expval(qml.Z(1))


def linear(x: Any, w: Any) -> Any:
    """A linear layer in front of the angles, with a mean."""
    matrix = torch.stack([w[:2], w[1:]])
    angles = matrix @ x
    qml.RX(angles[0] + x.mean(), 0)
    qml.RY(angles.sum() / 3, 1)
    qml.CNOT([0, 1])
    return qml.expval(qml.Z(0) @ qml.X(1))


def written(x: Any, w: Any) -> Any:
    """Angles that are written into a tensor, a norm, shares and a rectifier."""
    angles = torch.zeros(2, dtype=x.dtype)
    for wire in range(2):
        angles[wire] = x[wire] * w[wire]
    angles[1] += w[2]
    qml.AngleEmbedding(angles, wires=[0, 1])
    qml.AngleEmbedding(math.pi * x / torch.linalg.norm(x), wires=[0, 1], rotation="Y")
    qml.AngleEmbedding(torch.softmax(w, 0)[:2], wires=[0, 1])
    qml.RX(torch.relu(x[0] + w[0]) + torch.log1p(x[1] ** 2), 0)
    return qml.expval(qml.Z(0) @ qml.Z(1))


CASES = [trainable_scaling, zz_map, iqp, squashed, arcs, linear, written]


@cache
def read(function: Callable[..., Any]) -> Circuit:
    return from_qnode(qml.QNode(function, PAIR), n_weights=3, n_features=2)


def inputs(*batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(3, dtype=torch.float64, generator=generator)
    return weights, 2 * torch.rand(*batch, 2, dtype=torch.float64, generator=generator) - 1


def stacked(result: Any) -> Tensor:
    return torch.stack(result) if isinstance(result, (tuple, list)) else result[None]


@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
def test_values_and_gradients_are_pennylanes(function: Callable[..., Any]) -> None:
    """In a batch, in weights and in features, and once more through the circuit that is written back."""
    circuit = read(function)
    assert circuit.derived
    weights, features = (tensor.requires_grad_() for tensor in inputs(3))
    ours = expectations(circuit, weights, features, dtype=torch.complex128)
    node = qml.QNode(function, PAIR)
    theirs = torch.stack([stacked(node(row, weights)) for row in features])
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    slopes = torch.linspace(0.5, 2.0, ours.numel(), dtype=torch.float64).reshape(ours.shape)
    mine = torch.autograd.grad((ours * slopes).sum(), (weights, features))
    own = torch.autograd.grad((theirs * slopes).sum(), (weights, features))
    torch.testing.assert_close(mine, own, atol=1e-11, rtol=0)
    back = torch.stack([stacked(to_qnode(circuit)(row, weights)) for row in features])
    torch.testing.assert_close(back, theirs, atol=1e-12, rtol=0)
    again = from_qnode(to_qnode(circuit), n_weights=3, n_features=2)
    assert len(again.derived) == len(circuit.derived)


@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
def test_parameter_shift_goes_through_the_chain_rule(function: Callable[..., Any]) -> None:
    circuit = read(function)
    weights, features = inputs(4)
    for of, source in (("weight", weights), ("feature", features)):
        leaf = source.expand(4, -1).clone().requires_grad_()
        pair = (leaf, features) if of == "weight" else (weights, leaf)
        values = expectations(circuit, *pair, dtype=torch.complex128)
        exact = torch.stack(
            [torch.autograd.grad(v.sum(), leaf, retain_graph=True)[0] for v in values.unbind(-1)], -2
        )
        shifted = parameter_shift(circuit, weights, features, dtype=torch.complex128, of=of)  # type: ignore[arg-type]
        torch.testing.assert_close(shifted, exact, atol=1e-11, rtol=0)


def test_shifts_are_counted_where_weights_meet_features() -> None:
    """Two shifts for each of the four products, and none for the angles of features alone."""
    assert shift_count(read(trainable_scaling)) == 8
    circuit = read(zz_map)
    assert shift_count(circuit) == 4  # RY(w_0), RX(w_1 - w_2 / 2)


@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
def test_other_executors_agree(function: Callable[..., Any]) -> None:
    circuit = read(function)
    weights, features = inputs(2)
    exact = expectations(circuit, weights, features, dtype=torch.complex128)
    noiseless = noisy_expectations(circuit, weights, features, noise=None, dtype=torch.complex128)
    torch.testing.assert_close(noiseless, exact, atol=1e-12, rtol=0)
    generator = torch.Generator().manual_seed(1)
    drawn = sample_expectations(circuit, weights, features, shots=40_000, generator=generator)
    assert float((drawn - exact).abs().max()) < 5 / 200  # five standard errors
    from qiskit.quantum_info import Statevector

    theirs = np.asarray(Statevector(to_qiskit(circuit, weights, features[0])).reverse_qargs())
    ours = statevector(circuit, weights, features[0], dtype=torch.complex128).numpy()
    assert abs(abs(np.vdot(theirs, ours)) - 1) < 1e-12


def test_noise_after_the_encoding_comes_after_the_last_product() -> None:
    """A product of a weight and a feature encodes the feature; what follows does not."""

    @qml.qnode(qml.device("default.mixed", wires=1))
    def node(x: Any, w: Any) -> Any:
        qml.RX(w[0] * x[0], 0)
        qml.AmplitudeDamping(0.3, 0)
        qml.RY(w[1], 0)
        return qml.expval(qml.Z(0))

    gates = (Gate("RX", (0,), (Angle.derived(0),)), Gate("RY", (0,), (Angle.weight(1),)))
    form = Form.read("weight", 0).times(Form.read("feature", 0))
    circuit = Circuit(
        n_qubits=1, gates=gates, observables=(pauli_z(0, 1),), n_weights=2, n_features=1, derived=(form,)
    )
    weights, x = torch.tensor([0.7, 0.4]).double(), torch.tensor([1.3]).double()
    noise = NoiseModel(kind="amplitude-damping", p=0.3, where="encoded")
    ours = noisy_expectations(circuit, weights, x, noise=noise, dtype=torch.complex128)
    assert float(ours) == pytest.approx(float(node(x, weights)), abs=1e-12)


def test_a_row_does_not_depend_on_the_others() -> None:
    """Bit for bit, in single precision: the batch of a run is the run alone."""
    for function in CASES:
        circuit = read(function)
        generator = torch.Generator().manual_seed(3)
        weights = torch.randn(5, 1, 3, generator=generator)
        features = 2 * torch.rand(5, 7, 2, generator=generator) - 1
        whole = expectations(circuit, weights, features)
        for row in range(5):
            alone = expectations(circuit, weights[row : row + 1], features[row : row + 1])
            assert torch.equal(whole[row : row + 1], alone), function.__name__
            for few in (1, 4):
                part = derive(circuit, weights[row : row + 1], features[row : row + 1, :few])
                full = derive(circuit, weights, features)
                assert torch.equal(full[0][row : row + 1], part[0])
                assert torch.equal(full[1][row : row + 1, :few], part[1])


def test_periods_hold_for_sums_and_not_for_products() -> None:
    assert weight_periods(read(zz_map)) == (2 * math.pi, 2 * math.pi, None)
    assert weight_periods(read(trainable_scaling)) == (None, None, None)
    assert weight_periods(read(squashed)) == (2 * math.pi, None, 2 * math.pi)
    assert not angle_features(read(squashed))
    assert not angle_features(read(zz_map))
    circuit = read(zz_map)
    swapped = swap_roles(circuit)
    assert swap_roles(swapped) == replace(circuit, weight_shape=None)
    weights, features = inputs()
    values = [
        expectations(c, w, x, dtype=torch.complex128)
        for c, w, x in ((circuit, weights, features), (swapped, features, weights))
    ]
    torch.testing.assert_close(*values, atol=1e-12, rtol=0)


def test_a_period_that_is_promised_is_one() -> None:
    for function in CASES:
        circuit = read(function)
        weights, features = inputs()
        before = expectations(circuit, weights, features, dtype=torch.complex128)
        for index, period in enumerate(weight_periods(circuit)):
            if period is not None:
                moved = weights.clone()
                moved[index] += period
                after = expectations(circuit, moved, features, dtype=torch.complex128)
                torch.testing.assert_close(after, before, atol=1e-12, rtol=0)


def test_forms_have_one_order_and_survive_json_and_pickle() -> None:
    x, y, w = Form.read("feature", 0), Form.read("feature", 1), Form.read("weight", 2)
    left = x.plus(y).times(x.plus(y, -1.0))
    assert left == x.times(x).plus(y.times(y), -1.0)
    assert w.times(x).times(y) == y.times(w).times(x)
    assert Form.constant(0.25).under("arcsin") == Form.constant(math.asin(0.25))
    for function in CASES:
        circuit = read(function)
        again = Circuit.from_config(json.loads(json.dumps(circuit.to_config(), allow_nan=False)))
        assert again == circuit
        assert again.digest() == circuit.digest()
        assert pickle.loads(pickle.dumps(circuit)) == circuit
        other = replace(circuit, derived=(circuit.derived[0].plus(x, 0.1), *circuit.derived[1:]))
        assert other.digest() != circuit.digest()


def test_a_circuit_without_forms_keeps_its_digest() -> None:
    assert "derived" not in build_circuit(n_qubits=2).to_config()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: circuit_of(Form.constant(1.0)), "depends on nothing"),
        (lambda: circuit_of(Form.read("feature", 3)), "reads a feature that is not there; got index 3"),
        (lambda: circuit_of(Form.read("weight", 0), index=1), "reads a derived that is not there"),
        (lambda: Form.read("weight", 0).under("gamma"), "no such function"),
        (lambda: Form.read("weight", 0).under("power"), "no such function"),
        (lambda: Form(((math.inf, ()),)), "not finite"),
        (lambda: refuse_derived(read(squashed), "a pattern"), "a pattern needs angles that are affine"),
    ],
)
def test_what_is_no_form_is_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(CircuitError, match=words):
        make()


def circuit_of(form: Form, *, index: int = 0) -> Circuit:
    gate = Gate("RX", (0,), (Angle.derived(index),))
    return Circuit(
        n_qubits=1, gates=(gate,), observables=(pauli_z(0, 1),), n_weights=1, n_features=1, derived=(form,)
    )


def test_who_needs_affine_angles_says_so() -> None:
    """Patterns, homomorphic delegation and the distance of records; sums of weights do not move a record."""
    from qflsec.protocols.blind.compiler import compile_patterns
    from qflsec.protocols.blind.errors import BlindError
    from qflsec.protocols.blind.homomorphic.steps import padded_circuit
    from qflsec.protocols.qdp.encoders import record_distance
    from qflsec.protocols.qdp.errors import QdpError

    circuit = read(trainable_scaling)
    with pytest.raises(BlindError, match="a measurement pattern needs angles"):
        compile_patterns(circuit)
    with pytest.raises(BlindError, match="homomorphic delegation needs angles"):
        padded_circuit(circuit)
    with pytest.raises(QdpError, match="distance of encoded records needs angles"):
        record_distance(circuit, 1.0)
    sums = circuit_of(Form.read("weight", 0).plus(Form.read("weight", 0).under("sin")))
    assert record_distance(sums, 1.0).tau == 0.0


def test_a_product_passes_the_feature_into_the_gradient() -> None:
    """So that no account of measured values may cover it."""
    assert measures_alone(read(zz_map))
    assert not measures_alone(read(trainable_scaling))
    w, x = Form.read("weight", 0), Form.read("feature", 0)
    for form, alone in (
        (w.plus(x, 0.5), True),
        (w.under("sin").plus(x.under("tanh")), True),
        (w.plus(x).times(w), False),
        (w.plus(x).under("tanh"), False),
    ):
        assert measures_alone(circuit_of(form)) is alone, form
