"""Reads a PennyLane QNode into a circuit: gates, the form of each angle, and what is measured."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qflsec.circuits.circuit import Angle, Circuit, Gate
from qflsec.circuits.derive import angle_of
from qflsec.circuits.errors import CircuitError, NotAffine
from qflsec.circuits.forms import Form
from qflsec.circuits.gates import GATES
from qflsec.circuits.kernel import expectations
from qflsec.circuits.measurements import measures_probabilities, read_measurements
from qflsec.circuits.roles import Roles, read_roles
from qflsec.circuits.to_pennylane import OPERATIONS
from qflsec.circuits.trace import Unknown, trace_forms

__all__ = ["from_qnode", "returns_probabilities", "roles_of"]

NAMES = {theirs: ours for ours, theirs in OPERATIONS.items()} | {
    name: name for name in GATES if name not in OPERATIONS
}
STATES = ("AmplitudeEmbedding", "StatePrep")
IDLE = ("GlobalPhase", "Identity", "Barrier", "Snapshot")
PROBES = 5
TOLERANCE = 1e-9


def from_qnode(
    qnode: Callable[..., Any],
    *,
    n_weights: int | None = None,
    n_features: int,
    weight_shape: Sequence[int] | None = None,
    weight_shapes: Mapping[str, Sequence[int]] | None = None,
    features_argument: str | None = None,
) -> Circuit:
    """The circuit of a QNode of features and weights.

    The QNode's tape is built and decomposed into the gate set while what torch does to features and weights is
    recorded (:mod:`qflsec.circuits.trace`): the form of each angle is exact, be it a sum, a product or a
    function of inputs. Gates, angles and the circuit's expectation values are then compared with the QNode's
    at other random inputs.

    Args:
        qnode: A QNode whose arguments are told apart by name
            (:func:`~qflsec.circuits.roles.read_roles`). It returns expectation values, or probabilities of at
            most six wires.
        n_weights: Number of weights, where neither shape says it.
        n_features: Number of features.
        weight_shape: The shape in which the QNode takes its weights; flat when None. The circuit takes them
            flat, in row-major order, and remembers the shape.
        weight_shapes: The shape of each weight argument, where there are several. The circuit takes them
            flat, one after the other in the QNode's order.
        features_argument: The argument that takes the features, where its name does not say so.

    Raises:
        NotAffine: The QNode is no such circuit; the message says why.
        CircuitError: The QNode fails at the sizes given, or a role is not named.
    """
    roles = roles_of(
        qnode,
        n_weights=n_weights,
        weight_shape=weight_shape,
        weight_shapes=weight_shapes,
        features_argument=features_argument,
    )
    reader = _Reader(qnode, roles, n_features)
    reader.settle()
    probe = reader.probe(0)
    tape, angles, derived = _read_angles(reader, *probe)
    wires = _wires(qnode, tape)
    circuit = Circuit(
        n_qubits=len(wires),
        gates=_gates(tape, wires, angles, n_features),
        observables=read_measurements(reader.whole(*probe), wires),
        n_weights=roles.n_weights,
        n_features=n_features,
        weight_shape=None if weight_shape is None else tuple(weight_shape),
        derived=derived,
    )
    for number in range(1, PROBES + 1):
        _check(circuit, reader, reader.probe(number), angles, _skeleton(tape))
    return circuit


def returns_probabilities(qnode: Callable[..., Any], roles: Roles, n_features: int) -> bool:
    """Whether a QNode returns the probabilities of outcomes and nothing else.

    Raises:
        CircuitError: The QNode fails at the sizes given.
    """
    reader = _Reader(qnode, roles, n_features)
    reader.settle()
    return measures_probabilities(reader.whole(*reader.probe(0)))


def roles_of(
    qnode: Callable[..., Any],
    *,
    n_weights: int | None = None,
    weight_shape: Sequence[int] | None = None,
    weight_shapes: Mapping[str, Sequence[int]] | None = None,
    features_argument: str | None = None,
) -> Roles:
    """The roles of a QNode's arguments, from what is said of its weights.

    Raises:
        NotAffine: It is no QNode.
        CircuitError: The shapes contradict each other, or a role is not named.
    """
    function = getattr(qnode, "func", None)
    if function is None:
        raise NotAffine("not a QNode", got=type(qnode).__name__, fix="decorate the function with qml.qnode")
    shapes: Mapping[str, Sequence[int]] | Sequence[int]
    if weight_shapes is not None:
        shapes, fits = weight_shapes, weight_shape is None
    elif weight_shape is None and n_weights is None:
        raise CircuitError(
            "how many weights the QNode takes is not said", fix="give weight_shape or n_weights"
        )
    else:
        shapes, fits = (n_weights or 0,) if weight_shape is None else tuple(weight_shape), True
    roles = read_roles(function, shapes, features_argument=features_argument)
    if not fits or n_weights not in (None, roles.n_weights):
        raise CircuitError(
            "the weights' shape does not fit",
            got=weight_shape or weight_shapes,
            expected="either weight_shape or weight_shapes" if not fits else f"{n_weights} weights",
        )
    return roles


class _Reader:
    """Builds a QNode's tape at given inputs."""

    def __init__(self, qnode: Callable[..., Any], roles: Roles, n_features: int) -> None:
        self._qnode, self._roles = qnode, roles
        self._sizes = n_features, roles.n_weights
        self._unit = False
        self._within: tuple[float, float] | None = None

    @property
    def device_wires(self) -> Any:  # noqa: ANN401
        """The wires of the QNode's device; None if it leaves them open."""
        return self._qnode.device.wires  # type: ignore[attr-defined]

    def probe(self, number: int) -> tuple[Tensor, Tensor]:
        """Random features and flat weights, always the same for one number; every second is a negative."""
        generator = torch.Generator().manual_seed(number // 2)
        sign = 1 - 2 * (number % 2)
        features, weights = (
            sign * torch.randn(n, dtype=torch.float64, generator=generator) for n in self._sizes
        )
        if self._unit:
            features = features / features.norm()
        elif self._within:
            low, high = self._within
            features, weights = (low + (high - low) * torch.special.ndtr(v) for v in (features, weights))
        return features.requires_grad_(), weights.requires_grad_()

    def whole(self, features: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        """The tape as the user wrote it."""
        import pennylane as qml

        try:
            arguments = self._roles.arguments(weights, features)
            return qml.workflow.construct_tape(self._qnode, level="user")(**arguments)
        except Exception as error:  # whatever the user's function raises
            raise CircuitError(
                "the QNode fails",
                got=f"{type(error).__name__}: {error}",
                expected=f"{self._sizes[0]} features as {self._roles.features}, "
                + ", ".join(f"{name} of shape {shape}" for name, shape in self._roles.weights),
            ) from error

    def settle(self) -> None:
        """Find features that the QNode takes: any, of norm 1, within (-1, 1) or within (0, 1).

        A QNode that embeds amplitudes may leave their norm to its user, and arccos or a logarithm gives no number
        elsewhere.
        """
        try:
            self.whole(*self.probe(0))
        except CircuitError as error:
            if not isinstance(error.__cause__, ValueError) or "norm" not in str(error):
                raise
            self._unit = True
            return
        for self._within in (None, (-1.0, 1.0), (0.0, 1.0)):
            tape = self.whole(*self.probe(0))
            if all(value.isfinite().all() for values in _values(tape) for value in values):
                return

    def tape(self, features: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        """The tape in our gate set."""
        import pennylane as qml

        tape = self.whole(features, weights)
        for operation in tape.operations:
            if type(operation).__name__ in ("MidMeasure", "MidMeasureMP", "Conditional", "PauliMeasure"):
                raise NotAffine("the QNode measures in the middle of its circuit", got=operation)
            if isinstance(operation, qml.operation.Channel):
                raise NotAffine(
                    "the QNode has a noise channel", got=operation.name, fix="give the noise to the execution"
                )
        if tape.batch_size is not None:
            raise NotAffine("the QNode broadcasts over a batch", got=f"batch size {tape.batch_size}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (tape,), _ = qml.transforms.decompose(tape, gate_set={*NAMES, *STATES, *IDLE}, strict=False)
        return tape


def _skeleton(tape: Any) -> list[tuple[str, list[Any]]]:  # noqa: ANN401
    return [(operation.name, operation.wires.tolist()) for operation in tape.operations]


def _values(tape: Any) -> list[list[Tensor]]:  # noqa: ANN401
    """The parameters of each operation, as tensors."""
    return [
        [
            value if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value))
            for value in operation.data
        ]
        for operation in tape.operations
    ]


def _read_angles(
    reader: _Reader, features: Tensor, weights: Tensor
) -> tuple[Any, list[tuple[Angle, ...]], tuple[Form, ...]]:
    """A tape, the angles of each of its gates (none for state preparations), and the derived inputs they read."""
    tapes = []

    def numbers(features: Tensor, weights: Tensor) -> list[Tensor]:
        tapes.append(reader.tape(features, weights))
        return [value.reshape(()) for values in _gate_values(tapes[-1]) for value in values]

    entries = iter(trace_forms(numbers, features.detach(), weights.detach()))
    derived: dict[Form, int] = {}
    angles = []
    for operation, values in zip(tapes[0].operations, _gate_values(tapes[0]), strict=True):
        angles.append(tuple(_angle(next(entries), operation.name, derived) for _ in values))
    return tapes[0], angles, tuple(derived)


def _gate_values(tape: Any) -> list[list[Tensor]]:  # noqa: ANN401
    """The parameters of each gate; none of state preparations and idle operations."""
    found: list[list[Tensor]] = []
    for operation, values in zip(tape.operations, _values(tape), strict=True):
        if operation.name in (*STATES, *IDLE):
            found.append([])
        elif operation.name not in NAMES:
            raise NotAffine(
                f"the gate {operation.name} is not in the kernel's set and has no decomposition into it"
            )
        else:
            found.append(values)
    return found


def _angle(entry: Form | Unknown, name: str, derived: dict[Form, int]) -> Angle:
    """The angle of one parameter; a form that is not affine in one input becomes a derived input."""
    if isinstance(entry, Unknown):
        raise NotAffine(f"an angle of {name} is not made of known functions of the inputs", got=entry.why)
    return angle_of(entry, derived)


def _wires(qnode: Any, tape: Any) -> dict[Any, int]:  # noqa: ANN401
    """The wires that the tape uses, in the device's order; all of them where it measures all."""
    device = list(qnode.device.wires or tape.wires)
    if not all(measurement.wires for measurement in tape.measurements):
        return {label: place for place, label in enumerate(device)}
    missing = [label for label in tape.wires if label not in device]
    if missing:
        raise NotAffine("the QNode uses wires that its device lacks", got=missing)
    return {label: place for place, label in enumerate(label for label in device if label in tape.wires)}


def _gates(
    tape: Any,  # noqa: ANN401
    wires: dict[Any, int],
    angles: list[tuple[Angle, ...]],
    n_features: int,
) -> tuple[Gate, ...]:
    gates = []
    for position, (operation, forms) in enumerate(zip(tape.operations, angles, strict=True)):
        if operation.name in IDLE:
            continue
        places = tuple(wires[label] for label in operation.wires)
        if operation.name not in STATES:
            gates.append(Gate(NAMES[operation.name], places, forms))
            continue
        if position or places != tuple(range(len(wires))) or n_features > 2 ** len(wires):
            raise NotAffine(
                "an amplitude embedding must come first, on all wires in order, with a feature for each amplitude",
                got=f"position {position}, wires {places}",
            )
        gates.append(Gate("AmplitudeEmbedding", places, tuple(Angle.feature(k) for k in range(n_features))))
    return tuple(gates)


def _check(
    circuit: Circuit,
    reader: _Reader,
    probe: tuple[Tensor, Tensor],
    angles: list[tuple[Angle, ...]],
    skeleton: list[tuple[str, list[Any]]],
) -> None:
    """Compare the gates, the angles and the expectation values with the QNode's at another point."""
    import pennylane as qml

    features, weights = probe
    tape = reader.tape(features, weights)
    if _skeleton(tape) != skeleton:
        raise NotAffine("the gates of the QNode depend on its inputs")
    inputs = {"weight": weights.tolist(), "feature": features.tolist()}
    inputs["derived"] = [form.value(inputs) for form in circuit.derived]
    for operation, own, forms in zip(tape.operations, _gate_values(tape), angles, strict=True):
        for value, form in zip(own, forms, strict=True):
            source = inputs.get(form.kind)
            expected = form.offset if source is None else form.scale * source[form.index] + form.offset
            if not abs(float(value.detach()) - expected) <= TOLERANCE * max(1.0, abs(expected)):
                raise NotAffine(
                    f"an angle of {operation.name} is not the function of the inputs that it was read as",
                    got=f"{float(value.detach()):.6g}",
                    expected=f"{expected:.6g} from its form at another point",
                )
    with torch.no_grad():
        whole = reader.whole(features, weights).copy(shots=None)
        device = qml.device("default.qubit", wires=list(reader.device_wires or whole.wires))
        (result,) = qml.execute([whole], device, diff_method=None)
        parts = result if isinstance(result, tuple) else (result,)
        theirs = torch.cat([torch.as_tensor(value).reshape(-1) for value in parts])
        ours = expectations(circuit, weights, features, dtype=torch.complex128)
    if not torch.allclose(ours, theirs.double(), atol=1e-7, rtol=0):
        raise NotAffine(
            "the circuit read from the QNode does not give its values",
            got=[round(float(v), 6) for v in ours],
            expected=[round(float(v), 6) for v in theirs],
        )
