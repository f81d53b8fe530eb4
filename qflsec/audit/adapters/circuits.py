"""PennyLane QNodes, Qiskit circuits, EstimatorQNNs and the modules that qiskit-machine-learning makes of them, as parts."""

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
    inner = [one for _, thing in roles.items() if (one := _circuit_of(thing)) is not None]
    for name, thing in roles.items():
        if not roles.asked(name) or ("model" in roles.given and name != roles.given["model"]):
            continue
        make = _maker(thing)
        if make is None or (_kind(thing) == "QuantumCircuit" and any(thing == one for one in inner)):
            continue  # the network that it belongs to says which parameters are features, and what is measured
        try:
            model = make(thing, roles, data)
        except QflsecError as error:
            notes.append(f"the circuit {name} cannot be used: {' '.join(str(error).split())}")
            continue
        held = data
        if data is not None and _n_features(data) != model.n_features:
            held = None
            notes.append(
                f"the circuit {name} takes {model.n_features} features and records of {roles.name('data')} have "
                f"{_n_features(data)}, so that it is looked at without records"
            )
        place = roles.place(getattr(thing, "func", thing))
        yield CircuitModel(name=name, place=place, model=model, data=held)


def _n_features(data: Data) -> int:
    """How many features a record has."""
    return int(np.prod(data.train[0].shape[1:]))


def _kind(thing: object) -> str:
    """The class of an object of Qiskit's; empty for any other."""
    home = type(thing).__module__.partition(".")[0]
    return type(thing).__name__ if home in {"qiskit", "qiskit_machine_learning"} else ""


def _circuit_of(thing: object) -> object:
    """The circuit that a network of qiskit-machine-learning was made of; None where it is none."""
    network = getattr(thing, "neural_network", None) if _kind(thing) == "TorchConnector" else thing
    return (
        getattr(network, "_org_circuit", None) if _kind(network) in {"EstimatorQNN", "SamplerQNN"} else None
    )


def _maker(thing: object) -> Any:  # noqa: ANN401 - a function of this module
    """What makes a model of an object; None where it is no circuit. A library that was not imported has made none."""
    if "pennylane" in sys.modules and isinstance(thing, sys.modules["pennylane"].QNode):
        return _of_qnode
    if _kind(thing) in {"QuantumCircuit", "EstimatorQNN", "SamplerQNN", "TorchConnector"}:
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
    return QNodeModel(qnode=qnode, n_features=_n_features(data), **shape)


def _of_qiskit(thing: Any, roles: Roles, data: Data | None) -> Model:  # noqa: ANN401, ARG001
    from qflsec.circuits.from_qiskit import from_qiskit
    from qflsec.models import Vqc

    network = thing.neural_network if _kind(thing) == "TorchConnector" else thing
    if _kind(network) == "SamplerQNN":
        raise QflsecError(
            "a SamplerQNN reads outcomes by a function of its own",
            fix="give an EstimatorQNN; a module around it is checked as a module is",
        )
    return Vqc(circuit=from_qiskit(network))
