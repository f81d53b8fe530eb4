from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qflsec.circuits import (
    Angle,
    Circuit,
    CircuitError,
    Gate,
    Observable,
    build_circuit,
    expectations,
    pauli_z,
    probabilities,
    statevector,
    to_qnode,
)
from qflsec.circuits.build import Ansatz, Encoder
from qflsec.circuits.gates import GATES

ENCODERS: tuple[Encoder, ...] = ("angle", "amplitude", "reuploading")
ANSAETZE: tuple[Ansatz, ...] = ("strongly-entangling", "basic-entangler", "ry-cz")
P, F = 4, 3
Oracle = Callable[[Circuit, Tensor, Tensor], Tensor]


@st.composite
def circuits(draw: st.DrawFn, max_qubits: int, max_gates: int) -> Circuit:
    n = draw(st.integers(1, max_qubits))
    names = [name for name, kind in GATES.items() if kind.n_wires <= n]
    factors = st.sampled_from([1.0, -1.0, 0.5, 2.0])
    offsets = st.sampled_from([0.0, 0.3, -1.7])
    angles = st.one_of(
        st.builds(Angle.constant, st.floats(-7, 7)),
        st.builds(
            lambda i, s, o: Angle.weight(i, scale=s, offset=o), st.integers(0, P - 1), factors, offsets
        ),
        st.builds(
            lambda i, s, o: Angle.feature(i, scale=s, offset=o), st.integers(0, F - 1), factors, offsets
        ),
    )

    @st.composite
    def gates(pick: st.DrawFn) -> Gate:
        name = pick(st.sampled_from(names))
        wires = pick(st.permutations(range(n)))[: GATES[name].n_wires]
        return Gate(name, tuple(wires), tuple(pick(angles) for _ in range(GATES[name].n_angles)))

    words = st.text("IXYZ", min_size=n, max_size=n)
    terms = st.lists(st.tuples(st.floats(-1, 1), words), min_size=1, max_size=3)
    observables = draw(st.lists(terms.map(lambda t: Observable(tuple(t))), min_size=1, max_size=3))
    embed = draw(st.booleans()) and 2**n >= F
    first = (
        [Gate("AmplitudeEmbedding", tuple(range(n)), tuple(Angle.feature(k) for k in range(F)))]
        if embed
        else []
    )
    rest = draw(st.lists(gates(), max_size=max_gates))
    return Circuit(
        n_qubits=n, gates=(*first, *rest), observables=tuple(observables), n_weights=P, n_features=F
    )


def inputs(circuit: Circuit, *batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = circuit.n_weights, circuit.n_features
    weights, features = (
        torch.randn(*batch, size, dtype=torch.float64, generator=generator) for size in sizes
    )
    return weights, features


@pytest.mark.parametrize("tiny", [6e-7, 1e-5, 1e-9])
def test_a_tiny_rotation_about_another_axis_is_not_dropped(pennylane_values: Oracle, tiny: float) -> None:
    """RZ(tiny) before RY is no rotation about Y: a relative tolerance on its matrix took it for the identity."""
    constant = Angle.constant
    gates = (
        Gate("RX", (0,), (constant(1.0),)),
        Gate("CNOT", (0, 1), ()),
        Gate("Rot", (0,), (constant(tiny), Angle.weight(0), constant(0.0))),
    )
    observable = Observable(((1.0, "XX"),))
    circuit = Circuit(n_qubits=2, gates=gates, observables=(observable,), n_weights=1, n_features=1)
    weights, features = torch.tensor([0.5], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    exact = pennylane_values(circuit, weights, features)
    found = expectations(circuit, weights, features, dtype=torch.complex128)
    torch.testing.assert_close(found, exact, atol=1e-14, rtol=0)


@settings(deadline=None, max_examples=60)
@given(circuit=circuits(8, 30), seed=st.integers(0, 1000))
def test_random_circuits_have_pennylanes_values(
    pennylane_values: Oracle, circuit: Circuit, seed: int
) -> None:
    weights, features = inputs(circuit, seed=seed)
    exact = pennylane_values(circuit, weights, features)
    double = expectations(circuit, weights, features, dtype=torch.complex128)
    single = expectations(circuit, weights, features)
    assert single.dtype == torch.float32
    torch.testing.assert_close(double, exact, atol=1e-12, rtol=0)
    torch.testing.assert_close(single.double(), exact, atol=4e-6, rtol=0)  # up to 3 terms, 90 angles
    both = expectations(circuit, weights.expand(2, -1).clone(), features, dtype=torch.complex128)
    torch.testing.assert_close(both, double.expand(2, -1), atol=1e-13, rtol=0)  # a unitary for each row


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("ansatz", ANSAETZE)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_and_ansatz(pennylane_values: Oracle, encoder: Encoder, ansatz: Ansatz, n: int) -> None:
    """Values to 1e-6 and 1e-12, for samples that share weights and for samples with weights of their own."""
    observables = [pauli_z(0, n), Observable(((0.5, "X" * n), (-1.0, "Y" + "I" * (n - 1))))]
    circuit = build_circuit(n_qubits=n, encoder=encoder, ansatz=ansatz, layers=2, observables=observables)
    weights, features = inputs(circuit, 2)
    shared = torch.stack([pennylane_values(circuit, weights[0], x) for x in features])
    for dtype, tolerance in ((torch.complex64, 1e-6), (torch.complex128, 1e-12)):
        ours = expectations(circuit, weights[0], features, dtype=dtype)
        torch.testing.assert_close(ours.double(), shared, atol=tolerance, rtol=0)
        ours = expectations(circuit, weights[:1].expand(2, -1), features, dtype=dtype)
        torch.testing.assert_close(ours.double(), shared, atol=tolerance, rtol=0)


def derivatives(
    values: Callable[[Tensor, Tensor], Tensor], weights: Tensor, features: Tensor
) -> list[Tensor]:
    """All first derivatives and the second ones of a sum of squares, in weights and features."""
    weights, features = weights.clone().requires_grad_(), features.clone().requires_grad_()
    total = (values(weights, features) + 0.3).square().sum()
    first = torch.autograd.grad(total, (weights, features), create_graph=True)
    direction = torch.linspace(-1, 1, weights.numel() + features.numel(), dtype=weights.dtype)
    along = (torch.cat([g.flatten() for g in first]) * direction).sum()
    second = torch.autograd.grad(along, (weights, features))
    return [*(g.detach() for g in first), *second]


def assert_relative(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    for own, exact in zip(ours, theirs, strict=True):
        assert own.shape == exact.shape
        assert float((own - exact).abs().max()) <= tolerance * max(1.0, float(exact.abs().max()))


def dependent(circuit: Circuit) -> Circuit:
    """The circuit with a gate for every input, so that all derivatives exist."""
    n = circuit.n_qubits
    gates = [Gate("RY", (k % n,), (Angle.weight(k),)) for k in range(P)]
    gates += [Gate("RX", (k % n,), (Angle.feature(k, scale=0.7),)) for k in range(F)]
    return Circuit(
        n_qubits=n, gates=(*circuit.gates, *gates), observables=circuit.observables, n_weights=P, n_features=F
    )


@settings(deadline=None, max_examples=20)
@given(circuit=circuits(4, 10).map(dependent), seed=st.integers(0, 1000))
def test_first_and_second_derivatives_of_random_circuits(
    pennylane_values: Oracle, circuit: Circuit, seed: int
) -> None:
    weights, features = inputs(circuit, seed=seed)
    theirs = derivatives(lambda w, x: pennylane_values(circuit, w, x), weights, features)
    ours = derivatives(lambda w, x: expectations(circuit, w, x, dtype=torch.complex128), weights, features)
    assert_relative(ours, theirs, 1e-10)
    own = derivatives(lambda w, x: expectations(circuit, w, x), weights.float(), features.float())
    assert_relative(
        [g.double() for g in own], theirs, 1e-4
    )  # up to 5 uses of one input with scale 2, squared


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("ansatz", ANSAETZE)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_first_and_second_derivatives(
    pennylane_values: Oracle, encoder: Encoder, ansatz: Ansatz, n: int
) -> None:
    """To 1e-5 and 1e-10, with shared weights; with weights for each sample they are the same sums."""
    circuit = build_circuit(n_qubits=n, encoder=encoder, ansatz=ansatz, layers=2, n_features=min(n, 3))
    weights, features = inputs(circuit, 2)
    weights = weights[0]
    theirs = derivatives(
        lambda w, x: torch.stack([pennylane_values(circuit, w, row) for row in x]), weights, features
    )
    for expand in (False, True):
        for dtype, tolerance in ((torch.complex64, 1e-5), (torch.complex128, 1e-10)):
            ours = derivatives(
                lambda w, x: expectations(circuit, w.expand(2, -1) if expand else w, x, dtype=dtype),  # noqa: B023
                weights.to(dtype.to_real()),
                features.to(dtype.to_real()),
            )
            assert_relative([g.double() for g in ours], theirs, tolerance)


def test_leading_axes_broadcast_as_in_numpy(random_circuit: Callable[..., Circuit]) -> None:
    """Values and gradients for every way in which axes can be shared, against one row at a time."""
    circuit = random_circuit(1, 3, 20)
    shapes = [((), ()), ((), (4,)), ((4,), ()), ((2, 1), (3,)), ((2, 1), (2, 3)), ((1, 3, 1), (2, 3, 4)), ((2, 1, 4), (3, 1)), ((2, 3, 1), (1, 1, 4))]  # fmt: skip
    for w_batch, f_batch in shapes:
        weights = inputs(circuit, *w_batch)[0].requires_grad_()
        features = inputs(circuit, *f_batch)[1].requires_grad_()
        ours = expectations(circuit, weights, features, dtype=torch.complex128)
        batch = torch.broadcast_shapes(w_batch, f_batch)
        assert ours.shape == (*batch, 2)
        rows_w, rows_f = (
            weights.expand(*batch, -1).reshape(-1, P + 1),
            features.expand(*batch, -1).reshape(-1, F),
        )
        single = [
            expectations(circuit, w, x, dtype=torch.complex128) for w, x in zip(rows_w, rows_f, strict=True)
        ]
        expected = torch.stack(single).reshape(ours.shape)
        torch.testing.assert_close(ours, expected, atol=1e-13, rtol=0)
        factor = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).reshape(ours.shape)
        both = [torch.autograd.grad((v * factor).sum(), (weights, features)) for v in (ours, expected)]
        for own, exact in zip(*both, strict=True):
            torch.testing.assert_close(own, exact, atol=1e-12, rtol=0)


LANES = [
    (4, "angle"),
    (6, "angle"),
    (8, "angle"),
    (4, "reuploading"),
    (4, "amplitude"),
    (3, "angle"),
    (1, "angle"),
]


@pytest.mark.parametrize(("clients", "samples"), [(1, 1), (1, 10), (3, 10)])
@pytest.mark.parametrize(("n", "encoder"), LANES)
def test_a_lane_does_not_see_the_others(n: int, encoder: Encoder, clients: int, samples: int) -> None:
    """Bit for bit: values and both gradients of each lane alone and in batches of 1, 2, 3, 7 and 16."""
    circuit = build_circuit(n_qubits=n, encoder=encoder, layers=3)
    generator = torch.Generator().manual_seed(n)
    all_weights = torch.randn(16, clients, 1, circuit.n_weights, generator=generator)
    all_features = torch.randn(16, clients, samples, circuit.n_features, generator=generator)

    def run(first: int, count: int, per_sample: bool) -> tuple[Tensor, ...]:
        weights = all_weights[first : first + count].clone()
        if per_sample:
            weights = weights.expand(-1, -1, samples, -1).clone()
        features = all_features[first : first + count].clone().requires_grad_()
        values = expectations(circuit, weights.requires_grad_(), features)[..., 0]
        return (
            values.detach(),
            *torch.autograd.grad(values.square().sum(), (weights, features)),
        )

    for per_sample in (False, True):
        alone = [run(lane, 1, per_sample) for lane in range(16)]
        for lanes in (2, 3, 7, 16):
            for lane, own in enumerate(alone[:lanes]):
                batch = run(0, lanes, per_sample) if lane == 0 else batch  # noqa: F821
                for part, whole in zip(own, batch, strict=True):
                    assert torch.equal(part[0], whole[lane]), (
                        f"lane {lane} of {lanes}, per sample {per_sample}"
                    )


def test_probabilities_and_state(random_circuit: Callable[..., Circuit]) -> None:
    for seed in range(10):
        circuit = random_circuit(seed, 1 + seed % 5, 20)
        weights, features = inputs(circuit, 3)
        table = probabilities(circuit, weights[0], features, dtype=torch.complex128)
        torch.testing.assert_close(table.sum(-1), torch.ones(3, dtype=torch.float64), atol=1e-12, rtol=0)
        single = probabilities(circuit, weights[0], features)
        torch.testing.assert_close(single.sum(-1), torch.ones(3), atol=1e-5, rtol=0)
        state = statevector(circuit, weights[0], features, dtype=torch.complex128)
        assert state.dtype == torch.complex128
        torch.testing.assert_close(state.abs().square(), table, atol=1e-12, rtol=0)
        z = expectations(
            Circuit(**{**vars_of(circuit), "observables": (pauli_z(0, circuit.n_qubits),)}),
            weights[0],
            features,
            dtype=torch.complex128,
        )
        half = table.shape[-1] // 2
        torch.testing.assert_close(z[:, 0], (table[:, :half] - table[:, half:]).sum(-1), atol=1e-12, rtol=0)


def vars_of(circuit: Circuit) -> dict[str, object]:
    names = ("n_qubits", "gates", "observables", "n_weights", "n_features")
    return {name: getattr(circuit, name) for name in names}


def test_wire_0_is_the_most_significant_bit() -> None:
    circuit = Circuit(
        n_qubits=3, gates=(Gate("X", (0,)),), observables=(pauli_z(0, 3),), n_weights=0, n_features=0
    )
    table = probabilities(circuit, torch.zeros(0), torch.zeros(0))
    assert table.tolist() == [0, 0, 0, 0, 1, 0, 0, 0]


def test_an_encoding_behind_a_constant_gate_that_was_already_applied() -> None:
    """RY(x) X|0>, where the CNOT elsewhere makes the kernel apply the X before it meets the RY."""
    gates = (
        Gate("X", (1,)),
        Gate("RX", (0,), (Angle.weight(0),)),
        Gate("CNOT", (0, 2)),
        Gate("RY", (1,), (Angle.feature(0),)),
    )
    circuit = Circuit(
        n_qubits=3, gates=gates, observables=(Observable(((1.0, "IXI"),)),), n_weights=1, n_features=1
    )
    features = torch.tensor([[0.4], [1.3]])
    torch.testing.assert_close(expectations(circuit, torch.zeros(1), features), -features.sin())


def test_zero_amplitudes_stay_finite() -> None:
    """Padded rows of a batch are zero; their gradients must not poison a masked loss."""
    circuit = build_circuit(n_qubits=2, encoder="amplitude")
    weights, features = torch.zeros(6, requires_grad=True), torch.zeros(2, 4, requires_grad=True)
    values = expectations(circuit, weights, features)
    assert values[:, 0].tolist() == pytest.approx([1.0, 1.0])
    for gradient in torch.autograd.grad(values.sum(), (weights, features)):
        assert bool(gradient.isfinite().all())


def test_amplitudes_are_padded_and_normalised() -> None:
    circuit = build_circuit(n_qubits=2, encoder="amplitude", n_features=3, ansatz="ry-cz")
    table = probabilities(circuit, torch.zeros(2), torch.tensor([1.0, -2.0, 2.0]))
    torch.testing.assert_close(table, torch.tensor([1.0, 4.0, 4.0, 0.0]) / 9)


def test_torch_func_transforms() -> None:
    """vmap of grad gives per-sample gradients, jacrev of grad the Hessian, also as the first use of a circuit."""
    circuit = build_circuit(n_qubits=3, layers=2, encoder="reuploading", rotation="Y")
    weights, features = inputs(circuit, 5)
    weights = weights[0]

    def value(w: Tensor, x: Tensor) -> Tensor:
        return expectations(circuit, w, x, dtype=torch.complex128)[0]

    per_sample = torch.func.vmap(torch.func.grad(value), (None, 0))(weights, features)
    rows = weights.expand(5, -1).clone().requires_grad_()
    (expected,) = torch.autograd.grad(
        expectations(circuit, rows, features, dtype=torch.complex128).sum(), rows
    )
    torch.testing.assert_close(per_sample, expected, atol=1e-13, rtol=0)
    hessian = torch.func.jacrev(torch.func.grad(value))(weights, features[0])
    torch.testing.assert_close(hessian, hessian.T, atol=1e-12, rtol=0)
    step = 1e-5 * torch.eye(len(weights), dtype=torch.float64)
    slopes = torch.func.vmap(torch.func.grad(value), (0, None))
    numeric = (slopes(weights + step, features[0]) - slopes(weights - step, features[0])) / 2e-5
    torch.testing.assert_close(hessian, numeric, atol=1e-8, rtol=0)


def test_inference_mode_leaves_nothing_behind() -> None:
    """A circuit that is first run in inference mode must still be trainable."""
    circuit = build_circuit(n_qubits=2, layers=1, rotation="Y")
    with torch.inference_mode():
        expectations(circuit, torch.zeros(6), torch.zeros(2))
    weights = torch.zeros(6, requires_grad=True)
    expectations(circuit, weights, torch.zeros(2)).sum().backward()
    assert weights.grad is not None


def test_dtype_and_device_are_the_callers() -> None:
    circuit = build_circuit(n_qubits=2)
    weights, features = torch.zeros(6), torch.zeros(3, 2)
    assert expectations(circuit, weights, features).dtype == torch.float32
    assert expectations(circuit, weights, features, dtype=torch.complex128).dtype == torch.float64
    meta = expectations(circuit, weights.to("meta"), features.to("meta"))
    assert meta.device.type == "meta"
    assert meta.shape == (3, 1)


@pytest.mark.parametrize(
    ("weights", "features", "words"),
    [
        (torch.zeros(5), torch.zeros(2), "weights of the wrong shape"),
        (torch.zeros(6), torch.zeros(()), "features of the wrong shape"),
        (torch.zeros(2, 6), torch.zeros(3, 2), "do not broadcast"),
        (torch.zeros(6), torch.zeros(0, 2), "an empty batch"),
    ],
)
def test_mistakes_are_refused(weights: Tensor, features: Tensor, words: str) -> None:
    circuit = build_circuit(n_qubits=2)
    with pytest.raises(CircuitError, match=words):
        expectations(circuit, weights, features)
    with pytest.raises(CircuitError, match="dtype"):
        expectations(circuit, torch.zeros(6), torch.zeros(2), dtype=torch.float32)


def test_the_oracle_sees_a_wrong_gate() -> None:
    """The negative control: another range of the ring is noticed."""
    circuit = build_circuit(n_qubits=4, layers=2)
    weights, features = inputs(circuit)
    gates = list(circuit.gates)
    gates[-1] = Gate("CNOT", (3, 0))
    other = Circuit(**{**vars_of(circuit), "gates": tuple(gates)})
    theirs = to_qnode(circuit)(features, weights)
    ours = expectations(other, weights, features, dtype=torch.complex128)[0]
    assert abs(float(ours - theirs)) > 1e-3


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8])
def test_fixed_random_circuits_of_every_size(
    pennylane_values: Oracle, random_circuit: Callable[..., Circuit], n: int
) -> None:
    """Values to 1e-6 in complex64 and 1e-12 in complex128, 30 gates of the whole set, ten circuits."""
    for seed in range(10):
        circuit = random_circuit(seed, n, 30)
        weights, features = (part.float().double() for part in inputs(circuit, seed=seed))
        exact = pennylane_values(circuit, weights, features)
        double = expectations(circuit, weights, features, dtype=torch.complex128)
        torch.testing.assert_close(double, exact, atol=1e-12, rtol=0)
        single = expectations(circuit, weights.float(), features.float()).double()
        torch.testing.assert_close(single, exact, atol=1e-6, rtol=0)
