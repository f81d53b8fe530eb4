"""Circuits with an exit behind every layer, against shorter circuits and PennyLane."""

from __future__ import annotations

import math

import numpy as np
import pennylane as qml
import pytest
import torch

from qflsec.base import ConfigError, stream
from qflsec.models import Layered, Vqc, build_model

PARAMS = {"n_qubits": 3, "layers": 3}


def _model(**keys: object) -> Layered:
    model = build_model({"name": "layered", **PARAMS, **keys})
    assert isinstance(model, Layered)
    return model


def _records() -> torch.Tensor:
    return torch.rand(5, 3, generator=stream(0, "records")) * math.pi


def test_an_exit_is_the_shorter_circuit() -> None:
    deep, features = _model(), _records()
    params = deep.initial(stream(1, "initial"))
    for depth in (1, 2, 3):
        short = build_model({"name": "vqc", "n_qubits": 3, "layers": depth})
        expected = short(params[: short.n_params], features)
        assert torch.equal(deep.at(depth)(params, features), expected)


def test_nothing_behind_an_exit_is_in_its_gradient() -> None:
    model, features = _model(exit=2, poles=True), _records()
    params = model.initial(stream(1, "initial")).requires_grad_()
    (gradient,) = torch.autograd.grad(model(params, features)[:, 1].sum(), params)
    blocks = model.unflatten(gradient)
    assert not blocks["layer.3"].any()
    assert all(blocks[name].any() for name in ("layer.1", "layer.2", "poles"))


def test_poles_are_the_axis_of_the_measurement() -> None:
    model, features = _model(poles=True), _records()
    params = model.initial(stream(1, "initial"))
    params[-2:] = torch.tensor([0.7, 2.1])
    x, y, z = math.sin(0.7) * math.cos(2.1), math.sin(0.7) * math.sin(2.1), math.cos(0.7)
    axis = x * qml.PauliX(0) + y * qml.PauliY(0) + z * qml.PauliZ(0)

    @qml.qnode(qml.device("default.qubit", wires=3))
    def circuit(row: np.ndarray) -> object:
        qml.AngleEmbedding(row, wires=range(3))
        qml.StronglyEntanglingLayers(params[:-2].reshape(3, 3, 3).double().numpy(), wires=range(3))
        return qml.expval(axis)

    expected = torch.tensor([float(circuit(row.double().numpy())) for row in features])
    assert torch.allclose(model(params, features)[:, 1], 1.5 * expected.float(), atol=1e-5)
    # whoever lacks the poles measures Z
    plain = build_model({"name": "vqc", "n_qubits": 3, "layers": 3})
    assert torch.equal(_model(poles=True, axes="z")(params, features), plain(params[:-2], features))


def test_it_begins_where_a_variational_classifier_does() -> None:
    plain = build_model({"name": "vqc", **PARAMS})
    assert isinstance(plain, Vqc)
    start = _model(poles=True).initial(stream(5, "initial"))
    assert torch.equal(start[:-2], plain.initial(stream(5, "initial")))
    assert torch.equal(start[-2:], torch.zeros(2))
    assert _model(poles=True).periods == (2 * math.pi,) * 29


def test_its_configuration_builds_it_again() -> None:
    model = _model(exit=2, poles=True, axes="z", loss="mse")
    assert build_model(model.to_config()) == model


@pytest.mark.parametrize("wrong", [{"exit": 4}, {"axes": "x"}, {"n_classes": 4}, {"poles": 1}, {"exit": 0}])
def test_what_there_is_not_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        _model(**wrong)
