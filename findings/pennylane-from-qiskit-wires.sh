#!/usr/bin/env bash
# Library:  PennyLane 0.45.1, PennyLane-qiskit 0.45.0, qiskit 2.3.0 (PyPI), Python 3.11
# Input:    circuits of one gate of Qiskit's library, read by qml.from_qiskit
# Guess:    what comes without an error is the same unitary, up to a phase and the order of qubits that both document
# Seen:     right for cx, ch, cp, crx, rxx, ecr, iswap, xx_minus_yy, ccx, cswap; other unitaries for csx, cu, cu3, rzx, dcx, rccx,
#           xx_plus_yy, unitary gates of two qubits and permutations, which come with their wires turned round.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pennylane==0.45.1 PennyLane-qiskit==0.45.0 qiskit==2.3.0 \
  numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import pennylane as qml
import qiskit.circuit.library as gates
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator

RIGHT = [gates.CXGate(), gates.CHGate(), gates.CPhaseGate(0.3), gates.CRXGate(0.3), gates.RXXGate(0.3), gates.ECRGate()]
RIGHT += [gates.iSwapGate(), gates.XXMinusYYGate(0.3, 0.4), gates.CCXGate(), gates.CSwapGate()]
TURNED = [gates.CSXGate(), gates.CUGate(0.3, 0.4, 0.5, 0.6), gates.CU3Gate(0.3, 0.4, 0.5), gates.RZXGate(0.7), gates.DCXGate()]
TURNED += [gates.RCCXGate(), gates.XXPlusYYGate(0.3, 0.4), gates.UnitaryGate(Operator(gates.CXGate()))]
TURNED += [gates.PermutationGate([1, 2, 0])]


def distance(gate, *, turned):
    """The largest entry of the difference, up to a phase; with the gate's own qubits in reverse order where turned."""
    n = gate.num_qubits
    circuit, meant = QuantumCircuit(n), QuantumCircuit(n)
    circuit.append(gate, range(n))
    meant.append(gate, range(n)[::-1] if turned else range(n))
    read = np.asarray(qml.matrix(qml.from_qiskit(circuit), wire_order=list(range(n))[::-1])())
    wanted = Operator(meant).data
    overlap = np.vdot(wanted, read)
    phase = overlap / abs(overlap) if abs(overlap) > 1e-9 else 1
    return float(np.abs(wanted * phase - read).max())


found = {gate.name: (distance(gate, turned=False), distance(gate, turned=True)) for gate in RIGHT + TURNED}
print({name: version(name) for name in ("pennylane", "pennylane-qiskit", "qiskit")})
for name, (as_it_is, turned) in found.items():
    print(f"{name}: {as_it_is:.1e} from the gate, {turned:.1e} from the gate with its qubits in reverse order")
assert all(found[gate.name][0] < 1e-9 for gate in RIGHT), found
assert all(found[gate.name][0] > 0.1 and found[gate.name][1] < 1e-9 for gate in TURNED), found
PYTHON
