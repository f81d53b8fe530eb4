#!/usr/bin/env bash
# Library:  PennyLane 0.45.1 with torch 2.13.0 (PyPI), Python 3.11
# Input:    Hadamard, a rotation, Hadamard; the angle is a float64 tensor of torch; probabilities
# Guess:    default.mixed agrees with default.qubit to double precision, whatever the rotation, as it does for NumPy angles
# Seen:     with RZ (and IsingZZ, CRZ) and torch angles, default.mixed is off by 1e-8, the size of single precision, although its
#           result is labelled float64; RX, RY and PhaseShift, and NumPy angles, are right to 1e-15
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pennylane==0.45.1 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import pennylane as qml
import torch

print("PennyLane", qml.version(), "torch", torch.__version__)


def difference(angle, gate, wires):
    """The largest difference between the probabilities of the two devices."""

    def circuit(x):
        for wire in wires:
            qml.Hadamard(wire)
        gate(x, wires=wires)
        for wire in wires:
            qml.Hadamard(wire)
        return qml.probs(wires=wires)

    pure, mixed = (
        qml.QNode(circuit, qml.device(name, wires=len(wires)))(angle) for name in ("default.qubit", "default.mixed")
    )
    assert str(mixed.dtype).endswith("float64"), mixed.dtype
    return float(np.abs(np.asarray(pure) - np.asarray(mixed)).max())


tensor, array = torch.tensor(0.7, dtype=torch.float64), np.float64(0.7)
for gate, n in ((qml.RZ, 1), (qml.IsingZZ, 2), (qml.CRZ, 2), (qml.RX, 1), (qml.RY, 1), (qml.PhaseShift, 1)):
    with_torch, with_numpy = difference(tensor, gate, list(range(n))), difference(array, gate, list(range(n)))
    print(f"{gate.__name__}: torch {with_torch:.1e}, NumPy {with_numpy:.1e}")
    assert with_numpy < 1e-14
    if gate in (qml.RZ, qml.IsingZZ, qml.CRZ):
        assert 1e-9 < with_torch < 1e-6
    else:
        assert with_torch < 1e-14
PYTHON
