"""Tapes that are executed here against PennyLane's own execution of the same QNode."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qflsec.circuits.errors import NotAffine
from qflsec.circuits.from_pennylane import roles_of
from qflsec.circuits.roles import Roles
from qflsec.circuits.tapes import Building, tape_values

BUILDINGS: tuple[Building, ...] = ("broadcast", "vmap", "rows")
WIRES, WEIGHTS, FEATURES, ROWS = 3, 6, 3, 4
ANGLES = (
    [(gate, 1) for gate in (qml.RX, qml.RY, qml.RZ, qml.PhaseShift)]
    + [(gate, 2) for gate in (qml.CRX, qml.IsingXX, qml.IsingXY, qml.SingleExcitation, qml.MultiRZ)]
    + [(qml.MultiRZ, 3), (lambda angle, wires: qml.PauliRot(angle, "XYZ", wires), 3)]
    + [(lambda angle, wires: qml.ctrl(qml.RX, wires[:2])(angle, wires[2]), 3)]
    + [(lambda angle, wires: qml.adjoint(qml.U2(angle, 0.3, wires)), 1)]
)
CONSTANT = [(qml.Hadamard, 1), (qml.CNOT, 2), (qml.ISWAP, 2), (qml.Toffoli, 3), (qml.QFT, 3)]
CONSTANT += [(lambda wires: qml.adjoint(qml.T(wires)), 1), (lambda wires: qml.QubitUnitary(SHEAR, wires), 1)]
SHEAR = torch.linalg.matrix_exp(torch.tensor([[0.3j, 0.5], [-0.5, 0.1j]], dtype=torch.complex128))
MEASURED: list[Callable[[tuple[int, ...]], Any]] = [
    lambda w: qml.expval(qml.PauliZ(w[0]) @ qml.PauliY(w[1])),
    lambda w: qml.var(qml.PauliX(w[0])),
    lambda w: qml.var(0.3 * qml.PauliZ(w[0]) + 0.7 * qml.PauliX(w[1]) @ qml.PauliY(w[0])),
    lambda w: qml.expval(qml.Hamiltonian([0.2, -1.5], [qml.PauliX(w[2]), qml.PauliZ(w[0])])),
    lambda w: qml.expval(qml.Hermitian([[1.0, 2j], [-2j, 3.0]], w[1])),
    lambda w: qml.var(qml.Projector([1, 0], w[:2])),
    lambda w: qml.probs(wires=w[:2]),
    lambda _: qml.probs(),
    lambda w: qml.purity(wires=w[:1]),
]


def data(*, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    weights, features = (
        torch.randn(ROWS, n, generator=generator, dtype=torch.float64) for n in (WEIGHTS, FEATURES)
    )
    return weights.to(dtype).requires_grad_(), features.to(dtype).requires_grad_()


def qnode_of(function: Callable[..., Any]) -> tuple[Any, Roles]:
    node = qml.QNode(function, qml.device("default.qubit", wires=WIRES))
    return node, roles_of(node, n_weights=WEIGHTS)


def alone(node: Any, weights: Tensor, features: Tensor) -> Tensor:
    """PennyLane's values, record by record."""
    found = []
    for w, x in zip(weights, features, strict=True):
        result = node(x=x, weights=w)
        parts = result if isinstance(result, (tuple, list)) else (result,)
        found.append(torch.cat([torch.as_tensor(part).reshape(-1) for part in parts]))
    return torch.stack(found)


def slopes(values: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(values.sin().sum(), inputs, materialize_grads=True)


@st.composite
def functions(draw: st.DrawFn) -> Callable[..., Any]:
    """A QNode's function of random gates, which broadcasts over rows, and two measurements."""
    orders = list(itertools.permutations(range(WIRES)))
    gates = draw(
        st.lists(
            st.tuples(st.sampled_from([*ANGLES, *CONSTANT]), st.sampled_from(orders)), min_size=3, max_size=8
        )
    )
    measured = draw(
        st.lists(st.tuples(st.sampled_from(MEASURED), st.sampled_from(orders)), min_size=1, max_size=2)
    )
    embeds = draw(st.booleans())

    def function(x: Tensor, weights: Tensor) -> Any:
        if embeds:
            qml.AngleEmbedding(x, wires=range(WIRES))
        for k, ((gate, n), order) in enumerate(gates):
            if (gate, n) in CONSTANT:
                gate(wires=order[:n])
            else:
                angle = weights[..., k % WEIGHTS] * (1 + x[..., k % FEATURES] ** 2)
                gate(angle, wires=order[:n])
        return tuple(measure(order) for measure, order in measured)

    return function


@settings(max_examples=12, deadline=None)
@given(functions(), st.sampled_from(BUILDINGS))
def test_values_and_gradients_are_pennylanes(function: Callable[..., Any], building: Building) -> None:
    node, roles = qnode_of(function)
    weights, features = inputs = data()
    ours, theirs = tape_values(node, roles, weights, features, building), alone(node, weights, features)
    assert torch.allclose(ours, theirs, atol=1e-10)
    if theirs.requires_grad:
        for own, other in zip(slopes(ours, inputs), slopes(theirs, inputs), strict=True):
            assert torch.allclose(own, other, atol=1e-9)
    single = tuple(tensor.detach().float() for tensor in inputs)
    coarse = tape_values(node, roles, *single, building)
    assert coarse.dtype == torch.float32
    assert torch.allclose(coarse.double(), theirs, atol=1e-5)
    assert torch.equal(tape_values(node, roles, single[0][1:2], single[1][1:2], building), coarse[1:2])


def amplitudes(x: Tensor, weights: Tensor) -> Any:
    """An embedding of two wires in a register of three, and matrices of the inputs."""
    qml.AmplitudeEmbedding(x, wires=[2, 0], pad_with=0.5, normalize=True)
    qml.RX(weights[..., 0], 1)
    generator = weights[..., 1, None, None] * torch.tensor([[1.0, 2.0], [2.0, 0.0]], dtype=weights.dtype)
    qml.QubitUnitary(torch.linalg.matrix_exp(1j * generator), wires=0)
    qml.CNOT([0, 1])
    return qml.probs(wires=[1, 2])


def measuring(x: Tensor, weights: Tensor) -> Any:
    qml.RX(x[..., 0], 0)
    qml.RY(weights[..., 0], 1)
    qml.CNOT([0, 1])
    outcome = qml.measure(0, reset=True)
    qml.cond(outcome, qml.RX)(weights[..., 1], 1)
    qml.RY(weights[..., 2], 0)
    return qml.expval(qml.PauliZ(0)), qml.expval(qml.PauliZ(1))


def trained(x: Tensor, weights: Tensor) -> Any:
    """An observable whose coefficients are weights."""
    qml.AngleEmbedding(x, wires=range(WIRES))
    return qml.expval(qml.Hamiltonian(weights[:2], [qml.PauliZ(0), qml.PauliX(1)])), qml.var(
        weights[2] * qml.PauliY(2)
    )


def branching(x: Tensor, weights: Tensor) -> Any:
    """Two kinds of tapes, one of them with an observable that the other has not."""
    qml.RX(weights[0], 0)
    if x[0] > 0:
        qml.AngleEmbedding(x, wires=range(WIRES), rotation="Y")
        return qml.expval(qml.PauliZ(0))
    qml.RX(float(x[1]), 1)
    qml.CNOT([0, 1])
    return qml.expval(qml.PauliZ(0) @ qml.PauliZ(1))


@qml.transforms.split_non_commuting
@qml.qnode(qml.device("default.qubit", wires=WIRES))
def several(x: Tensor, weights: Tensor) -> Any:
    qml.AngleEmbedding(x, wires=range(WIRES))
    qml.RY(weights[..., 0], 0)
    return qml.expval(qml.PauliZ(0)), qml.expval(qml.PauliX(0))


@pytest.mark.parametrize(
    ("function", "building"),
    [
        (amplitudes, "broadcast"),
        (measuring, "broadcast"),
        (measuring, "vmap"),
        (trained, "vmap"),
        (branching, "rows"),
        (several, "broadcast"),
        (several, "rows"),
    ],
)
def test_what_circuits_of_ours_cannot_hold(function: Any, building: Building) -> None:
    node, roles = (
        (several, roles_of(several, n_weights=WEIGHTS)) if function is several else qnode_of(function)
    )
    weights, features = inputs = data()
    ours, theirs = tape_values(node, roles, weights, features, building), alone(node, weights, features)
    assert torch.allclose(ours, theirs, atol=1e-10)
    first, second = slopes(ours, inputs), slopes(theirs, inputs)
    assert all(torch.allclose(own, other, atol=1e-9) for own, other in zip(first, second, strict=True))


def test_a_single_record_is_a_batch() -> None:
    """PennyLane looks for parts of a controlled gate in entries of its matrix, which a batch of one lacks."""

    @qml.qnode(qml.device("default.qubit", wires=4))
    def controlled(x: Tensor, weights: Tensor) -> Any:
        qml.AngleEmbedding(x, wires=range(3))
        qml.ctrl(qml.RX, (0, 1, 2))(weights[..., 0], 3)
        return qml.expval(qml.PauliZ(3))

    roles, (weights, features) = roles_of(controlled, n_weights=WEIGHTS), data()
    theirs = alone(controlled, weights, features)
    for rows in (slice(1), slice(ROWS)):
        ours = tape_values(controlled, roles, weights[rows], features[rows], "broadcast")
        assert torch.allclose(ours, theirs[rows], atol=1e-10)


def test_second_derivatives() -> None:
    node, roles = qnode_of(amplitudes)
    weights, features = (tensor[:2].detach() for tensor in data())

    def values(weights: Tensor) -> Tensor:
        return tape_values(node, roles, weights, features, "broadcast").square().sum()

    ours = torch.autograd.functional.hessian(values, weights)
    theirs = torch.autograd.functional.hessian(lambda w: alone(node, w, features).square().sum(), weights)
    assert torch.allclose(ours, theirs, atol=1e-9)


@qml.qnode(qml.device("default.mixed", wires=WIRES))
def damped(x: Tensor, weights: Tensor) -> Any:
    """Channels of one and of two Kraus bits, in between and at the end; what is measured may be of any kind."""
    qml.AngleEmbedding(x, wires=range(WIRES))
    qml.AmplitudeDamping(0.3, 1)
    qml.RY(weights[..., 0], 1)
    qml.CNOT([1, 2])
    qml.RX(weights[..., 1], 0)
    qml.GeneralizedAmplitudeDamping(0.2, 0.3, 2)
    return (
        qml.expval(qml.PauliZ(0) @ qml.PauliX(1)),
        qml.probs(wires=[2, 1]),
        qml.probs(),
        qml.var(qml.PauliY(1)),
        qml.purity([0, 1]),
    )


@qml.qnode(qml.device("default.mixed", wires=2))
def fading(x: Tensor, weights: Tensor) -> Any:
    """Channels whose strengths are a record's, and a weight's."""
    qml.RX(x[..., 0] + weights[..., 0], 0)
    qml.AmplitudeDamping(torch.sigmoid(x[..., 1]), wires=0)
    qml.CNOT([0, 1])
    qml.PhaseFlip(torch.sigmoid(weights[..., 1]), wires=1)
    return qml.expval(qml.PauliZ(0)), qml.expval(qml.PauliX(0) @ qml.PauliX(1))


@qml.qnode(qml.device("default.qubit"))
def kept(x: Tensor, weights: Tensor) -> Any:
    """One outcome of a measurement in the middle, whose probability depends on the inputs."""
    qml.RX(x[..., 0] + weights[..., 0], 0)
    qml.RY(weights[..., 1], 1)
    qml.CNOT([0, 1])
    qml.measure(0, postselect=1)
    qml.RY(x[..., 1], 1)
    return qml.expval(qml.PauliZ(1)), qml.expval(qml.PauliX(1))


@pytest.mark.parametrize("building", BUILDINGS)
@pytest.mark.parametrize("function", [damped, fading, kept], ids=["damped", "fading", "kept"])
def test_channels_and_kept_outcomes(function: Any, building: Building) -> None:
    if building == "broadcast" and function is not damped:
        pytest.skip("PennyLane takes no batch of these")
    roles, inputs = roles_of(function, n_weights=WEIGHTS), data()
    ours, theirs = tape_values(function, roles, *inputs, building), alone(function, *inputs)
    assert torch.allclose(ours, theirs, atol=1e-6)  # default.mixed rounds to single precision
    # PennyLane's own slopes are no numbers where a strength is an input
    second = differences(function, inputs) if function is fading else slopes(theirs, inputs)
    first = slopes(ours, inputs)
    assert all(torch.allclose(own, other, atol=1e-5) for own, other in zip(first, second, strict=True))


def differences(node: Any, inputs: tuple[Tensor, ...], step: float = 1e-4) -> list[Tensor]:
    """The slopes of each row, which depends on its own inputs only, by differences of PennyLane's values."""
    plain, found = [one.detach() for one in inputs], []
    for place, own in enumerate(plain):
        columns = []
        for direction in step * torch.eye(own.shape[1], dtype=own.dtype):
            ends = ([*plain[:place], own + sign * direction, *plain[place + 1 :]] for sign in (1, -1))
            up, down = (alone(node, *end).sin().sum(1) for end in ends)
            columns.append((up - down) / (2 * step))
        found.append(torch.stack(columns, dim=1))
    return found


def crowded(x: Tensor, weights: Tensor) -> Any:
    qml.RX(x[..., 0] + weights[..., 0], 0)
    for _ in range(3):
        qml.AmplitudeDamping(0.1, 0)
    return qml.expval(qml.PauliZ(0))


def amplitude(x: Tensor, weights: Tensor) -> Any:
    qml.RX(x[..., 0] + weights[..., 0], 0)
    return qml.state()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (crowded, "too large an environment; got 3 qubits"),
        (amplitude, "no function of the state"),
    ],
)
def test_what_pennylane_alone_runs_is_refused(function: Any, message: str) -> None:
    node, roles = qnode_of(function)
    for building in BUILDINGS:
        with pytest.raises(NotAffine, match=message):
            tape_values(node, roles, *data(), building)
