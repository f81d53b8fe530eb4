#!/usr/bin/env bash
# Library:  deepquantum 4.5.0 with torch 2.13.0 (PyPI), Python 3.11
# Input:    depolarizing(0, 0.05), amp_damp(0, 0.05) and bit_flip(0, 0.05) on |1>
# Guess:    the argument is p of the docstring's formula, (1 - p) rho + p/3 (X rho X + Y rho Y + Z rho Z), as it is in PennyLane and
#           Cirq, or at least a probability
# Seen:     it is an angle: p = sin(inputs)^2. 0.05 makes a channel of p = 0.0025, twenty times less noise than meant, and nothing
#           is refused (1.0 is p = 0.708). The docstrings call it "the parameter of the channel"; printing the channel shows p.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check deepquantum==4.5.0 torch==2.13.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import math
from importlib.metadata import version

import deepquantum


def flipped(channel, value):
    """How much of |1> the channel brings to |0>."""
    circuit = deepquantum.QubitCircuit(1, den_mat=True)
    circuit.x(0)
    getattr(circuit, channel)(0, value)
    return circuit().reshape(2, 2)[0, 0].real.item()


share = {"bit_flip": 1.0, "amp_damp": 1.0, "depolarizing": 2 / 3}
found = {(name, value): flipped(name, value) for name in share for value in (0.05, 1.0)}
print("deepquantum", version("deepquantum"), {key: round(value, 5) for key, value in found.items()})
for (name, value), seen in found.items():
    assert abs(seen - share[name] * math.sin(value) ** 2) < 1e-5, (name, value, seen)
    assert abs(seen - share[name] * value) > 0.03, (name, value, seen)
PYTHON
