"""Prints what all compiled kernels give, to the bit: for processes whose compiler works otherwise."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qflsec.circuits import build_circuit
from qflsec.circuits.compiled import compiled_expectations
from qflsec.circuits.compiled.loaded import Optimiser, Plan, Records, Rule, load_circuit
from qflsec.circuits.compiled.noisy import compiled_noisy_expectations
from qflsec.circuits.compiled.training import CROSS_ENTROPY
from qflsec.defenses.robust import nearest_neighbour_mixing

CIRCUIT = build_circuit(n_qubits=3, layers=2, encoder="reuploading")
MODELS, RECORDS = 3, 21


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


def _inputs() -> tuple[Tensor, Tensor]:
    weights, features = _normal(MODELS, 1, CIRCUIT.n_weights), _normal(RECORDS, CIRCUIT.n_features)
    return weights.requires_grad_(), features.requires_grad_()


def _derivatives() -> list[Tensor]:
    weights, features = _inputs()
    values = compiled_expectations(CIRCUIT, weights, features)
    first = torch.autograd.grad(values.square().sum(), (weights, features), create_graph=True)
    return [values, *first, *torch.autograd.grad(first[0].square().sum(), (weights, features))]


def _noisy() -> list[Tensor]:
    inputs = _inputs()
    values = compiled_noisy_expectations(CIRCUIT, *inputs, noise=None)
    return [values, *torch.autograd.grad(values.square().sum(), inputs)]


def _trained() -> list[Tensor]:
    def nothing(*shape: int) -> Any:
        return np.zeros(shape, np.float32)

    weights, features = (part.detach() for part in _inputs())
    params = weights[:, 0].numpy().copy()
    records = Records(
        features.repeat(MODELS, 1).numpy(), nothing(0, 0), np.arange(MODELS * RECORDS, dtype=np.int64) % 2
    )
    plan = Plan(
        np.zeros((0, 0, 0), np.int64),
        np.ones((3, MODELS, RECORDS), np.float32),
        nothing(0, 0, 0),
        np.ones((3, MODELS)),
    )
    optimiser = Optimiser(
        kind=1,
        rate=0.1,
        momentum=0.0,
        betas=(0.9, 0.999),
        epsilon=1e-8,
        pull=nothing(0),
        steps=np.zeros(MODELS, np.int64),
        moments=nothing(2, MODELS, CIRCUIT.n_weights),
    )
    loaded = load_circuit(CIRCUIT, np.dtype(np.float32))
    losses = loaded.train(Rule(CROSS_ENTROPY, 0.0, 1.0, 0.0), records, plan, optimiser, params)
    return [torch.from_numpy(params), torch.from_numpy(losses)]


def _mixed() -> list[Tensor]:
    return [nearest_neighbour_mixing(_normal(21, 2000), f=5)]


def kernel_bits() -> dict[str, list[str]]:
    """The results of each kernel."""
    parts = {"derivatives": _derivatives, "noisy": _noisy, "training": _trained, "mixing": _mixed}
    return {
        name: [part.detach().contiguous().numpy().tobytes().hex() for part in make()]
        for name, make in parts.items()
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(kernel_bits()))
