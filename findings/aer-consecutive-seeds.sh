#!/usr/bin/env bash
# Library:  qiskit-aer 0.17.2 with qiskit 2.3.0 (PyPI), Python 3.11
# Input:    two qubits, a Hadamard each, a measurement in the middle (or noise with method "statevector"), 1,000 shots with
#           memory, seed_simulator 0, 1 and 7
# Guess:    runs with other seeds are independent of each other, so that repeats with seeds 0, 1, 2, ... show how far a result
#           moves by chance
# Seen:     where shots are run one by one, shot i of seed s is drawn as shot i + 1 of seed s - 1 is: seeds 0 and 1 share 999 of
#           1,000 shots, moved by one place, and seeds 0 and 7 share 993. An interval over consecutive seeds is far too narrow.
#           Where all shots are drawn from one final state (density matrix, or no noise and no measurement within) they are not
#           shared. Seeds that lie further apart than the number of shots, or one long run that is cut, are independent.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check qiskit-aer==0.17.2 qiskit==2.3.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, depolarizing_error

SHOTS = 1000
noise = NoiseModel()
noise.add_all_qubit_quantum_error(depolarizing_error(0.5, 1), ["h"])


def outcomes(seed, *, method, model=None, middle=False):
    circuit = QuantumCircuit(2, 2)
    circuit.h([0, 1])
    if middle:
        circuit.measure(0, 0)
        circuit.h(0)
    circuit.measure([0, 1], [0, 1])
    job = AerSimulator(method=method, noise_model=model).run(circuit, shots=SHOTS, seed_simulator=seed, memory=True)
    return job.result().get_memory()


def shared(distance, **how):
    """The share of equal outcomes once the second run is moved on by the distance of the seeds."""
    first, second = outcomes(0, **how), outcomes(distance, **how)
    pairs = list(zip(first[distance:], second[: SHOTS - distance], strict=True))
    return sum(a == b for a, b in pairs) / len(pairs)


found = {
    "a measurement in the middle, seeds 0 and 1": shared(1, method="automatic", middle=True),
    "noise by trajectories, seeds 0 and 1": shared(1, method="statevector", model=noise),
    "noise by trajectories, seeds 0 and 7": shared(7, method="statevector", model=noise),
    "noise by a density matrix, seeds 0 and 1": shared(1, method="density_matrix", model=noise),
}
print("qiskit-aer", version("qiskit-aer"), found)
*same, other = found.values()
assert same == [1.0, 1.0, 1.0], found
assert other < 0.4, found  # four outcomes, all alike: a quarter agree by chance
PYTHON
