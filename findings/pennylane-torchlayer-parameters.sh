#!/usr/bin/env bash
# Library:  PennyLane 0.45.1 with torch 2.13.0 and Opacus 1.6.0 (PyPI), Python 3.11
# Input:    a TorchLayer of two qubits between two linear layers; five records
# Guess:    it is a torch module as others are: a parameter that is set anew, or handed over by torch.func.functional_call, is
#           the one that forward() uses, and Opacus' per-sample gradients are those of each record alone
# Seen:     forward() reads a dictionary of its own, filled at construction. A parameter that is set anew changes nothing;
#           functional_call computes with the old weights; and Opacus, which accepts the layer without a remark, gives the
#           circuit's weights per-sample gradients of exactly zero, while those of the linear layers are right to 1e-6:
#           DP-SGD trains the classical part alone. Copies by deepcopy and load_state_dict do work.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pennylane==0.45.1 torch==2.13.0 opacus==1.6.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from copy import deepcopy
from importlib.metadata import version

import pennylane as qml
import torch
from opacus.grad_sample import GradSampleModule
from opacus.validators import ModuleValidator

WIRES = range(2)


@qml.qnode(qml.device("default.qubit", wires=2), interface="torch", diff_method="backprop")
def circuit(inputs, weights):
    qml.AngleEmbedding(inputs, wires=WIRES)
    qml.StronglyEntanglingLayers(weights, wires=WIRES)
    return [qml.expval(qml.PauliZ(wire)) for wire in WIRES]


def network():
    torch.manual_seed(1)
    layer = qml.qnn.TorchLayer(circuit, {"weights": (2, 2, 3)})
    return torch.nn.Sequential(torch.nn.Linear(3, 2), layer, torch.nn.Linear(2, 1))


layer, records = network()[1], torch.randn(5, 3)
other, point = torch.rand(2, 2, 3), torch.tensor([[0.3, 0.4]])
first = layer(point)
called = torch.func.functional_call(layer, {"weights": other}, (point,))
copied = deepcopy(layer)
copied.load_state_dict({"weights": other})
layer.weights = torch.nn.Parameter(other)
moved = {
    name: float((value - first).abs().max().detach())
    for name, value in {"functional_call": called, "set anew": layer(point), "state dict": copied(point)}.items()
}
plain, alone = network(), []
for record in records:
    plain.zero_grad()
    plain(record[None]).square().mean().backward()
    alone.append([p.grad.clone() for p in plain.parameters()])
private = GradSampleModule(network(), strict=True)
private(records).square().mean().backward()
errors = {
    name: (float((p.grad_sample - torch.stack(each)).abs().max()), float(p.grad_sample.abs().max()))
    for (name, p), each in zip(private.named_parameters(), zip(*alone))
}
print({name: version(name) for name in ("pennylane", "torch", "opacus")}, "outputs moved by", moved)
print("per-sample gradients: largest error, largest value", errors)
assert moved["functional_call"] == moved["set anew"] == 0 and moved["state dict"] > 0.1, moved
assert ModuleValidator.validate(network()) == []
assert all(error < 1e-6 for name, (error, _) in errors.items() if ".1." not in name), errors
error, largest = errors["_module.1.weights"]
assert largest == 0 and error > 1e-3, errors
PYTHON
