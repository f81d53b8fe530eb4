# ruff: noqa: ARG001, ARG005 - QNodes have two arguments, whether or not they use both
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch

from qflsec.circuits import (
    Angle,
    Circuit,
    CircuitError,
    NotAffine,
    Observable,
    build_circuit,
    expectations,
    from_qnode,
    noisy_expectations,
    pauli_z,
    sample_expectations,
    to_qnode,
    weight_periods,
)
from qflsec.circuits.build import Ansatz, Encoder
from qflsec.circuits.from_pennylane import read_qnode
from qflsec.circuits.roles import read_roles


@pytest.mark.parametrize("ansatz", ["strongly-entangling", "basic-entangler", "ry-cz"])
@pytest.mark.parametrize("encoder", ["angle", "amplitude", "reuploading", "amplitude-angle"])
def test_round_trip_is_exact(encoder: Encoder, ansatz: Ansatz) -> None:
    observables = (pauli_z(1, 3), Observable(((0.5, "XYI"), (2.0, "IIZ"))))
    circuit = build_circuit(n_qubits=3, encoder=encoder, ansatz=ansatz, layers=2, observables=observables)
    again = from_qnode(to_qnode(circuit), n_weights=circuit.n_weights, n_features=circuit.n_features)
    assert again == circuit
    assert again.digest() == circuit.digest()


@pytest.mark.parametrize("seed", range(4))
def test_round_trip_of_random_circuits(random_circuit: Callable[..., Circuit], seed: int) -> None:
    circuit = random_circuit(seed, 4, 25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = from_qnode(to_qnode(circuit), n_weights=5, n_features=3)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(5, dtype=torch.float64, generator=generator)
    features = torch.randn(7, 3, dtype=torch.float64, generator=generator)
    values = [expectations(c, weights, features, dtype=torch.complex128) for c in (circuit, again)]
    torch.testing.assert_close(*values, atol=1e-12, rtol=0)
    assert weight_periods(again) == weight_periods(circuit)


def test_a_users_qnode_with_shaped_weights_and_other_wires() -> None:
    @qml.qnode(qml.device("default.qubit", wires=["a", "b", "c", "spare"]))
    def node(weights: Any, inputs: Any) -> Any:
        qml.AngleEmbedding(0.5 * inputs + 0.1, wires=["a", "b", "c"], rotation="Y")
        qml.StronglyEntanglingLayers(weights, wires=["a", "b", "c"])
        qml.adjoint(qml.S)("b")
        qml.Toffoli(wires=["a", "b", "c"])
        qml.ctrl(qml.RX, control="c")(weights[0, 0, 0], wires="a")
        return [qml.expval(qml.Z("a") @ qml.X("c")), qml.expval(2 * qml.Y("b") - qml.Z("a"))]

    circuit = from_qnode(node, n_weights=18, n_features=3, weight_shape=(2, 3, 3))
    assert circuit.weight_shape == (2, 3, 3)
    assert circuit.n_qubits == 3
    assert weight_periods(circuit)[0] == pytest.approx(4 * torch.pi)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(18, dtype=torch.float64, generator=generator)
    features = torch.randn(3, dtype=torch.float64, generator=generator)
    theirs = torch.stack(node(weights.reshape(2, 3, 3), features))
    ours = expectations(circuit, weights, features, dtype=torch.complex128)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    back = torch.stack(to_qnode(circuit)(features, weights.reshape(2, 3, 3)))
    torch.testing.assert_close(back, theirs, atol=1e-12, rtol=0)


def test_devices_with_shots_and_adjoint_are_read_exactly() -> None:
    circuit = build_circuit(n_qubits=2, layers=1)
    for node in (
        to_qnode(circuit, shots=10),
        to_qnode(circuit, qml.device("lightning.qubit", wires=2), diff_method="adjoint"),
    ):
        assert from_qnode(node, n_weights=6, n_features=2) == circuit


def rounded(x: Any, w: Any) -> None:
    qml.RX(torch.round(w[0]) * x[0], 0)


def branching_angle(x: Any, w: Any) -> None:
    """One gate, whose angle is another function where the feature is negative."""
    qml.RX(w[0] if x[0] > 0 else w[1], 0)


def tabled(x: Any, w: Any) -> None:
    """The angle's way from the feature leads through a plain number, and a library that takes no other."""
    qml.RX(np.interp(float(x[0]), [-9.0, 9.0], [-9.0, 9.0]) * w[0], 0)


def measured(x: Any, w: Any) -> None:
    qml.RX(w[0], 0)
    qml.cond(qml.measure(0), qml.X)(1)


def noisy(x: Any, w: Any) -> None:
    qml.RX(w[0], 0)
    qml.DepolarizingChannel(0.1, 0)


def branching(x: Any, w: Any) -> None:
    (qml.RX if x[0] > 0 else qml.RY)(w[0], 0)


def unitary(x: Any, w: Any) -> None:
    qml.QubitUnitary(torch.matrix_exp(1j * w[0].sin() * torch.tensor([[0.0, 1.0], [1.0, 0.0]])), wires=0)


def late_amplitudes(x: Any, w: Any) -> None:
    qml.X(0)
    qml.AmplitudeEmbedding(x, wires=[0, 1], normalize=True, pad_with=0.0)


def squared_amplitudes(x: Any, w: Any) -> None:
    qml.AmplitudeEmbedding(x**2, wires=[0, 1], normalize=True)
    qml.RY(w[0], 1)


def batched(x: Any, w: Any) -> None:
    qml.RX(x, 0)


def z0() -> Any:
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize(
    ("body", "measure", "words"),
    [
        (rounded, z0, "not made of known functions of the inputs; got the operation round"),
        (branching_angle, z0, "is not the function of the inputs that it was read as"),
        (tabled, z0, "is not the function of the inputs that it was read as"),
        (unitary, z0, "not made of known functions of the inputs; got "),
        (measured, z0, "measures in the middle"),
        (noisy, z0, "noise channel"),
        (branching, z0, "gates of the QNode depend on its inputs"),
        (late_amplitudes, z0, "amplitude embedding must come first"),
        (squared_amplitudes, lambda: qml.expval(qml.Z(0) @ qml.X(1)), "does not give its values"),
        (batched, z0, "broadcasts over a batch"),
        (lambda x, w: qml.RX(w[0], 0), lambda: qml.probs(op=qml.X(0)), "neither expectation values nor prob"),
        (lambda x, w: qml.RX(w[0], 0), lambda: qml.var(qml.Z(0)), "neither expectation values nor prob"),
        (lambda x, w: qml.RX(w[0], 0), lambda: qml.probs(wires=range(7)), "probabilities of too many wires"),
        (
            lambda x, w: qml.RX(w[0], 0),
            lambda: qml.expval(qml.Projector([0] * 7, wires=range(7))),
            "no sum of Pauli words has too many wires",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(body: Any, measure: Any, words: str) -> None:
    @qml.qnode(qml.device("default.mixed" if body is noisy else "default.qubit"))
    def node(x: Any, w: Any) -> Any:
        body(x, w)
        return measure()

    with pytest.raises(NotAffine, match=words) as caught:
        from_qnode(node, n_weights=2, n_features=4)
    assert "\n" not in str(caught.value)


def test_wrong_sizes_are_the_users_mistake() -> None:
    node = to_qnode(build_circuit(n_qubits=2, layers=1))
    with pytest.raises(CircuitError, match="the QNode fails") as caught:
        from_qnode(node, n_weights=3, n_features=2)
    assert not isinstance(caught.value, NotAffine)
    with pytest.raises(CircuitError, match="shape does not fit"):
        from_qnode(node, n_weights=6, n_features=2, weight_shape=(4,))
    with pytest.raises(NotAffine, match="not a QNode"):
        from_qnode(len, n_weights=6, n_features=2)


def roles_case(signature: str) -> Any:
    """A QNode of the given arguments, which it does not use."""
    space: dict[str, Any] = {"qml": qml}
    exec(f"def f({signature}):\n    return qml.expval(qml.Z(0))", space)
    return qml.QNode(space["f"], qml.device("default.qubit", wires=1))


def test_roles_are_told_by_name_never_by_position() -> None:
    """``circuit(weights, feat)`` of equal sizes: exchanged roles would give other values without an error."""

    @qml.qnode(qml.device("default.qubit", wires=2))
    def node(weights: Any, feat: Any) -> Any:
        qml.AngleEmbedding(feat, wires=[0, 1])
        qml.RY(weights[0], 0)
        qml.CNOT([0, 1])
        qml.RZ(weights[1], 1)
        qml.RX(weights[0], 1)
        return qml.expval(qml.Z(1))

    with pytest.raises(CircuitError, match='features_argument = "feat"') as caught:
        from_qnode(node, n_weights=2, n_features=2)
    assert not isinstance(caught.value, NotAffine)
    circuit = from_qnode(node, n_weights=2, n_features=2, features_argument="feat")
    weights, features = torch.tensor([0.3, 1.1]), torch.tensor([0.8, -0.4])
    theirs = node(weights.double(), features.double()).float()
    assert float(expectations(circuit, weights, features)) == pytest.approx(float(theirs), abs=1e-6)
    swapped = float(node(features.double(), weights.double()))
    assert abs(swapped - float(theirs)) > 0.05


@pytest.mark.parametrize(
    ("signature", "options", "words"),
    [
        ("a, b", {"n_weights": 2}, "which argument of the QNode takes the features is not said.*got .a, b."),
        ("theta, phi", {"n_weights": 2}, "takes the features is not said"),
        ("x, data, w", {"n_weights": 2}, "several of the QNode's arguments could be the features"),
        ("weights, z", {"n_weights": 2, "features_argument": "q"}, "no such features_argument; got q"),
        ("x, w, bias", {"n_weights": 2}, "weight_shapes = { w = .*, bias = "),
        ("x, w", {"weight_shapes": {"v": (2,)}}, "got v; expected w"),
        ("x, w", {}, "how many weights the QNode takes is not said"),
        (
            "x, w",
            {"weight_shape": (2,), "weight_shapes": {"w": (2,)}},
            "either weight_shape or weight_shapes",
        ),
        ("x, *rest", {"n_weights": 2}, "arguments without a name"),
    ],
)
def test_a_role_that_nobody_names_is_refused(signature: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(CircuitError, match=words) as caught:
        from_qnode(roles_case(signature), n_features=2, **options)
    assert not isinstance(caught.value, NotAffine)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["weights", "params", "theta", "phi", "var", "anything"])
@pytest.mark.parametrize("features", ["inputs", "features", "x", "data", "sample", "X"])
def test_names_that_need_no_word(name: str, features: str) -> None:
    """The features' name decides; what is left takes weights, unless it has a default."""
    for signature in (f"{name}, {features}", f"{features}, {name}, wires=1"):
        roles = read_roles(roles_case(signature).func, (2, 3))
        assert (roles.features, roles.weights) == (features, ((name, (2, 3)),))


def test_several_weight_arguments_are_blocks_one_after_the_other() -> None:
    @qml.qnode(qml.device("default.qubit", wires=2))
    def node(bias: Any, x: Any, weights: Any) -> Any:
        qml.AngleEmbedding(x, wires=[0, 1])
        qml.StronglyEntanglingLayers(weights, wires=[0, 1])
        qml.RY(bias, 0)
        return qml.expval(qml.Z(0))

    shapes = {"weights": (1, 2, 3), "bias": ()}
    circuit = from_qnode(node, n_features=2, weight_shapes=shapes)
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(7, dtype=torch.float64, generator=generator)
    x = torch.randn(2, dtype=torch.float64, generator=generator)
    ours = expectations(circuit, flat, x, dtype=torch.complex128)
    assert float(ours) == pytest.approx(float(node(flat[0], x, flat[1:].reshape(1, 2, 3))), abs=1e-12)


def test_amplitudes_that_are_not_normalised_by_the_embedding() -> None:
    @qml.qnode(qml.device("default.qubit", wires=2))
    def node(features: Any, weights: Any) -> Any:
        qml.AmplitudeEmbedding(features, wires=[0, 1])
        qml.RY(weights[0], 0)
        qml.RX(features[1], 0)
        return qml.expval(qml.Z(0))

    circuit = from_qnode(node, n_weights=1, n_features=4)
    assert [gate.name for gate in circuit.gates] == ["AmplitudeEmbedding", "RY", "RX"]
    assert circuit.gates[2].angles == (Angle.feature(1),)


def test_qnode_broadcasts_and_draws_shots() -> None:
    """200,000 shots within 5 standard errors of each of 3 values: false alarms below 2e-6."""
    circuit = build_circuit(n_qubits=2, layers=1)
    generator = torch.Generator().manual_seed(0)
    weights, features = torch.randn(6, generator=generator), torch.randn(3, 2, generator=generator)
    exact = expectations(circuit, weights, features)[:, 0]
    torch.testing.assert_close(to_qnode(circuit)(features, weights).float(), exact, atol=1e-6, rtol=0)
    device = qml.device("default.qubit", wires=2, seed=1)
    drawn = to_qnode(circuit, device, shots=200_000)(features, weights)
    assert float((drawn - exact).abs().max()) < 5 / 200_000**0.5
    assert not torch.equal(drawn.float(), exact)


@pytest.mark.parametrize("seed", range(2))
def test_probabilities_projectors_and_matrices_are_sums_of_words(seed: int) -> None:
    """Values and gradients, with a spare wire that only ``probs()`` measures, and shots drawn together."""

    @qml.qnode(qml.device("default.qubit", wires=["a", "spare", "b", "c"]))
    def node(x: Any, w: Any) -> Any:
        qml.AngleEmbedding(x, wires=["a", "b", "c"])
        qml.StronglyEntanglingLayers(w, wires=["c", "a", "b"])
        half = 0.5 * qml.Projector([1], wires="c") + qml.Z("a")
        matrix = torch.tensor([[1.0, 0.5 - 1j], [0.5 + 1j, -2.0]])
        return (
            qml.probs(),
            qml.probs(wires=["c", "a"]),
            qml.expval(qml.Projector([0, 1], wires=["b", "a"])),
            qml.expval(half),
            qml.expval(qml.Hermitian(matrix, wires="b")),
        )

    circuit = from_qnode(node, n_weights=9, n_features=3, weight_shape=(1, 3, 3))
    assert circuit.n_qubits == 4
    assert len(circuit.observables) == 16 + 4 + 3
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(9, dtype=torch.float64, generator=generator).requires_grad_()
    features = torch.randn(3, dtype=torch.float64, generator=generator)
    theirs = torch.cat([value.reshape(-1) for value in node(features, weights.reshape(1, 3, 3))])
    ours = expectations(circuit, weights, features, dtype=torch.complex128)
    torch.testing.assert_close(ours, theirs.double(), atol=1e-12, rtol=0)
    slopes = torch.linspace(-1, 1, 23, dtype=torch.float64)
    gradients = [torch.autograd.grad((v * slopes).sum(), weights)[0] for v in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=1e-11, rtol=0)
    noiseless = noisy_expectations(circuit, weights, features, noise=None, dtype=torch.complex128)
    torch.testing.assert_close(noiseless, ours, atol=1e-12, rtol=0)
    drawn = sample_expectations(circuit, weights, features, shots=1000, generator=generator)
    assert float(drawn[:16].sum()) == pytest.approx(1.0, abs=1e-6)
    assert bool((drawn[:16] > -1e-6).all())
    assert float((drawn - ours.detach()).abs().max()) < 10 * 3 / 1000**0.5


def layered(x: Any, w: Any) -> None:
    for wire in range(2):
        qml.RX(x[wire], wire)
    qml.CNOT([0, 1])
    for wire in range(2):
        qml.RY(w[wire], wire)
    qml.CZ([0, 1])


def noisy_qnode(place: str, channel: Callable[[int], Any]) -> Any:
    """Channels where a noise model of this place puts them; after the first gate alone for "odd"."""

    @qml.qnode(qml.device("default.mixed", wires=2))
    def node(x: Any, w: Any) -> Any:
        with qml.queuing.AnnotatedQueue() as queue:
            layered(x, w)
        for number, gate in enumerate(qml.tape.QuantumScript.from_queue(queue).operations):
            qml.apply(gate)
            after = {
                "every-gate": gate.wires,
                "two-qubit-gates": gate.wires if len(gate.wires) > 1 else (),
                "encoded": (0, 1) if number == 1 else (),
                "measurement": (0, 1) if number == 5 else (),
                "odd": (1,) if number == 0 else (),
            }[place]
            for wire in after:
                channel(wire)
        return qml.expval(qml.Z(0)), qml.probs(wires=1)

    return node


CHANNELS: dict[str, Callable[[int], Any]] = {
    "local-depolarizing": lambda wire: qml.DepolarizingChannel(0.12, wires=wire),
    "amplitude-damping": lambda wire: qml.AmplitudeDamping(0.2, wires=wire),
    "generalized-amplitude-damping": lambda wire: qml.GeneralizedAmplitudeDamping(0.2, 0.3, wires=wire),
    "phase-damping": lambda wire: qml.PhaseDamping(0.2, wires=wire),
    "bit-flip": lambda wire: qml.BitFlip(0.1, wires=wire),
    "phase-flip": lambda wire: qml.PhaseFlip(0.1, wires=wire),
}


@pytest.mark.parametrize(
    ("place", "kind"),
    [(place, "amplitude-damping") for place in ("every-gate", "two-qubit-gates", "encoded")]
    + [("measurement", kind) for kind in CHANNELS],
)
def test_channels_are_read_as_noise(kind: str, place: str) -> None:
    """Whatever place is found, the values under it are the QNode's, and where several fit, one is taken."""
    node = noisy_qnode(place, CHANNELS[kind])
    found = read_qnode(node, read_roles(node.func, (2,)), 2)
    circuit, noise = found.circuit, found.noise
    assert noise is not None
    assert noise.kind == kind
    weights, features = torch.tensor([0.4, -1.2]).double(), torch.tensor([1.1, 0.6]).double()
    ours = noisy_expectations(circuit, weights, features, noise=noise, dtype=torch.complex128)
    theirs = torch.cat([value.reshape(-1) for value in node(features, weights)])
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    with pytest.raises(NotAffine, match="the QNode has a noise channel; got NoiseModel"):
        from_qnode(node, n_weights=2, n_features=2)


@pytest.mark.parametrize(
    ("place", "channel", "words"),
    [
        ("odd", CHANNELS["bit-flip"], "not where a noise model puts them"),
        ("every-gate", lambda wire: qml.BitFlip(0.1 * (1 + wire), wires=wire), "channels differ"),
        ("measurement", lambda wire: qml.ResetError(0.1, 0.2, wires=wire), "no noise model has the channel"),
        (
            "measurement",
            lambda wire: qml.DepolarizingChannel(0.9, wires=wire),
            "out of a noise model's range",
        ),
    ],
)
def test_channels_that_are_no_noise_model_are_refused(place: str, channel: Any, words: str) -> None:
    node = noisy_qnode(place, channel)
    with pytest.raises(NotAffine, match=words) as caught:
        read_qnode(node, read_roles(node.func, (2,)), 2)
    assert "\n" not in str(caught.value)


@qml.transform
def doubled(tape: Any) -> Any:
    """What is measured, times two: no tape tells."""
    return [tape], lambda results: tuple(2 * value for value in results[0])


def plain(x: Any, weights: Any) -> Any:
    qml.RX(x[0], 0)
    qml.RY(weights[0], 1)
    return qml.expval(qml.Z(0)), qml.expval(qml.X(0))


@pytest.mark.parametrize("threshold", [-2.5, 2.5, 5.5])
@pytest.mark.parametrize("which", ["x", "weights"])
def test_a_branch_beyond_usual_values_is_found(which: str, threshold: float) -> None:
    """Features reach pi and weights 2 pi: there a gate more stands where the reading had none."""

    def branching(x: Any, weights: Any) -> Any:
        if (x if which == "x" else weights)[0] > threshold:
            qml.X(1)
        return plain(x, weights)

    with pytest.raises(NotAffine, match="gates of the QNode depend on its inputs"):
        from_qnode(qml.QNode(branching, qml.device("default.qubit", wires=2)), n_weights=1, n_features=1)


def test_a_function_without_values_far_out_is_read() -> None:
    def inside(x: Any, weights: Any) -> Any:
        return plain(torch.arccos(x / 4), weights)

    found = from_qnode(qml.QNode(inside, qml.device("default.qubit", wires=2)), n_weights=1, n_features=1)
    assert len(found.derived) == 1


def test_what_transforms_do_to_results_is_no_circuit() -> None:
    qnode = qml.QNode(plain, qml.device("default.qubit", wires=2))
    assert len(from_qnode(qnode, n_weights=1, n_features=1).observables) == 2
    with pytest.raises(NotAffine, match="does not return what its circuit measures"):
        from_qnode(doubled(qnode), n_weights=1, n_features=1)
    with pytest.raises(NotAffine, match="several circuits"):
        from_qnode(qml.transforms.split_non_commuting(qnode), n_weights=1, n_features=1)
