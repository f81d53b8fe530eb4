#!/usr/bin/env bash
# Library:  PennyLane 0.45.1, PennyLane-qiskit 0.45.0, qiskit-aer 0.17.2, qiskit 2.3.0 (PyPI), Python 3.11
# Input:    Aer's error "full damping of qubit 1, nothing on qubit 0" after cx; once for cx on (0, 1), once for cx on (1, 0); a
#           circuit with one CNOT on (0, 1) whose state is |11> without noise
# Guess:    qml.from_qiskit_noise and qml.noise.add_noise give the state that Aer gives, as they do for errors of one qubit and for
#           errors that treat both alike
# Seen:     the damping comes to the other qubit: the operators keep Qiskit's order of qubits, where PennyLane reads the first wire
#           first. And the error of cx on (1, 0) comes after CNOT on (0, 1) too, where Aer has none: WiresIn asks for a set.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pennylane==0.45.1 PennyLane-qiskit==0.45.0 \
  qiskit-aer==0.17.2 qiskit==2.3.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import pennylane as qml
from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, amplitude_damping_error, depolarizing_error

damp_qubit_1 = amplitude_damping_error(1.0).tensor(depolarizing_error(0.0, 1))  # Qiskit: the left factor is the last qubit


def by_aer(noise):
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.cx(0, 1)
    circuit.save_density_matrix()
    state = AerSimulator(method="density_matrix", noise_model=noise).run(circuit).result().data()["density_matrix"]
    row = int(np.argmax(np.diag(np.asarray(state)).real))
    return {"qubit 0": row & 1, "qubit 1": row >> 1}


def by_pennylane(noise):
    @qml.qnode(qml.device("default.mixed", wires=2))
    def circuit():
        qml.X(0)
        qml.CNOT([0, 1])
        return qml.probs(wires=[0, 1])

    row = int(np.argmax(qml.noise.add_noise(circuit, qml.from_qiskit_noise(noise))()))
    return {"qubit 0": row >> 1, "qubit 1": row & 1}


found = {}
for pair in ((0, 1), (1, 0)):
    noise = NoiseModel()
    noise.add_quantum_error(damp_qubit_1, ["cx"], list(pair))
    found[f"cx on {pair}"] = {"Aer": by_aer(noise), "PennyLane": by_pennylane(noise)}
print({name: version(name) for name in ("pennylane", "pennylane-qiskit", "qiskit-aer")}, found)
turned = {"qubit 0": 0, "qubit 1": 1}
assert found["cx on (0, 1)"] == {"Aer": {"qubit 0": 1, "qubit 1": 0}, "PennyLane": turned}, found
assert found["cx on (1, 0)"] == {"Aer": {"qubit 0": 1, "qubit 1": 1}, "PennyLane": turned}, found
PYTHON
