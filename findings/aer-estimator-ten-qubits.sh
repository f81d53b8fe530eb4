#!/usr/bin/env bash
# Library:  qiskit-aer 0.17.2 with qiskit 2.3.0 (PyPI), Python 3.11
# Input:    EstimatorV2 with its default precision 0 and a noise model (depolarising, 0.5, after each Hadamard); the expectation
#           of one Pauli X on 9 and on 10 qubits, a Hadamard on each
# Guess:    precision 0 asks for the exact value, 0.5, whatever the number of qubits: it is exact at 9, and stds says 0.0
# Seen:     from 10 qubits on the simulator goes from the density matrix to 1,024 trajectories: the value is a mean of 1,024
#           signs (spread .027), other in every run, and stds still says 0.0. With method "density_matrix" it is exact again.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check qiskit-aer==0.17.2 qiskit==2.3.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer.noise import NoiseModel, depolarizing_error
from qiskit_aer.primitives import EstimatorV2

noise = NoiseModel()
noise.add_all_qubit_quantum_error(depolarizing_error(0.5, 1), ["h"])


def values(n_qubits, **method):
    circuit = QuantumCircuit(n_qubits)
    circuit.h(range(n_qubits))
    observable = SparsePauliOp("X" + "I" * (n_qubits - 1))
    said = []
    for seed in (11, 22222, 444444):
        options = {"noise_model": noise, "seed_simulator": seed, **method}
        data = EstimatorV2(options={"backend_options": options}).run([(circuit, observable)]).result()[0].data
        said.append((float(data.evs), float(data.stds)))
    return said


nine, ten, exact = values(9), values(10), values(10, method="density_matrix")
print("qiskit-aer", version("qiskit-aer"), {"9 qubits": nine, "10 qubits": ten, "10, density matrix": exact})
assert all(abs(value - 0.5) < 1e-9 and std == 0.0 for value, std in nine + exact), (nine, exact)
assert len({value for value, _ in ten}) > 1, ten
assert all(abs(512 * value - round(512 * value)) < 1e-6 and std == 0.0 for value, std in ten), ten  # means of 1,024 signs
PYTHON
