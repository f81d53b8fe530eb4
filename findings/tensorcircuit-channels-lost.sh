#!/usr/bin/env bash
# Library:  tensorcircuit-ng 1.10.0 with qiskit 2.3.0 and cirq-core 1.6.1 (PyPI), Python 3.11
# Input:    a density-matrix circuit: a Bell pair, a fully depolarising channel on one qubit
# Guess:    to_qiskit, to_cirq and to_openqasm keep the channel, or refuse it; to_qir and from_qir bring back the same circuit
# Seen:     all of them drop it without a word: <ZZ> is 0 before and 1 after, for Qiskit's circuit, Cirq's, the QASM text and
#           the circuit read back from its own list of gates (in which the channel still stands).
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorcircuit-ng==1.10.0 qiskit==2.3.0 cirq-core==1.6.1 numpy==2.2.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import cirq
import tensorcircuit
from qiskit import QuantumCircuit
from qiskit.quantum_info import Pauli, Statevector

circuit = tensorcircuit.DMCircuit(2)
circuit.h(0)
circuit.cnot(0, 1)
circuit.depolarizing(0, px=0.25, py=0.25, pz=0.25)


def of_tensorcircuit(of):
    return round(float(of.expectation_ps(z=[0, 1]).real), 5)


def of_qiskit(of):
    return round(float(Statevector(of).expectation_value(Pauli("ZZ"))), 5)


def of_cirq(of):
    zz = cirq.Z(cirq.LineQubit(0)) * cirq.Z(cirq.LineQubit(1))
    state = cirq.DensityMatrixSimulator().simulate(of).final_density_matrix
    return round(float(zz.expectation_from_density_matrix(state, {q: q.x for q in cirq.LineQubit.range(2)}).real), 5)


found = {
    "before": of_tensorcircuit(circuit),
    "to_qiskit": of_qiskit(circuit.to_qiskit()),
    "to_cirq": of_cirq(circuit.to_cirq()),
    "to_openqasm": of_qiskit(QuantumCircuit.from_qasm_str(circuit.to_openqasm())),
    "from_qir(to_qir)": of_tensorcircuit(tensorcircuit.DMCircuit.from_qir(circuit.to_qir())),
}
listed = [gate["name"] for gate in circuit.to_qir()]
print("tensorcircuit-ng", version("tensorcircuit-ng"), found, listed)
assert found.pop("before") == 0.0
assert set(found.values()) == {1.0}, found
assert "depolarizing" in listed, listed
PYTHON
