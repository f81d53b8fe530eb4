"""Reads a PennyLane QNode into a circuit: gates, the form of each angle, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor

from qflsec.circuits.circuit import Angle, Circuit, Gate
from qflsec.circuits.derive import angle_of
from qflsec.circuits.errors import CircuitError, NotAffine
from qflsec.circuits.forms import Form
from qflsec.circuits.kernel import expectations
from qflsec.circuits.measurements import measures_probabilities, read_measurements
from qflsec.circuits.noise import PLACES, NoiseModel
from qflsec.circuits.noisy_kernel import noisy_expectations
from qflsec.circuits.qnode_tape import IDLE, NAMES, STATES, TapeReader, gate_values, skeleton
from qflsec.circuits.read_noise import noise_candidates
from qflsec.circuits.roles import Roles, read_roles
from qflsec.circuits.staying import Valued, staying
from qflsec.circuits.trace import trace_forms

__all__ = ["Reading", "from_qnode", "read_qnode", "returns_probabilities", "roles_of"]

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
    found = read_qnode(qnode, roles, n_features)
    if found.noise is not None:
        raise NotAffine(
            "the QNode has a noise channel", got=found.noise, fix="give the noise to the execution"
        )
    return replace(found.circuit, weight_shape=None if weight_shape is None else tuple(weight_shape))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was read from a QNode.

    Attributes:
        circuit: The circuit.
        noise: The noise that the QNode's channels are; None without channels.
        given: A function of one record's features and weights, whose values the circuit takes as further features
            behind the record's own; None where the circuit says all itself.
    """

    circuit: Circuit
    noise: NoiseModel | None
    given: Callable[[Tensor, Tensor], Tensor] | None = None

    def inputs(self, features: Tensor, weights: Tensor) -> Tensor:
        """The circuit's features for one record: ``(F,)``, ``(P,)`` -> ``(F + G,)``."""
        if self.given is None:
            return features
        return torch.cat([features, self.given(features, weights).to(features.dtype)])


def read_qnode(qnode: Callable[..., Any], roles: Roles, n_features: int, *, partly: bool = False) -> Reading:
    """The circuit of a QNode, and the noise that its channels are.

    Args:
        qnode: The QNode.
        roles: What each of its arguments takes.
        n_features: Number of features.
        partly: Take angles that are no known functions of the inputs as given.

    Raises:
        NotAffine: The QNode is no such circuit, or its channels are no noise model; the message says why.
        CircuitError: The QNode fails at the sizes given.
    """
    try:
        return _read(qnode, qnode, roles, n_features, partly=partly)
    except NotAffine as error:
        try:
            return _read(qnode, staying(qnode), roles, n_features, partly=partly)
        except Exception:  # noqa: BLE001 - whatever the function does with tensors where it expects numbers
            raise error from None


def _read(qnode: Any, traced: Any, roles: Roles, n_features: int, *, partly: bool) -> Reading:  # noqa: ANN401
    """What a QNode, or its twin, does to inputs, compared with what the QNode does at others."""
    reader = TapeReader(qnode, roles, n_features)
    reader.settle()
    probe = reader.probe(0)
    tape, angles, derived, given = _read_angles(TapeReader(traced, roles, n_features), *probe, partly=partly)
    wires = _wires(qnode, tape)
    whole = reader.whole(*probe)
    extra = sum(angle.kind == "feature" and angle.index >= n_features for own in angles for angle in own)
    circuit = Circuit(
        n_qubits=len(wires),
        gates=_gates(tape, wires, angles, n_features),
        observables=read_measurements(whole, wires),
        n_weights=roles.n_weights,
        n_features=n_features + extra,
        derived=derived,
    )
    reading = Reading(circuit=circuit, noise=None, given=given)
    probes = [reader.probe(number) for number in range(1, PROBES + 1)]
    for other in (*probes, *reader.far_probes()):
        _check_gates(reading, reader, other, angles, skeleton(tape))
    return replace(reading, noise=_check_values(reading, noise_candidates(whole), reader, probes))


def returns_probabilities(qnode: Callable[..., Any], roles: Roles, n_features: int) -> bool:
    """Whether a QNode returns the probabilities of outcomes and nothing else.

    Raises:
        CircuitError: The QNode fails at the sizes given.
    """
    reader = TapeReader(qnode, roles, n_features)
    reader.settle(level=0)
    return measures_probabilities(reader.whole(*reader.probe(0), level=0))


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


def _read_angles(
    reader: TapeReader, features: Tensor, weights: Tensor, *, partly: bool
) -> tuple[Any, list[tuple[Angle, ...]], tuple[Form, ...], Callable[[Tensor, Tensor], Tensor] | None]:
    """A tape, the angles of its gates (none for state preparations), derived inputs, and what gives the unknown."""
    tapes = []

    def numbers(features: Tensor, weights: Tensor) -> list[Tensor]:
        tapes.append(reader.tape(features, weights))
        return [value.reshape(()) for values in gate_values(tapes[-1]) for value in values]

    try:
        with Valued():
            traced = trace_forms(numbers, features, weights)
    except NotAffine:
        raise
    except CircuitError as error:  # plain tensors were taken before
        raise NotAffine("the QNode's function takes values out of torch", got=error.got) from error
    entries, derived, unknown = iter(traced.entries), dict[Form, int](), count(len(features))
    angles: list[tuple[Angle, ...]] = []
    for operation, values in zip(tapes[0].operations, gate_values(tapes[0]), strict=True):
        own = []
        for entry in (next(entries) for _ in values):
            if isinstance(entry, Form):
                own.append(angle_of(entry, derived))
            elif partly:
                own.append(Angle.feature(next(unknown)))
            else:
                raise NotAffine(
                    f"an angle of {operation.name} is not made of known functions of the inputs",
                    got=entry.why,
                )
        angles.append(tuple(own))
    given = traced.unknown() if next(unknown) > len(features) else None
    return tapes[0], angles, tuple(derived), given


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
        # what follows the last feature is padding; features behind it are angles, or the comparison of values refuses
        written = torch.nonzero(torch.as_tensor(operation.data[0]).reshape(-1))
        held = min(n_features, int(written.max()) + 1)
        if position or places != tuple(range(len(wires))) or len(operation.data[0]) < held:
            raise NotAffine(
                "an amplitude embedding must come first, on all wires in order, with a feature for each amplitude",
                got=f"position {position}, wires {places}",
            )
        gates.append(Gate("AmplitudeEmbedding", places, tuple(Angle.feature(k) for k in range(held))))
    return tuple(gates)


def _check_gates(
    reading: Reading,
    reader: TapeReader,
    probe: tuple[Tensor, Tensor],
    angles: list[tuple[Angle, ...]],
    names: list[tuple[str, list[Any]]],
) -> None:
    """Compare the gates and the angles with the QNode's at another point."""
    features, weights = probe
    tape = reader.tape(features, weights)
    if skeleton(tape) != names:
        raise NotAffine("the gates of the QNode depend on its inputs")
    inputs = {"weight": weights.tolist(), "feature": reading.inputs(features, weights).tolist()}
    inputs["derived"] = [form.value(inputs) for form in reading.circuit.derived]
    for operation, own, forms in zip(tape.operations, gate_values(tape), angles, strict=True):
        for value, form in zip(own, forms, strict=True):
            source = inputs.get(form.kind)
            expected = form.offset if source is None else form.scale * source[form.index] + form.offset
            if not abs(float(value.detach()) - expected) <= TOLERANCE * max(1.0, abs(expected)):
                raise NotAffine(
                    f"an angle of {operation.name} is not the function of the inputs that it was read as",
                    got=f"{float(value.detach()):.6g}",
                    expected=f"{expected:.6g} from its form at another point",
                )


def _check_values(
    reading: Reading,
    candidates: Sequence[NoiseModel | None],
    reader: TapeReader,
    probes: Sequence[tuple[Tensor, Tensor]],
) -> NoiseModel | None:
    """The first noise under which the circuit gives the QNode's values at other points."""
    theirs = [_values_of(reader, probe) for probe in probes]
    called = reader.called(*probes[0])
    if called is not None and not _close(called, theirs[0]):
        # a transform's post-processing and errors of the device are in no tape
        raise NotAffine(
            "the QNode does not return what its circuit measures",
            got=[round(float(v), 6) for v in called],
            expected=[round(float(v), 6) for v in theirs[0]],
        )
    tolerance = (
        1e-6 if len(candidates) > 1 else 1e-7
    )  # default.mixed rounds to single precision from 4 wires on
    for noise in candidates:
        if all(
            torch.allclose(_own(reading, noise, probe), expected, atol=tolerance, rtol=0)
            for probe, expected in zip(probes, theirs, strict=True)
        ):
            return noise
    if len(candidates) > 1:
        raise NotAffine(
            "the QNode's noise channels are not where a noise model puts them",
            got=candidates[0],
            expected=", ".join(PLACES),
        )
    raise NotAffine(
        "the circuit read from the QNode does not give its values",
        got=[round(float(v), 6) for v in _own(reading, None, probes[0])],
        expected=[round(float(v), 6) for v in theirs[0]],
    )


def _close(called: Tensor, measured: Tensor) -> bool:
    """Whether values agree, in single precision: some devices have no other."""
    return called.shape == measured.shape and torch.allclose(called, measured, atol=1e-5, rtol=0)


def _own(reading: Reading, noise: NoiseModel | None, probe: tuple[Tensor, Tensor]) -> Tensor:
    circuit, (features, weights) = reading.circuit, (tensor.detach() for tensor in probe)
    features = reading.inputs(features, weights)
    if noise is None:
        return expectations(circuit, weights, features, dtype=torch.complex128)
    return noisy_expectations(circuit, weights, features, noise=noise, dtype=torch.complex128)


def _values_of(reader: TapeReader, probe: tuple[Tensor, Tensor]) -> Tensor:
    """What the QNode itself returns, exactly."""
    import pennylane as qml

    whole = reader.whole(*(tensor.detach() for tensor in probe)).copy(shots=None)
    channels = any(isinstance(operation, qml.operation.Channel) for operation in whole.operations)
    name = "default.mixed" if channels else "default.qubit"
    device = qml.device(name, wires=list(reader.device_wires or whole.wires))
    with torch.no_grad():
        (result,) = qml.execute([whole], device, diff_method=None)
    parts = result if isinstance(result, tuple) else (result,)
    return torch.cat([torch.as_tensor(value).reshape(-1) for value in parts]).double()
