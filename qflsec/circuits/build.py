"""The usual encoders and ansätze, as circuits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from qflsec.circuits.circuit import Angle, Circuit, Gate, Observable, pauli_z
from qflsec.circuits.errors import CircuitError

__all__ = ["Ansatz", "Encoder", "Rotation", "build_circuit"]

Encoder = Literal["angle", "amplitude", "reuploading", "amplitude-angle"]
Ansatz = Literal["strongly-entangling", "basic-entangler", "ry-cz"]
Rotation = Literal["X", "Y", "Z"]


def build_circuit(
    *,
    n_qubits: int,
    encoder: Encoder = "angle",
    ansatz: Ansatz = "strongly-entangling",
    layers: int = 1,
    observables: Sequence[Observable] | None = None,
    rotation: Rotation = "X",
    n_features: int | None = None,
    amplitude_qubits: int | None = None,
) -> Circuit:
    """An encoder followed by ``layers`` layers of an ansatz.

    Args:
        n_qubits: Number of wires.
        encoder: ``"angle"`` rotates wire q by feature q; ``"amplitude"`` writes the features into the
            amplitudes, zero-padded and normalised; ``"reuploading"`` repeats the angle encoding before
            every layer; ``"amplitude-angle"`` writes the first ``2**amplitude_qubits`` features into the amplitudes of the
            last ``amplitude_qubits`` wires, normalised, and rotates the first wires by one of the other features each.
        ansatz: ``"strongly-entangling"`` is Rot on every wire and a ring of CNOTs whose range is
            (layer mod (n - 1)) + 1, as PennyLane's ``StronglyEntanglingLayers``; its weight (layer, wire,
            k) has the index 3 (layer n + wire) + k. ``"basic-entangler"`` is RX and a CNOT ring, as
            ``BasicEntanglerLayers``. ``"ry-cz"`` is RY and a chain of CZs.
        layers: Number of layers, at least 1.
        observables: What is measured; Z on wire 0 when None.
        rotation: The axis of the angle encoding. For ``"Z"`` each wire gets a Hadamard first, since
            |0> has no phase to rotate.
        n_features: Number of features; ``n_qubits`` when None (``2**n_qubits`` amplitudes). Fewer
            features than wires leave the last wires alone (of those that are rotated).
        amplitude_qubits: Wires that hold amplitudes, for ``"amplitude-angle"`` alone; all but one when None.

    Source:
        Schuld, Bocharov, Svore and Wiebe, Circuit-centric quantum classifiers, PRA 101, 032308, 2020
        (strongly entangling layers); Pérez-Salinas et al., Data re-uploading for a universal
        quantum classifier, Quantum 4, 226, 2020.

    Raises:
        CircuitError: An unknown encoder, ansatz or rotation, or a size that does not fit.
    """
    _check_names(encoder, ansatz, rotation)
    held = _amplitude_qubits(n_qubits, encoder, amplitude_qubits)
    count = _count_features(n_qubits, held, layers, n_features)
    gates: list[Gate] = []
    amplitudes = min(count, 2**held) if held else 0
    if amplitudes:
        # padding with zeros leaves the first wires, which are the most significant, in |0>
        written = tuple(Angle.feature(i) for i in range(amplitudes))
        gates.append(Gate("AmplitudeEmbedding", tuple(range(n_qubits)), written))
    if encoder == "amplitude-angle":
        gates += _angle_encoding(range(amplitudes, count), rotation)
    for layer in range(layers):
        if encoder == "reuploading" or (encoder == "angle" and layer == 0):
            gates += _angle_encoding(range(count), rotation)
        gates += _LAYERS[ansatz](layer, n_qubits)
    return Circuit(
        n_qubits=n_qubits,
        gates=tuple(gates),
        observables=tuple(observables) if observables is not None else (pauli_z(0, n_qubits),),
        n_weights=layers * n_qubits * (3 if ansatz == "strongly-entangling" else 1),
        n_features=count,
    )


def _check_names(encoder: str, ansatz: str, rotation: str) -> None:
    for what, value, known in (
        ("encoder", encoder, get_args(Encoder)),
        ("ansatz", ansatz, get_args(Ansatz)),
        ("rotation", rotation, get_args(Rotation)),
    ):
        if value not in known:
            raise CircuitError(f"unknown {what}", got=repr(value), expected=f"one of {', '.join(known)}")


def _amplitude_qubits(n_qubits: int, encoder: str, amplitude_qubits: int | None) -> int:
    """Wires that hold amplitudes."""
    if encoder != "amplitude-angle":
        if amplitude_qubits is not None:
            raise CircuitError(
                f"encoder {encoder!r} has no use for amplitude_qubits",
                got=amplitude_qubits,
                fix="leave it out; it belongs to 'amplitude-angle'",
            )
        return n_qubits if encoder == "amplitude" else 0
    held = n_qubits - 1 if amplitude_qubits is None else amplitude_qubits
    if not 1 <= held < n_qubits:
        raise CircuitError(
            "amplitude_qubits leave no wire for amplitudes or none for angles",
            got=f"{held} of {n_qubits} qubits",
            expected=f"1 to {n_qubits - 1}",
        )
    return held


def _count_features(n_qubits: int, held: int, layers: int, n_features: int | None) -> int:
    if layers < 1:
        raise CircuitError("too few layers", got=layers, expected="at least 1")
    room = n_qubits - held + (2**held if held else 0)
    count = room if n_features is None else n_features
    if not 1 <= count <= room:
        raise CircuitError(
            f"{count} features do not fit {n_qubits} qubits",
            expected=f"1 to {room}",
            fix="reduce the features or add qubits",
        )
    return count


def _angle_encoding(features: range, rotation: Rotation) -> list[Gate]:
    gates: list[Gate] = []
    for wire, feature in enumerate(features):
        if rotation == "Z":
            gates.append(Gate("H", (wire,)))
        gates.append(Gate(f"R{rotation}", (wire,), (Angle.feature(feature),)))
    return gates


def _strongly_entangling(layer: int, n: int) -> list[Gate]:
    first = 3 * layer * n
    gates = [
        Gate("Rot", (wire,), tuple(Angle.weight(first + 3 * wire + k) for k in range(3))) for wire in range(n)
    ]
    if n > 1:
        reach = layer % (n - 1) + 1
        gates += [Gate("CNOT", (wire, (wire + reach) % n)) for wire in range(n)]
    return gates


def _basic_entangler(layer: int, n: int) -> list[Gate]:
    gates = [Gate("RX", (wire,), (Angle.weight(layer * n + wire),)) for wire in range(n)]
    if n == 2:  # a ring of two wires would be the same CNOT back and forth
        return [*gates, Gate("CNOT", (0, 1))]
    return gates + [Gate("CNOT", (wire, (wire + 1) % n)) for wire in range(n) if n > 1]


def _ry_cz(layer: int, n: int) -> list[Gate]:
    gates = [Gate("RY", (wire,), (Angle.weight(layer * n + wire),)) for wire in range(n)]
    return gates + [Gate("CZ", (wire, wire + 1)) for wire in range(n - 1)]


_LAYERS = {
    "strongly-entangling": _strongly_entangling,
    "basic-entangler": _basic_entangler,
    "ry-cz": _ry_cz,
}
