"""Checks what ``qml.from_qiskit`` made of a Qiskit circuit, where a QNode uses it.

The conversion drops or changes some gates with no more than a warning: composite gates, control states, the order
of wires of others. A QNode made from one then trains another circuit than its author wrote.
"""

from __future__ import annotations

import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from qflsec.circuits.errors import CircuitError
from qflsec.circuits.from_qiskit import MAX_DISTANCE, state_distance

__all__ = ["check_conversions"]

CONVERTER = "pennylane_qiskit.converter"


def check_conversions(function: Callable[..., Any]) -> None:
    """Compare every converted Qiskit circuit that a QNode's function refers to with its source.

    Raises:
        CircuitError: One acts otherwise than Qiskit's own circuit.
    """
    if CONVERTER not in sys.modules:
        return
    for name, conversion, source in _conversions(function):
        distance = _distance(conversion, source)
        if distance > MAX_DISTANCE:
            raise CircuitError(
                f"qml.from_qiskit did not convert {name!r} faithfully",
                got=f"a state at a distance of {distance:.2g}",
                expected="0, Qiskit's own state",
                fix='give the Qiskit circuit itself: model = { name = "qiskit", path = "file.py:circuit" }',
            )


def _conversions(function: Callable[..., Any]) -> Iterator[tuple[str, Callable[..., Any], Any]]:
    """The conversions that a function refers to, made before or within it, with their sources."""
    import pennylane as qml
    from qiskit import QuantumCircuit

    used = inspect.getclosurevars(inspect.unwrap(function))
    for name, value in {**used.globals, **used.nonlocals}.items():
        if isinstance(value, QuantumCircuit):
            if "from_qiskit" in used.unbound or "from_qiskit" in used.globals:
                yield name, qml.from_qiskit(value), value
        elif getattr(value, "__module__", None) == CONVERTER and callable(value):
            for source in inspect.getclosurevars(value).nonlocals.values():
                if isinstance(source, QuantumCircuit):
                    yield name, value, source


def _distance(conversion: Callable[..., Any], source: Any) -> float:  # noqa: ANN401 - a QuantumCircuit
    """The distance of the two final states, from one random product state and at random parameters."""
    import pennylane as qml
    from qiskit import QuantumCircuit
    from qiskit.quantum_info import Statevector

    source = source.remove_final_measurements(inplace=False)
    n = source.num_qubits
    generator = torch.Generator().manual_seed(n)
    turns = (math.pi * torch.rand(2, n, dtype=torch.float64, generator=generator)).tolist()
    values = (0.1 + torch.rand(source.num_parameters, generator=generator)).tolist()
    start = QuantumCircuit(n)
    for wire in range(n):
        start.ry(turns[0][wire], wire)
        start.rz(turns[1][wire], wire)
    bound = source.assign_parameters(dict(zip(source.parameters, values, strict=True)))
    whole: dict[Any, Any] = {}  # the converter takes vectors as a whole
    for parameter, value in zip(source.parameters, values, strict=True):
        vector = getattr(parameter, "vector", None)
        if vector is None:
            whole[parameter] = value
        else:
            whole.setdefault(vector, np.zeros(len(vector)))[parameter.index] = value
    theirs = np.asarray(Statevector(start.compose(bound)).reverse_qargs())

    def state() -> Any:  # noqa: ANN401
        for wire in range(n):
            qml.RY(turns[0][wire], wire)
            qml.RZ(turns[1][wire], wire)
        conversion(params=whole, wires=range(n))
        return qml.state()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = np.asarray(qml.QNode(state, qml.device("default.qubit", wires=n))())
    return state_distance(ours, theirs)
