"""How far the values that a device measures are off, by a public benchmark that uses nobody's records."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import torch

from qflsec.base import stream
from qflsec.circuits import Circuit
from qflsec.models.base import Execution, Model
from qflsec.models.execute import measure

__all__ = ["benchmark_circuit", "device_error"]

_PROBES = 256


def benchmark_circuit(model: Model) -> Circuit | None:
    """The circuit on which a model's devices are compared; None where none can be read."""
    circuit = getattr(model, "circuit", None)
    return circuit if isinstance(circuit, Circuit) and circuit.observables else None


def device_error(model: Model, execution: Execution) -> float:
    """The root mean squared error of what a device measures of a model's circuit at public random angles.

    It counts what noise takes off and what finite shots spread, after mitigation. It is a property of the device: no record
    is used, and everybody who knows the device gets the same number.

    Args:
        model: The model.
        execution: The device.

    Units:
        that of expectation values, whose size is at most that of the observable

    Raises:
        ValueError: The model has no circuit that can be read.

    Source:
        This package's; after Knill et al., PRA 77, 012307, 2008, in that random circuits tell a device's error.
    """
    circuit = benchmark_circuit(model)
    if circuit is None:
        raise ValueError("the model has no circuit that can be read")
    noise = execution.noise if model.noise is None else model.noise
    return _error(circuit, replace(execution, noise=noise, evaluator=None, dtype="complex128"))


@lru_cache(maxsize=256)
def _error(circuit: Circuit, execution: Execution) -> float:
    if execution.noise is None and execution.shots is None:
        return 0.0
    generator = stream(0, "device-benchmark")
    weights, features = (
        2 * math.pi * torch.rand(_PROBES, size, generator=generator, dtype=torch.float64)
        for size in (circuit.n_weights, circuit.n_features)
    )
    with torch.no_grad():
        exact = measure(circuit, weights, features, Execution(dtype="complex128"), None)
        found = measure(circuit, weights, features, execution, generator)
    return float((found - exact).double().square().mean().sqrt())
