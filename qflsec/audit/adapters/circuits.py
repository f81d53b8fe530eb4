"""PennyLane QNodes, Qiskit circuits and EstimatorQNNs as parts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from qflsec.audit.parts import CircuitModel, Data, Part
from qflsec.audit.roles import Roles
from qflsec.base import QflsecError

if TYPE_CHECKING:
    from qflsec.models import Model

__all__ = ["circuits_as_parts"]


def circuits_as_parts(roles: Roles, data: Data | None, notes: list[str]) -> Iterator[Part]:
    """The parts that are circuits.

    A QNode needs to be told how many features a record has and which shape its weights have: by the pipeline's records
    and by an array of initial weights (or the shapes, by argument). A Qiskit circuit says both itself.

    Args:
        roles: The objects by their roles.
        data: The records, where there are some.
        notes: What cannot be used is added, a sentence each.
    """
    for name, thing in roles.items():
        if not roles.asked(name) or ("model" in roles.given and name != roles.given["model"]):
            continue
        make = _maker(thing)
        if make is None:
            continue
        try:
            yield CircuitModel(
                name=name,
                place=roles.place(getattr(thing, "func", thing)),
                model=make(thing, roles, data),
                data=data,
            )
        except QflsecError as error:
            notes.append(f"the circuit {name} cannot be used: {' '.join(str(error).split())}")


def _maker(thing: object) -> Any:  # noqa: ANN401 - a function of this module
    """What makes a model of an object; None where it is no circuit. A library that was not imported has made none."""
    if "pennylane" in sys.modules and isinstance(thing, sys.modules["pennylane"].QNode):
        return _of_qnode
    kind = type(thing)
    home = kind.__module__.partition(".")[0]
    if home in {"qiskit", "qiskit_machine_learning"} and kind.__name__ in {"QuantumCircuit", "EstimatorQNN"}:
        return _of_qiskit
    return None


def _of_qnode(qnode: Any, roles: Roles, data: Data | None) -> Model:  # noqa: ANN401
    from qflsec.models import QNodeModel

    shape: dict[str, Any] = {}
    given = roles.get("weights")
    if isinstance(given, Mapping):
        shapes = {
            name: tuple(np.atleast_1d(value)) if not hasattr(value, "shape") else value.shape
            for name, value in given.items()
        }
        shape["weight_shapes"] = tuple((name, tuple(map(int, value))) for name, value in shapes.items())
    elif given is not None:
        shape["weight_shape"] = tuple(np.shape(given))
    if data is None or not shape:
        missing = (
            "records, by a function load_data" if data is None else "initial weights, an array called weights"
        )
        raise QflsecError("a QNode does not say how many features and weights it takes", fix=f"add {missing}")
    return QNodeModel(qnode=qnode, n_features=int(data.train[0][0].size), **shape)


def _of_qiskit(circuit: Any, roles: Roles, data: Data | None) -> Model:  # noqa: ANN401, ARG001
    from qflsec.circuits.from_qiskit import from_qiskit
    from qflsec.models import Vqc

    return Vqc(circuit=from_qiskit(circuit))
