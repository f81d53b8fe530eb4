#!/usr/bin/env bash
# Library:  PennyLane 0.45.1 (PyPI), Python 3.11
# Input:    RY on one qubit of default.mixed, then a depolarising channel of 0, 0.3 and 0.75; the last leaves the maximally mixed
#           state whatever the angle is
# Guess:    metric_tensor and quantum_fisher take account of the channel, or refuse it: the information about the angle is
#           (1 - 4p/3)^2, which falls from 1 to 0
# Seen:     1/4 and 1 for every strength: channels are passed over, and the result is that of the circuit without noise, while the
#           gradient of the same QNode falls to 0. A natural gradient of a noisy circuit is not scaled by its noise.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pennylane==0.45.1 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import pennylane as qml
from pennylane import numpy as pnp

ANGLE = pnp.array([0.3], requires_grad=True)


def measured(strength):
    @qml.qnode(qml.device("default.mixed", wires=2))
    def circuit(angle):
        qml.RY(angle[0], 0)
        qml.DepolarizingChannel(strength, 0)
        return qml.expval(qml.Z(0))

    return {
        "metric": round(float(qml.metric_tensor(circuit, approx="block-diag")(ANGLE)[0, 0]), 6),
        "fisher": round(float(qml.gradients.quantum_fisher(circuit)(ANGLE)[0, 0]), 6),
        "gradient": round(float(qml.grad(circuit)(ANGLE)[0]), 6) + 0.0,
    }


found = {strength: measured(strength) for strength in (0.0, 0.3, 0.75)}
print("pennylane", version("pennylane"), found)
assert {one["metric"] for one in found.values()} == {0.25}, found
assert {one["fisher"] for one in found.values()} == {1.0}, found
assert [one["gradient"] for one in found.values()] == [-0.29552, -0.177312, 0.0], found
PYTHON
