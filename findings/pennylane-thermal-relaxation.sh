#!/usr/bin/env bash
# Library:  PennyLane 0.45.1 (PyPI), Python 3.11
# Input:    ThermalRelaxationError(pe=0.1, t1, t2, tg) with t2 <= 2 t1 and gates far longer than t1, on |1>
# Guess:    its Kraus operators are a channel, whose long-time limit is the thermal state: probabilities 0.9 and 0.1
# Seen:     t1 = 50, t2 = 40, tg = 50000: NaN, with no more than a RuntimeWarning of NumPy;
#           t1 = 50, t2 = 80, tg = 5000: the Kraus operators add up to diag(0.1, 1.9), probabilities to 1.9.
#           At tg = 500 both are right. Nothing is raised.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pennylane==0.45.1 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import pennylane as qml


def total(t2, tg):
    """The sum of K^dagger K, which is the identity for a channel."""
    kraus = qml.ThermalRelaxationError.compute_kraus_matrices(0.1, 50.0, t2, tg)
    return np.real(sum(k.conj().T @ k for k in kraus))


@qml.qnode(qml.device("default.mixed", wires=1))
def probabilities(t2, tg):
    qml.PauliX(0)
    qml.ThermalRelaxationError(0.1, 50.0, t2, tg, wires=0)
    return qml.probs(0)


seen = np.asarray(probabilities(80.0, 5000.0))
print("PennyLane", qml.__version__)
print("t2 = 40, tg = 50000:", total(40.0, 50000.0).tolist())
print("t2 = 80, tg = 5000: ", total(80.0, 5000.0).tolist(), "probabilities", seen.tolist())
assert np.isnan(total(40.0, 50000.0)).any()
assert np.allclose(total(80.0, 5000.0), np.diag([0.1, 1.9]))
assert abs(seen.sum() - 1.9) < 1e-6, seen
for t2 in (40.0, 80.0):
    assert np.allclose(total(t2, 500.0), np.eye(2))
PYTHON
