"""The usual encoders and ansätze, as circuits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from qflsec.circuits.circuit import Angle, Circuit, Gate, Observable, pauli_z
from qflsec.circuits.errors import CircuitError

__all__ = ["Ansatz", "Encoder", "Rotation", "build_circuit"]

Encoder = Literal["angle", "amplitude", "reuploading"]
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
) -> Circuit:
    """An encoder followed by ``layers`` layers of an ansatz.

    Args:
        n_qubits: Number of wires.
        encoder: ``"angle"`` rotates wire q by feature q; ``"amplitude"`` writes the features into the
            amplitudes, zero-padded and normalised; ``"reuploading"`` repeats the angle encoding before
            every layer.
        ansatz: ``"strongly-entangling"`` is Rot on every wire and a ring of CNOTs whose range is
            (layer mod (n - 1)) + 1, as PennyLane's ``StronglyEntanglingLayers``; its weight (layer, wire,
            k) has the index 3 (layer n + wire) + k. ``"basic-entangler"`` is RX and a CNOT ring, as
            ``BasicEntanglerLayers``. ``"ry-cz"`` is RY and a chain of CZs.
        layers: Number of layers, at least 1.
        observables: What is measured; Z on wire 0 when None.
        rotation: The axis of the angle encoding. For ``"Z"`` each wire gets a Hadamard first, since
            |0> has no phase to rotate.
        n_features: Number of features; ``n_qubits`` when None (``2**n_qubits`` amplitudes). Fewer
            features than wires leave the last wires alone.

    Source:
        Schuld, Bocharov, Svore and Wiebe, Circuit-centric quantum classifiers, PRA 101, 032308, 2020
        (strongly entangling layers); Pérez-Salinas et al., Data re-uploading for a universal
        quantum classifier, Quantum 4, 226, 2020.

    Raises:
        CircuitError: An unknown encoder, ansatz or rotation, or a size that does not fit.
    """
    _check_names(encoder, ansatz, rotation)
    count = _count_features(n_qubits, encoder, layers, n_features)
    gates: list[Gate] = []
    if encoder == "amplitude":
        amplitudes = tuple(Angle.feature(i) for i in range(count))
        gates.append(Gate("AmplitudeEmbedding", tuple(range(n_qubits)), amplitudes))
    for layer in range(layers):
        if encoder == "reuploading" or (encoder == "angle" and layer == 0):
            gates += _angle_encoding(count, rotation)
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


def _count_features(n_qubits: int, encoder: str, layers: int, n_features: int | None) -> int:
    if layers < 1:
        raise CircuitError("too few layers", got=layers, expected="at least 1")
    room = 2**n_qubits if encoder == "amplitude" else n_qubits
    count = room if n_features is None else n_features
    if not 1 <= count <= room:
        raise CircuitError(
            f"{count} features do not fit {n_qubits} qubits",
            expected=f"1 to {room} for the {encoder} encoder",
            fix="reduce the features or add qubits",
        )
    return count


def _angle_encoding(n_features: int, rotation: Rotation) -> list[Gate]:
    gates: list[Gate] = []
    for wire in range(n_features):
        if rotation == "Z":
            gates.append(Gate("H", (wire,)))
        gates.append(Gate(f"R{rotation}", (wire,), (Angle.feature(wire),)))
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
