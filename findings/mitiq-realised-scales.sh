#!/usr/bin/env bash
# Library:  mitiq 1.1.0 with cirq-core 1.6.1 (PyPI), Python 3.11
# Input:    two X gates on one qubit (and ten), depolarising noise of 0.01 after each, execute_with_zne with a RichardsonFactory of the
#           scale factors 1, 1.5 and 2; the ideal expectation of Z is 1
# Guess:    extrapolation uses the noise that folding made; or scale factors that a short circuit cannot make are refused
# Seen:     folding adds whole gates: two gates at 1, 1.5 and 2 become 2, 2 and 4 (1, 1, 2), ten become 10, 14 and 20 (1, 1.4, 2), and
#           the extrapolation is made with the factors that were asked for, without a word. For two gates the error grows fourfold
#           (0.026 without mitigation, 0.104 with), for ten gates it stays near what it was (0.126 and 0.089), where the factors 1, 2
#           and 3, which can be made, leave 0.00002 and 0.002.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mitiq==1.1.0 cirq-core==1.6.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import cirq
from mitiq import zne

QUBIT = cirq.LineQubit(0)


def expectation(circuit):
    noisy = circuit.with_noise(cirq.depolarize(0.01))
    state = cirq.DensityMatrixSimulator().simulate(noisy).final_density_matrix
    return float(state[0, 0].real - state[1, 1].real)


def errors(depth):
    circuit = cirq.Circuit([cirq.X(QUBIT)] * depth)
    said = {"gates": [len(zne.scaling.fold_global(circuit, scale)) for scale in (1, 1.5, 2)]}
    said["none"] = 1 - expectation(circuit)
    for scales in ([1, 1.5, 2], [1, 2, 3]):
        factory = zne.inference.RichardsonFactory(scale_factors=scales)
        said[str(scales)] = abs(1 - zne.execute_with_zne(circuit, expectation, factory=factory))
    return said


two, ten = errors(2), errors(10)
print("mitiq", version("mitiq"), {2: two, 10: ten})
assert two["gates"] == [2, 2, 4], two
assert ten["gates"] == [10, 14, 20], ten
assert two["[1, 1.5, 2]"] > 3.5 * two["none"] > 100 * two["[1, 2, 3]"], two
assert ten["[1, 1.5, 2]"] > 0.6 * ten["none"] > 10 * ten["[1, 2, 3]"], ten
PYTHON
